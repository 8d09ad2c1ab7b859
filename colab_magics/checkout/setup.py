"""The steps of a set-up: login, code, packages, inputs, outputs, sync."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import units
from ..colab import mount, runtime, secrets
from ..errors import ColabMagicsError, CommandFailed, InvalidInput, Unavailable
from ..ui import UI, Says, who
from . import clone as cloning
from . import git, install
from .locate import Spot
from .project import UNKEPT, Project, read_marker
from .trust import Warn

if TYPE_CHECKING:
    from ..transport.places.base import Place

NONE = ("none", "no")
DRIVES_TRASH = (
    "Files that are deleted or replaced on Drive fill its trash, which counts against your space until it is emptied: "
    "keep few checkpoints, or leave them out: %sync exclude=PATTERN"
)
"""Said at the first set-up with Drive."""
_RESTART = (
    "Another version was installed of what this notebook has imported already: {}. To use it restart the notebook "
    "(Runtime → Restart session), then Run All."
)
Restore = Literal["all", "light", "none"]


@dataclass(frozen=True)
class Login:
    """What ``token=`` says; the secret is read when it is needed.

    Parameters
    ----------
    text : str or None
        ``secret:NAME``, or None.
    where : str
        The face; see `UI.where`.
    """

    text: str | None
    where: str

    def __post_init__(self) -> None:
        if self.text is not None and not re.fullmatch(r"secret:[^\s=]+", self.text):
            # The value itself is not repeated: it may be a token.
            raise InvalidInput(
                "token= takes the name of a secret, not a token.",
                "Write token=secret:NAME so that the token never stands in a notebook.",
            )

    def token(self) -> git.Token | None:
        """Read the token."""
        if self.text is None:
            return None
        name = self.text.removeprefix("secret:")
        return git.Token(name, secrets.read(name, self.where).strip())


def export_secrets(names: Sequence[str], where: str) -> dict[str, str]:
    """Put secrets into this process's environment, which runs inherit; returns them, to be hidden."""
    values = {}
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise InvalidInput(
                f"secrets={name!r} is no name of an environment variable.",
                "Write names without their values: secrets=A,B",
            )
        values[name] = secrets.read(name, where)
    os.environ.update(values)
    return values


@dataclass
class Before:
    """What the marker says of an earlier set-up.

    Parameters
    ----------
    complete : bool
        Whether there was one that went through.
    job, place : str or None
        Its job and its Place.
    inputs : list of str or str
        What it fetched of the inputs.
    left_out : str
        The line about what of it does not count.
    unkept : bool
        Whether the user said that no Place keeps it.
    """

    complete: bool = False
    job: str | None = None
    place: str | None = None
    inputs: Any = None
    left_out: str = ""
    unkept: bool = False

    @classmethod
    def read(cls, spot: Spot, warn: Warn) -> Before:
        """Read it for a project; one of another name does not count."""
        marker = read_marker(spot.root, warn)
        if marker is None or marker.name != spot.name:
            return cls()
        unkept = marker.place == UNKEPT
        place = None if unkept else marker.place
        return cls(True, marker.job, place, marker.values.get("inputs"), marker.left_out(), unkept)


def find_places(to: str | None, before: Before, name: str, where: str, warn: Warn) -> list[Place]:
    """Decide which Places keep the data, none or several, and mount Drive for them.

    Parameters
    ----------
    to : str or None
        What the user asked for; ``none`` for no Place. By default those of before, else Drive on Colab.
    before : Before
        The earlier set-up.
    name : str
        The project's name.
    where : str
        The face; see `UI.where`.
    warn : callable
        Is told what of before does not count.
    """
    from ..transport import places
    from ..transport.places import drive as drive_place

    if to is None and before.left_out:
        warn(before.left_out)
    text = to if to is not None else before.place or ("drive" if runtime.on_colab() and not before.unkept else None)
    if text is None or str(text).strip().lower() in NONE:
        return []
    found = places.parse_all(str(text), project=name)
    if runtime.on_colab() and any(Path(place.path).is_relative_to(runtime.my_drive().parent) for place in found):
        # The folder alone proves nothing: files that were written while Drive was gone lie in one of that name.
        mount.ensure_drive(where, drive_place.drive_works)
    return found


def bring_code(ui: Says, spot: Spot, branch: str | None, login: Login, *, update: bool, force: bool) -> list[str]:
    """Clone the project, or fast-forward its checkout when that was asked for; returns notes for the user."""
    if spot.clone is not None:
        token = login.token()
        source = cloning.for_token(spot.clone, token)
        with ui.progress(f"Cloning {source.text}"):
            cloning.clone(source, spot.root, branch=branch, token=token)
        changed = source.text != spot.clone.text
        return [f"It was cloned from {source.text}, where the token is valid."] if changed else []
    notes = []
    top = git.toplevel(spot.root) if spot.root.is_dir() else None
    current = git.ask("symbolic-ref", "--short", "--quiet", "HEAD", cwd=spot.root) if top else None
    if branch is not None and branch != current and top:
        notes.append(f"branch={branch} was asked for, the checkout is on {current or 'no branch'}: git switch {branch}")
    if update and top is None:
        raise InvalidInput(f"{spot.root} is no checkout, so there is nothing to update.", "Leave --update out.")
    if top is None or not (update or force):
        return notes
    try:
        with ui.progress(f"Updating {spot.root}"):
            notes.append(f"The code is {cloning.update(top, token=login.token())}.")
    except ColabMagicsError as error:
        if update:
            raise
        notes.append(f"The code was left as it is. {error.what}")
    return notes


def packages(
    ui: Says, project: Project, requirements: str | None, wanted: bool | None, *, again: bool, hidden: Sequence[str]
) -> list[str]:
    """Install what the project needs, or say what is missing.

    Parameters
    ----------
    ui : Says
        The face.
    project : Project
        The project.
    requirements : str or None
        See `install.find`.
    wanted : bool or None
        Whether to install; None means on Colab.
    again : bool
        The project was set up before: what is installed already is not installed again, unless `wanted`.
    hidden : sequence of str
        Values that must not be shown.
    """
    needs = install.find(project.root, requirements)
    if needs is None:
        return []
    do = runtime.on_colab() if wanted is None else wanted
    lacking = install.missing(needs)
    if do and (wanted or not again or lacking):
        with ui.progress(f"Installing {needs.file.name}"):
            stale = install.install(needs, project.root, secrets=hidden)
        return [_RESTART.format(", ".join(stale))] if stale and ui.where != "script" else []
    return [f"Missing packages: {', '.join(lacking)}. --install installs them."] if lacking else []


def wanted_inputs(inputs: str | Sequence[str]) -> str | list[str]:
    """Read ``inputs=``: ``full``, ``none``, or a list of names below ``data_project``."""
    if isinstance(inputs, str) and inputs.strip().lower() in ("full", *NONE):
        return "full" if inputs.strip().lower() == "full" else "none"
    names = units.words(inputs)
    for name in names:
        if name.startswith("/") or ".." in Path(name).parts:
            raise InvalidInput(f"inputs={name} leads out of data_project.", "Write names below it: inputs=a.csv,images")
    if not names:
        raise InvalidInput("inputs= names nothing.", "Write inputs=full, inputs=none or names: inputs=a.csv,images")
    return names


def those_away(places: Sequence[Place]) -> dict[Place, Unavailable]:
    """Return those of several Places that are not there now, with the reason; the others go on without them.

    Raises
    ------
    Unavailable
        When none is there.
    """
    away: dict[Place, Unavailable] = {}
    for place in places if len(places) > 1 else ():
        try:
            place.answers()
            place.prepare()
        except Unavailable as error:
            away[place] = error
    if away and len(away) == len(places):
        raise away[places[0]]
    return away


def fetch_inputs(
    ui: Says, project: Project, places: Sequence[Place], wanted: str | list[str], away: Mapping[Place, Unavailable]
) -> None:
    """Fetch inputs from the first Place, one way; while that is away, from the first that has any.

    Raises
    ------
    Unavailable
        When the first is away, and no other has inputs.
    """
    from ..mirror import control

    if wanted == "none":
        return
    place = places[0]
    if place in away:
        having = [one for one in places if one not in away and control.has_files(one.below("data_project"))]
        if not having:
            raise Unavailable(
                f"Inputs come from {place}, which is away, and no other Place has any.\n{away[place].what}",
                "Say it again when it is back, or go on without inputs: inputs=none",
            )
        place = having[0]
    names = None if isinstance(wanted, str) else wanted
    with ui.progress(f"Fetching inputs from {place.text}"):
        control.fetch(place.below("data_project"), project.data_project, names, warn=ui.warn)


def start_syncs(
    ui: UI,
    project: Project,
    places: Sequence[Place],
    restore: Restore,
    every: float,
    away: Mapping[Place, Unavailable],
    *,
    redo: bool,
) -> str:
    """Fetch earlier outputs from the first Place that has any, and see to it that the job is kept at all of them.

    Returns
    -------
    str
        Of several Places, the one that they came from.

    Raises
    ------
    CommandFailed
        When the earlier outputs could not be fetched: runs would be done again that are done.
    Unavailable
        When a Place is away, and no other has any.
    """
    from ..mirror import control

    targets = [place.below("data_job", project.job) for place in places if place not in away]
    first = targets[0]
    if len(places) > 1:
        having = next((target for target in targets if control.has_files(target)), None)
        if having is None and away and restore != "none":
            place, error = next(iter(away.items()))
            raise Unavailable(
                f"{place} is away, and no other Place has outputs of the job {project.job}: what is done would be done "
                f"again.\n{error.what}",
                f"Say it again when it is back. If {place} has none either: restore=none",
            )
        first = having or first
    for place, error in away.items():
        tries = str(place.below("data_job", project.job)) in {sync.place for sync in control.running(project.data_job)}
        again = "its sync tries again and again" if tries else "nothing is kept there until %project is said again"
        ui.warn(f"{place} is away: {again}. The outputs are kept at {', '.join(map(str, targets))}. {error.what}")
    for target in targets:
        wanted = restore if target == first else "none"
        _start_sync(ui, project, target, wanted, every, redo=redo)
    return str(first) if len(targets) > 1 and restore != "none" else ""


def _start_sync(ui: UI, project: Project, target: Place, restore: Restore, every: float, *, redo: bool) -> None:
    from ..mirror import control
    from ..mirror.state import Config

    # One that runs keeps its options: the user may have set them by %sync.
    syncs = [sync for sync in control.running(project.data_job) if sync.place == str(target)]
    with ui.progress(f"Fetching earlier outputs from {target}" if restore != "none" else f"Starting to keep {target}"):
        if syncs:
            sync = syncs[0]
        else:
            config = Config.of(project.data_job, target, every=every, restore=restore, project=project.name)
            sync = control.start(config, by=who(ui))
        if redo and syncs and restore == "all":
            sync.restore()
    record = sync.status().get("restore") or {}
    if restore != "none" and record.get("mode") != "none" and record.get("ok") is False:
        raise CommandFailed(
            f"Earlier outputs could not be fetched from {target}.\n{record.get('error', '')}".rstrip(),
            "It is tried again, and nothing is deleted there: run this again soon, or write restore=none.",
        )


def end_former_sync(project: Project, before: Before) -> None:
    """End the syncs of this job to Places of before that are not chosen any more, with a last flush."""
    if before.place is None or before.place == project.place:
        return
    from ..mirror import control
    from ..transport import places

    former = {place.text: place for place in places.parse_all(before.place, project=project.name)}
    ended = {str(former[text].below("data_job", project.job)) for text in former.keys() - set(project.places)}
    for sync in control.running(project.data_job):
        if sync.place in ended:
            sync.stop()
