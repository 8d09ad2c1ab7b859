"""What goes to hosts with runs: the project's code as it is when they start, and what their folders hold."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ... import process
from ...errors import Unavailable
from ...records.names import PRELOAD, RECORD, SCHEDULER
from ..base import Submission, Work
from .code import Checkout, root_of
from .companions import Companions
from .folders import Departures, packed, sizes
from .hosts import Hosts
from .line import Answer

_SEND_SECONDS = 300.0


class Sending:
    """What is sent to hosts: a scheduler's work, and the project's code as it is when a run starts.

    Parameters
    ----------
    work : Work
        The scheduler's.
    root : Path
        The project's folder.
    hosts : Hosts
        Where to.
    """

    def __init__(self, work: Work, root: Path, hosts: Hosts) -> None:
        self.work = work
        self._root, self._hosts = root, hosts
        self._checkouts: dict[Path, Checkout] = {}
        self._session = uuid.uuid4().hex
        self._departures = Departures()
        self._companions = Companions(work.job_folder, self._session)
        self._states: dict[tuple[str, Path], str] = {}
        """Which state of the code each host has got last."""

    def forget_code(self, name: str) -> None:
        """Look anew whether a host has the code."""
        self._states = {key: state for key, state in self._states.items() if key[0] != name}

    def send(self, name: str, runs: Sequence[Submission]) -> list[tuple[Future[Answer], list[Submission]]]:
        """Bring the code and the folders of runs to a host, and have them started; returns which were sent."""
        by_code: dict[Path, list[tuple[Submission, dict[str, Any]]]] = {}
        for run in runs:
            record = process.read_json(run.folder / RECORD) or {}
            cwd = record.get("cwd")
            by_code.setdefault(root_of(self._root, Path(cwd) if cwd else None), []).append((run, record))
        return [self._send(name, code, mine) for code, mine in by_code.items()]

    def _send(
        self, name: str, code: Path, runs: Sequence[tuple[Submission, dict[str, Any]]]
    ) -> tuple[Future[Answer], list[Submission]]:
        state = self._send_code(name, code)
        host, heads, blobs, sent = self._hosts[name], [], [], []
        for run, record in runs:
            names = self._departures.names(host, run, self._session)
            if names is None or not self._companions.are_there(host, record):
                continue
            own = self._hosts.given(name, run.key, record)
            head = {"key": run.key, "folder": run.folder.name, "base": sizes(run.folder)}
            heads.append({**head, "cwd": _inside(code, record.get("cwd")), "record": {**record, **own}})
            blobs.append(packed(run.folder, names))
            sent.append(run)
        program = type(self.work.program)
        answer = host.ask(
            "submit",
            *blobs,
            session=self._session,
            job=self.work.job_folder.name,
            program=f"{program.__module__}:{program.__qualname__}",
            state=state,
            environment=dict(self.work.environment),
            preload=process.read_json(self.work.job_folder / SCHEDULER / PRELOAD),
            runs=heads,
            at_once=self.work.at_once,
        )
        return answer, sent

    def _send_code(self, name: str, code: Path) -> str:
        checkout = self._checkouts.setdefault(code, Checkout(code, self._root))
        snapshot = checkout.look()
        if self._states.get((name, code)) == snapshot.state:
            return snapshot.state
        files, host = {path: list(one) for path, one in snapshot.files.items()}, self._hosts[name]
        missing = _wait(host.ask("code", state=snapshot.state, files=files))[0]["missing"]
        if missing is not None:
            archive = checkout.pack(snapshot, missing)
            own = {"marker": checkout.marker(), "inputs": checkout.inputs_there}
            _wait(host.ask("bring", archive, files=files, **own))
        self._states[name, code] = snapshot.state
        return snapshot.state


def _inside(code: Path, cwd: str | None) -> str | None:
    """Return a folder of the code relative to it; None for one that is none of it."""
    if not cwd or not Path(cwd).is_relative_to(code):
        return None
    return str(Path(cwd).relative_to(code))


def _wait(answer: Future[Answer]) -> Answer:
    try:
        return answer.result(_SEND_SECONDS)
    except TimeoutError:
        raise Unavailable(
            f"The code could not be sent within {_SEND_SECONDS:g} s.", "Say it again, or where the network is faster."
        ) from None
