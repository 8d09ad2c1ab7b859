"""The nodes of a Ray cluster, as hosts that runs go to: which one, Ray decides by the places that it finds."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import IO, Any, cast

from ...errors import ColabMagicsError, Unavailable
from ...pipes import Pipes
from ...records.run import LOCAL
from ...relay import wire
from ...transport import copying, ssh
from ..base import NotSubmitted
from ..ssh.host import Host
from ..ssh.hosts import Hosts, result
from ..ssh.line import ASK, Answer, Line, all_of
from . import bridge, options
from .there import MOST

CLUSTER, MEND = "the Ray cluster", "See: ray status"
_START_SECONDS = 120.0
_LOOK_SECONDS = 20.0
_PIECE_SECONDS = 120.0
_SOON = 10.0
"""After so long it is said what runs wait for."""


class BridgeLine(Line):
    """A connection to a cluster, by the program that has it."""

    def _silent(self) -> Unavailable:
        return Unavailable(f"{CLUSTER} does not answer.", MEND)

    def _lost(self, status: int, said: str) -> Unavailable:
        why = ssh.last_line(said) or f"status {status}"
        return Unavailable(f"The connection to {CLUSTER} ended: {why}", MEND)


class Cluster(Host):
    """A connection to a cluster that is opened anew when it breaks.

    Parameters
    ----------
    order : callable
        Returns what is said to the bridge; see `bridge.Bridge`.
    news : callable
        Called when something has happened, from any thread.
    """

    def __init__(self, order: Callable[[], Mapping[str, Any]], news: Callable[[], None]) -> None:
        super().__init__("ray", "", news)
        self.name, self.order = CLUSTER, order

    def _connected(self) -> Line:
        pipes = Pipes([sys.executable, "-P", "-m", bridge.__name__])
        # Not as an argument, which others can read: a runtime_env may hold secrets.
        pipes.write(memoryview(wire.record(ASK, json.dumps(dict(self.order())).encode())))
        said, end = b"", time.monotonic() + _START_SECONDS
        while bridge.SERVING not in said:
            ready = select.select([pipes.stdout], [], [], max(0.0, end - time.monotonic()))[0]
            data = os.read(pipes.stdout, 1 << 16) if ready else b""
            if not data:
                pipes.wait(2.0 if ready else 0.0)
                raise self._problem(pipes.close()[1] if ready else "it does not answer")
            said += data
        return BridgeLine(CLUSTER, pipes, said.partition(bridge.SERVING)[2], self._news)

    def _problem(self, said: str) -> Unavailable:
        why = ssh.last_line(said).rstrip(".") or "the connection ended"
        where = self.order()["address"] or os.environ.get("RAY_ADDRESS") or "this machine"
        return Unavailable(
            f"There is no Ray cluster at {where} that can be used: {why}.",
            "Start one by ray start --head, or say where it is: address=HOST:6379",
        )


class Node(Host):
    """A node, asked over the connection to the cluster."""

    def __init__(self, name: str, cluster: Cluster) -> None:
        super().__init__(name, "", lambda: None)
        self._cluster = cluster

    def open(self) -> Future[Line]:
        """Begin to connect to the cluster; see `Host`."""
        return self._cluster.open()

    def is_open(self) -> bool:
        """Whether there is a connection to the cluster."""
        return self._cluster.is_open()

    def is_away(self) -> bool:
        """Whether the cluster could not be connected to when that was tried last."""
        return self._cluster.is_away()

    def ask(self, question: str, *blobs: bytes, **words: Any) -> Future[Answer]:
        """Ask the node's agent; see `Host`."""
        return self._cluster.ask(question, *blobs, node=self.name, **words)

    def bring(self, folder: str, here: Path) -> None:
        """Copy what a folder there holds into one here, in pieces; see `Host`."""
        said, _ = self.ask("pack", folder=folder).result(_PIECE_SECONDS)
        copying.unpack_from(cast("IO[bytes]", io.BufferedReader(_Pieces(self, said["folder"], said["size"]))), here)

    def take(self, here: Path, folder: str) -> None:
        """Copy what a folder here holds into one there, in pieces; see `Host`."""
        path = self.ask("begin").result(_PIECE_SECONDS)[0]["folder"]
        with tempfile.TemporaryFile() as packed:
            with tarfile.open(fileobj=packed, mode="w") as archive:
                archive.add(here, ".")
            packed.seek(0)
            while data := packed.read(MOST):
                self.ask("add", data, path=path).result(_PIECE_SECONDS)
        self.ask("unpack", path=path, folder=folder).result(_PIECE_SECONDS)


class _Pieces(io.RawIOBase):
    """An archive on a node, read as it comes."""

    def __init__(self, node: Node, path: str, size: int) -> None:
        self._node, self._path, self._size, self._at = node, path, size, 0
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest and self._at < self._size:
            (data,) = self._node.ask("piece", path=self._path, at=self._at).result(_PIECE_SECONDS)[1]
            self._rest, self._at = memoryview(data), self._at + len(data)
        view = memoryview(buffer)
        number = min(len(view), len(self._rest))
        view[:number], self._rest = self._rest[:number], self._rest[number:]
        return number


class Nodes(Hosts):
    """The nodes of a cluster that live.

    Parameters
    ----------
    order : callable
        Returns what is said to the bridge; see `bridge.Bridge`.
    news : callable
        Called when something has happened, from any thread.
    """

    def __init__(self, order: Callable[[], Mapping[str, Any]], news: Callable[[], None]) -> None:
        super().__init__((), news)
        self.cluster = Cluster(order, news)
        self.said: dict[str, Any] = {}
        """What the cluster said last; nothing before it was asked."""
        self.gone: dict[str, str] = {}
        """Why runs have no place any more, by their keys."""
        self._devices: dict[str, list[str]] = {}
        self._since = time.monotonic()
        self._looking = threading.Lock()

    def __getitem__(self, name: str) -> Host:
        if name not in self._made:
            self._made[name] = Node(name, self.cluster)
        return self._made[name]

    def open(self) -> list[Future[Any]]:
        """Begin to connect to the cluster."""
        return [self.cluster.open()]

    def close(self) -> None:
        """Let go of places that no run has, and of the cluster."""
        if self.cluster.is_open():
            all_of([self.cluster.ask("look", wanted=0)], _LOOK_SECONDS)
        self.cluster.close()

    def look(self, wanted: int | None = None) -> dict[str, Any]:
        """Ask how the cluster is doing; see `bridge.Bridge.look`.

        Raises
        ------
        ColabMagicsError
            When it does not answer.
        """
        with self._looking:
            asked = self.cluster.ask("look", wanted=wanted)
            all_of([asked], _LOOK_SECONDS)
            self.said = result(CLUSTER, asked, MEND)[0]
            self.names = list(self.said["nodes"])
            self.gone |= self.said["gone"]
        return self.said

    def share_out(self, keys: Iterable[str], out: Mapping[str, str], workers: int) -> dict[str, str]:
        """Give runs the places that Ray has found, and have it look for as many as there are runs; see `Hosts`.

        Raises
        ------
        NotSubmitted
            When the cluster does not answer, or has found none for a while.
        """
        waiting = list(keys)
        if not self.cluster.is_open():
            self.cluster.open()
            raise NotSubmitted(*(self.cluster.problem or Unavailable(f"{CLUSTER} is being connected to")).args)
        try:
            said = self.look(len(waiting))
        except ColabMagicsError as problem:
            raise NotSubmitted(*problem.args) from None
        by_node = {one["id"]: name for name, one in said["nodes"].items()}
        given: dict[str, str] = {}
        trouble = said["problem"]
        for place in said["granted"]:
            name = by_node.get(place["node"], "")
            trouble = trouble or (said["nodes"].get(name) or {}).get("problem", "")
            if name and said["nodes"][name]["ready"] and len(given) < len(waiting):
                key = waiting[len(given)]
                held = self.cluster.ask("hold", place=place["place"], key=key)
                all_of([held], _LOOK_SECONDS)
                with contextlib.suppress(ColabMagicsError):
                    if result(CLUSTER, held, MEND)[0].get("held"):
                        given[key], self._devices[key] = name, list(place["devices"])
        if given or said["granted"]:
            self._since = time.monotonic()
        if trouble and not given:
            raise NotSubmitted(trouble)
        if not given and not out and time.monotonic() - self._since > _SOON:
            asked = options.in_words(self.cluster.order()["shape"])
            raise NotSubmitted(f"Ray has found no place yet for what each run asks for ({asked})")
        return given

    def given(self, name: str, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a run's record says there: the GPUs of its place; see `Hosts`."""
        return {"engine": LOCAL, "gpus": 0, "devices": self._devices.get(key, [])}
