"""A worker of a queue, in a process of its own, that writes down what it does:

    python queue_worker.py ADDRESS EVIDENCE LEASE SECONDS LOST

Each line of the file EVIDENCE is appended at once, also by a worker that is killed a moment later:
``began WORKER PID UID EPOCH``, ``executed …``, ``committed …`` (its end stands in the table), ``fenced …`` (it does
not: the run went to somebody else). A run takes SECONDS on average; of the replies LOST (0.05) get lost on the way, and
are asked for again. The worker ends when every run of the table is done.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

from colab_magics.errors import Unavailable  # noqa: E402 (the path comes first)
from colab_magics.queues import open_queue  # noqa: E402
from colab_magics.queues.base import DONE, Beat, Claim, End, Queue, new_ticket, worker_name  # noqa: E402


class Worker:
    """A worker; see the module."""

    def __init__(self, queue: Queue, evidence: Path, seconds: float, lost: float) -> None:
        self.queue, self.seconds, self.lost = queue, seconds, lost
        self.name = worker_name()
        self.evidence = os.open(evidence, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, what: str, claim: Claim) -> None:
        """Append a line, in one write."""
        os.write(self.evidence, f"{what} {self.name} {os.getpid()} {claim.uid} {claim.epoch}\n".encode())

    def insist(self, ask: Callable[[], Any]) -> Any:
        """Ask until the answer arrives."""
        while True:
            try:
                answer = ask()
            except Unavailable:
                continue
            if random.random() >= self.lost:
                return answer

    def work(self) -> None:
        """Execute runs until all are done."""
        ends: list[End] = []
        while True:
            ticket = new_ticket()
            answer = self.insist(lambda: self.queue.exchange(self.name, ticket=ticket, ends=ends, number=1))  # noqa: B023
            for end, written in zip(ends, answer.ended, strict=True):
                self.note("committed" if written else "fenced", end.claim)
            ends = []
            if answer.claims:
                self.execute(answer.claims[0])
                ends = [End(answer.claims[0])]
            elif all(row.status == DONE for row in self.insist(self.queue.rows)):
                return
            else:
                time.sleep(self.queue.beat * random.random())

    def execute(self, claim: Claim) -> None:
        """Do what takes time, with signs of life."""
        self.note("began", claim)
        until = time.monotonic() + random.uniform(0, 2 * self.seconds)
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, self.queue.beat))
            if left > self.queue.beat:
                self.insist(lambda: self.queue.heartbeat([Beat(claim)]))
        self.note("executed", claim)


def main(address: str, evidence: str, lease: str, seconds: str, lost: str) -> None:
    """Work."""
    queue = open_queue(address, lease=float(lease))
    Worker(queue, Path(evidence), float(seconds), float(lost)).work()
    queue.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
