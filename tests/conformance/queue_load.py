"""Many workers at one queue, some of which are killed or stopped for a while: what must be true of it afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from colab_magics.queues.base import DONE, New, Queue

WORKER = Path(__file__).resolve().parents[1] / "tools" / "queue_worker.py"


@dataclass
class Load:
    """What a load test has shown.

    Parameters
    ----------
    rows : list of Row
        The table at its end.
    killed, stopped : set of int
        Processes of workers that were killed, or stopped for longer than a lease.
    lines : list of list of str
        What workers wrote: what, worker, pid, uid, epoch.
    seconds : float
        How long it took.
    """

    killed: set[int] = field(default_factory=set)
    stopped: set[int] = field(default_factory=set)
    lines: list[list[str]] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def check(self, runs: int) -> str:
        """Fail unless every run was executed and committed once, whatever happened; returns figures."""
        assert self.statuses == {DONE: runs}, "lost"
        committed = Counter(uid for what, _, _, uid, _ in self.lines if what == "committed")
        assert [uid for uid, count in committed.items() if count > 1] == [], "committed twice"
        began: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for what, _, pid, uid, epoch in self.lines:
            if what == "began":
                began[uid].append((int(epoch), int(pid)))
        assert len(began) == runs
        for uid, claims in began.items():
            claims.sort()
            epochs = [epoch for epoch, _ in claims]
            assert len(set(epochs)) == len(epochs), f"{uid}: two workers had the same epoch"
            lost = [pid for _, pid in claims[:-1] if pid not in self.killed | self.stopped]
            assert not lost, f"{uid} was executed again, and workers {lost} that had it were well"
        what = Counter(line[0] for line in self.lines)
        again = what["began"] - runs
        return (
            f"{runs} runs, {len(self.killed)} kills, {len(self.stopped)} stopped: {what['committed']} ends heard of, "
            f"{what['fenced']} fenced off, {again} executed again; 0 double, 0 lost; {self.seconds:.1f} s"
        )


def load(
    queue: Queue,
    address: str,
    folder: Path,
    *,
    workers: int = 8,
    runs: int = 500,
    kills: int = 20,
    stops: int = 3,
    lost: float = 0.05,
    seconds: float = 0.04,
    timeout: float = 300.0,
) -> Load:
    """Let workers empty a queue, and kill some of them at random.

    Parameters
    ----------
    queue : Queue
        Has been created, and has no runs; its lease is the workers'.
    address : str
        As the workers open it.
    folder : Path
        For the evidence and the workers' logs.
    workers, runs, kills, stops : int
        How many of each; a killed worker is replaced, a stopped one goes on after its lease.
    lost : float
        The share of replies that get lost.
    seconds : float
        What a run takes on average.
    timeout : float
        Seconds after which the test fails.
    """
    queue.add([New({"n": number}) for number in range(runs)])
    evidence = folder / "evidence"
    evidence.touch()
    told = Load()
    words = [sys.executable, str(WORKER), address, str(evidence), str(queue.lease), str(seconds), str(lost)]
    began = time.monotonic()
    frozen: dict[int, float] = {}
    with (folder / "log").open("ab") as log:

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        crew = [start() for _ in range(workers)]
        try:
            while any(one.poll() is None for one in crew):
                assert time.monotonic() - began < timeout, f"not within {timeout:g} s: {(folder / 'log').read_text()}"
                assert not any(one.poll() for one in crew), (folder / "log").read_text()
                progress = evidence.read_text().count("committed") / runs
                due = len(told.killed) + len(told.stopped) < progress * (kills + stops) / 0.9
                able = [one for one in crew if one.poll() is None and one.pid not in frozen]
                if due and able and len(told.killed) + len(told.stopped) < kills + stops:
                    victim = random.choice(able)
                    if len(told.stopped) < stops and random.random() < 0.3:
                        victim.send_signal(signal.SIGSTOP)
                        told.stopped.add(victim.pid)
                        frozen[victim.pid] = time.monotonic() + 1.5 * queue.lease
                    else:
                        victim.kill()
                        victim.wait()
                        told.killed.add(victim.pid)
                        crew[crew.index(victim)] = start()
                for pid in [pid for pid, until in frozen.items() if time.monotonic() > until]:
                    del frozen[pid]
                    os.kill(pid, signal.SIGCONT)
                time.sleep(0.01)
        finally:
            for one in crew:
                one.kill()
                one.wait()
    told.seconds = time.monotonic() - began
    told.lines = [line.split() for line in evidence.read_text().splitlines()]
    told.statuses = Counter(row.status for row in queue.rows())
    return told
