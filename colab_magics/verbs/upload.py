"""``%upload``: a copy of a notebook to where Colab opens it, with a job, parameters and a runtime of its own."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import session
from ..errors import ColabMagicsError, InvalidInput
from ..units import seconds, show_size, show_time, without_controls
from . import body, call_only

if TYPE_CHECKING:
    from ..transport.places.base import Place
    from ..ui import Notebook

FOLDER = "drive:MyDrive/Colab Notebooks"
"""Where Colab itself puts notebooks."""
OPENS = "https://colab.research.google.com/drive/"


@dataclass(frozen=True)
class Uploaded:
    """A notebook that was handed over; shows itself.

    Parameters
    ----------
    name, place : str
        The file, and the folder that it is in.
    link : str or None
        Where Colab opens it, as far as Drive has told.
    notes : tuple of str
        What the user has to do there.
    """

    name: str
    place: str
    link: str | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        link = [self.link] if self.link else []
        return without_controls("\n".join([f"{self.name} is in {self.place}", *link, *self.notes]))

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        name = html.escape(self.name)
        shown = f'<a href="{html.escape(self.link)}" target="_blank">{name}</a>' if self.link else name
        rest = "".join(f"<div>{html.escape(note)}</div>" for note in self.notes)
        return f"<div>{shown} is in {html.escape(self.place)}</div>{rest}"


@body("parameters")
@call_only("overwrite", "allow_secrets", "run")
def upload(
    notebook: str | None = None,
    /,
    *words: str,
    job: str | None = None,
    name: str | None = None,
    to: str | None = None,
    gpu: Literal["T4", "L4", "A100", "G4", "H100", "V5E1", "V6E1"] | None = None,
    accelerator: Literal["GPU", "TPU", "none"] | None = None,
    high_ram: bool = False,
    background: bool = False,
    parameters: Mapping[str, Any] | None = None,
    clear: bool = False,
    overwrite: bool = False,
    allow_secrets: bool = False,
    run: bool = False,
    time: str = "24h",
) -> Uploaded:
    """Hand a copy of a notebook to Google Drive, where Colab opens it, as ``NOTEBOOK-JOB.ipynb``.

    In the copy the job is set in the first code cell that names one: ``%project … job=``, ``job_name = "…"``, or the
    cell with papermill's tag ``parameters``; ``%upload`` lines are comments. Parameters are written after ``--``
    (``-- lr=1e-3 epochs=5``), or in the cell below ``%%upload`` (YAML), and set in the cell with the tag
    ``parameters``. What is in the way is overwritten only after you were asked.

    Outputs that hold secrets are not uploaded: the values of environment variables whose names sound like a secret
    (token, secret, password, key …) or that ``%project secrets=`` set, those of the bucket in ``.env``, and texts in
    the form of well-known tokens and private keys. In cells they are told.

    Parameters
    ----------
    notebook : str, optional
        The file; this notebook by default.
    *words : str
        Parameters, as ``name=value``, after ``--``.
    job : str, optional
        The job of the copy; by default the one that the notebook names.
    name : str, optional
        The file name of the copy, in place of ``NOTEBOOK-JOB``.
    to : str, optional
        Where: ``drive`` (the default) is ``Colab Notebooks`` of your Drive, on Colab by its mount, elsewhere by rclone
        (its remote of type drive; ``gdrivecolab`` of several). Or any Place: ``drive:MyDrive/FOLDER``,
        ``rclone:NAME:FOLDER``, a folder, ``HOST:FOLDER``, ``s3://BUCKET/FOLDER``.
    gpu : {"T4", "L4", "A100", "G4", "H100", "V5E1", "V6E1"}, optional
        The GPU, or TPU (the last two), that Colab is to give it.
    accelerator : {"GPU", "TPU", "none"}, optional
        The kind alone.
    high_ram : bool, default False
        A runtime with more memory.
    background : bool, default False
        Go on when the browser is closed, where the plan has that.
    parameters : mapping, optional
        Parameters by name; in Python, and the cell below ``%%upload``.
    clear : bool, default False
        Leave outputs out.
    overwrite : bool, default False
        Replace a notebook of that name without asking.
    allow_secrets : bool, default False
        Upload outputs that hold secrets, too.
    run : bool, default False
        Execute it now on a new Colab runtime, by Google's program ``colab`` (google-colab-cli), show what it prints,
        and bring home the executed notebook and ``data_job``. It is uploaded to a Place only where ``to=`` says so.
    time : str, default "24h"
        With ``--run``, how long a cell may take.

    Returns
    -------
    Uploaded
        Where it is, and its link as far as it is known.

    Examples
    --------
    %upload job=first gpu=T4
    %upload train.ipynb job=second gpu=A100 --high-ram -- lr=1e-3 epochs=5
    %upload train.ipynb job=third gpu=L4 --run
    """
    from ..checkout.project import check_name
    from ..colab import metadata

    if notebook is not None and "=" in notebook and not notebook.endswith(".ipynb"):
        words = (notebook, *words)  # nothing stood before the --
        notebook = None
    kind, model = metadata.device(gpu, accelerator)
    try:
        found = session.current().ui.notebook(notebook)
    except ColabMagicsError as error:
        error.mend = error.mend.replace("notebook=", "%upload ")  # it is named so for %fork
        raise
    if found.warning:
        session.current().ui.warn(found.warning)
    content, job = _preset(found, job, {**(parameters or {}), **_read(words)}, clear=clear)
    usual = f"{found.name.removesuffix('.ipynb')}{f'-{job}' if job else ''}"
    name = f"{usual if name is None else check_name(name, option='name').removesuffix('.ipynb')}.ipynb"
    content = metadata.with_runtime(content, name, kind=kind, model=model, high_ram=high_ram, background=background)
    _check_secrets(content, allowed=allow_secrets)
    if not run:
        return _hand_over(content, name, to, overwrite=overwrite)
    from . import upload_run

    program = upload_run.check(content, high_ram=high_ram)
    if to is not None:
        session.current().ui.say(str(_hand_over(content, name, to, overwrite=overwrite)))
    home = found.path.parent if found.path is not None else Path.cwd()
    return upload_run.run(program, content, name, home, seconds(time, name="time"))


def _preset(
    notebook: Notebook, job: str | None, values: Mapping[str, Any], *, clear: bool
) -> tuple[dict[str, Any], str | None]:
    """Make the copy; returns it with the name of its job."""
    from ..checkout.project import check_name
    from ..payloads import code, preset

    content = code.without_outputs(notebook.content) if clear else dict(notebook.content)
    content = preset.without_uploads(content)
    if values:
        content = preset.with_parameters(content, values)
    if job is None:
        known = preset.job_of(content)
        return content, known if known is None else check_name(known, option="job")
    return preset.with_job(content, check_name(job, option="job")), job


def _read(words: tuple[str, ...]) -> dict[str, Any]:
    """Read ``name=value`` words; values are YAML, as in the cell below ``%%fork``."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise InvalidInput(f"{word!r} is no parameter.", "Write parameters after --, such as -- lr=1e-3 epochs=5")
        try:
            found[name] = YAML(typ="safe", pure=True).load(value)
        except YAMLError:
            found[name] = value
    return found


def _check_secrets(content: Mapping[str, Any], *, allowed: bool) -> None:
    from ..payloads import leaks
    from ..transport.buckets import settings

    shell = session.current()
    dotenv = settings.find_dotenv(Path.cwd())
    environment = {**(settings.read_dotenv(dotenv) if dotenv is not None else {}), **os.environ}
    secrets = leaks.known(environment, shell.secrets)
    if (leaked := leaks.in_outputs(content, secrets)) and not allowed:
        raise InvalidInput(
            f"Outputs of the notebook hold secrets: {'; '.join(leaked)}. Nothing was uploaded.",
            "--clear leaves all outputs out; --allow-secrets takes them along.",
        )
    if told := leaks.in_sources(content, secrets):
        shell.ui.warn(f"Secrets stand in the cells themselves, and go along: {'; '.join(told)}")


def _hand_over(content: Mapping[str, Any], name: str, to: str | None, *, overwrite: bool) -> Uploaded:
    """Put the notebook at its Place."""
    from ..transport.places.drive import file_id

    place, on_drive = _place(to)
    data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode()
    ui = session.current().ui
    with place.as_it_is() as store:
        there = store.look([name]).get(name)
        same = there is not None and there.plain and store.get(name) == data
        if there is not None and not same:
            what = f"{name} is in {place} already ({show_size(there.size)}, {show_time(there.mtime)})"
            if not overwrite and not ui.ask(f"{what}. Overwrite it?"):
                raise InvalidInput(f"{what}, and stays.", "--overwrite replaces it; job=NAME gives another name.")
        if not same:
            with ui.progress(f"uploading {name}"):
                store.put(name, data)
    found = file_id(place, name)
    first = "In Colab: File → Open notebook → Google Drive, then Runtime → Run all."
    if found:
        first = "There: Runtime → Run all."
    elif not on_drive:
        first = "Colab opens it by File → Upload notebook."
    return Uploaded(name, str(place), f"{OPENS}{found}" if found else None, (first, *_notes(content)))


def _place(to: str | None) -> tuple[Place, bool]:
    """Return the Place, and whether it is Google Drive, or may be."""
    from ..colab import mount, runtime
    from ..transport.places import drive, parse

    text = FOLDER if to is None or to.strip() == "drive" else to
    where = session.current().ui.where
    if drive.is_drive(text) and runtime.on_colab() and runtime.front_end_answers(where):
        mount.ensure_drive(where, drive.drive_works)
    return parse(text, project=""), drive.is_drive(text)


def wants_drive(content: Mapping[str, Any]) -> bool:
    """Whether a notebook mounts Drive when it runs on Colab, as far as its own lines tell."""
    from ..payloads.code import executed_cells

    code = "\n".join(cell.source for cell in executed_cells(content))
    kept = bool(re.search(r"%project\b", code)) and _drive_is_meant(_project_options(content).get("to", "drive"))
    return kept or bool(re.search(r"drive\.mount|%sync\b.*\bto=[\"']?drive", code))


def _drive_is_meant(to: str) -> bool:
    """Whether one of the Places of a line is Drive."""
    from ..transport.places.drive import is_drive

    return any(is_drive(one.strip()) for one in to.split(","))


def _project_options(content: Mapping[str, Any]) -> dict[str, str]:
    from ..runs.which_job import project_line

    with suppress(InvalidInput):  # a value that only the running notebook knows
        return project_line(content) or {}
    return {}


def _notes(content: Mapping[str, Any]) -> list[str]:
    """Say what needs the user in Colab."""
    notes, options = [], _project_options(content)
    if wants_drive(content):
        notes.append("Stay until Drive is mounted: Colab asks you to allow it, and nobody else can.")
    names = [*options.get("secrets", "").split(","), options.get("token", "").removeprefix("secret:")]
    if wanted := [name for name in names if name]:
        notes.append(f"Its secrets need notebook access (key symbol at the left): {', '.join(wanted)}")
    return notes
