"""Tab, help and the arrow keys, while cells run on another machine: the kernel there answers.

A front end asks the kernel that it knows. ipykernel keeps who answers which request in a table; while cells go
elsewhere, these entries pass the question on, and take their own answer when none comes in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from ..errors import ColabMagicsError

_ASKED = ("complete", "inspect", "is_complete", "history")
_PATIENCE = 5.0
"""Seconds that a user waits at the Tab key."""


class Passed:
    """Answers one kind of request.

    Parameters
    ----------
    ip : InteractiveShell
        The shell.
    remote : RemoteKernel
        Who is asked.
    kind : str
        ``complete``, ``inspect``, ``is_complete`` or ``history``.
    own : callable
        How the kernel here answers.
    is_local : callable
        Whether code is executed here.
    """

    def __init__(self, ip: Any, remote: Any, kind: str, own: Any, is_local: Callable[[str], bool]) -> None:
        self.here, self.remote, self.kind, self.own, self.is_local = ip.kernel, remote, kind, own, is_local

    async def __call__(self, stream: Any, ident: Any, parent: Any) -> None:
        content = parent["content"]
        reply = None
        if self.remote.state.kind == "connected" and not self.is_local(content.get("code") or ""):
            reply = await asyncio.get_running_loop().run_in_executor(None, self._ask, dict(content))
        if reply is None:
            answer = self.own(stream, ident, parent)
            if asyncio.iscoroutine(answer):
                await answer
            return
        self.here.session.send(stream, f"{self.kind}_reply", reply, parent, ident)

    def _ask(self, content: dict[str, Any]) -> dict[str, Any] | None:
        reply = None
        try:
            request = self.remote.send(f"{self.kind}_request", content)
            for message in self.remote.messages(request, timeout=_PATIENCE):
                reply = message.content if message.channel == "shell" else reply
        except (TimeoutError, ColabMagicsError):
            return None
        return reply


def install(ip: Any, remote: Any, is_local: Callable[[str], bool]) -> None:
    """Pass questions of the front end on to a kernel elsewhere."""
    here = getattr(ip, "kernel", None)
    if here is None:
        return
    for kind in _ASKED:
        own = here.shell_handlers.get(f"{kind}_request")
        if own is not None:
            here.shell_handlers[f"{kind}_request"] = Passed(ip, remote, kind, own, is_local)


def remove(ip: Any) -> None:
    """Answer here again."""
    here = getattr(ip, "kernel", None)
    for name, handler in list(getattr(here, "shell_handlers", {}).items()):
        if isinstance(handler, Passed) and here is not None:
            here.shell_handlers[name] = handler.own
