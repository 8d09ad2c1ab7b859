"""The link to a relay: a connection that is made anew after each break, so that nothing is lost and nothing sent twice.

Two threads: one reads, hands on what came and connects again after a break; the other writes, sends pings, and breaks
a connection that does not answer.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

from ..errors import Busy, ColabMagicsError, Unavailable
from ..transport import ssh
from . import wire
from .connection import Connection, Missing, RelayDied
from .environment import Environment, prepare
from .outgoing import Outgoing
from .state import State

log = logging.getLogger("colab_magics")

PING_SECONDS = 8.0
"""A relay that was not heard of for so long is called again over a new connection."""
ACK_SECONDS = 0.1
PAUSES = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0)
STABLE_SECONDS = 10.0
CLOSE_SECONDS = 2.0


class Link:
    """A link to one relay.

    Parameters
    ----------
    host : str
        Its name for ssh; empty for this machine.
    name : str
        Which of the relays there.
    environment : Environment
        The Python for a new one.
    settings : dict
        For a new one: ``folder``, ``cap``, ``idle``.
    on_record : callable
        Called with kind and payload of each record, in the reading thread.
    on_state : callable
        Called with each new `State`, in a thread of the link.
    ping : float
        Seconds without an answer until a connection is broken.
    """

    def __init__(
        self,
        host: str,
        name: str,
        environment: Environment,
        settings: dict[str, Any],
        *,
        on_record: Callable[[int, bytes], None],
        on_state: Callable[[State], None] = lambda state: None,
        ping: float = PING_SECONDS,
    ) -> None:
        self.host, self.name, self.environment, self.ping = host, name, environment, ping
        self.place = host or "this machine"
        self._settings = settings
        self._on_record, self._on_state = on_record, on_state
        self._client = self._session = uuid.uuid4().hex
        self.epoch, self.position, self.rtt = "", 0, 0.0
        self.state = State("offline", time.time(), "not connected yet")
        self.last_seen = 0.0
        self._spooled = wire.Reader()
        self._connection: Connection | None = None
        self._changed = threading.Condition()
        self._out = Outgoing()
        self._acked = 0
        self._heard = self._pinged = self._answered = self._told = 0.0
        self._closing = self._leaving = False
        self._statuses: deque[dict[str, Any]] = deque(maxlen=1)
        self._threads: list[threading.Thread] = []
        self._behind: list[tuple[int, int, bytes]] = []

    # connecting

    def _hello(self, *, new: bool = False, start: bool = False) -> dict[str, Any]:
        hello: dict[str, Any] = {"client": self._client, "session": self._session, "name": self.name}
        hello.update(epoch=self.epoch, position=self.position, new=new, start=start, settings=self._settings)
        return hello

    def open(self, *, new: bool = False, start: bool = True, tell: Callable[[str], None] = lambda text: None) -> Any:
        """Connect for the first time; returns the relay's welcome. `listen` must follow.

        Parameters
        ----------
        new : bool
            End a kernel that runs there first.
        start : bool
            Start a kernel where none runs.
        tell : callable
            Is told what takes time.

        Raises
        ------
        Unavailable
            When there is no connection; the text says why and what to do.
        """
        for prepared in (False, True):
            connection = Connection(self.host, self.environment, self._hello(new=new, start=start), build=start)
            try:
                welcome, self._behind = connection.welcome()
            except Missing:
                if not start:
                    raise RelayDied(
                        f"No kernel of this version runs on {self.place}.", "Nothing is to be done."
                    ) from None
                if prepared:
                    raise Unavailable(f"{self.place} was prepared, but it is not there.", "Is its disk full?") from None
                prepare(self.host, self.environment, tell=tell)
            except BaseException:
                connection.kill()
                raise
            else:
                self._adopt(connection, welcome)
                return welcome
        raise Unavailable(f"{self.place} cannot be prepared.", "Try again.")

    def _adopt(self, connection: Connection, welcome: dict[str, Any]) -> None:
        self.epoch = welcome["epoch"]
        with self._changed:
            self.position = self._acked = welcome["position"]
            self._spooled.clear()
            self._out.begin(welcome["taken"])
            self._heard = time.monotonic()
            self._pinged = 0.0
            self._connection = connection
            self._changed.notify_all()
        self._become(State("connected", time.time()))

    def listen(self) -> None:
        """Begin to hand on what comes."""
        for work in (self._read, self._write):
            thread = threading.Thread(target=self._guarded, args=(work,), name=f"relay {self.host}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            log.exception("the link to %s failed", self.place)
            self._end(Unavailable(f"The link to {self.place} failed: {error!r}.", "Connect again: %remote HOST"))

    def _become(self, state: State) -> None:
        if self.state.kind == "gone":
            return
        self.state = state
        try:
            self._on_state(state)
        except Exception:
            log.exception("a listener of the link to %s failed", self.place)

    def _end(self, error: ColabMagicsError) -> None:
        self._become(State("gone", time.time(), error.what, error))
        with self._changed:
            self._closing = True
            if self._connection is not None:
                self._connection.kill()
            self._changed.notify_all()

    # reading

    def _read(self) -> None:
        attempt = 0
        records: list[tuple[int, int, bytes]] | None = self._behind
        while not self._closing:
            connection = self._connection
            if connection is None:
                attempt = self._connect_again(attempt)
                records = self._behind
                continue
            if records is None:
                self._break(connection)
                continue
            if time.time() - self.state.since > STABLE_SECONDS:
                attempt = 0
            told, before = self.position == self._acked, self.position
            for kind, number, payload in records:
                self._take(kind, number, payload)
            if self.position != before:
                attempt = min(attempt, 1)  # it was a good connection, for as long as it lasted
            if told and self.position != self._acked:
                with self._changed:
                    self._changed.notify_all()
            records = connection.read()
            self._heard = time.monotonic()
            self.last_seen = time.time()

    def _break(self, connection: Connection) -> None:
        with self._changed:
            self._connection = None
        said = connection.close()
        if not self._closing:
            self._become(State("offline", time.time(), said or "the connection ended"))

    def _connect_again(self, attempt: int) -> int:
        pause = PAUSES[min(attempt, len(PAUSES) - 1)]
        with self._changed:
            if pause and self._changed.wait_for(lambda: self._closing, pause):
                return attempt
        connection = Connection(self.host, self.environment, self._hello())
        try:
            welcome, self._behind = connection.welcome()
        except (RelayDied, ssh.UnknownHost) as error:
            self._end(error)
        except Missing:
            self._end(RelayDied(f"The relay on {self.place} is gone: its folder was removed.", "Start a new kernel."))
        except Unavailable as error:
            connection.kill()
            if self.host:
                ssh.drop_shared(self.host)
            self._become(State("offline", self.state.since, error.what))
        else:
            self._adopt(connection, welcome)
        return attempt + 1

    def _take(self, kind: int, number: int, payload: bytes) -> None:
        if kind == wire.DATA:
            for inner, _, content in self._spooled.feed(payload):
                self._hand_on(inner, content)
                self.position += wire.HEAD.size + len(content)
        elif kind == wire.PONG:
            said = wire.parse(payload)
            with self._changed:
                self._out.forget(said["taken"])
                if "sent" in said:
                    self._answered = said["sent"]
                    self.rtt = time.monotonic() - self._answered
                if "status" in said:
                    self._statuses.append(said["status"])
                self._changed.notify_all()
        elif kind == wire.LOST:
            lost = wire.parse(payload)
            if lost["position"] is not None:
                self._spooled.clear()
                self.position = lost["position"]
            self._hand_on(kind, payload)
        elif kind == wire.TAKEN:
            by = wire.parse(payload)["by"]
            self._end(Busy(f"The kernel on {self.place} was taken over by {by}.", "Take it back: %remote HOST"))
        elif kind == wire.ENDED:
            self._end(RelayDied(f"The kernel on {self.place} was ended.", "Start a new one: %remote HOST"))

    def _hand_on(self, kind: int, payload: bytes) -> None:
        try:
            self._on_record(kind, payload)
        except Exception:
            log.exception("a record of %s could not be handled", self.place)

    # writing

    def send(self, kind: int, payload: bytes) -> None:
        """Have a record taken by the relay, once, after all that was sent before; also when offline at the moment."""
        with self._changed:
            if self.state.kind == "gone":
                raise self.state.error or Unavailable(f"{self.place} is gone.", "Connect again: %remote HOST")
            self._out.add(kind, payload)
            # Usually it fits, and no other thread need be woken for it.
            if self._connection is None or not self._write_now(self._connection):
                self._changed.notify_all()

    def send_now(self, kind: int, **content: Any) -> bool:
        """Send a record ahead of all others and only now; False when offline."""
        with self._changed:
            if self._connection is None or self.state.kind != "connected":
                return False
            self._out.add_urgent(wire.note(kind, **content))
            if not self._write_now(self._connection):
                self._changed.notify_all()
        return True

    def status(self, timeout: float = 5.0) -> dict[str, Any] | None:
        """Ask the relay how it stands; None when it does not answer in time."""
        with self._changed:
            self._statuses.clear()
        if not self.send_now(wire.STATUS):
            return None
        with self._changed:
            self._changed.wait_for(lambda: self._statuses or self.state.kind != "connected", timeout)
            return self._statuses[-1] if self._statuses else None

    def _write_now(self, connection: Connection) -> bool:
        """Write what fits, under the lock; False when there is more to come."""
        try:
            while self._out:
                if not self._out.write(connection):
                    return False
        except (OSError, ValueError):
            # The connection broke; the reading thread sees it too, and the records are kept.
            connection.kill()
        return True

    def _write(self) -> None:
        while True:
            with self._changed:
                connection = self._connection
                if connection is not None:
                    self._tick(time.monotonic())
                if connection is None or self._write_now(connection):
                    # Whoever leaves does so when all is written.
                    if self._closing or self._leaving:
                        return
                    self._changed.wait(self._pause() if connection is not None else 1.0)
                    continue
            self._wait_for_room(connection)

    def _wait_for_room(self, connection: Connection) -> None:
        """Wait until the pipe is not full, but not for long."""
        try:
            if connection.wait_writable(self.ping / 8):
                self._heard = time.monotonic()  # a pipe that was full flows: somebody reads at its end
        except (OSError, ValueError):
            connection.kill()

    def _pause(self) -> float:
        return ACK_SECONDS if self.position != self._acked else self.ping / 4

    def _tick(self, now: float) -> None:
        """Queue what is due, and break a connection that does not answer."""
        if self.position != self._acked and now - self._told >= ACK_SECONDS:
            self._acked, self._told = self.position, now
            self._out.add_urgent(wire.note(wire.ACK, position=self.position))
        if now - self._pinged >= self.ping / 4:
            if self._pinged and now - self._pinged > self.ping:
                self._heard = now  # this process slept, not the other side
            self._pinged = now
            self._out.add_urgent(wire.note(wire.PING, sent=now))
        if self._connection is not None and now - self._heard > self.ping:
            log.debug("%s was not heard of for %.1f s", self.place, now - self._heard)
            self._heard = now
            self._connection.kill()

    def close(self) -> None:
        """Leave the kernel running and go, when the relay has all that was sent."""
        with self._changed:
            own = threading.current_thread() in self._threads
            if self._connection is not None and not self._closing and not own:
                # ssh that is ended too early takes along what it has not sent yet.
                mark = time.monotonic()
                self._out.add_last(wire.note(wire.ACK, position=self.position))
                self._out.add_last(wire.note(wire.PING, sent=mark))
                if not self._write_now(self._connection):
                    self._changed.notify_all()
                self._changed.wait_for(lambda: self._answered >= mark or self._connection is None, CLOSE_SECONDS)
            self._leaving = True
            self._changed.notify_all()
        self._join(self._threads[1:])
        self._become(State("gone", time.time(), "left"))
        with self._changed:
            self._closing = True
            connection = self._connection
            self._changed.notify_all()
        if connection is not None:
            connection.kill()
        self._join(self._threads)
        if connection is not None:
            connection.close()

    def _join(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(CLOSE_SECONDS)
