"""The reply of a cell was dropped, and its end was not, or the other way round: its client is told that it is over."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from colab_magics.relay import wire
from colab_magics.relay.client_there import Client
from colab_magics.relay.kernel_relay import Relay

MSG_ID = "m1"


class Said:
    """Stands for a kernel: says what it is told to."""

    def __init__(self) -> None:
        self.batches: list[list[list[bytes]]] = []

    def said(self, channel: int) -> list[list[bytes]]:
        return self.batches.pop(0)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    made = Relay({"home": str(tmp_path), "folder": str(tmp_path), "program": "", "cap": 1 << 16, "idle": 0})
    made.kernel = Said()  # type: ignore[assignment]
    made._status = dict  # type: ignore[method-assign]
    yield made
    for client in made.clients:
        client.close()
    made.listener.close()
    made.spool.remove()
    Path(made.sockets).rmdir()


def test_a_relay_that_no_client_ever_reached_ends(relay: Relay) -> None:
    relay.kernel.has_ended = lambda: False  # type: ignore[method-assign]
    relay._look()
    assert not relay.ending
    relay.active -= 61
    relay._look()
    assert relay.ending
    relay.ending = False
    relay.seen.enter("a session")
    relay._look()
    assert not relay.ending


def parts(kind: str, parent: str, *, msg_id: str = "", **content: Any) -> list[bytes]:
    header = {"msg_id": msg_id, "msg_type": kind}
    return [json.dumps(one).encode() for one in (header, {"msg_id": parent}, {}, content)]


def say(relay: Relay, channel: int, *messages: list[bytes]) -> None:
    relay.kernel.batches.append(list(messages))  # type: ignore[attr-defined]
    relay._take(channel)


def flood(relay: Relay) -> None:
    """Have so much said that all that is older is dropped."""
    for _ in range(4):
        say(relay, wire.IOPUB, parts("stream", "thread", name="stdout", text="x" * 40_000))


def connect(relay: Relay, session: str) -> tuple[Client, socket.socket]:
    there, here = socket.socketpair()
    client = Client(there)
    relay.clients.append(client)
    hello: dict[str, Any] = {"client": session, "session": session, "epoch": "", "position": 0, "who": "a test"}
    relay._welcome(client, {**hello, "started": False, "previous": ""})
    here.settimeout(5)
    return client, here


def over(relay: Relay, client: Client, here: socket.socket) -> list[str]:
    """Take all that the relay sends; return the cells of which it says that they are over."""
    reader, told = wire.Reader(), []
    for _ in range(5):
        relay._tell_unkept()
        client.flush(relay._next_piece)
        here.setblocking(False)
        try:
            while data := here.recv(1 << 20):
                for kind, _, payload in reader.feed(data):
                    told += [one["msg_id"] for one in wire.parse(payload)["ended"]] if kind == wire.LOST else []
        except BlockingIOError:
            continue
    return told


def test_the_reply_was_dropped_and_the_end_was_not(relay: Relay) -> None:
    client, here = connect(relay, "one")
    with here:
        relay.seen.begin(parts("execute_request", "", msg_id=MSG_ID, code="1"))
        say(relay, wire.SHELL, parts("execute_reply", MSG_ID, status="ok", execution_count=1))
        flood(relay)
        assert over(relay, client, here) == []  # it runs still
        say(relay, wire.IOPUB, parts("status", MSG_ID, execution_state="idle"))
        assert over(relay, client, here) == [MSG_ID]
        assert over(relay, client, here) == []


def test_the_end_was_dropped_and_the_reply_came_behind_it(relay: Relay) -> None:
    client, here = connect(relay, "one")
    with here:
        relay.seen.begin(parts("execute_request", "", msg_id=MSG_ID, code="1"))
        say(relay, wire.IOPUB, parts("status", MSG_ID, execution_state="idle"))
        flood(relay)
        say(relay, wire.SHELL, parts("execute_reply", MSG_ID, status="ok", execution_count=1))
        assert over(relay, client, here) == [MSG_ID]


def test_the_reply_was_taken_by_a_client_that_is_gone(relay: Relay) -> None:
    relay.seen.begin(parts("execute_request", "", msg_id=MSG_ID, code="1"))
    say(relay, wire.SHELL, parts("execute_reply", MSG_ID, status="ok", execution_count=1))
    relay.spool.take(relay.spool.end)
    client, here = connect(relay, "two")
    with here:
        assert over(relay, client, here) == []
        say(relay, wire.IOPUB, parts("status", MSG_ID, execution_state="idle"))
        assert over(relay, client, here) == [MSG_ID]
