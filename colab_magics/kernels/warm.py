"""Warm start: ask the zygote for a kernel, and hold it as if it were a process of ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .. import process
from ..engines import zygotes
from .cold import where_ours_is
from .manager import RunProvisioner

_PATIENCE = 300.0
"""Seconds until a zygote has imported everything."""


class Child:
    """A kernel that the zygote forked; looks like `subprocess.Popen`.

    Parameters
    ----------
    pid : int
        The kernel.
    zygote : socket
        Tells the exit status.
    """

    stdin = stdout = stderr = None

    def __init__(self, pid: int, zygote: socket.socket) -> None:
        self.pid = pid
        self.who = process.identity(pid)
        self.returncode: int | None = None
        self.unknown = False
        self._zygote = zygote
        self._zygote.setblocking(False)

    def poll(self) -> int | None:
        """Return the exit status; None while it runs."""
        if self.returncode is None:
            alive = process.is_alive(self.who)
            # The status follows the end; it is a moment on its way.
            self._zygote.settimeout(0.0 if alive else 2.0)
            try:
                raw = self._zygote.recv(4096)
                self._over(json.loads(raw)["status"] if raw else None)
            except (BlockingIOError, TimeoutError):
                if not alive:
                    self._over(None)
            except (OSError, ValueError, KeyError):
                self._over(None)
        return self.returncode

    def _over(self, status: int | None) -> None:
        if status is None and process.is_alive(self.who):
            # The zygote is gone and the kernel is not: it ends itself when it sees that.
            return
        self.unknown = status is None
        self.returncode = 1 if status is None else status
        self._zygote.close()

    def wait(self, timeout: float | None = None) -> int | None:
        """Return the exit status of a kernel that has ended."""
        return self.poll()

    def send_signal(self, number: int) -> None:
        """Send a signal."""
        if process.is_alive(self.who):
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(15)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(9)


class WarmProvisioner(RunProvisioner):
    """Gets its kernel from the zygote, or cold where that cannot be: then `note` says why."""

    zygote: str = ""
    note: str = ""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        """Start the kernel."""
        try:
            child = await self._ask(cmd, kwargs)
        except (OSError, ValueError, _Refused) as problem:
            return await self.without(problem, cmd, **kwargs)
        self.process = child
        self.pid = self.pgid = child.pid
        return self.connection_info

    async def without(self, problem: Exception, cmd: list[str], **kwargs: Any) -> Any:
        """Start the kernel cold: it could not be forked."""
        self.note = f"start=cold, not warm: {problem}"
        return await super().launch_kernel(cmd, **kwargs)

    async def _ask(self, cmd: Sequence[str], options: dict[str, Any]) -> Child:
        program = where_ours_is(cmd)
        if program is None:
            raise _Refused(f"the notebook's kernel is started by {cmd[0]}, and not as ipykernel is")
        if not self.zygote:
            raise _Refused("there is no process to fork from; run the %fork line again")
        request = {"argv": list(cmd), "program": program, "env": dict(options.get("env") or os.environ)}
        request["cwd"] = os.fspath(options.get("cwd") or Path.cwd())
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.connect(self.zygote)
            raw = json.dumps(request).encode() + b"\n"
            with open(os.devnull, "rb") as nothing:
                sent = socket.send_fds(link, [raw], [nothing.fileno(), 1, 2])
            if sent < len(raw):
                link.sendall(raw[sent:])
            link.setblocking(False)
            answer = await asyncio.wait_for(_line(link), _PATIENCE)
            if "pid" not in answer:
                raise _Refused(answer.get("problem", "the zygote has ended"))
            return Child(answer["pid"], link)
        except BaseException:
            link.close()
            raise


class _Refused(Exception):
    """The zygote forks nothing."""


async def _line(link: socket.socket) -> dict[str, Any]:
    """Read one answer. The zygote sends the next one, the exit status, only when the kernel has ended."""
    raw = b""
    while b"\n" not in raw:
        part = await asyncio.get_running_loop().sock_recv(link, 1)
        if not part:
            return {}
        raw += part
    answer: dict[str, Any] = json.loads(raw)
    return answer


class LiveProvisioner(WarmProvisioner):
    """Gets its kernel from the frozen copy of the notebook: no other has the notebook's state."""

    async def without(self, problem: Exception, cmd: list[str], **kwargs: Any) -> Any:
        """Raise `Unavailable`: the copy is gone."""
        raise zygotes.gone() from problem


def provisioners(start: str, zygote: str) -> Callable[..., RunProvisioner]:
    """Return what makes provisioners whose kernels are forked.

    Parameters
    ----------
    start : {"warm", "live"}
        Whether a kernel starts cold where it cannot be forked.
    zygote : str
        Path of the socket of the process to fork from; empty where there is none.
    """

    def make(**kwargs: Any) -> RunProvisioner:
        made = (LiveProvisioner if start == "live" else WarmProvisioner)(**kwargs)
        made.zygote = zygote
        return made

    return make


def zygote_of_this_runner() -> str | None:
    """Return the path of the zygote's socket, and take it out of the environment."""
    with contextlib.suppress(KeyError):
        return os.environ.pop(zygotes.VARIABLE)
    return None
