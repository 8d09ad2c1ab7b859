"""The connection to a Ray cluster: ``python -P -m colab_magics.engines.ray.bridge``.

It is a program of its own, so that a notebook that uses Ray itself keeps its connection, and one that does not imports
nothing. Through standard input comes what to connect to, then questions as they come to any host
(`colab_magics.engines.ssh.line`): those with a ``node`` go to that node's agent, the others are about the cluster. It
ends with its input, or when it was asked nothing for a while.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import logging
import os
import queue
import re
import select
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from ...relay import wire
from ..ssh.host import package
from ..ssh.line import ANSWER, ASK, NEWS
from . import node

SERVING = b"colab_magics-ray: serving\n"
_NODES_SECONDS = 5.0
_IDLE_SECONDS, _END_SECONDS, _CONNECT_SECONDS = 30.0, 10.0, 10.0
_QUIET_SECONDS = 600.0
"""A scheduler asks every second; a notebook that looked at runs once needs no connection any more."""


class Bridge:
    """A connection to a cluster.

    Parameters
    ----------
    order : dict
        ``address``, ``scratch``, ``inputs`` and ``runtime_env`` of the options, and the ``shape`` of places.
    write : callable
        Takes what goes back, from any thread.
    """

    def __init__(self, order: dict[str, Any], write: Callable[[bytes], None]) -> None:
        address = order["address"] or os.environ.get("RAY_ADDRESS") or "auto"
        _knock(address)  # before Ray is imported: a cluster that is away is asked again and again
        ray: Any = importlib.import_module("ray")
        self._ray, self._order, self._write = ray, order, write
        ray.init(
            address=address,
            namespace="colab_magics",
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        ray.cloudpickle.register_pickle_by_value(node)
        self._agents: dict[str, Any] = {}
        self._prepared: dict[str, Any] = {}
        """Futures of agents that may still install packages; those that could not raise why."""
        self._package: Any = None
        self._nodes: dict[str, dict[str, Any]] = {}
        self._nodes_at = float("-inf")
        self._places: dict[str, Any] = {}
        self._granted: dict[str, dict[str, Any]] = {}
        self._gone: dict[str, str] = {}
        self._problem = ""
        """Why the last place could not be had; empty when it could."""
        # Ray calls back in the thread by which it talks to the cluster: whoever waits there stops all of that. So it
        # is only noted, and the thread that is asked sees to it.
        self._done = queue.SimpleQueue[Callable[[], None]]()

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return the nodes that live, by name: what Ray calls them, and what they have."""
        if time.monotonic() - self._nodes_at > _NODES_SECONDS:
            self._nodes = {
                f"{one['NodeManagerHostname']}-{one['NodeID'][:6]}": {"id": one["NodeID"], "has": one["Resources"]}
                for one in self._ray.nodes()
                if one["Alive"]
            }
            self._nodes_at = time.monotonic()
        return self._nodes

    def look(self, wanted: int | None = None) -> dict[str, Any]:
        """Tell how the cluster is doing: its nodes, places that wait for runs, and why places were taken away.

        Parameters
        ----------
        wanted : int, optional
            How many places there are to be for runs that wait; by default as many as there are.
        """
        now = time.monotonic()
        self._tend()
        if wanted is None:  # nobody waits for those that nobody has claimed
            for name in [name for name, one in self._granted.items() if now - one["at"] > _IDLE_SECONDS]:
                self._drop(name)
        else:
            self._have(wanted)
            for name in self._granted:
                self._places[name].keep.remote()
        gone, self._gone = self._gone, {}
        granted = list(self._granted.values())
        waiting = len(self._places) - len(granted)
        nodes = {name: {**one, **self._state(one["id"])} for name, one in self.nodes().items()}
        return {"nodes": nodes, "granted": granted, "waiting": waiting, "gone": gone, "problem": self._problem}

    def _state(self, identity: str) -> dict[str, Any]:
        """Tell whether a node's agent answers, and why it never will."""
        if any(one["node"] == identity for one in self._granted.values()):
            self._agent(identity)
        done = self._prepared.get(identity)
        problem = done.exception() if done is not None and done.done() else None
        if problem is not None:  # the next look tries again
            self._agents.pop(identity, None), self._prepared.pop(identity, None)
        ready = done is not None and done.done() and problem is None
        return {"ready": ready, "problem": _said(problem) if problem is not None else ""}

    def _have(self, wanted: int) -> None:
        """Ask for places, or let some go: those first that Ray has not found yet."""
        for _ in range(len(self._places), wanted):
            name = uuid.uuid4().hex
            kind = self._ray.remote(node.Place)
            more = {"max_concurrency": 4, "name": f"colab_magics-{name}", "lifetime": "detached", "max_restarts": 0}
            self._places[name] = kind.options(**self._order["shape"], **more).remote(self._order["scratch"])
            self._places[name].where.remote().future().add_done_callback(
                lambda done, name=name: self._note(self._found, name, done)
            )
        for name in sorted(self._places, key=lambda one: one in self._granted)[: max(0, len(self._places) - wanted)]:
            self._drop(name)

    def _drop(self, name: str) -> None:
        self._granted.pop(name, None)
        self._ray.kill(self._places.pop(name))

    def _note(self, what: Callable[[str, Any], None], name: str, done: Any) -> None:
        """Note what Ray has answered, in its thread; the scheduler is told that there is news."""
        self._done.put(lambda: what(name, done))
        self._write(wire.record(NEWS, b""))

    def _tend(self) -> None:
        """See to what Ray has answered since."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._done.get_nowait()()

    def _found(self, name: str, done: Any) -> None:
        """Take the place that Ray has found, or learn why it has none any more."""
        if name not in self._places:
            return
        try:
            where, devices = done.result()
        except Exception as problem:  # noqa: BLE001 - Ray raises what it likes
            self._places.pop(name)
            self._problem = _said(problem)
        else:
            self._granted[name] = {"place": name, "node": where, "devices": devices, "at": time.monotonic()}
            self._problem = ""

    def hold(self, place: str, key: str) -> dict[str, Any]:
        """Give a place to a run."""
        self._granted.pop(place, None)
        kept = self._places.pop(place, None)
        if kept is None:
            return {"held": False}
        kept.hold.remote(key).future().add_done_callback(lambda done: self._note(self._ended, key, done))
        return {"held": True}

    def _ended(self, key: str, done: Any) -> None:
        try:
            done.result()
        except Exception as problem:  # noqa: BLE001 - Ray raises what it likes
            self._gone[key] = _said(problem)

    def close(self) -> None:
        """Let go of places that nobody has claimed, and of the cluster."""
        try:
            self._have(0)
            self._ray.shutdown()
        except Exception as problem:  # noqa: BLE001 - Ray raises what it likes
            sys.stderr.write(f"{_said(problem)}\n")

    def ask(self, number: int, payload: bytes) -> None:
        """Answer a question, at once or when its node does."""
        head, *blobs = wire.split(payload)
        words = wire.parse(head)
        try:
            if (name := words.pop("node", None)) is None:
                questions: dict[str, Callable[..., dict[str, Any]]] = {"look": self.look, "hold": self.hold}
                self._say(number, questions[words.pop("ask")](**words))
                return
            where = self.nodes().get(name)
            if where is None:
                raise LookupError(f"{name} is none of the cluster's nodes any more")
            parts = wire.frames([json.dumps(words).encode(), *blobs])
            agent = self._agent(where["id"])
            if not self._prepared[where["id"]].done():
                raise LookupError(f"{name} is being prepared for runs")
            agent.answer.remote(parts).future().add_done_callback(
                lambda done: self._answered(number, where["id"], done)
            )
        except Exception as problem:  # noqa: BLE001 - Ray raises what it likes
            self._say(number, {"error": {"what": _said(problem)}})

    def _agent(self, identity: str) -> Any:
        if identity not in self._agents:
            affinity = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
            mark, packed = package()
            if self._package is None:
                self._package = self._ray.put(packed)
            wanted = [one for one in importlib.metadata.requires("colab-magics") or () if "extra ==" not in one]
            more = {"runtime_env": self._order["runtime_env"]} if self._order["runtime_env"] else {}
            kind = self._ray.remote(node.Agent).options(
                num_cpus=0, scheduling_strategy=affinity(identity, soft=False), **more
            )
            scratch, inputs = self._order["scratch"], self._order["inputs"]
            self._agents[identity] = agent = kind.remote(scratch, mark, self._package, wanted, inputs)
            self._prepared[identity] = begun = agent.begin.remote().future()
            begun.add_done_callback(lambda _: self._write(wire.record(NEWS, b"")))
        return self._agents[identity]

    def _answered(self, number: int, identity: str, done: Any) -> None:
        try:
            self._write(wire.record(ANSWER, done.result(), number))
        except Exception as problem:  # noqa: BLE001 - Ray raises what it likes
            self._agents.pop(identity, None)
            self._say(number, {"error": {"what": _said(problem)}})

    def _say(self, number: int, said: dict[str, Any]) -> None:
        self._write(wire.record(ANSWER, wire.frames([json.dumps(said).encode()]), number))


def _knock(address: str) -> None:
    """See whether anybody is there: Ray itself tries for a minute and more before it says so.

    Raises
    ------
    OSError
        When nobody is.
    """
    if found := re.fullmatch(r"(?:ray://)?([^/:\s]+):(\d{1,5})", address):
        socket.create_connection((found[1], int(found[2])), timeout=_CONNECT_SECONDS).close()


def _said(problem: BaseException) -> str:
    """Return the words of an error of Ray's that mean something: the cause's, in one line."""
    cause = getattr(problem, "cause", None) or problem
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    traced = any(line.startswith(("Traceback", 'File "')) for line in lines)  # what it raised there stands last
    return (lines[-1] if traced else lines[0]) if lines else type(cause).__name__


def _write_all(fd: int, waiting: queue.SimpleQueue[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        while True:
            rest = memoryview(waiting.get())
            while rest:
                rest = rest[os.write(fd, rest) :]


def _records() -> Iterator[tuple[int, bytes]]:
    """Yield number and payload of what comes, until it ends or nothing comes any more."""
    reader = wire.Reader()
    while select.select([0], [], [], _QUIET_SECONDS)[0] and (data := os.read(0, 1 << 20)):
        for kind, number, payload in reader.feed(data):
            if kind == ASK:
                yield number, payload


def main() -> None:
    """Run as a program."""
    # What Ray prints must not come between the records.
    target = os.dup(1)
    os.dup2(2, 1)
    waiting = queue.SimpleQueue[bytes]()
    questions = _records()
    try:
        bridge = Bridge(wire.parse(next(questions)[1]), waiting.put)
    except Exception as problem:  # noqa: BLE001 - Ray raises what it likes
        sys.stderr.write(f"\n{_said(problem)}\n")
        sys.exit(3)
    waiting.put(SERVING)
    threading.Thread(target=_write_all, args=(target, waiting), daemon=True).start()
    for number, payload in questions:
        bridge.ask(number, payload)
    # A cluster that is gone does not even answer to a goodbye.
    threading.Timer(_END_SECONDS, os._exit, (0,)).start()
    bridge.close()
    os._exit(0)


if __name__ == "__main__":
    main()
