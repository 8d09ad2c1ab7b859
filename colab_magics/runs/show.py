"""One run in full: everything about it, its log while it grows, its executed notebook."""

from __future__ import annotations

import contextlib
import html
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import NotFound
from ..payloads import payload_of
from ..records import metrics, notes, plain
from ..records.plain import linked
from ..records.run import LOCAL, Run
from ..records.status import ENDED
from ..ui import links
from ..units import show_seconds, show_size, show_time, without_controls
from . import scheduler, usage
from .glance import tail
from .of_queue import claims


@dataclass(frozen=True)
class Text:
    """Text that shows itself as it is."""

    text: str

    def __str__(self) -> str:
        return without_controls(self.text, colours=True)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


def details(run: Run) -> str:
    """Write everything about a run: parameters, code version, times, files, the error of a failed one."""
    status = run.status()
    record, noted = run.record, notes.read(run.folder)
    lines = [f"{run.id}  {status.full}"]
    rows = {
        "parameters": ", ".join(f"{key}={value!r}" for key, value in run.parameters.items()),
        "metrics": metrics.show(metrics.last(metrics.recent(run.folder))),
        "tags": ", ".join(noted.tags),
        "note": noted.note,
        **dict([payload_of(record).title(record)]),
        "fork": _place(run),
        "queue": _claimed(run),
        "code": record.get("commit") or "",
        "attempt": "; ".join([str(run.attempt), *map(_ended, run.earlier)]) if run.attempt > 1 else "",
        "engine": ", ".join(filter(None, [f"{record.get('engine')}, start {record.get('start')}", _machine(run)])),
        "started": show_time(status.started) if status.started else "",
        "took": show_seconds(status.ended - status.started) if status.ended and status.started else "",
        **_used(run, running=status.phase == "running"),
        "folder": str(run.folder),
    }
    lines += [f"  {name:<11}{value}" for name, value in rows.items() if value]
    files = [] if linked(run.folder) else sorted(_files(run.folder))
    shown = [f"    {path.relative_to(run.folder)}  {show_size(path.lstat().st_size)}" for path in files[:30]]
    lines += ["  files", *shown]
    if len(files) > 30:
        lines.append(f"    … and {len(files) - 30} more")
    if status.error:
        lines += ["  error", *(f"    {line}" for line in str(status.error.get("traceback", "")).splitlines())]
    return "\n".join(lines)


def _files(folder: Path) -> Iterator[Path]:
    """Yield what is below a folder, links as links; what is not ours to see is left out."""
    for base, _, names in os.walk(folder):
        yield from (Path(base, name) for name in names)


def _machine(run: Run) -> str:
    """Say which machine executes it, or did, by its own name and by the one that ssh knows."""
    if run.engine == LOCAL:
        return ""
    known = ((run.reference() or {}).get("ref") or {}).get("host")
    own = ((run.state() or {}).get("process") or {}).get("host")
    names = dict.fromkeys(without_controls(str(name))[:80] for name in (known, own) if name)
    return f"on {' = '.join(names)}" if names else ""


def _claimed(run: Run) -> str:
    """Say from which queue a run comes, how it is called there, and by which worker it was claimed."""
    said = claims.read(run.folder) if run.is_named else None
    if not said:
        return ""
    return f"{said['queue']}: {said['name']!r}, worker {said['worker']}, claim {said['epoch']}"


def _place(run: Run) -> str:
    """Say which ``%fork`` of its notebook a run comes from, and its ``i_sub_job`` where its name does not tell it."""
    fork, number = run.record.get("fork"), run.record.get("i_sub_job", run.index)
    if fork is None:
        return ""
    own = f"i_sub_job {number}" if number != run.index else ""
    return ", ".join(filter(None, [str(fork) if fork else "", own]))


def _ended(attempt: Mapping[str, Any]) -> str:
    """Say how an earlier attempt ended, and when."""
    text, when = str(attempt.get("text")), show_time(attempt["ended"]) if attempt.get("ended") else ""
    return f"{attempt.get('attempt')} {text}" + (f" ({when})" if when and when not in text else "")


def _used(run: Run, *, running: bool) -> dict[str, str]:
    """Write what a run uses of its machine, and its peaks."""
    state = run.state() or {}
    devices = usage.known_devices(run.folder.parent)
    found = usage.columns(state, devices, running=running)
    if running:
        peaks = usage.columns(state, devices, running=False)
        found |= {name: f"{found[name]}, {peaks[name]}" for name in ("memory", "gpu memory") if found[name]}
    named = [f"{devices[uuid]} ({uuid})" if uuid in devices else uuid for uuid in state.get("gpus") or []]
    return found | {"gpu": "; ".join(named)}


def grow(run: Run, *, every: float = 0.2, grep: str | None = None, printed_only: bool = False) -> Iterator[str]:
    """Yield what a run prints, whole lines at a time, until it has ended.

    A progress bar, which ends its lines with a carriage return, is shown as it moves.

    Parameters
    ----------
    run : Run
        The run.
    every : float, default 0.2
        Seconds between two looks.
    grep : str, optional
        Only lines that hold this text.
    printed_only : bool, default False
        Leave out earlier attempts, and the lines that are ours.
    """
    for text in _grow(run, every):
        if not printed_only and grep is None:
            yield text
            continue
        lines = text.split("\n")
        if printed_only:
            began = [at for at, line in enumerate(lines) if line.startswith(f"══ {run.id}, attempt {run.attempt},")]
            printed_only = not began
            lines = lines[began[0] + 2 :] if began else []
        if lines := [line for line in lines if grep is None or _holds(line, grep)]:
            yield "\n".join(lines)


def _holds(line: str, text: str) -> bool:
    """Whether a line that a run printed holds a text; our own do not count."""
    return text in line and not line.startswith(("── ", "══ "))


def _grow(run: Run, every: float) -> Iterator[str]:
    position = 0
    while True:
        # Before the look, so that nothing is missed. A run that will be tried again is another attempt by then.
        fed = scheduler.is_running(run.folder.parent)
        run = Run.look(run.folder)
        ended = run.status().phase in ENDED and not (fed and run.runner_lives())
        if data := _log(run, position):
            # A character may be cut in two: what follows the last whole line is kept for the next look.
            whole = data if ended else data[: max(data.rfind(b"\n"), data.rfind(b"\r")) + 1]
            position += len(whole)
            if whole:
                yield _as_seen(whole.decode("utf-8", "replace"))
        if ended:
            return
        time.sleep(every)


def _as_seen(text: str) -> str:
    """Write lines as a terminal would show them: what a carriage return overwrote is gone."""
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.removesuffix("\n").split("\n"))


def printed(run: Run, lines: int = 0, grep: str | None = None) -> str:
    """Return what a run printed: its last lines alone when `lines` is not 0, and those that hold `grep`."""
    if lines and grep is None:
        text = tail(run.log, lines=lines)
    else:
        text = _log(run).decode("utf-8", "replace") or "nothing was printed yet"
    if grep is not None:
        text = "\n".join([line for line in text.splitlines() if _holds(line, grep)][-lines:])
    return f"{run.id}: {run.log}\n{text}".rstrip()


def _log(run: Run, start: int = 0) -> bytes:
    """Return what a run printed, from some byte on."""
    if linked(run.folder):
        return b""
    try:
        return plain.read_bytes(run.log, start=start) or b""
    except OSError as error:
        return f"{run.log} cannot be read: {error.strerror}\n".encode() if not start else b""


@dataclass(frozen=True)
class Link:
    """A file to open: a link in a notebook, its path elsewhere.

    Parameters
    ----------
    path : Path
        The file.
    base : Path or None
        Folder of the notebook that shows the link; front ends read links from there. None where they do not.
    notes : tuple of str
        Lines below it.
    """

    path: Path
    base: Path | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([str(self.path), *self.notes])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    @property
    def href(self) -> str | None:
        """The link, relative to the notebook that shows it; None where links lead nowhere."""
        return None if self.base is None else links.href(self.path, self.base)

    def _repr_html_(self) -> str:
        text = html.escape(str(self.path))
        if self.href is not None:
            text = f'<a href="{html.escape(self.href)}" target="_blank">{text}</a>'
        notes = "".join(f'<div style="white-space:pre-wrap">{html.escape(note)}</div>' for note in self.notes)
        return f'<div style="font-size:13px">{text}{notes}</div>'


def link(run: Run, *, where: str, start_folder: Path) -> Link:
    """Make the link to an executed notebook, or to a command's log, with what to do about a run that failed.

    Parameters
    ----------
    run : Run
        Whose notebook it is.
    where : str
        The front end, as `ui.UI.where` says.
    start_folder : Path
        Where the shell's kernel started.

    Raises
    ------
    NotFound
        When the run has not been executed yet.
    """
    with contextlib.suppress(OSError, NotFound):  # where nothing can be written, it is what it is
        payload_of(run.record).seal(run.folder)
    status, file = run.status(), payload_of(run.record).product(run)
    if file is None:
        kind = payload_of(run.record).title(run.record)[0]
        raise NotFound(f"{run.id} has no executed {kind}: {status.text}.", f"%jobs logs {run.id} shows its log.")
    notes = [] if file in (run.notebook, run.log) else [f"This is an earlier attempt: {run.id} is {status.full}."]
    if where.startswith("colab"):
        notes.append(
            "Colab opens no file of its machine as a notebook: find it under Files at the left, and download it."
        )
    if status.phase == "failed":
        message = metrics.one_line(str(status.error.get("evalue") or ""))
        notes.append(f"{run.id} {status.text}{f': {message}' if message else ''}")
        if status.error.get("cell"):
            notes.append(
                f"To go on at that point: %fork … here={run.index} in the main notebook makes it this run; "
                f"execute its cells up to cell {status.error['cell']}."
            )
    return Link(file, links.base(where, start_folder), tuple(notes))
