"""Which process is which, and how one ended. Stands alone: it is shipped to the host."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def how(status: int | None) -> str:
    """Say how a process ended."""
    if status is None:
        return "it still runs"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return f"killed by {signal.Signals(number).name}"
    return f"exit status {os.WEXITSTATUS(status)}"


def start_of(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat: when a process started, in clock ticks since boot."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def boot() -> str:
    """Name of this boot of the machine."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            return stream.read().strip()
    except OSError:
        return ""


def identity(pid: int) -> dict[str, Any]:
    """What tells a process from every other, also from one that gets its number later."""
    return {"pid": pid, "started": start_of(pid), "boot": boot()}


def is_alive(who: dict[str, Any]) -> bool:
    """Whether the process that `identity` described still runs."""
    pid, started = who.get("pid"), who.get("started")
    return who.get("boot") == boot() and isinstance(pid, int) and started is not None and start_of(pid) == started


def others_work_in(folder: str, home: str) -> bool:
    """Whether a relay other than that of `home` has a kernel in a folder; one of another machine counts until it ends.

    Home folders may be shared by machines, and the process of another machine cannot be looked at.
    """
    import contextlib
    import glob
    import json

    for other in glob.glob(os.path.join(glob.escape(os.path.dirname(os.path.dirname(home))), "*/*/relay.json")):
        with contextlib.suppress(OSError, ValueError), open(other) as stream:
            about = json.load(stream)
            elsewhere = os.path.dirname(os.path.dirname(other)) != os.path.dirname(home)
            if about.get("folder", folder) == folder and (elsewhere or is_alive(about["relay"])):
                return True
    return False
