"""What hosts have to give at this moment: one ssh command each, all at once.

A host is asked through whatever login shell it has. That may be slow, greet, and print what it likes: only lines that
begin with a word of this very call count.
"""

from __future__ import annotations

import os
import re
import secrets
import select
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from ..errors import InvalidInput, Unavailable
from ..pipes import Pipes
from . import host_leases, ssh
from .host_leases import Lease, Promise

SECONDS = 20.0
"""Time for one host to log us in and to tell everything."""
AT_ONCE = 64
HERE = ""
"""In place of a host's name: this machine, without ssh."""
BUSY_PERCENT = 10
"""From here on a GPU counts as used by somebody."""
_MOST = 1 << 20
"""Bytes that a host may say."""

# Two pings come first, while nothing else runs there. What may hang comes last, and has a limit where that is known.
_SCRIPT = (
    r"""
m=$1; d=$2
say() { printf '%s %s\n' "$m" "$*"; }
each() { while IFS= read -r line; do say "$1" "$line"; done; }
limited() { if command -v timeout >/dev/null 2>&1; then timeout 10 "$@"; else "$@"; fi; }
printf '\n'
say ready; read -r x; say pong; read -r x; say pong
"""
    # Before what is free: what a run takes meanwhile counts twice then, and never not at all.
    + host_leases.SCRIPT
    + r"""
say cores "$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null)"
say load "$(cat /proc/loadavg 2>/dev/null || uptime | sed 's/.*average[s]*: *//')"
grep -E '^Mem(Total|Available):' /proc/meminfo 2>/dev/null | each memory
g=/sys/fs/cgroup
limits() {
  p=${2%/}
  while :; do
    [ -r "$1$p/$3" ] && say limit "$(cat "$1$p/$3")" "$(cat "$1$p/$4")" "$(sed -n "s/^$5 //p" "$1$p/memory.stat")"
    case "$p" in */*) p=${p%/*} ;; *) break ;; esac
  done
}
[ -r /proc/self/cgroup ] && while IFS=: read -r n c p; do case "$c" in
  "") limits "$g" "$p" memory.max memory.current inactive_file ;;
  memory) limits "$g/memory" "$p" memory.limit_in_bytes memory.usage_in_bytes total_inactive_file ;;
esac; done < /proc/self/cgroup 2>/dev/null
case "$d" in /*) ;; *) d=$HOME/$d ;; esac
while [ -n "$d" ] && [ ! -d "$d" ]; do d=${d%/*}; done
limited df -Pk -- "${d:-/}" 2>/dev/null | tail -n 1 | each disk
for p in nvidia-smi /usr/lib/wsl/lib/nvidia-smi /usr/local/nvidia/bin/nvidia-smi; do
  command -v "$p" >/dev/null 2>&1 || continue
  what=index,uuid,memory.total,memory.free,utilization.gpu,name
  found=$(limited "$p" --query-gpu=$what --format=csv,noheader,nounits 2>&1); s=$?
  say gpus $s
  printf '%s\n' "$found" | each gpu
  what=gpu_uuid,pid,used_memory
  [ $s = 0 ] && limited "$p" --query-compute-apps=$what --format=csv,noheader,nounits 2>/dev/null | each app
  break
done
say end
"""
)


@dataclass(frozen=True)
class Gpu:
    """A GPU of a host.

    Parameters
    ----------
    index : int
        Its number there.
    uuid, name : str
        What nvidia-smi calls it; the first is what ``CUDA_VISIBLE_DEVICES`` takes.
    total, free : int
        Bytes of its memory.
    percent : int
        How much it is used.
    programs : int
        How many programs compute on it.
    """

    index: int
    uuid: str
    name: str
    total: int
    free: int
    percent: int = 0
    programs: int = 0

    @property
    def idle(self) -> bool:
        """Whether nobody uses it."""
        return self.percent < BUSY_PERCENT and not self.programs


@dataclass(frozen=True)
class Report:
    """What a host has to give.

    Parameters
    ----------
    host : str
        Its name for ssh.
    why : str
        Why it cannot be used; empty for a host that answered.
    rtt : float or None
        Seconds of a round trip over an open connection.
    cores : int
        Processors.
    load : float or None
        How many programs want to compute, on average over a minute.
    memory, memory_free, disk, disk_free : int or None
        Bytes of memory, as far as control groups let us have it, and of the disk on which the projects' folder is, or
        will be.
    gpus : tuple of Gpu
        Its GPUs.
    note : str
        What the user should know, such as a driver that does not work.
    promises : tuple of Promise
        What of that is promised to somebody; the numbers above do not know of it.
    """

    host: str
    why: str = ""
    rtt: float | None = None
    cores: int = 0
    load: float | None = None
    memory: int | None = None
    memory_free: int | None = None
    disk: int | None = None
    disk_free: int | None = None
    gpus: tuple[Gpu, ...] = ()
    note: str = ""
    promises: tuple[Promise, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether it answered."""
        return not self.why

    @property
    def load_per_core(self) -> float:
        """Load by processors; 0 where it is not known."""
        return (self.load or 0.0) / max(self.cores, 1)


def probe(
    hosts: Sequence[str], *, folder: str = "colab_magics", seconds: float = SECONDS, lease: Lease | None = None
) -> list[Report]:
    """Ask hosts what they have to give.

    Parameters
    ----------
    hosts : sequence of str
        Their names for ssh; `HERE` is this machine.
    folder : str
        The folder there whose disk counts, from the home folder or from ``/``; the nearest one above that exists.
    seconds : float
        Time for one host; who says nothing until then counts as dead.
    lease : Lease, optional
        To be placed there before anything is looked at.

    Returns
    -------
    list of Report
        In the order of `hosts`; those that cannot be used say why.
    """
    if not hosts:
        return []
    running, placed = _Running(), [lease.id, lease.text] if lease is not None else []
    pool = ThreadPoolExecutor(min(len(hosts), AT_ONCE), thread_name_prefix="colab_magics-probe")
    try:
        return list(pool.map(lambda host: _ask(host, [folder, *placed], seconds, running), hosts))
    except BaseException:
        running.end()  # an interrupt: nobody waits for those that have not answered
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass
class _Running:
    """The commands that are waited for."""

    pipes: list[Pipes] = field(default_factory=list)
    ended: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, command: Sequence[str]) -> Pipes:
        with self.lock:
            if self.ended:
                raise InterruptedError
            one = Pipes(command)
            self.pipes.append(one)
            return one

    def end(self) -> None:
        with self.lock:
            self.ended = True
            for one in self.pipes:
                one.kill()


class _Said:
    """Reads the lines of a host that are ours, until a time is over."""

    def __init__(self, pipes: Pipes, mark: str, seconds: float) -> None:
        self._pipes, self._mark, self._end = pipes, mark.encode() + b" ", time.monotonic() + seconds
        self._rest, self._count = b"", 0

    def line(self) -> str:
        """Return the next line without its mark; raises EOFError at the end, TimeoutError when it is too late."""
        while True:
            while b"\n" not in self._rest:
                left = self._end - time.monotonic()
                if left <= 0 or not select.select([self._pipes.stdout], [], [], left)[0]:
                    raise TimeoutError
                data = os.read(self._pipes.stdout, 1 << 16)
                self._count += len(data)
                if not data or self._count > _MOST:
                    raise EOFError
                self._rest = (self._rest + data)[-(1 << 17) :]
            line, _, self._rest = self._rest.partition(b"\n")
            if line.startswith(self._mark):
                return line[len(self._mark) :].decode("utf-8", "backslashreplace").rstrip("\r")

    def ping(self) -> float:
        """Return the seconds until it answers."""
        began = time.monotonic()
        self._pipes.write(memoryview(b"\n"))
        while self.line() != "pong":
            pass
        return time.monotonic() - began


def _ask(host: str, words: Sequence[str], seconds: float, running: _Running) -> Report:
    mark = f"colab_magics-{secrets.token_hex(8)}"
    try:
        script = ["sh", "-c", _SCRIPT, "sh", mark, *words]
        pipes = running.start(ssh.command(host, script) if host != HERE else script)
    except (Unavailable, InvalidInput) as error:
        return Report(host, why=error.what)
    except InterruptedError:
        return Report(host, why="it was not asked")
    said, lines = _Said(pipes, mark, seconds), []
    rtt = None
    try:
        while said.line() != "ready":
            pass
        rtt = min(said.ping(), said.ping())
        while (line := said.line()) != "end":
            lines.append(line)
    except TimeoutError:
        pipes.close()
        if not running.ended and host != HERE:
            ssh.drop_shared(host)  # a connection that does not answer must not wait for whoever comes next
        fell = "stopped answering" if rtt is not None else "did not let us in"
        return Report(host, why=f"it {fell} within {seconds:g} s")
    except EOFError:
        pipes.wait(1.0)
        status, errors = pipes.close()
        return Report(host, why=_why(host, status, errors))
    except BaseException:
        pipes.close()
        raise
    pipes.close()
    return read(host, lines, rtt)


def _why(host: str, status: int, errors: str) -> str:
    if status == 255 and errors.strip():
        error = ssh.unreachable(host, errors)
        if isinstance(error, ssh.UnknownName):
            return f"{error.what} {error.mend}"  # it names those that are known
        return error.what.removeprefix(f"{host} ").rstrip(".")
    said = ssh.last_line(errors)
    return f"it lets us in and runs nothing for us{f': {said}' if said else f' (status {status})'}"


def read(host: str, lines: Sequence[str], rtt: float | None) -> Report:
    """Make a report of what a host has told; what has another form than it should is as if it had not been said."""
    of: dict[str, list[str]] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        of.setdefault(key, []).append(value)
    memory = {
        found[1]: int(found[2]) * 1024
        for text in of.get("memory", [])
        if (found := re.match(r"Mem(\w+):\s*([0-9]{1,15})\b", text))
    }
    total, free = memory.get("Total"), memory.get("Available")
    for most, unused in _limits(of):
        total, free = min(most, total or most), min(unused, unused if free is None else free)
    # Names of file systems and mount points may hold spaces.
    disk = re.search(r"\s([0-9]{1,15})\s+[0-9]+\s+([0-9]{1,15})\s+(?:[0-9]+%|-)\s", " ".join(of.get("disk", [])) + " ")
    cores = re.match(r"[0-9]{1,6}\b", " ".join(of.get("cores", [])))
    load = re.match(r"[0-9]{1,6}(?:[.,][0-9]{1,9})?", " ".join(of.get("load", [])))
    gpus = _gpus(of)
    status = " ".join(of.get("gpus", ["0"]))
    note = ""
    if not gpus and status not in ("0", "6"):  # 6: no devices were found
        told = next((text.strip() for text in of.get("gpu", []) if text.strip()), "")
        note = "nvidia-smi does not answer there" if status == "124" else f"nvidia-smi fails there: {told}"
    return Report(
        host,
        rtt=rtt,
        cores=int(cores[0]) if cores else 0,
        load=float(load[0].replace(",", ".")) if load else None,
        memory=total,
        memory_free=free,
        disk=int(disk[1]) * 1024 if disk else None,
        disk_free=int(disk[2]) * 1024 if disk else None,
        gpus=gpus,
        note=note,
        promises=host_leases.read(of),
    )


def _limits(of: dict[str, list[str]]) -> list[tuple[int, int]]:
    """Return what control groups let us have of the memory, as a container does: the most, and what is left of that."""
    found = []
    for text in of.get("limit", []):
        # No number where there is no limit. What is cached of files goes when somebody needs the room.
        if told := re.fullmatch(r"([0-9]{1,19}) ([0-9]{1,19}) ([0-9]{1,19})?", text.rstrip("\r")):
            most, used, cached = (int(part or 0) for part in told.groups())
            found.append((most, max(0, most - max(0, used - cached))))
    return found


def _gpus(of: dict[str, list[str]]) -> tuple[Gpu, ...]:
    programs = [text.partition(",")[0].strip() for text in of.get("app", [])]
    found = []
    for text in of.get("gpu", []):
        fields = [part.strip() for part in text.split(",", 5)]
        # A GPU that is cut into parts, or lost, has "[N/A]" for numbers.
        if len(fields) == 6 and all(re.fullmatch(r"[0-9]{1,12}", fields[n]) for n in (0, 2, 3)):
            index, uuid, total, free, percent, name = fields
            used = int(percent) if re.fullmatch(r"[0-9]{1,3}", percent) else 0
            found.append(Gpu(int(index), uuid, name, int(total) << 20, int(free) << 20, used, programs.count(uuid)))
    return tuple(found)
