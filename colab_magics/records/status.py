"""How a run stands, derived from what its runner, its scheduler and its engine wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .. import process, units

HEARTBEAT = 5.0
"""Seconds between two heartbeats of a runner."""
SILENT = 12 * HEARTBEAT
"""A runner on another machine that was silent for so many seconds counts as dead."""

ENDED = frozenset({"done", "stopped", "failed", "killed", "interrupted", "cancelled", "unreadable"})
"""Phases in which nothing moves any more."""

_EARLY = "stopped early"


@dataclass(frozen=True)
class Status:
    """How a run stands.

    Parameters
    ----------
    phase : str
        ``waiting``, ``running``, ``done``, ``stopped`` (early, by a search), ``failed``, ``killed``, ``interrupted``,
        ``cancelled`` (not started, because of how others ended) or ``unreadable`` (its files are not what they must
        be).
    text : str
        For people: ``running``, ``interrupted 03:02, cell 9 of 14``.
    cell, cells : int
        Code cell that runs or ran last, and how many there are; 0 when nothing is known.
    started, ended : float or None
        Seconds since the epoch.
    error : dict
        For failed runs: ``cell``, ``ename``, ``evalue``, ``traceback`` (text).
    attempts : str
        Of a run that was tried before and has not ended well: ``attempt 2; attempt 1 was killed too``.
    """

    phase: str
    text: str
    cell: int = 0
    cells: int = 0
    started: float | None = None
    ended: float | None = None
    error: Mapping[str, Any] = field(default_factory=dict)
    attempts: str = ""

    @property
    def full(self) -> str:
        """The text, with what became of earlier attempts."""
        return f"{self.text} ({self.attempts})" if self.attempts else self.text

    @property
    def ended_well(self) -> bool:
        """Whether the run did all that was wanted of it, and its results count."""
        return self.phase in ("done", "stopped")


def derive(
    state: Mapping[str, Any] | None,
    verdict: Mapping[str, Any] | None,
    *,
    now: float,
    step: str = "",
    out: Mapping[str, Any] | None = None,
    lives: Callable[[float], bool] | None = None,
) -> Status:
    """Derive a status from what the runner, the scheduler and the engine wrote.

    A phase in which the runner says that it ended is final. Otherwise the verdict counts, and without one the
    process: alive, dead, or, on another machine, as the engine that has it says, or as the heartbeat does.

    Parameters
    ----------
    state, verdict : mapping or None
        state.json and verdict.json of this attempt.
    now : float
        The present moment, in seconds since the epoch.
    step : str, default ""
        How far the run says that its cell is.
    out : mapping, optional
        ref.json, while an engine on other machines has the run: what it has written may not all be here yet.
    lives : callable, optional
        Tells by the last heartbeat whether a runner of another machine lives; by the clock by default.
    """
    if state is None:
        return _without_a_word(verdict, out, now)
    beat = float(state.get("beat") or 0)
    at, where = _place(state, step)
    when = units.show_time(beat, now=now)
    phase = str(state.get("phase"))
    status = Status(phase, phase, int(state.get("cell") or 0), int(state.get("cells") or 0), state.get("started"))
    # What was told to end by nobody here was not killed: its machine or its time has ended, as its engine knows.
    told_to_end = phase == "killed" and (verdict or {}).get("verdict") == "lost" and bool(_why(verdict))
    if phase in ENDED and out is None and not told_to_end:
        error = state.get("error") or {}
        if phase == "failed":
            name = units.without_controls(str(error.get("ename")))
            status = replace(status, text=f"{' '.join(filter(None, ['failed', where]))}: {name}", error=error)
            status = replace(status, text=status.text + _why(verdict, "; "))
        elif phase == "stopped" or (phase == "killed" and (verdict or {}).get("verdict") == "stopped"):
            status = replace(status, phase="stopped", text=_EARLY)
        elif phase == "killed":
            status = replace(status, text=_with("killed", when, at) + _why(verdict))
        return replace(status, ended=state.get("ended"))
    if verdict is not None:
        said = str(verdict.get("verdict"))
        phase = said if said in ("killed", "stopped") else "interrupted"
        text = _EARLY if said == "stopped" else _with(said, when, at) + _why(verdict)
        return replace(status, phase=phase, text=text, ended=verdict.get("at"))
    if out is not None and out.get("seen") == "queued" and beat < float(out.get("since") or 0):
        return replace(status, phase="waiting", text=f"queued again {_on(out)}{_says(out)}")
    if out is not None:
        doing = f"{phase}, results are on their way" if phase in ENDED else step or at or "running"
        text = ", ".join(filter(None, [doing, _where(out), _node(out)]))
        return replace(status, phase="running", text=text + _not_heard_of(out, now))
    alive = process.is_alive(state.get("process") or {})
    if alive is None:
        alive = lives(beat) if lives is not None else now - beat < SILENT
    if alive:
        return replace(status, phase="running", text=step or at or "running")
    return replace(status, phase="interrupted", text=_with("interrupted", when, at), ended=beat)


def _without_a_word(verdict: Mapping[str, Any] | None, out: Mapping[str, Any] | None, now: float) -> Status:
    """Derive the status of a run whose runner has said nothing yet."""
    if verdict is not None:
        said = str(verdict.get("verdict"))
        if said == "cancelled":
            return Status(said, f"not started: {verdict.get('reason')}")
        return Status("interrupted" if said == "lost" else said, f"{said} before it started{_why(verdict)}")
    if out is None:
        return Status("waiting", "waiting")
    if out.get("seen") == "running":
        return Status("running", ", ".join(filter(None, [f"starting {_on(out)}", _node(out)])))
    return Status("waiting", f"queued {_on(out)}{_says(out)}" + _not_heard_of(out, now))


def _on(out: Mapping[str, Any]) -> str:
    return _where(out) or f"on {out['engine']}"


def _says(out: Mapping[str, Any]) -> str:
    """Say why an engine lets a run wait."""
    return f" ({says})" if (says := _word(out)) else ""


def _node(out: Mapping[str, Any]) -> str:
    """Say where in a cluster a run executes, as far as its engine says."""
    return _word(out) if out.get("seen") == "running" else ""


def _word(out: Mapping[str, Any]) -> str:
    return units.without_controls(str(out.get("says") or ""))[:80]


def _why(verdict: Mapping[str, Any] | None, colon: str = ": ") -> str:
    """Say why a run was lost or killed, as far as its engine knew."""
    reason = units.without_controls(str((verdict or {}).get("reason") or ""))[:500]
    return f"{colon}{reason}" if reason else ""


def _where(out: Mapping[str, Any]) -> str:
    """Say on which machine an engine has a run, where it has several."""
    host = (out.get("ref") or {}).get("host")
    return f"on {units.without_controls(str(host))[:80]}" if host else ""


def _not_heard_of(out: Mapping[str, Any], now: float) -> str:
    if out.get("seen") != "unknown":
        return ""
    return f" (not heard of since {units.show_time(float(out.get('since') or 0), now=now)})"


def _place(state: Mapping[str, Any], step: str) -> tuple[str, str]:
    """Say where a run is or was, and where it failed; a command has no cells."""
    if "cells" in state and state["cells"] is None:
        return step, ""
    cell, cells, error = state.get("cell") or 0, state.get("cells") or 0, state.get("error") or {}
    at = ", ".join(filter(None, [f"cell {cell} of {cells}" if cells else "starting", step]))
    where = f"in cell {number}" if (number := error.get("cell") or cell) else "before its first cell"
    return at, ", ".join(filter(None, [where, step]))


def _with(word: str, when: str, at: str) -> str:
    return f"{word} {when}, {at}" if at else f"{word} {when}"
