"""A worker of a sheet as a program: claims, executes nothing, ends, and writes down what it did; tests kill it.

python sheets_worker.py LINK LOG '{"lease": 5, "seconds": 0.01, "limits": {…}}'
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from colab_magics.queues.base import RUNNING, STALE, Beat, End, Report, new_ticket, worker_name  # noqa: E402
from colab_magics.queues.sheets.budget import Limits  # noqa: E402
from colab_magics.queues.sheets.queue import SheetsQueue  # noqa: E402


def work(link: str, log: Path, options: Mapping[str, Any]) -> None:
    """Claim until nothing is left, neither ready nor with a worker that may be dead."""
    queue = SheetsQueue(link, lease=options["lease"], limits=Limits(**options["limits"]))
    worker, ends = worker_name(), []
    with open(log, "a", buffering=1) as stream:

        def note(what: str, name: str = "", **more: Any) -> None:
            stream.write(json.dumps({"what": what, "name": name, "worker": worker, "pid": os.getpid(), **more}) + "\n")

        note("begun", time=time.time())
        while True:
            answer = queue.exchange(worker, ticket=new_ticket(), ends=ends, number=1)
            for end, written in zip(ends, answer.ended, strict=True):
                note("ended" if written else "fenced", end.claim.name, epoch=end.claim.epoch)
            ends = []
            for claim in answer.claims:
                note("claimed", claim.name, epoch=claim.epoch, n=claim.config["n"])
                time.sleep(options["seconds"])
                if options.get("beats"):
                    note("held" if queue.heartbeat([Beat(claim, Report("1 / 2"))])[0] else "not held", claim.name)
                ends = [End(claim, report=Report(metrics={"n": claim.config["n"]}))]
            if not answer.claims:
                if not options.get("wait") or not any(row.status in (RUNNING, STALE) for row in queue.rows()):
                    break
                time.sleep(options["lease"] / 10)
        note("over", time=time.time(), calls=dict(queue.calls))


@dataclass
class Crowd:
    """Workers as processes, and what they have written down.

    Parameters
    ----------
    link : str
        The sheet.
    folder : Path
        Where they write it down.
    options : mapping
        See the module.
    environment : mapping
        Theirs.
    """

    link: str
    folder: Path
    options: Mapping[str, Any]
    environment: Mapping[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more."""
        log = self.folder / f"{len(self.processes)}.jsonl"
        command = [sys.executable, __file__, self.link, str(log), json.dumps(self.options)]
        self.processes.append(subprocess.Popen(command, env={**os.environ, **self.environment}))
        return self.processes[-1]

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """Kill one of them."""
        process.kill()
        process.wait(30)

    def join(self, timeout: float) -> list[int]:
        """Wait until all have ended; returns how."""
        end = time.monotonic() + timeout
        threads = [threading.Thread(target=one.wait) for one in self.processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        alive = [one for one in self.processes if one.poll() is None]
        for one in alive:
            one.kill()
        return [one.wait() for one in self.processes]

    def said(self) -> list[dict[str, Any]]:
        """Return what was written down, up to where somebody was killed."""
        lines = [line for path in sorted(self.folder.glob("*.jsonl")) for line in path.read_text().split("\n")[:-1]]
        return [json.loads(line) for line in lines]


def count(said: Sequence[Mapping[str, Any]], what: str) -> Counter[str]:
    """Count by run what was written down."""
    return Counter(one["name"] for one in said if one["what"] == what)


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3]))
