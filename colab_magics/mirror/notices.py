"""What a user must see without asking, each with its mend; made from the status alone."""

from __future__ import annotations

import os
import time
from typing import Any

from ..units import show_seconds, show_size

LOW_SPACE = 1_000_000_000
"""Below so many free bytes Drive's user is told."""


def of(found: dict[str, Any], place: str) -> dict[str, str]:
    """Return what must be seen now, by the kind of trouble."""
    told: dict[str, str] = {}
    state, reason = found.get("state"), found.get("reason")
    if state == "HELD":
        told["held"] = f"Nothing is written to {place}: {reason}"
    elif state == "BACKOFF" and int(found.get("failures") or 0) >= 3:
        told["backoff"] = f"{place} fails again and again: {reason}"
    record = found.get("restore") or {}
    if record.get("error") and state != "HELD":
        told["restore"] = (
            f"The restore failed: {record['error']}\n"
            "It is tried again. Until it has worked new files are sent, and nothing at the Place is deleted."
        )
    if outward := record.get("outward"):
        told["outward"] = (
            f"Not restored from {place}, as links lead out of the folder: {some(outward['names'], outward['count'])}. "
            "They stay there; links with a relative path that stays in the folder are restored."
        )
    if unfit := record.get("unfit"):
        told["unfit"] = (
            f"Not restored from {place}, as they can be no files here: {some(unfit['names'], unfit['count'])}. "
            "They stay there under these names."
        )
    if held := found.get("held_deletes"):
        told["deletes"] = (
            f"Nothing is deleted at {place}: {held['reason']} ({some(held['names'], held['count'])}). "
            "Are they to go? %sync now --delete. Are they wanted? %sync restore"
        )
    if gone := found.get("earlier"):
        files = "1 file that was" if gone["count"] == 1 else f"{gone['count']} files that were"
        told["earlier"] = (
            f"{files} handed over to {place} {'is' if gone['count'] == 1 else 'are'} not here any more "
            f"({some(gone['names'], gone['count'])}): what went before this sync followed deletions stays there. "
            "Are they to go too? %sync now --delete-earlier. Are they wanted? %sync restore"
        )
    if names := found.get("secrets"):
        told["secrets"] = (
            f"{some(names, len(names))} looks like a secret and is copied to {place}. Leave it out: exclude={names[0]}"
        )
    if found.get("refused"):
        listed = "; ".join(f"{name}: {why}" for name, why in found["refused"].items())
        told["refused"] = f"Not sent: {listed}"
    if (events := str(found.get("observer") or "")).startswith(("off:", "off in")):
        limit = "watches=1048576" if "watched" in events else "instances=1024"
        told["watches"] = (
            f"The system does not tell what changes ({events}), so it goes only when all is looked at. "
            f"As root: sysctl fs.inotify.max_user_{limit}"
        )
    if found.get("slow"):
        told["slow"] = f"{place} does not answer since {show_seconds(float(found['slow']))}. Is its disk or mount dead?"
    free, waiting = found.get("free"), found.get("pending") or {}
    if free is not None and state != "HELD" and free < max(LOW_SPACE // 100, 2 * int(waiting.get("bytes") or 0)):
        told["space"] = f"Only {show_size(free)} are free at {place}. Free some space there."
    return told


def merge(before: list[dict[str, Any]], told: dict[str, str]) -> list[dict[str, Any]]:
    """Return the notices that hold now; one that held before keeps its time."""
    since = {(one["key"], gist(one["text"])): one["at"] for one in before}
    return [{"key": key, "at": since.get((key, gist(text)), time.time()), "text": text} for key, text in told.items()]


def words_of(error: Exception) -> str:
    """Write what an error says."""
    if isinstance(error, OSError):
        return f"{error.strerror or error}" + (f": {os.fsdecode(error.filename)}" if error.filename else "")
    return str(error)


def gist(text: str) -> str:
    """Leave out numbers that change all the time."""
    return "".join(letter for letter in text if not letter.isdigit())


def some(names: list[str], count: int) -> str:
    """Name a few of many."""
    shown = ", ".join(name.encode("utf-8", "replace").decode() for name in names[:5])
    return shown + (f" and {count - min(5, len(names))} more" if count > min(5, len(names)) else "")
