"""``%project``: code, inputs, earlier outputs and a sync, in one line."""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from .. import session, units
from ..errors import did_you_mean
from . import call_only

if TYPE_CHECKING:
    from ..checkout.project import Project


@call_only("force")
def project(
    *,
    git: str | None = None,
    name: str | None = None,
    job: str | None = None,
    branch: str | None = None,
    root: str | None = None,
    to: str | None = None,
    inputs: str = "full",
    restore: Literal["all", "light", "none"] = "all",
    requirements: str | None = None,
    notebooks: str = "notebooks",
    token: str | None = None,
    secrets: str | None = None,
    install: bool | None = None,
    update: bool = False,
    force: bool = False,
    every: str = "30s",
) -> Project:
    """Set a project up: its code, its inputs, the outputs of earlier sessions, and a sync that keeps new ones safe.

    Assigns ``data_project`` (the inputs) and ``data_job`` (the outputs of this job), makes the project's code
    importable and changes into the folder of its notebooks (a project of data folders alone leaves the working folder
    as it is). A second call changes nothing, and sees to it that the sync runs. In a run only the variables, the
    imports and the folder are set.

    Parameters
    ----------
    git : str, optional
        Repository: ``https://HOST/PATH``, ``git@HOST:PATH`` or a folder. By default the checkout that the notebook
        stands in.
    name : str, optional
        The project's name; by default the last part of the repository's address. Without git=, a project of data
        folders alone.
    job : str, optional
        Name of this piece of work; each job has outputs of its own. By default that of the notebook, so that notebooks
        do not share their runs (``default`` where nothing tells which notebook this is); without git= and name= the job
        that this notebook used last.
    branch : str, optional
        Branch or tag to clone.
    root : str, optional
        Folder below which the project stands; ``/content`` on Colab.
    to : str, optional
        The Place that keeps inputs and outputs: ``drive``, a folder, ``HOST:PATH``, ``s3://BUCKET/FOLDER``,
        ``rclone:NAME:FOLDER`` (see %sync), or ``none``. On Colab ``drive`` by default, elsewhere nothing. Several with
        commas between them are all kept: inputs come from the first, earlier outputs from the first that has any. While
        one of them is away the others go on.
    inputs : str, default "full"
        Inputs to fetch from the Place: ``full``, ``none``, or names: ``a.csv,images``.
    restore : str, default "all"
        Earlier outputs to fetch: ``all``, ``light`` (no large files) or ``none``.
    requirements : str, optional
        Requirements file of the project, or ``none``; by default ``requirements.txt``, else the project itself.
    notebooks : str, default "notebooks"
        Folder of the project in which notebooks run.
    token : str, optional
        ``secret:NAME``: a token in Colab's secrets or in the environment variable NAME, to clone a private repository.
    secrets : str, optional
        Names of secrets to put into the environment of this notebook and its runs: ``A,B``.
    install : bool, optional
        Install what the project needs; on Colab by default, elsewhere what is missing is only named.
    update : bool, default False
        Fast-forward the checkout to its upstream branch.
    force : bool, default False
        Do the whole set-up again. Outputs and edits that are not committed stay as they are.
    every : str, default "30s"
        How often new outputs are sent to the Place.

    Returns
    -------
    Project
        The project, with its folders and the state of its sync.
    """
    shell = session.current()
    run = session.run_folder()
    if run is not None:
        return _in_run(shell, run)
    from ..checkout import folders, locate, setup
    from ..checkout import git as repository
    from ..checkout.jobs import job_of, jobs_of, notebook_key
    from ..checkout.project import Project, check_name

    seconds = units.seconds(every, name="every")
    if restore not in (known_values := get_args(setup.Restore)):
        raise did_you_mean(str(restore), known_values, kind="value of restore=")
    login, wanted = setup.Login(token, shell.ui.where), setup.wanted_inputs(inputs)
    exported = setup.export_secrets(units.words(secrets), shell.ui.where)
    shell.secrets += [name for name in exported if name not in shell.secrets]
    known = shell.project if shell.project is not None and shell.project.root.is_dir() else None
    with _where_written(shell, known):
        source = repository.parse(git) if git is not None else None
        root = os.path.abspath(os.path.expanduser(root)) if root and root.strip() else root
    spot = locate.find(source, name, root, known, shell.warn_once)
    before = setup.Before.read(spot, shell.warn_once)
    mine = shell.ui.notebook_name()
    key = None if mine is None else notebook_key(mine, spot.root)
    bare = git is None and name is None
    if job is None:
        # The project in use, with the job in use: the one of this session, else the one of this notebook.
        job = known.job if bare and known is not None else job_of(spot.root, key, remembered=bare)
    job = check_name(job, option="job")
    with _where_written(shell, known):
        places = setup.find_places(to, before, spot.name, shell.ui.where, shell.warn_once)

    notes = setup.bring_code(shell.ui, spot, branch, login, update=update, force=force)
    handle = Project(
        name=spot.name,
        job=job,
        root=spot.root,
        notebooks=folders.notebooks_folder(spot.root, notebooks),
        place=",".join(place.text for place in places) or None,
        url=spot.url,
        notes=[*spot.notes, *notes],
    )
    folders.make(handle)
    folders.exclude(handle.root)
    again = before.complete and not force
    handle.notes += setup.packages(shell.ui, handle, requirements, install, again=again, hidden=list(exported.values()))
    setup.end_former_sync(handle, before)
    if places:
        from ..transport.places.drive import is_drive

        away = setup.those_away(places)
        if not again or (before.place, before.inputs) != (handle.place, wanted):
            setup.fetch_inputs(shell.ui, handle, places, wanted, away)
        origin = setup.start_syncs(shell.ui, handle, places, restore, seconds, away, redo=force)
        if origin and not again:
            handle.notes.append(f"Earlier outputs come from {origin}.")
        if any(map(is_drive, handle.places)) and not before.complete:
            handle.notes.append(setup.DRIVES_TRASH)
    last = before.job if key is None else jobs_of(spot.root).get(key, job)
    handle.save(inputs=wanted, notebook=key, unkept=not places and (to is not None or before.unkept))
    if again and known is None and last != job:
        handle.notes.append(f"The job that was set up here last was {last!r}; this one is {job!r}.")
    if again:
        handle.notes.append("It was set up before and is used as it is; --force does the set-up again.")
    if _use(shell, handle, handle.data_job):
        shell.ui.say(f"The working folder is {handle.notebooks} now.")
    return handle


def _in_run(shell: session.Session, run: Path) -> Project:
    """Give a run its variables, imports and folder; the main notebook has done the rest."""
    from ..checkout.project import project_of

    handle = project_of(run)
    _use(shell, handle, run)
    return handle


def _where_written(shell: session.Session, known: Project | None) -> AbstractContextManager[None]:
    """Read relative paths as at the first call: a call before this one has changed the folder."""
    moved = known is not None and Path.cwd() == known.notebooks
    return contextlib.chdir(shell.start_folder if moved else Path.cwd())


def _use(shell: session.Session, handle: Project, data_job: Path) -> bool:
    """Use a project in this shell; returns whether the working folder changed."""
    from ..checkout import folders

    moved = folders.enter(handle)
    shell.project = handle
    # Text, not Path: papermill can inject it, and ``data_job + "/x"`` of older notebooks works.
    shell.ui.set_variables({"data_project": str(handle.data_project), "data_job": str(data_job)})
    return moved
