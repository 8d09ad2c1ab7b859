"""Programs and processes: run one, start a detached one, know one again, end a whole tree.

Commands are argument lists, never shell lines. Secrets travel in `env`, never in arguments, and are blotted out of
whatever a program printed before it is shown or logged.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import files
from .errors import CommandFailed, Unavailable

if TYPE_CHECKING:
    import psutil

log = logging.getLogger("colab_magics")

Arg = str | os.PathLike[str]


def need(program: str) -> str:
    """Return the absolute path of a program on the PATH.

    Raises
    ------
    Unavailable
        When it is not installed; says how to install it.
    """
    found = shutil.which(program)
    if found is None:
        package = {"ssh": "openssh-client", "sshd": "openssh-server"}.get(program, program)
        raise Unavailable(f"The program {program!r} is not installed.", f"Install it: apt-get install {package}")
    return found


def run(
    command: Sequence[Arg],
    *,
    cwd: Arg | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,
    timeout: float | None = None,
    ok: Iterable[int] = (0,),
    secrets: Iterable[str] = (),
    pass_fds: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Parameters
    ----------
    command : sequence of str or path
        The argument list.
    cwd : path, optional
        The folder to run in.
    env : mapping, optional
        Variables *added* to this process's environment.
    input : bytes, optional
        Sent to its standard input; by default that is closed, so that no program waits for an answer.
    timeout : float, optional
        Seconds until it is killed; none by default.
    ok : iterable of int, default (0,)
        Exit statuses that are no error.
    secrets : iterable of str
        Texts replaced by ``***`` in what it printed.
    pass_fds : sequence of int
        Files that stay open in it, such as a lock.

    Returns
    -------
    subprocess.CompletedProcess
        With `stdout` and `stderr` as text (undecodable bytes survive as ``\\xNN``).

    Raises
    ------
    CommandFailed
        On any other exit status, and on a time-out (status 124).
    Unavailable
        When the program is not installed.
    """
    return _run(command, cwd, env, input, timeout, ok, secrets, pass_fds)[0]


def run_raw(
    command: Sequence[Arg],
    *,
    cwd: Arg | None = None,
    env: Mapping[str, str] | None = None,
    input: bytes | None = None,
    timeout: float | None = None,
    ok: Iterable[int] = (0,),
) -> bytes:
    """Run a program to its end and return what it printed to standard output, as bytes; see `run`."""
    return _run(command, cwd, env, input, timeout, ok, ())[1]


def _run(
    command: Sequence[Arg],
    cwd: Arg | None,
    env: Mapping[str, str] | None,
    input: bytes | None,
    timeout: float | None,
    ok: Iterable[int],
    secrets: Iterable[str],
    pass_fds: Sequence[int] = (),
) -> tuple[subprocess.CompletedProcess[str], bytes]:
    argv = [need(os.fspath(command[0])), *(os.fspath(part) for part in command[1:])]
    log.debug("run %s", shlex.join(argv))
    try:
        # A session of its own: an interrupt of the notebook must reach us alone, or git and rsync die half-way.
        done = subprocess.run(
            argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            input=input,
            timeout=timeout,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
            check=False,
        )
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as expired:
        code, out, err = 124, expired.stdout or b"", (expired.stderr or b"") + f"\nno answer in {timeout:g} s".encode()
    hidden = [secret for secret in secrets if secret]
    texts = [_blot(raw.decode("utf-8", "backslashreplace"), hidden) for raw in (out, err)]
    result = subprocess.CompletedProcess([_blot(arg, hidden) for arg in argv], code, *texts)
    if code not in set(ok):
        output = "\n".join(text.strip() for text in texts if text.strip())
        raise CommandFailed(
            f"{Path(argv[0]).name} ended with status {code}.\n{output}".rstrip(), returncode=code, output=output
        )
    return result, out or b""


def _blot(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def python(module: str, *args: Arg) -> list[str]:
    """Argument list that runs one of our modules with this interpreter.

    ``-P`` keeps the current folder off `sys.path`: a user's ``random.py`` must not shadow the standard library.
    """
    return [sys.executable, "-P", "-m", module, *(os.fspath(arg) for arg in args)]


def start_detached(
    command: Sequence[Arg],
    *,
    log_file: Arg,
    cwd: Arg | None = None,
    env: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
) -> int:
    """Start a program that outlives this process.

    It leads a session of its own and writes to `log_file` (appending), without standard input; returns its process id.
    """
    argv = [os.fspath(part) for part in command]
    log.debug("start %s", shlex.join(argv))
    reap()
    with open(log_file, "ab", opener=None if log_file == os.devnull else files.plain) as stream:
        child = subprocess.Popen(
            argv,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )
    # We never wait for it: forget it, or Python warns when the object is collected. `reap` collects the exit status.
    child.returncode = 0
    _children.add(child.pid)
    return child.pid


_children: set[int] = set()


def expect(pid: int) -> None:
    """Have `reap` collect the exit status of a child that was forked elsewhere."""
    _children.add(pid)


def reap() -> None:
    """Collect the exit statuses of detached programs that have ended, so that none stays a zombie."""
    for pid in list(_children):
        try:
            done, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            done = pid
        if done:
            _children.discard(pid)


@cache
def boot_id() -> str:
    """Name of this boot of this machine; a process of another boot is dead."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        import psutil

        return f"{psutil.boot_time():.0f}"


@cache
def pid_namespace() -> str:
    """Name of what numbers of processes count in: that of another container of this machine is another one."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def identity(pid: int | None = None) -> dict[str, Any]:
    """What tells a process from every other, also from one that gets its number later.

    Parameters
    ----------
    pid : int, optional
        This process by default.

    Returns
    -------
    dict
        ``{"pid", "started", "host", "boot", "pids"}``; `started` is in clock ticks since boot (Linux), so that setting
        the clock does not change it.
    """
    pid = os.getpid() if pid is None else pid
    return {"pid": pid, "started": _start_ticks(pid), "host": host(), "boot": boot_id(), "pids": pid_namespace()}


def _start_ticks(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)); None for a process that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(who: Mapping[str, Any]) -> bool | None:
    """Whether the process that `identity` described still runs.

    Returns
    -------
    bool or None
        None when it belongs to another machine, or another container of this one: nobody here can know.
    """
    if who.get("boot") != boot_id():
        return None if who.get("host") != host() else False
    if who.get("pids", pid_namespace()) != pid_namespace():
        return None
    pid = who.get("pid")
    return isinstance(pid, int) and who.get("started") is not None and _start_ticks(pid) == who["started"]


def end_tree(pid: int, *, grace: float = 5.0) -> None:
    """End a process with everything below it: SIGTERM, `grace` seconds, SIGKILL.

    Descendants are collected before each signal: those in sessions of their own are found too, and those that were
    started since, such as a last flush.
    """
    import psutil  # not at the top: it takes half of the time that loading the extension takes

    try:
        family = [psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return
    for sig, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 2.0)):
        family = list({process: None for parent in family for process in (parent, *_children_of(parent))})
        for process in family:
            try:
                process.send_signal(sig)
            except psutil.NoSuchProcess:
                continue
        _, family = psutil.wait_procs(family, timeout=wait)
        family = [process for process in family if _start_ticks(process.pid) is not None]


def _children_of(process: psutil.Process) -> list[psutil.Process]:
    import psutil

    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def all_with(name: str, value: str) -> list[int]:
    """Return the processes of this user that carry an environment variable.

    Children inherit the environment: so what a dead process left behind is found whoever its parent is now.
    """
    wanted = b"\0" + os.fsencode(f"{name}={value}") + b"\0"
    pids = filter(str.isdigit, os.listdir("/proc"))
    return [int(pid) for pid in pids if wanted in b"\0" + _environment(pid) + b"\0"]


def variable(pid: int, name: str) -> str | None:
    """Return an environment variable of a process; None when it has none, is gone, or is another user's."""
    for part in _environment(str(pid)).split(b"\0"):
        if part.startswith(os.fsencode(f"{name}=")):
            return os.fsdecode(part[len(name) + 1 :])
    return None


def end_all_with(name: str, value: str) -> int:
    """End every process of `all_with`, but for this one and those above it; return how many were found."""
    hits = all_with(name, value)
    if not set(hits) - {os.getpid()}:  # as is usual: nothing to look up
        return 0
    import psutil

    me = psutil.Process()
    spared = {me.pid, *(parent.pid for parent in me.parents())}
    found = [pid for pid in hits if pid not in spared]
    for pid in found:
        end_tree(pid, grace=1.0)
    return len(found)


def _environment(pid: str) -> bytes:
    """Read what a process was started with; empty when it is gone meanwhile, or not ours."""
    # By system calls: a file object for every process of the machine takes three times as long.
    try:
        fd = os.open(f"/proc/{pid}/environ", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return b"".join(iter(lambda: os.read(fd, 1 << 20), b""))
    except OSError:
        return b""
    finally:
        os.close(fd)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part (temporary file, then rename).

    Without `durable` a machine that loses its power may lose both: for what is written anew all the time, and tells of
    processes that ended with the machine.
    """
    write_whole(path, as_json(value), durable=durable)


def as_json(value: Any) -> str:
    """Return what `write_json` writes."""
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"


def write_whole(path: Path, text: str, *, durable: bool = True) -> None:
    """Write text by rename; see `write_json`."""
    # Process id and time: two writers, or two threads of one, must not share a temporary file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}.tmp")
    try:
        # Half a surrogate pair, which a kernel may send, is no UTF-8; its escape is JSON.
        with open(temporary, "x", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None when there is none that can be read."""
    try:
        value = json.loads(files.read(path))
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
