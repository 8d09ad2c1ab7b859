"""The machines of one engine: what each has room for, and which of them a run goes to."""

from __future__ import annotations

import contextlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from ...checkout.project import DATA_PROJECT
from ...errors import ColabMagicsError, Unavailable
from ...records.run import LOCAL
from ...ui import UI
from ..base import NotSubmitted
from .host import Host
from .line import all_of

_CONNECT_SECONDS = 1200.0
"""A host that is used for the first time installs packages."""
_SETTLE_SECONDS = 60.0
_FULL_SECONDS = 15.0
"""So long a host gets no run after it could not take one."""


class Hosts:
    """Some machines.

    Parameters
    ----------
    names : iterable of str
        Their names for ssh.
    news : callable
        Called when something has happened on one of them, from any thread.
    engine : sequence of str
        Name and options of the engine there; see `Host`.
    """

    def __init__(self, names: Iterable[str], news: Callable[[], None], engine: Sequence[str] = ()) -> None:
        self.names = list(dict.fromkeys(names))
        self.engine = engine
        self.project = ""
        """The project's folder there, whose Python is used."""
        self.gpus: str | float | None = None
        """What the user said of GPUs."""
        self._news = news
        self._made: dict[str, Host] = {}
        self._has: dict[str, Mapping[str, Any]] = {}
        self._full: dict[str, float] = {}

    def __getitem__(self, name: str) -> Host:
        if name not in self.names:
            raise Unavailable(f"{name!r} is none of the hosts {', '.join(self.names)}.")
        if name not in self._made:
            self._made[name] = Host(name, self.project, self._news, self.engine)
        return self._made[name]

    def open(self) -> list[Future[Any]]:
        """Begin to connect to all."""
        return [self[name].open() for name in self.names]

    def close(self) -> None:
        """Let go of all."""
        for host in self._made.values():
            host.close()

    def settle(self, ui: UI | None) -> tuple[dict[str, Mapping[str, Any]], dict[str, ColabMagicsError]]:
        """Connect to all and ask what they have; returns that, and the problems of the others."""
        many = self.names[0] if len(self.names) == 1 else f"{len(self.names)} hosts"
        problems: dict[str, ColabMagicsError] = {}
        with ui.progress(f"preparing {many} for runs") if ui is not None else contextlib.nullcontext():
            all_of(self.open(), _CONNECT_SECONDS)
            asked = {name: self._asked(name) for name in self.names}
            all_of(asked.values(), _SETTLE_SECONDS)
        for name, answer in asked.items():
            try:
                self._has[name] = result(name, answer)[0]
            except ColabMagicsError as problem:
                problems[name] = problem
        return self._has, problems

    def _asked(self, name: str) -> Future[Any]:
        return self[name].ask("settle", workers="auto", gpus=self.gpus, inputs=f"{self.project}/{DATA_PROJECT}")

    def given(self, name: str, key: str, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a run's record says on a host: which engine executes it there, and with which GPUs.

        Parameters
        ----------
        name : str
            The host.
        key : str
            The run's.
        record : mapping
            What it says here; where the user said nothing of GPUs, the host decides.
        """
        gpus = self._has[name]["gpus"] if record.get("gpus") is None else record["gpus"]
        return {"engine": next(iter(self.engine), LOCAL), "gpus": gpus}

    def is_full(self, name: str) -> None:
        """Give a host no more runs for a while: it could not take one."""
        self._full[name] = time.monotonic() + _FULL_SECONDS

    def share_out(self, keys: Iterable[str], out: Mapping[str, str], workers: int) -> dict[str, str]:
        """Decide which host runs go to: the emptiest one that is there and has room.

        Parameters
        ----------
        keys : iterable of str
            Those of the runs.
        out : mapping of str to str
            Where others are.
        workers : int
            How many at once the user wants in all; each host takes its share when that is more than all have room for.

        Raises
        ------
        NotSubmitted
            When no host is there.
        """
        ready = [name for name in self.names if self._is_ready(name)]
        if not ready:
            raise self._nobody()
        busy, room = Counter(out.values()), {name: float(self._has[name]["workers"]) for name in self._has}
        more = max(1.0, workers / max(sum(room.values()), 1.0))
        given: dict[str, str] = {}
        for key in keys:
            free = [name for name in ready if busy[name] < max(1, math.ceil(room[name] * more))]
            if free:
                given[key] = min(free, key=lambda name: (busy[name] + 1) / max(room[name], 0.1))
                busy[given[key]] += 1
        return given

    def _is_ready(self, name: str) -> bool:
        if not self[name].is_open():
            self[name].open()
            return False
        if time.monotonic() < self._full.get(name, 0.0):
            return False
        if name not in self._has:
            asked = self._asked(name)
            all_of([asked], _SETTLE_SECONDS)
            with contextlib.suppress(ColabMagicsError):
                self._has[name] = result(name, asked)[0]
        return name in self._has

    def _nobody(self) -> NotSubmitted:
        problems = [problem for name in self.names if (problem := self[name].problem) is not None]
        if problems:
            return NotSubmitted("; ".join(problem.what.rstrip(".") for problem in problems), problems[0].mend)
        return NotSubmitted(f"{' and '.join(self.names)}: not connected yet, or without room")


def result(name: str, answer: Future[Any], mend: str = "") -> Any:
    """Return an answer that is there; `mend` says what to try where ssh is not the way.

    Raises
    ------
    ColabMagicsError
        When it is not, or is an error.
    """
    if not answer.done():
        raise Unavailable(f"{name} does not answer.", mend or f"Try it in a terminal: ssh {name}")
    return answer.result()
