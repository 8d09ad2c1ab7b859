"""One connection to a relay: ssh, or a local process, joined to its socket; it is made anew after each break."""

from __future__ import annotations

import base64
import getpass
import json
import os
import select
import time
from collections.abc import Iterator
from typing import Any

from .. import process
from ..errors import Unavailable
from ..pipes import Pipes
from ..transport import ssh
from . import wire
from .environment import Environment, attach_command

MOST = 1 << 20
START_SECONDS = 200.0
"""A kernel may take long to start on a slow disk; a host that does not answer is seen by ssh before."""
AGAIN_SECONDS = 30.0


class Missing(Exception):
    """The host has no environment yet, or not these programs."""


class RelayDied(Unavailable):
    """The relay of a kernel is gone, and the kernel with it."""


class Connection:
    """A program that is joined to a relay.

    Parameters
    ----------
    host : str
        Its name for ssh; empty for this machine.
    environment : Environment
        The Python there.
    hello : dict
        What the relay must know: see `attach.connect`.
    build : bool, default True
        Whether the Python must be that one; otherwise any that we use there serves.
    """

    def __init__(self, host: str, environment: Environment, hello: dict[str, Any], *, build: bool = True) -> None:
        self.host, self._hello = host, hello
        # No argument holds a secret: everybody on a machine can read them.
        words = base64.b64encode(json.dumps({**hello, "who": who()}).encode()).decode()
        command = attach_command(environment, words, build=build)
        self._pipes = Pipes(ssh.command(host, command) if host else command)
        self._reader = wire.Reader()
        self.pid = self._pipes.pid

    @property
    def place(self) -> str:
        """The host's name for messages."""
        return self.host or "this machine"

    def welcome(self) -> tuple[dict[str, Any], list[tuple[int, int, bytes]]]:
        """Wait for the relay's first record; returns it, and what came behind it.

        Raises
        ------
        Missing
            When the host must be prepared first.
        Unavailable
            When there is no connection.
        """
        end = time.monotonic() + (AGAIN_SECONDS if self._hello["epoch"] else START_SECONDS)
        records = self._after_greeting(end)
        while not (found := list(records)):
            records = self._reader.feed(self._read_until(end))
        kind, _, payload = found[0]
        if kind == wire.WELCOME:
            return wire.parse(payload), found[1:]
        self.close()
        if kind != wire.FAILED:
            raise Unavailable(f"The kernel on {self.place} was just ending.", "Try again.")
        raise self._failed(wire.parse(payload))

    def _after_greeting(self, end: float) -> Iterator[tuple[int, int, bytes]]:
        # What a login shell prints comes first.
        said = b""
        while True:
            _head, found, rest = said.partition(wire.GREETING)
            word, line_end, rest = rest.partition(b"\n")
            if found and line_end:
                break
            said += self._read_until(end)
        if word.strip() == b"missing":
            self.close()
            raise Missing
        return self._reader.feed(rest)

    def _read_until(self, end: float) -> bytes:
        left = max(0.0, end - time.monotonic())
        if not select.select([self._pipes.stdout], [], [], left)[0]:
            self.close()
            raise Unavailable(f"{self.place} did not answer in time.", "Is it overloaded? Try again later.")
        data = os.read(self._pipes.stdout, MOST)
        if data:
            return data
        self._pipes.wait(2.0)
        status, said = self._pipes.close()
        if self.host and status == 255:
            raise ssh.unreachable(self.host, said)
        lines = [line for line in said.splitlines() if line.strip()]
        raise Unavailable(
            f"{self.place} ended the connection (status {status}){': ' + lines[-1] if lines else ''}.",
            f"Is there a shell with sh, and a Python? Try it in a terminal: ssh {self.host}",
        )

    def _failed(self, words: dict[str, Any]) -> Unavailable:
        kind, text = words["kind"], str(words["text"]).rstrip(".")
        if kind == "gone":
            said = f"\nIts last words:\n{text}" if text else ""
            return RelayDied(
                f"The relay of the kernel on {self.place} is gone, and with it the kernel: its machine was started "
                f"anew, or somebody ended it.{said}",
                "Start a new kernel: %remote HOST",
            )
        if kind == "foreign":
            return RelayDied(f"{text}: it is not used.", f"Look at it on {self.place}, and remove it if it is yours.")
        if kind == "none":
            return RelayDied(f"No kernel runs on {self.place}.", "Start one: %remote HOST")
        if kind == "start":
            return RelayDied(f"No kernel could be started on {self.place}: {text}.", "Mend that there.")
        return RelayDied(f"{self.place}: {text}.", "Mend that there, then try again.")

    def read(self) -> list[tuple[int, int, bytes]] | None:
        """Return the records that came; None at the end."""
        try:
            data = os.read(self._pipes.stdout, MOST)
        except OSError:
            return None
        return list(self._reader.feed(data)) if data else None

    def write(self, data: memoryview) -> int:
        """Write what fits now; 0 when nothing does."""
        return self._pipes.write(data)

    def wait_writable(self, seconds: float) -> bool:
        """Wait until something fits; whether it does."""
        return bool(select.select([], [self._pipes.stdin], [], seconds)[1])

    def kill(self) -> None:
        """Break it: whoever reads sees the end."""
        self._pipes.kill()

    def close(self) -> str:
        """End it and return what it complained, last line."""
        _, said = self._pipes.close()
        lines = [line for line in said.splitlines() if line.strip()]
        return lines[-1] if lines else ""


def who() -> str:
    """Say who this client is, for another one that is sent away."""
    return f"{getpass.getuser()}@{process.host()}, process {os.getpid()}"
