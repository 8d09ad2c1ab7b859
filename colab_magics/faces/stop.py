"""Ending Run All at a line, so that nothing below it runs.

Raising alone is not enough: Jupyter's abort reaches only the requests that have already arrived, and a front end that
sends sixty cells back to back leaks most of them. So `stop` gives them a moment to arrive, and then leaves a guard that
turns what follows into the same stop, until there is a pause: Run All makes none, a person who has seen the stop does.

Measured in JupyterLab 4.6: the requests of 200 to 800 cells follow each other within 1 to 2 ms, at most 0.1 s; on a
page eight times slower within 10 ms, now and then 0.4 s, once 0.8 s, over up to 15 s. The page looks at no answer
before all are sent.

An error is a red box, and this is none. The front end ends Run All by the reply, which says "error"; what it draws is a
message of its own, which is left out where that is known to do: JupyterLab and Jupyter Notebook 7, VS Code (its
extension of 2024 and later). Programs (papermill, nbclient, nbconvert) get it, as they write it down and read it there;
so does Colab's page, of which nobody can say what it goes by.
"""

from __future__ import annotations

import html
import sys
import time
from datetime import datetime, timedelta
from typing import Any, NoReturn

from .. import session
from .front_end import cell_id, ends_by_reply, is_question

QUEUE_ARRIVES = 0.3
"""Seconds in which the front end's requests that follow the stop reach the kernel."""

PAUSE = 0.5
"""Seconds without a request, by the front end's dates, that Run All does not make."""

SLOW_PAUSE = 2.0
"""The same for a page whose requests still come when the stop has answered: a slow one, which makes pauses itself."""


class Stopped(BaseException):
    """The notebook ends here.

    Not an `Exception`, so that a user's ``except Exception`` lets it pass. Named SystemExit with an empty text, because
    that is what papermill counts as a success; not derived from the real one, which IPython answers with advice.
    """

    def __init__(self, shown: str) -> None:
        super().__init__()
        self.shown = shown

    def __str__(self) -> str:
        return ""

    def _render_traceback_(self) -> list[str]:
        return [f"■ {line}" if not number else line for number, line in enumerate(self.shown.splitlines() or [""])]


Stopped.__name__ = Stopped.__qualname__ = "SystemExit"


class Guard:
    """The input transformer that stops requests which follow the stop without a pause.

    The pause is one of the front end's own dates, whose clock may differ from ours; and half of it is one of ours, as
    requests that a slow line held up come all at once, and most of them are aborted unseen. A cell that was stopped and
    comes again was sent by somebody who has seen that.

    Parameters
    ----------
    ip : InteractiveShell
        The shell.
    sent : datetime
        When the stop ended, as the front end would date it.
    """

    def __init__(self, ip: Any, sent: datetime) -> None:
        self.ip, self.sent, self.seen = ip, sent, time.monotonic()
        self.pause, self.request = PAUSE, ""
        self.stopped: set[str] = set()

    def __call__(self, lines: list[str]) -> list[str]:
        if is_question(self.ip):
            return lines
        if self._follows("".join(lines)):
            return [f"__import__({__name__!r}, fromlist=['again']).again()\n"]
        remove_guards(self.ip)
        return lines

    def _follows(self, source: str) -> bool:
        sent, now = request_date(self.ip), time.monotonic()
        request, cell = str(_request(self.ip, "header").get("msg_id")), cell_id(self.ip)
        if request == self.request:
            return True  # IPython may transform a cell twice
        if sent is None or (cell or source) in self.stopped:
            return False
        made = (sent - self.sent).total_seconds()
        if made >= self.pause and now >= self.seen + self.pause / 2:
            return False
        self.sent, self.seen, self.request = max(sent, self.sent), now, request
        self.pause = max(self.pause, SLOW_PAUSE)
        # Where cells have no ids, several may hold the same code.
        self.stopped = self.stopped | {cell} if cell else {source}
        return True


def remove_guards(ip: Any) -> None:
    """Take the guard out of a shell."""
    for transformer in [t for t in ip.input_transformers_cleanup if isinstance(t, Guard)]:
        ip.input_transformers_cleanup.remove(transformer)


def again() -> NoReturn:
    """End a cell that followed the stop without a pause."""
    from IPython.core.getipython import get_ipython

    _show_quietly(get_ipython(), plain=True)
    raise Stopped("not run: stopped above")


def _show_quietly(ip: Any, *, plain: bool = False) -> None:
    """Let the stop that ends this cell be a line instead of an error, where the front end allows it.

    The user's own answer to exceptions, which IPython knows one of, is back when the cell has ended. `plain` is for
    what comes hundreds of times: a page has to clean HTML before it shows it, and would send the next cells later.
    """
    if not ends_by_reply(ip):
        return
    before = ip.custom_exceptions, ip.CustomTB

    def show(ip: Any, kind: type, stopped: Stopped, traceback: object, tb_offset: int | None = None) -> list[str]:
        from IPython.display import display

        from ..kernels import private_api

        lines = stopped._render_traceback_()
        text = "\n".join(lines)
        markup = f'<div style="opacity:.8;white-space:pre-wrap">{html.escape(text)}</div>'
        display({"text/plain": text, **({} if plain else {"text/html": markup})}, raw=True)
        private_api.reply_with(ip, lines)
        return lines

    def ended(result: object = None) -> None:
        ip.events.unregister("post_run_cell", ended)
        ip.custom_exceptions, ip.CustomTB = before

    ip.set_custom_exc((Stopped,), show)
    ip.events.register("post_run_cell", ended)


def request_date(ip: Any) -> datetime | None:
    """Return when the front end sent the request that runs now; None outside of kernels."""
    date = _request(ip, "header").get("date")
    return date if isinstance(date, datetime) else None


def _request(ip: Any, part: str) -> dict[str, Any]:
    kernel = getattr(ip, "kernel", None)
    return (kernel.get_parent("shell").get(part) if kernel is not None else None) or {}


def stop(ip: Any, message: str) -> NoReturn:
    """End Run All here, or the script that ``%run`` executes, or the run that this kernel belongs to.

    Parameters
    ----------
    ip : InteractiveShell
        The shell.
    message : str
        The line to show.
    """
    if sys.modules.get("__main__") is not ip.user_module:
        # `%run script.py` swallows it: the script ends and the notebook goes on, as with `python script.py`.
        raise SystemExit(0)
    began, sent = time.monotonic(), request_date(ip)
    if sent is not None and session.run_folder() is None:
        # papermill and nbclient, at which nobody can type, send a cell when the one before has ended.
        if (ip.kernel.get_parent("shell").get("content") or {}).get("allow_stdin", True):
            time.sleep(QUEUE_ARRIVES)
        remove_guards(ip)
        ended = sent + timedelta(seconds=time.monotonic() - began)
        ip.input_transformers_cleanup.insert(0, Guard(ip, ended))
        _show_quietly(ip)
    elif sent is None:
        _count_as_success(ip)
    raise Stopped(message)


def _count_as_success(ip: Any) -> None:
    """Let ``ipython file.ipy`` end with status 0: it asks how the last cell ended, and to it we are an error."""

    def ended() -> None:
        ip.events.unregister("post_execute", ended)
        ip.last_execution_succeeded = True

    ip.events.register("post_execute", ended)
