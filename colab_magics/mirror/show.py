"""How a sync shows itself: exact words, and no claim that nobody can check."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .. import units
from ..errors import InvalidInput
from . import state
from .notices import some

if TYPE_CHECKING:
    from .sync import Sync


def warning(sync: Sync) -> str:
    """Say what the user should know now; empty when all is well."""
    found, where = sync.status(), sync.state()
    if where == "GONE":
        return f"The process that syncs {sync.source} is gone. %sync starts it again."
    told = {one["key"]: one["text"] for one in found.get("notices") or []}
    # A notice of the same says it better.
    lines = [f"{where}: {found['reason']}"] if found.get("reason") and "restore" not in told else []
    lines += [text for key, text in told.items() if key not in ("held", "backoff")]
    if count := found.get("skipped_count"):
        lines.append(f"Not sent, the Place keeps plain files only: {some(found['skipped'], count)}")
    if count := found.get("busy_count"):
        lines.append(f"Open for writing, so not handed over yet: {some([b['path'] for b in found['busy']], count)}")
    return "\n".join(lines)


def line(sync: Sync) -> str:
    """Write how a sync stands on one line."""
    source, place = sync.source, sync.config.place
    name = source.name if source.parent.name == "data_job" else str(source)
    return f"{name} → {place}: {_stands(sync)}"


def _stands(sync: Sync) -> str:
    """Say how a sync stands, in few words."""
    found, where = sync.status(), sync.state()
    waits, busy = int((found.get("pending") or {}).get("files") or 0), int(found.get("busy_count") or 0)
    good = found.get("good") or {}
    at = units.show_time(max(good["at"], (found.get("handed") or {}).get("at") or 0.0)) if good else ""
    if where == "GONE":
        return "its process is gone; %sync starts it again"
    if where == "STOPPED":
        ended = f"all handed over {at}" if found.get("flushed") and at else str(found.get("reason") or "nothing to do")
        return f"stopped, {ended}"
    if where in ("INIT", "RESTORING"):
        return "fetching"
    if where in ("SYNCING", "SCANNING") and found.get("held_deletes"):
        where = "WAITING"  # a pass does not answer for the user
    if where in _TROUBLE:
        return f"{_TROUBLE[where]}{f', all handed over until {at}' if at else ''} (%sync status)"
    if waits > busy or (waits and not at):
        size = units.show_size((found.get("pending") or {}).get("bytes") or 0)
        return (
            f"{waits} {'file' if waits == 1 else 'files'}, {size} to go{f', the last handed over {at}' if at else ''}"
        )
    if not at:
        return "nothing handed over yet"
    counts = {
        "open for writing": busy,
        "no plain files": found.get("skipped_count"),
        "refused": found.get("refused_count"),
    }
    left = [f"{count} {what}" for what, count in counts.items() if count]
    return f"all handed over {at}" + (f", but not {', '.join(left)} (%sync status)" if left else "")


_TROUBLE = {
    "WAITING": "waits for your word on deletes",
    "HELD": "on hold",
    "BACKOFF": "fails and is tried again",
}


def text(sync: Sync) -> str:
    """Write all that is known of a sync, for people."""
    config, found = sync.config, sync.status()
    lines = [f"{config.source} → {sync.place}, every {units.show_seconds(config.every)}: {sync.state()}"]
    lines.append(f"  {last_success(sync, found)}")
    lines += [f"  {line}" for line in _numbers(found)]
    record = found.get("restore") or {}
    if record.get("ok"):
        lines.append(f"  restored {units.show_time(record['at'])}: {record['files']} files fetched")
    lines += [f"  {line}" for line in sync.warning.splitlines()]
    for one in found.get("busy") or []:
        whole = f", last whole copy {units.show_time(one['whole'])}" if one.get("whole") else ""
        lines.append(f"  {some([one['path']], 1)} is open since {units.show_time(one['since'])}{whole}")
    for i, one in enumerate(state.starters(sync.folder)):
        did = "started" if not i else "told anew"
        lines.append(
            f"  {did} {units.show_time(one.get('at') or 0.0)} by {one.get('by')}, Python of {one.get('python')}"
        )
    if state.alive(found):
        age = units.show_seconds(max(0.0, time.time() - sync.beat))
        lines.append(f"  process {found['identity']['pid']}, last sign {age} ago, log {sync.folder / 'log.txt'}")
    return "\n".join(lines)


def last_success(sync: Sync, found: dict[str, Any]) -> str:
    """Say when all was handed over last."""
    good = found.get("good")
    if not good:
        return "nothing was sent yet"
    handed = found.get("handed") or {}
    at = units.show_time(max(good["at"], handed.get("at") or 0.0))
    try:
        later = sync.config.target().uploads_later
    except InvalidInput:  # a kind that came from a package which is not installed any more
        later = True
    if later:
        return f"handed to Drive {at} (its upload cannot be confirmed)"
    return f"copied to {sync.place} {at}"


def _numbers(found: dict[str, Any]) -> list[str]:
    lines = []
    handed, waiting, scan = found.get("handed") or {}, found.get("pending") or {}, found.get("scan") or {}
    if handed.get("files"):
        lines.append(f"{handed['files']} files, {units.show_size(handed['bytes'])} handed over so far")
    if waiting.get("files"):
        age = units.show_seconds(max(0.0, time.time() - float(waiting["oldest"])))
        lines.append(f"{waiting['files']} files, {units.show_size(waiting['bytes'])} wait, the oldest for {age}")
    if scan:
        lines.append(
            f"looked at {scan['files']} files {units.show_time(scan['at'])} in {units.show_seconds(scan['seconds'])}, "
            f"events: {found.get('observer')}" + (f", renewed {n} times" if (n := found.get("restarts")) else "")
        )
    trash, free = found.get("trash") or {}, found.get("free")
    if trash.get("files"):
        lines.append(f"{trash['files']} files, {units.show_size(trash['bytes'])} in .sync_trash, for a day of syncing")
    if found.get("conflicts"):
        lines.append(f"{found['conflicts']} files lost against newer versions: they are in .sync_conflict")
    if free is not None:
        lines.append(f"{units.show_size(free)} free there")
    if found.get("error") and found.get("error_at"):
        lines.append(f"last error {units.show_time(found['error_at'])}: {found['error']}")
    return lines
