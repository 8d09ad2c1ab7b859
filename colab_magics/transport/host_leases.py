"""What hosts have promised to work that has not grown to it yet: lease files, which everybody there can read.

A lease lies in ``/tmp/colab_magics-leases`` of its host (``COLAB_MAGICS_LEASES`` there names another folder), one for
all of its users, and says what is needed, whose it is and for what. Whether it counts is derived: while a process has
it, or, from the choice of the host until something is started, for half an hour. What that process and all below it
use already counts no more, because it is not free any more.

Leases are placed one after the other, and each sees those before it: of two who choose at once one is the later. They
are words among users who trust each other, and take nothing from anybody.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .. import process
from ..units import without_controls
from .need import Need

FOLDER, VARIABLE = "/tmp/colab_magics-leases", "COLAB_MAGICS_LEASES"
UNTIL_IT_STARTS = 1800.0
"""Seconds for which a lease counts that no process has yet: a host that is used first installs packages."""
_LONGEST_NAME = 80

# For sh there, after `say` and `each`; $3 is the name and $4 the text of a lease to place. A folder that anybody could
# empty is none to promise anything in; a link is not followed, and no name of another one leaves this script.
SCRIPT = r"""
L=${COLAB_MAGICS_LEASES:-/tmp/colab_magics-leases}
if [ -n "$4" ]; then (
  [ -d "$L" ] || mkdir -m 1777 "$L" 2>/dev/null
  [ -d "$L" ] && [ ! -h "$L" ] && [ -k "$L" ] && cd "$L" || exit
  [ -e lock ] || (umask 022; : >lock) 2>/dev/null
  exec 9<lock && flock -w 10 9 || exit
  rm -f -- *."$3".lease
  n=0
  for f in *.lease; do
    k=${f%%.*}
    case "$k" in ""|*[!0-9]*|???????????*) ;; *) [ "$k" -gt "$n" ] && n=$k ;; esac
  done
  n=$((n + 1)); umask 022; set -C
  printf '%s\n' "$4" >"$n.$3.new" && mv "$n.$3.new" "$n.$3.lease"
) 2>/dev/null; fi
found=
for f in "$L"/*.lease; do
  b=${f##*/}
  case "$b" in *[!0-9a-z.]*) continue ;; esac
  [ -f "$f" ] && [ ! -h "$f" ] || continue
  say lease "$b $(stat -c '%U %Y' -- "$f") $(date +%s) $(limited head -c 4000 -- "$f" | tr -d '\n\r')"
  found=1
done
if [ -n "$found" ]; then
  say boot "$(cat /proc/sys/kernel/random/boot_id) $(readlink /proc/self/ns/pid)"
  say clock "$(getconf CLK_TCK) $(getconf PAGESIZE) $(cut -d ' ' -f 1 /proc/uptime)"
  cat /proc/[0-9]*/stat 2>/dev/null | sed -n 's/^\([0-9][0-9]*\) (.*) /\1 /p' | cut -d ' ' -f 1,3,13-16,21,23 |
    each process
fi
"""
REMOVE = f'rm -f -- "${{{VARIABLE}:-{FOLDER}}}"/*."$1".lease'


@dataclass(frozen=True)
class Lease:
    """What is to be kept free for work.

    Parameters
    ----------
    need : Need
        What all of it needs at once.
    what : str
        Which work, for people.
    devices : tuple of str
        UUIDs of the GPUs that it uses.
    at_once : int
        How many runs share it; each has GPUs of its own.
    id : str
        Its name.
    """

    need: Need
    what: str
    devices: tuple[str, ...] = ()
    at_once: int = 1
    id: str = field(default_factory=lambda: secrets.token_hex(8))

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Lease:
        """Build one from JSON; raises ValueError, TypeError or KeyError when it is none."""
        need = {name: float(told["need"].get(name, 0)) for name in asdict(Need())}
        if not re.fullmatch(r"[0-9a-f]{16}", told["id"]) or not all(0 <= value < 1e18 for value in need.values()):
            raise ValueError("it is no lease")
        sizes = {name: int(value) for name, value in need.items() if name != "cpu"}
        devices = tuple(str(one) for one in told["devices"])
        at_once = max(1, int(told.get("at_once", 1)))
        return cls(Need(**sizes, cpu=need["cpu"]), _plain(str(told["what"])), devices, at_once, told["id"])

    @property
    def record(self) -> dict[str, Any]:
        """It as JSON."""
        return asdict(self) | {"devices": list(self.devices)}

    @property
    def text(self) -> str:
        """What its file holds."""
        return json.dumps(self.record | {"holders": []})


@dataclass(frozen=True)
class Promise:
    """A lease that counts on a host.

    Parameters
    ----------
    lease : Lease
        What it says.
    number : int
        Those with a lower one were there before it.
    owner : str
        The user there whose file it is.
    left : Need
        What of it is still to be kept free; its GPU memory stands in `gpus`.
    gpus : dict
        Bytes to keep free by UUID.
    """

    lease: Lease
    number: int
    owner: str
    left: Need
    gpus: Mapping[str, int]

    def __str__(self) -> str:
        return f"{self.lease.what} of {self.owner} has a lease on {self.lease.need}"


def _plain(text: str) -> str:
    return without_controls(text).replace("\n", " ")[:_LONGEST_NAME]


@dataclass
class _Process:
    parent: int
    started: int
    seconds: float
    memory: int


def read(of: Mapping[str, Sequence[str]]) -> tuple[Promise, ...]:
    """Return the leases that count, by what a host has told."""
    told = [one for line in of.get("lease", ()) if (one := _told(line)) is not None]
    if not told:
        return ()
    here = tuple(" ".join(of.get("boot", ())).split())[:2]
    processes, uptime = _processes(of)
    apps = [part for line in of.get("app", ()) if len(part := [word.strip() for word in line.split(",")]) == 3]
    promises = []
    for number, owner, age, lease, holders in told:
        known = [one for one in holders if (one.get("boot"), one.get("pids")) == here]
        alive = [
            one["pid"]
            for one in known
            if (there := processes.get(one.get("pid", 0))) is not None and there.started == one.get("started")
        ]
        # Whoever is in another container of this machine cannot be seen.
        if not alive and (known or age > UNTIL_IT_STARTS):
            continue
        tree = _below(processes, alive)
        memory = sum(processes[pid].memory for pid in tree)
        busy = sum(processes[pid].seconds for pid in tree)
        lived = uptime - min((processes[pid].started for pid in alive), default=0) / _ticks(of)
        left = Need(
            disk=lease.need.disk,  # nobody knows what of it was written
            memory=max(0, lease.need.memory - memory),
            cpu=max(0.0, lease.need.cpu - busy / max(lived, 1.0)),
        )
        used = {uuid: sum(_bytes(size) for at, pid, size in apps if at == uuid and pid in map(str, tree))
                for uuid in lease.devices}  # fmt: skip
        gpus = {uuid: max(0, lease.need.gpu - used[uuid]) for uuid in lease.devices}
        promises.append(Promise(lease, number, owner, left, gpus))
    return tuple(sorted(promises, key=lambda one: one.number))


def _told(line: str) -> tuple[int, str, float, Lease, list[dict[str, Any]]] | None:
    """Read what the script says of a file; None for what is no lease."""
    words = line.split(" ", 4)
    name = re.fullmatch(r"([0-9]{1,11})\.[0-9a-f]{16}\.lease", words[0])
    if name is None or len(words) < 5 or not all(re.fullmatch(r"[0-9]{1,12}", word) for word in words[2:4]):
        return None
    try:
        said = json.loads(words[4])
        lease = Lease.of(said)
        holders = [one for one in said["holders"] if isinstance(one, dict)]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        return None
    return int(name[1]), _plain(words[1]), float(int(words[3]) - int(words[2])), lease, holders


def _ticks(of: Mapping[str, Sequence[str]]) -> float:
    return _clock(of)[0] or 100.0


def _clock(of: Mapping[str, Sequence[str]]) -> tuple[float, float, float]:
    """Return ticks a second, bytes a page, and seconds since the boot."""
    found = re.match(r"([0-9]{1,6}) ([0-9]{1,9}) ([0-9.]{1,20})", " ".join(of.get("clock", ())))
    return (float(found[1]), float(found[2]), float(found[3])) if found else (0.0, 0.0, 0.0)


def _processes(of: Mapping[str, Sequence[str]]) -> tuple[dict[int, _Process], float]:
    ticks, page, uptime = _clock(of)
    found = {}
    for line in of.get("process", ()):
        if re.fullmatch(r"[0-9]{1,10}( -?[0-9]{1,20}){7}", line):
            pid, parent, *times, started, pages = map(int, line.split())
            found[pid] = _Process(parent, started, sum(times) / (ticks or 100.0), int(pages * page))
    return found, uptime


def _below(processes: Mapping[int, _Process], roots: Sequence[int]) -> set[int]:
    """Return processes and all that they have started."""
    children: dict[int, list[int]] = {}
    for pid, one in processes.items():
        children.setdefault(one.parent, []).append(pid)
    found, new = set[int](), list(roots)
    while new:
        pid = new.pop()
        if pid not in found:
            found.add(pid)
            new += children.get(pid, [])
    return found


def _bytes(mebibytes: str) -> int:
    return int(mebibytes) << 20 if re.fullmatch(r"[0-9]{1,9}", mebibytes) else 0


# On the host itself, where runs are started.


def _mine() -> Iterator[tuple[Path, dict[str, Any], bool]]:
    """Yield this user's lease files, what they hold, and whether that counts."""
    for path in sorted(Path(os.environ.get(VARIABLE) or FOLDER).glob("*.lease")):
        with contextlib.suppress(FileNotFoundError):
            seen = os.lstat(path)
            told = process.read_json(path) or {}
            holders = told.get("holders")
            if (
                seen.st_uid == os.getuid()
                and isinstance(holders, list)
                and all(isinstance(one, dict) for one in holders)
            ):
                alive = [process.is_alive(one) for one in holders]
                young = time.time() - seen.st_mtime < UNTIL_IT_STARTS
                yield path, told, any(alive) or (young and False not in alive)


def held(name: str) -> tuple[Lease, set[str]] | None:
    """Return a lease of ours on this machine by its name, while it counts, and which devices of it have a process."""
    for path, told, counts in _mine():
        if path.name.endswith(f".{name}.lease") and counts:
            alive = [one for one in told["holders"] if process.is_alive(one) is not False]
            return Lease.of(told), {uuid for one in alive for uuid in one.get("devices", ())}
    return None


def hold(name: str, who: Mapping[str, Any], devices: Sequence[str] = ()) -> None:
    """Note which process has a lease of ours on this machine, or devices of it; remove those that nobody has any more.

    Parameters
    ----------
    name : str
        The lease's.
    who : mapping
        See `process.identity`.
    devices : sequence of str
        UUIDs.
    """
    for path, told, counts in _mine():
        if path.name.endswith(f".{name}.lease"):
            holders = [one for one in told["holders"] if process.is_alive(one) is not False]
            holders.append({**who, "devices": list(devices)})
            process.write_whole(path, json.dumps({**told, "holders": holders}) + "\n", durable=False)
            path.chmod(0o644)
        elif not counts:
            path.unlink(missing_ok=True)
