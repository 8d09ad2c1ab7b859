"""How much memory is free: the machine's, or what is left of the control group's limit, whichever is less; and was."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

from .death import CGROUPS, OWN

_NEARLY_ALL = 0.9


def free_memory(*, cgroups: Path = CGROUPS, own: Path = OWN) -> int:
    """Return the bytes that processes here can still allocate."""
    free = int(psutil.virtual_memory().available)
    for folder, limit, used in _groups(cgroups, own):
        most, now = _number(folder / limit), _number(folder / used)
        if most is not None and now is not None:
            # Files that are cached count as used and are given back first.
            cached = re.search(r"^(?:total_)?inactive_file (\d+)$", _read(folder / "memory.stat"), re.M)
            free = min(free, max(0, most - now + (int(cached[1]) if cached else 0)))
    return free


def was_short(held: int, *, free: int | None = None) -> bool:
    """Whether a process that has just ended held so much that nearly nothing was free: all of it is, now.

    Parameters
    ----------
    held : int
        The most bytes that it ever held; 0 when nobody knows.
    free : int, optional
        What is free; looked up by default.
    """
    return held > 0 and held > _NEARLY_ALL * (free_memory() if free is None else free)


def _groups(cgroups: Path, own: Path) -> list[tuple[Path, str, str]]:
    """Return the folders of this process's control groups, those above it too, and their files of limit and use."""
    found = []
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, names = cgroups, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            base, names = cgroups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        folder = base / path.lstrip("/")
        # In containers the group's own name may not be visible: then the topmost there is counts.
        found += [(place, *names) for place in (folder, *folder.parents) if place.is_relative_to(base)]
    return found


def _number(file: Path) -> int | None:
    text = _read(file).strip()
    return int(text) if text.isdigit() else None


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
