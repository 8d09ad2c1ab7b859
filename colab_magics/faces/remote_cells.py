"""Cells that run on another machine: sent there, and what they show is shown here, message by message.

From ``%remote HOST`` on, an input transformer exchanges each cell for a call that sends its source. Cells that hold one
of our verbs, and ``%%local``, stay. The messages of the kernel there are published here as they are, under the cell's
own request, so that plots, progress bars and updates are what they would be.
"""

from __future__ import annotations

import getpass
import html
import re
import sys
from typing import Any

from .. import session
from ..errors import Unavailable
from ..relay.values import MESSAGE
from ..units import show_size, show_time
from ..verbs import VERBS
from . import remote_answers
from .front_end import is_question

_VERB = re.compile(rf"^\s*(?:[\w., \[\]]+=\s*)?%%?(?:{'|'.join(VERBS)})(?!\w)", re.MULTILINE)
_LOCAL = re.compile(r"\s*%%local[^\n]*(?:\n|$)")
_LOOK = 1.0
"""Seconds without output after which the connection is looked at."""
_SHOWN = {"stream", "display_data", "update_display_data", "execute_result", "clear_output"}


def is_local(source: str) -> bool:
    """Whether a cell is executed here, wherever cells go: it holds one of our verbs, or ``%%local``."""
    return bool(_VERB.search(source) or _LOCAL.match(source))


class Route:
    """Input transformer that sends cells to a kernel on another machine.

    Parameters
    ----------
    held : Remote
        Where they go.
    ip : InteractiveShell
        The shell of this notebook.
    """

    def __init__(self, held: Any, ip: Any) -> None:
        self.held, self.ip = held, ip

    def __call__(self, lines: list[str]) -> list[str]:
        source = "".join(lines)
        if is_question(self.ip):
            return lines
        if local := _LOCAL.match(source):
            return source[local.end() :].splitlines(keepends=True)
        if not source.strip() or is_local(source):
            return lines
        return [f"__import__({__name__!r}, fromlist=['run_routed']).run_routed({source!r})\n"]


def route(ip: Any, held: Any) -> None:
    """Send cells to a kernel from now on; None: execute them here again."""
    for old in [t for t in ip.input_transformers_cleanup if isinstance(t, Route)]:
        ip.input_transformers_cleanup.remove(old)
    remote_answers.remove(ip)
    if held is not None:
        _lose_nothing(ip)
        ip.input_transformers_cleanup.append(Route(held, ip))
        remote_answers.install(ip, held.kernel, is_local)


def _lose_nothing(ip: Any) -> None:
    """What a machine elsewhere says in a burst would overflow this kernel's own publisher."""
    here = getattr(ip, "kernel", None)
    if getattr(here, "iopub_thread", None) is not None:
        from ..kernels.private_api import publish_without_limit

        publish_without_limit(here)


def routed(ip: Any) -> Any:
    """Return the handle that cells go to; None when they are executed here."""
    return next((t.held for t in ip.input_transformers_cleanup if isinstance(t, Route)), None)


def run_routed(source: str) -> None:
    """Execute a cell where cells go now."""
    from IPython.core.getipython import get_ipython

    ip = get_ipython()
    run(ip, routed(ip), source)


class RemoteError(Exception):
    """A cell failed there; shown as it was shown there."""

    def __init__(self, value: str, traceback: list[str]) -> None:
        super().__init__(value)
        self.traceback = traceback

    def _render_traceback_(self) -> list[str]:
        return self.traceback


def run(ip: Any, held: Any, source: str, *, silent: bool = False) -> list[Any]:
    """Execute code on a kernel and show what comes, until it has ended.

    Parameters
    ----------
    ip : InteractiveShell
        The shell whose cell it is.
    held : Remote
        Where to execute it; the project's code that changed goes ahead.
    source : str
        The cell.
    silent : bool
        No mark, and nothing in the history there.

    Returns
    -------
    list of Message
        What carries values of ours.

    Raises
    ------
    RemoteError
        Named as the error there, with its traceback.
    Unavailable
        When the kernel there has ended.
    """
    kernel = held.kernel
    if held.code is not None:
        first = not held.code.sent
        files, size = held.code.send(kernel)
        if first and files:
            number = f"{files:,} file{'s' if files > 1 else ''}"
            session.current().ui.say(f"{number}, {show_size(size)}, of {held.code.root} went to {kernel.host}.")
        if left := held.code.left_behind():
            session.current().ui.warn(
                f"{', '.join(left)} stayed here, as secrets do by their names. If {kernel.host} may have it: "
                f"%remote {kernel.host} include={left[0]}"
            )
    screen = Screen(ip, kernel)
    for message in held.news.take():
        screen.show(message)
    if not silent:
        screen.mark()
    while True:
        request = kernel.execute(source, store_history=not silent, allow_stdin=screen.can_ask())
        follow(screen, kernel, request)
        if not screen.aborted:
            return screen.values


def show_missed(ip: Any, held: Any) -> None:
    """Show the output that cells there have made while no notebook was connected; a cell that runs is waited for.

    An error of such a cell is shown, and does not fail the cell that attaches.
    """
    for cell in held.kernel.missed:
        screen = Screen(ip, held.kernel)
        first = next((line for line in cell.code.splitlines() if line.strip()), "")
        screen.say(f"⇢ {held.host}: missed since {show_time(cell.begun)}: {first[:80]}")
        try:
            follow(screen, held.kernel, cell.msg_id)
            if screen.aborted:
                screen.say("It was not executed: a cell before it had failed.")
        except RemoteError as error:
            screen.publish("stream", {"name": "stderr", "text": "\n".join(error.traceback) + "\n"})
    held.kernel.missed.clear()


def follow(screen: Screen, kernel: Any, request: str) -> None:
    """Show what a request brings, until it has ended; an interrupt reaches the cell there."""
    while True:
        try:
            for message in kernel.messages(request, timeout=_LOOK):
                screen.show(message)
            break
        except TimeoutError:
            screen.tell_connection()
        except KeyboardInterrupt:
            if not kernel.interrupt(request):
                raise Unavailable(
                    f"Not connected to {kernel.host}: waiting has ended, the cell goes on there.",
                    f"%remote {kernel.host} shows what it has printed meanwhile.",
                ) from None
    screen.finish()


def news(message: Any, host: str) -> str:
    """Write what a relay says of itself."""
    kind, content = message.header["msg_type"], message.content
    if kind == "output_lost":
        lost = f"{content['messages']:,} messages ({show_size(content['bytes'])})"
        if content.get("here"):
            return f"{lost} that {host} sent since the last cell were dropped, the oldest: too much to keep here."
        why = "its disk was full" if content.get("disk") else "more than spool= was waiting"
        return f"{host} dropped {lost} of the oldest output: {why}."
    if kind == "file_error":
        return f"{content['path']} could not be written on {host}: {content['error']}."
    return f"The kernel on {host} died ({content.get('how', 'nobody knows how')}). %remote {host} --new starts another."


class Screen:
    """Shows messages of another kernel in the cell that runs here.

    Parameters
    ----------
    ip : InteractiveShell
        The shell.
    kernel : RemoteKernel
        Whose messages they are.
    """

    def __init__(self, ip: Any, kernel: Any) -> None:
        self.ip, self.kernel = ip, kernel
        self.here = getattr(ip, "kernel", None)
        self.error: RemoteError | None = None
        self.values: list[Any] = []
        # A cell of another client failed, and the kernel there dropped what waited behind it: nothing was executed.
        self.aborted = False
        self.cut = self.flushed = False

    def tell_connection(self) -> None:
        """Say once that the connection is cut, and once that it is back."""
        cut = self.kernel.state.kind == "offline"
        if cut and not self.cut:
            self.say(f"⚠ {self.kernel.host}: not connected ({self.kernel.state.reason}). The cell goes on there.")
        elif self.cut and not cut:
            self.say(f"{self.kernel.host}: connected again.")
        self.cut = cut

    def say(self, text: str) -> None:
        """Show a line of ours."""
        self.publish("stream", {"name": "stdout", "text": f"{text}\n"})

    def can_ask(self) -> bool:
        """Whether the front end lets a cell ask."""
        if self.here is None:
            return True
        return bool((self.here.get_parent("shell").get("content") or {}).get("allow_stdin", False))

    def mark(self) -> None:
        """Say where the cell runs."""
        label = f"⇢ {self.kernel.host}"
        markup = f'<div style="opacity:.6;font-size:11px">{html.escape(label)}</div>'
        self.publish("display_data", {"data": {"text/plain": label, "text/html": markup}, "metadata": {}})

    def show(self, message: Any) -> None:
        """Show one message; answer a question."""
        kind, content = message.header.get("msg_type"), message.content
        if kind in _SHOWN:
            self.publish(kind, content, message.metadata, message.buffers, message.packed)
        elif kind == "error":
            named = type(content.get("ename") or "RemoteError", (RemoteError,), {})
            self.error = named(content.get("evalue", ""), content.get("traceback") or [])
        elif kind == MESSAGE:
            self.values.append(message)
        elif kind == "input_request":
            prompt = content.get("prompt", "")
            self.kernel.input(getpass.getpass(prompt) if content.get("password") else input(prompt))
        elif message.channel == "relay":
            self.say(f"⚠ {news(message, self.kernel.host)}")
        elif kind == "execute_reply":
            self.aborted = content.get("status") == "aborted"
            for page in content.get("payload") or []:
                if page.get("source") == "page":
                    self.publish("display_data", {"data": page.get("data") or {}, "metadata": {}})
            if content.get("status") == "error" and self.error is None:
                named = type(content.get("ename") or "RemoteError", (RemoteError,), {})
                self.error = named(content.get("evalue", ""), content.get("traceback") or [])

    def publish(
        self, kind: str, content: dict[str, Any], metadata: Any = None, buffers: Any = None, packed: bytes = b""
    ) -> None:
        """Publish a message under the cell's own request; `packed` is its content as JSON, where that is there."""
        if self.here is None:
            text = content.get("text") or (content.get("data") or {}).get("text/plain", "")
            print(text, end="" if kind == "stream" else "\n", flush=True)  # noqa: T201
            return
        if not self.flushed:
            # What this kernel has printed comes before. Each flush waits for another thread: once is enough.
            sys.stdout.flush()
            sys.stderr.flush()
            self.flushed = True
        said = packed or content
        self.here.send_response(self.here.iopub_socket, kind, said, metadata=metadata or {}, buffers=buffers or None)

    def finish(self) -> None:
        """Raise the error with which the cell ended there."""
        if self.error is not None:
            raise self.error
