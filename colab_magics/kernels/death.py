"""How a kernel died, said no more exactly than the evidence allows."""

from __future__ import annotations

import re
import signal
from pathlib import Path

PROBABLY = "probably out of memory"
"""Of what ended by SIGKILL while memory was short, and nobody counted."""
CGROUPS, OWN, MACHINE = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), Path("/proc/vmstat")


def kills_for_memory(*, cgroups: Path = CGROUPS, own: Path = OWN, machine: Path = MACHINE) -> int:
    """Count the processes that Linux has ended for lack of memory, in this process's control group and on the machine.

    Only growth of the number says something.
    """
    files = [machine]
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            files += _up(cgroups, path, "memory.events")
        elif "memory" in controllers.split(","):
            files += _up(cgroups / "memory", path, "memory.oom_control")
    counts = [re.search(r"^oom_kill (\d+)$", _read(file), re.M) for file in files]
    return sum(int(count[1]) for count in counts if count)


def _up(base: Path, path: str, name: str) -> list[Path]:
    """Return the file of a control group; in containers the group's own name may not be visible."""
    files = [base / path.lstrip("/") / name, base / name]
    return [next((file for file in files if file.is_file()), files[0])]


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def cause(status: int | None, *, kills: int = 0, short: bool = False) -> str:
    """Say how a process ended.

    Parameters
    ----------
    status : int or None
        Exit status; the negative number of a signal; None when nobody knows.
    kills : int
        How many processes Linux has ended for lack of memory meanwhile.
    short : bool
        Whether memory was short, by all that is known.
    """
    if status is None:
        return "the kernel died"
    if status == -signal.SIGKILL and kills > 0:
        return "the kernel died: killed by the kernel (out of memory)"
    if status < 0:
        try:
            name = signal.Signals(-status).name
        except ValueError:
            name = f"signal {-status}"
        why = f" ({PROBABLY})" if short and status == -signal.SIGKILL else ""
        return f"the kernel died: ended by {name}{why}"
    return f"the kernel died: exit status {status}"
