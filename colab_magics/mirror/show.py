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
    lines = [f"{where}: {found['reason']}"] if found.get("reason") and "restore" not in told else []
    lines += [text for key, text in told.items() if key not in ("held", "backoff")]
    if count := found.get("skipped_count"):
        lines.append(f"Not sent, the Place keeps plain files only: {some(found['skipped'], count)}")
    if count := found.get("busy_count"):
        lines.append(f"Open for writing, so not handed over yet: {some([b['path'] for b in found['busy']], count)}")
    return "\n".join(lines)


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
