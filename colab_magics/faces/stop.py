"""Ending Run All at a line, so that nothing below it runs.

Raising alone is not enough: Jupyter's abort reaches only the requests that have already arrived, and a front end that
sends sixty cells back to back leaks most of them. So `stop` gives them a moment to arrive, and then leaves a guard that
turns every request sent before the stop into the same stop. It compares only the front end's own dates, so that its
clock may differ from ours, and goes at the first later request.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime, timedelta
from typing import Any, NoReturn

from .. import session

QUEUE_ARRIVES = 0.3
"""Seconds in which the front end's requests that follow the stop reach the kernel."""

SLACK = 1.5
"""Seconds by which Run All's last request may have been sent after the stop's own."""


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
        return [f"⏹ {line}" if not number else line for number, line in enumerate(self.shown.splitlines() or [""])]


Stopped.__name__ = Stopped.__qualname__ = "SystemExit"


class Guard:
    """The input transformer that stops requests which were sent before the stop.

    Parameters
    ----------
    ip : InteractiveShell
        The shell.
    until : datetime
        Requests that the front end dated before this are stopped.
    """

    def __init__(self, ip: Any, until: datetime) -> None:
        self.ip, self.until = ip, until

    def __call__(self, lines: list[str]) -> list[str]:
        sent = request_date(self.ip)
        if sent is not None and sent < self.until:
            return [f"__import__({__name__!r}, fromlist=['again']).again()\n"]
        remove_guards(self.ip)
        return lines


def remove_guards(ip: Any) -> None:
    """Take the guard out of a shell."""
    for transformer in [t for t in ip.input_transformers_cleanup if isinstance(t, Guard)]:
        ip.input_transformers_cleanup.remove(transformer)


def again() -> NoReturn:
    """End a cell that was sent before the stop."""
    raise Stopped("not run: stopped above")


def request_date(ip: Any) -> datetime | None:
    """Return when the front end sent the request that runs now; None outside of kernels."""
    kernel = getattr(ip, "kernel", None)
    if kernel is None:
        return None
    date = (kernel.get_parent("shell").get("header") or {}).get("date")
    return date if isinstance(date, datetime) else None


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
        until = sent + timedelta(seconds=time.monotonic() - began + SLACK)
        ip.input_transformers_cleanup.insert(0, Guard(ip, until))
    raise Stopped(message)
