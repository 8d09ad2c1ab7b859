"""Scheduler, connections, runners and machines are killed at random while commands run on two machines.

Each execution holds a lock for as long as it lives, and writes down that it began: so two of the same run at one time
are seen, and so is one that nobody asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from boxes import Box, boxes, cable
from conftest import poll

from colab_magics import jobs, process, submit
from colab_magics.checkout.project import Project
from colab_magics.errors import Busy, ColabMagicsError
from colab_magics.records.names import SCHEDULER
from colab_magics.records.run import runs_of
from colab_magics.runs import scheduler
from colab_magics.session import RUN_VARIABLE

TRAIN = """
import fcntl, os, sys, time
index, folder = os.environ["i_sub_job"], sys.argv[1]
lock = open(f"{folder}/lock-{index}", "w")
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("twice", index, file=open(f"{folder}/overlaps", "a"), flush=True)
with open(f"{folder}/begun", "a") as begun:
    begun.write(f"{index}\\n")
time.sleep(float(sys.argv[2]))
open(os.environ["data_job"] + "/result", "w").write(index * 1000)
"""


class Chaos:
    """Kills what has to do with a job's runs on machines."""

    def __init__(self, project: Project, machines: list[Box], seed: int) -> None:
        self.project, self.machines = project, machines
        self.random = random.Random(seed)
        self.killed: Counter[str] = Counter()
        self.runners: Counter[int] = Counter()
        self.servers = contextlib.ExitStack()

    def _kill(self, what: str, pids: list[int], number: int = signal.SIGKILL) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        self.killed[what] += bool(pids)

    def scheduler(self) -> None:
        state = process.read_json(self.project.data_job / SCHEDULER / "state.json") or {}
        if scheduler.is_running(self.project.data_job):
            self._kill("scheduler", [state["process"]["pid"]])

    def connection(self) -> None:
        self._kill("ssh", [one.pid for one in _all("ssh") if "there" in " ".join(_words(one))])

    def master(self) -> None:
        mark = hashlib.sha256(os.fsencode(os.environ["COLAB_MAGICS_SSH_CONFIG"])).hexdigest()[:8]
        masters = [
            one for one in psutil.process_iter() if "[mux]" in (words := " ".join(_words(one))) and mark in words
        ]
        self._kill("master", [one.pid for one in masters])

    def service(self) -> None:
        found = [one.pid for one in psutil.process_iter() if "colab_magics.engines.ssh.there" in _words(one)]
        self._kill("service", found)

    def runner(self) -> None:
        with contextlib.suppress(AssertionError):
            one = self.random.choice(poll(self._runners, timeout=5))
            self.runners[int(os.path.basename(process.variable(one, RUN_VARIABLE) or "")[-3:])] += 1
            self._kill("runner", [one])

    def _runners(self) -> list[int]:
        found = [path.parent for box in self.machines for path in box.home.glob("colab_magics/.runs/*/*/*/state.json")]
        states = [process.read_json(folder / "state.json") or {} for folder in found]
        return [state["process"]["pid"] for state in states if process.is_alive(state.get("process") or {})]

    def machine(self) -> None:
        box = self.random.choice(self.machines)
        self._kill("machine", _sshds(box))
        time.sleep(self.random.uniform(0.2, 2.0))
        self.servers.enter_context(box.server.again())

    def freeze(self) -> None:
        pids = _sshds(self.random.choice(self.machines))
        self._kill("frozen", pids, signal.SIGSTOP)
        time.sleep(self.random.uniform(0.5, 4.0))
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def _all(name: str) -> Iterator[psutil.Process]:
    home = os.environ["HOME"]
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if one.name() == name and one.environ().get("HOME") == home:
                yield one


def _words(one: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.Error):
        return one.cmdline()
    return []


def _sshds(box: Box) -> list[int]:
    found = []
    for one in psutil.process_iter():
        words = _words(one)
        if words and "sshd" in words[0] and (str(box.server.config_file.parent) in " ".join(words)):
            found.append(one.pid)
            with contextlib.suppress(psutil.Error):
                found += [child.pid for child in one.children(recursive=True) if child.name().startswith("sshd")]
    return found


@pytest.fixture
def machines(tmp_path: Path, home: Path) -> Iterator[list[Box]]:
    """Two machines."""
    with boxes(tmp_path, home) as made:
        yield made


def _attended(project: Project, words: list[str], runs: int, most: int) -> None:
    """Have a scheduler, as a user would who says the line again."""
    if not scheduler.is_running(project.data_job):
        with contextlib.suppress(ColabMagicsError, Busy):
            grid = {"x": list(range(runs))}
            submit(*words, "{x}", grid=grid, on="ssh:alpha,beta", workers=4, retries=most, resume="keep")


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("kills", "runs"), [(7, 16), pytest.param(50, 150, marks=pytest.mark.long)], ids=["few", "fifty"]
)
def test_nothing_is_lost_or_doubled(
    project: Project, machines: list[Box], tmp_path: Path, kills: int, runs: int
) -> None:
    os.chdir(project.root)
    Path("train.py").write_text(TRAIN)
    words = ["python", "train.py", str(tmp_path), "1.0"]
    chaos = Chaos(project, machines, seed=kills)
    faults: list[Callable[[], None]] = [
        *(chaos.scheduler, chaos.connection, chaos.service, chaos.runner, chaos.machine, chaos.freeze, chaos.master)
    ]
    with chaos.servers:
        _attended(project, words, runs, kills)
        poll(lambda: (tmp_path / "begun").exists(), timeout=60)
        for number in range(kills):
            if not number % len(faults):
                chaos.random.shuffle(faults)
            faults[number % len(faults)]()
            time.sleep(chaos.random.uniform(0.1, 1.0))
            _attended(project, words, runs, kills)

        def done() -> bool:
            _attended(project, words, runs, kills)
            return all(run.status().ended_well for run in runs_of(project.data_job))

        poll(done, timeout=600, what=f"all to be done; {jobs()}")
    found = runs_of(project.data_job)
    assert len(found) == runs
    assert [(run.folder / "result").read_text() for run in found] == [str(run.index) * 1000 for run in found]
    begun = Counter(map(int, (tmp_path / "begun").read_text().split()))
    more = {index: count for index, count in begun.items() if count > 1 + chaos.runners[index]}
    print(dict(chaos.killed), "executed again:", sum(begun.values()) - runs)
    assert not (tmp_path / "overlaps").exists(), (tmp_path / "overlaps").read_text()
    assert not more, f"executed again without a reason: {more}"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("seconds", [2.0, pytest.param(60.0, marks=pytest.mark.long)])
def test_a_network_that_is_cut(project: Project, tmp_path: Path, home: Path, seconds: float) -> None:
    os.chdir(project.root)
    Path("train.py").write_text(TRAIN)
    words = ["python", "train.py", str(tmp_path), str(min(seconds, 20.0) + 5)]
    with cable(1) as link, boxes(tmp_path, home, links={"alpha": link}):
        _attended(project, words, 4, 3)
        poll(lambda: (tmp_path / "begun").exists() and len((tmp_path / "begun").read_text().split()) == 4, timeout=60)
        link.set("down")
        try:
            time.sleep(seconds)  # the fault itself
            if seconds > 30:
                poll(lambda: [run.status().phase for run in runs_of(project.data_job)].count("done") == 2, timeout=60)
                assert str(jobs()).count("not heard of since") == 2
        finally:
            link.set("up")
        poll(lambda: all(run.status().ended_well for run in runs_of(project.data_job)), timeout=150)
    assert len((tmp_path / "begun").read_text().split()) == 4
    assert not (tmp_path / "overlaps").exists()
