"""A connection to what serves runs on another machine (`colab_magics.engines.ssh.there`): questions and answers.

Questions are asked without waiting: each gives a `Future`. A reader and a writer of its own take care of the pipes, so
that a machine that hangs holds up nobody. An answer that does not come breaks the line.
"""

from __future__ import annotations

import json
import os
import queue
import select
import struct
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from typing import Any

from ...errors import Unavailable
from ...pipes import Pipes
from ...relay import wire
from ...transport import ssh
from . import answers

ASK, ANSWER, NEWS = range(1, 4)
"""Kinds of records: a question, its answer under the same number, and that a run has ended."""
NEVER = "never"
"""The phase of an attempt that never came there."""
PATIENCE = 30.0
"""Seconds in which a question is answered, or the line is broken; more for what takes long to send."""
_BYTES_A_SECOND = 100_000

Answer = tuple[dict[str, Any], list[bytes]]


class Refusal(Unavailable):
    """The other side answers that it cannot do what it was asked for."""


class Line:
    """An open connection.

    Parameters
    ----------
    host : str
        Its name for ssh.
    pipes : Pipes
        The program that is the connection, behind its greeting.
    rest : bytes
        What came behind the greeting.
    news : callable
        Called when a run has ended there, or the connection.
    """

    def __init__(self, host: str, pipes: Pipes, rest: bytes, news: Callable[[], None]) -> None:
        self.host = host
        self._pipes, self._news = pipes, news
        self._lock = threading.Lock()
        self._asked: dict[int, tuple[str, Future[Answer], float]] = {}
        self._number = 0
        self._to_send = queue.SimpleQueue[bytes | None]()
        self.why: Unavailable | None = None
        """Why it is closed; None while it is open."""
        for target, words in ((self._read, (rest,)), (self._send, ())):
            threading.Thread(target=target, args=words, name=f"runs on {host}", daemon=True).start()

    def ask(self, question: str, *blobs: bytes, **words: Any) -> Future[Answer]:
        """Ask; the future raises Unavailable when there is no answer, and `Refusal` when it is no."""
        asked: Future[Answer] = Future()
        payload = wire.frames([json.dumps({"ask": question, **words}).encode(), *blobs])
        with self._lock:
            if self.why is not None:
                asked.set_exception(self.why)
                return asked
            self._number += 1
            limit = time.monotonic() + PATIENCE + len(payload) / _BYTES_A_SECOND
            self._asked[self._number] = question, asked, limit
            self._to_send.put(wire.record(ASK, payload, self._number))
        return asked

    def _check(self) -> None:
        """Break the line when a question is not answered in time."""
        with self._lock:
            late = any(time.monotonic() > limit for *_, limit in self._asked.values())
        if late:
            self._end(self._silent())

    def _silent(self) -> Unavailable:
        """Say that nothing answers."""
        # The connection that all share may be the dead one.
        ssh.drop_shared(self.host)
        return Unavailable(f"{self.host} does not answer.", f"Try it in a terminal: ssh {self.host}")

    def _lost(self, status: int, said: str) -> Unavailable:
        """Say why the program that is the connection has ended."""
        if status == 255:
            return ssh.unreachable(self.host, said)
        mend = f"Try it in a terminal: ssh {self.host}"
        lost = [ssh.last_line(said)] if ssh.last_line(said) else []
        return Unavailable(": ".join([f"The connection to {self.host} ended (status {status})", *lost]) + ".", mend)

    def close(self) -> None:
        """End the connection; what runs there goes on."""
        self._end(Unavailable(f"The connection to {self.host} was closed.", "Say it again: it is opened anew."))

    def _end(self, why: Unavailable) -> None:
        with self._lock:
            first, self.why = self.why is None, self.why or why
            asked, self._asked = list(self._asked.values()), {}
        self._to_send.put(None)
        if first:
            self._pipes.kill()
        for _, future, _ in asked:
            with suppress(InvalidStateError):
                future.set_exception(self.why)
        self._news()

    def _send(self) -> None:
        while (data := self._to_send.get()) is not None:
            rest = memoryview(data)
            while rest and self.why is None:
                try:
                    wrote = self._pipes.write(rest)
                    rest = rest[wrote:]
                    if not wrote:
                        select.select([], [self._pipes.stdin], [], 1.0)
                except (OSError, ValueError):  # the reader sees the end, too
                    return

    def _read(self, rest: bytes) -> None:
        reader = wire.Reader()
        data = rest
        while True:
            try:
                self._take(reader.feed(data))
                while not select.select([self._pipes.stdout], [], [], 1.0)[0]:
                    self._check()
                data = os.read(self._pipes.stdout, 1 << 20)
            except (OSError, ValueError, struct.error):  # also for what is no record
                data = b""
            if not data:
                break
        self._pipes.wait(2.0)
        self._end(self._lost(*self._pipes.close()))

    def _take(self, records: Any) -> None:
        for kind, number, payload in records:
            if kind == NEWS:
                self._news()
            with self._lock:
                asked = self._asked.pop(number, None) if kind == ANSWER else None
            if asked is None:
                continue
            question, future, _ = asked
            with suppress(InvalidStateError):
                try:
                    future.set_result(self._answer(question, payload))
                except Unavailable as problem:
                    future.set_exception(problem)

    def _answer(self, question: str, payload: bytes) -> Answer:
        try:
            head, *blobs = wire.split(payload)
            said = wire.parse(head)
        except (ValueError, RecursionError, struct.error):
            raise answers.meaningless(self.host, "it cannot be read") from None
        if isinstance(error := said.get("error"), dict):
            raise Refusal(f"{self.host}: {error.get('what')}", str(error.get("mend") or ""))
        return answers.checked(self.host, question, said), blobs


def all_of(futures: Iterable[Future[Any]], patience: float) -> None:
    """Wait until all have an answer, or so many seconds."""
    wait(list(futures), timeout=patience)
