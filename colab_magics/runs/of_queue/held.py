"""A run of a queue that this program executes itself, from its claim to its end.

A thread renews what is held. What ends a loop is not told to what it loops over, so it is found out: `break` and
`return` let go of the iterator by an instruction of their own, and an exception by another; its text comes from where
Python shows it (`sys.excepthook`, or IPython's `sys.last_value`). At the latest when the program ends it is decided.
"""

from __future__ import annotations

import atexit
import dis
import os
import sys
import threading
import time
import traceback
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from ...errors import ColabMagicsError
from ...queues.base import DONE, FAILED, READY, Beat, Claim, End, Held, Report, Value
from ...queues.values import changed
from ...records import metrics
from .claims import STOPPED

if TYPE_CHECKING:
    from .by_hand import Worker

_LETS_GO = ("POP_TOP", "POP_ITER", "END_FOR")
"""Instructions by which `break` and `return` let go of a loop's iterator."""
_GRACE = 2.0
"""Seconds in which an exception that has ended a loop is shown somewhere."""
_TICK = 0.2
_LONGEST_ERROR = 2000

_open: list[QueueRun] = []
"""What this process holds."""


class Config(dict[str, Value]):
    """A run's parameters: ``config["lr"]``, ``config.lr``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the run has no parameter {name!r}; it has {', '.join(self) or 'none'}") from None


class QueueRun:
    """A run of a queue that this program executes.

    Parameters
    ----------
    worker : Worker
        Who holds it.
    claim : Claim
        What is held.

    Attributes
    ----------
    config : Config
        Its parameters, as they were read last.
    stop : str
        Why it is to end, as somebody has written into the table, or because it is not this worker's any more; empty
        while it may go on. A script that has read it ends what it does, and the run has ended as ``stopped``.
    """

    def __init__(self, worker: Worker, claim: Claim) -> None:
        self.worker, self.claim = worker, claim
        self.config = Config(claim.config)
        self.ended = False
        self._stop, self._told_to_stop = "", False
        self._report, self._lock, self._over = Report(commit=worker.commit), threading.Lock(), threading.Event()
        self._pid, self._last, self._told = os.getpid(), 0.0, self.config
        self._shown_before = getattr(sys, "last_value", None)
        self._left_at = 0.0
        _open.append(self)
        _watch_exceptions()
        threading.Thread(target=self._keep, name=f"queue-{claim.name}", daemon=True).start()

    @property
    def name(self) -> str:
        """How people call it."""
        return self.claim.name

    @property
    def attempts(self) -> int:
        """How often it has been claimed, this time included."""
        return self.claim.attempts

    @property
    def stop(self) -> str:
        """See the class."""
        self._told_to_stop = bool(self._stop)
        return self._stop

    def __repr__(self) -> str:
        return f"run {self.name}: {dict(self.config)}"

    def sync(self, status: str = "", **values: Any) -> dict[str, Any]:
        """Write how far it is, and read its parameters again: people edit them while it runs.

        Parameters
        ----------
        status : str, optional
            For people: ``"4 / 10"``.
        **values : number
            Metrics: ``loss=0.3``.

        Returns
        -------
        dict
            The parameters that have changed since the last call, with their new values; None for one that is gone.
        """
        numbers = {}
        for name, value in (metrics.checked(values)["values"] if values else {}).items():
            if (number := metrics.as_number(value)) is not None:
                numbers[name] = number
        with self._lock:
            had = self._report
            self._report = Report(status or had.text, had.output, had.commit, {**had.metrics, **numbers})
        # A loop that calls this for each of its steps must not become a flood.
        if not self.ended and time.monotonic() >= self._last + self.worker.queue.beat / 10:
            self._beat()
        before, self._told = self._told, self.config
        return changed(before, self._told)

    def done(self, status: str = DONE) -> None:
        """End it now, as done or with a word of your own."""
        self._end(status)

    def fail(self, error: str) -> None:
        """End it now, as failed."""
        self._end(FAILED, error)

    def give_back(self) -> None:
        """Let somebody else execute it; this was no attempt."""
        self._end(READY)

    def __enter__(self) -> QueueRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        """Mark it done; an exception marks it failed and is shown, and the program goes on with the next run."""
        if error is None:
            if (end := self.end_as_told()) is not None:
                self.worker.exchange([end], 0)
        elif isinstance(error, Exception):
            self.fail(in_words(error))
            traceback.print_exception(error)
        else:
            self.give_back()
        return isinstance(error, Exception)

    def end_as_told(self) -> End | None:
        """Return the end of a run whose work is over: done, or stopped where the program has read that it is to be."""
        return self.end_of(STOPPED, self._stop) if self._told_to_stop else self.end_of()

    def end_of(self, status: str = DONE, error: str = "") -> End | None:
        """Return the end to write, and hold it no more; None where it has ended already, or is somebody else's."""
        if self.ended or os.getpid() != self._pid:
            return None
        self.ended = True
        self._over.set()
        if self in _open:
            _open.remove(self)
        report = self._report
        return End(self.claim, status, error[:_LONGEST_ERROR], report if status != READY else Report())

    def _end(self, status: str, error: str = "", *, patience: float | None = None) -> None:
        if (end := self.end_of(status, error)) is not None:
            self.worker.exchange([end], 0, patience=patience)

    def _beat(self) -> None:
        with self._lock:
            self._last = time.monotonic()
            try:
                (held,) = self.worker.queue.heartbeat([Beat(self.claim, self._report)])
            except ColabMagicsError as error:
                self.worker.trouble(error)
                return
            self.worker.trouble(None)
            self._heard(held)

    def _heard(self, held: Held | None) -> None:
        if held is None:
            self._stop = "it is not this worker's any more: its lease was over"
        else:
            self.config = Config(held.config)
            self._stop = held.stop

    def _keep(self) -> None:
        beat_at = time.monotonic() + self.worker.queue.beat
        while not self._over.wait(_TICK if self._left_at else max(0.01, min(1.0, beat_at - time.monotonic()))):
            if self._left_at:
                self.decide(_shown_since(self._shown_before))
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + self.worker.queue.beat
                self._beat()

    def left(self, frame: FrameType | None) -> None:
        """Decide what becomes of it when the loop was left: `break` gives it back, an exception marks it failed."""
        if self.ended or os.getpid() != self._pid:
            return
        code = frame.f_code.co_code if frame is not None else b""
        at = frame.f_lasti if frame is not None else -1
        if 0 <= at < len(code) and dis.opname[code[at]] in _LETS_GO:
            self.give_back()
        else:
            self._left_at = time.monotonic()  # the exception is shown in a moment

    def decide(self, error: BaseException | None, *, last: bool = False) -> None:
        """End it by the exception that has ended the loop, as soon as it is known, or will not be."""
        patience = 5.0 if last else None
        if isinstance(error, KeyboardInterrupt):
            self._end(READY, patience=patience)
        elif error is not None:
            self._end(FAILED, in_words(error), patience=patience)
        elif self._left_at and (last or time.monotonic() > self._left_at + _GRACE):
            self._end(FAILED, "an exception has left the loop over the runs, or sys.exit()", patience=patience)
        elif last:
            self._end(READY, patience=patience)


def in_words(error: BaseException) -> str:
    """Write an exception in a line, with the line of code that has raised it."""
    text = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    return f"{text} ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})" if frames else text


def _shown_since(before: BaseException | None) -> BaseException | None:
    """Return the exception that IPython has shown last, where it is another one than before."""
    now = getattr(sys, "last_value", None)
    return now if now is not None and now is not before else None


_hooked = False


def _watch_exceptions() -> None:
    """Hear of exceptions that nobody catches, and of the program's end."""
    global _hooked
    if _hooked:
        return
    _hooked = True
    shows, of_threads = sys.excepthook, threading.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        for run in _open:
            _decided(run, error)
        shows(kind, error, trace)

    def show_of_thread(seen: Any) -> None:
        for run in _open:
            if run._left_at:
                _decided(run, seen.exc_value)
        of_threads(seen)

    sys.excepthook, threading.excepthook = show, show_of_thread
    atexit.register(_at_the_end)


def _at_the_end() -> None:
    for run in _open:
        _decided(run, None, last=True)


def _decided(run: QueueRun, error: BaseException | None, *, last: bool = False) -> None:
    try:
        run.decide(error, last=last or error is not None)
    except ColabMagicsError as problem:
        # Its lease ends by itself; what the user sees last must be the reason why the program has.
        run.worker.trouble(problem)
