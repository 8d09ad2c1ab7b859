"""What it costs that runs come from a queue: milliseconds for each of many short commands, beside those of a plan.

``python tests/bench/queue_runs.py [RUNS] [TIMES]``: commands that do nothing, two at once, from a grid and from a file
of SQLite, in turns; the middle of TIMES counts. Then what a scheduler costs that waits for runs (``--watch``), as a
share of one core.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from measuring import silent_project  # noqa: E402 (the paths come first)

from colab_magics import jobs, process, queue, submit  # noqa: E402
from colab_magics.records.names import SCHEDULER, STATE  # noqa: E402

GOAL, IDLE_GOAL = 2.0, 0.02


def milliseconds(kind: str, folder: Path, runs: int) -> float:
    """Return how long a run takes, all together."""
    made = silent_project(folder)
    url, points = str(made.root / "runs.db"), list(range(runs))
    if kind == "queue":
        queue.add(url, [{"k": k} for k in points], yes=True)
    began = time.monotonic()
    if kind == "queue":
        submit("true", "{k}", runs=url, workers="2", wait=True)
    else:
        submit("true", "{k}", grid={"k": points}, workers="2", wait=True, yes=True)
    return 1000 * (time.monotonic() - began) / runs


def idle(folder: Path, seconds: float = 20.0) -> float:
    """Return the processor time of a scheduler, and of the process that asks for it, while nothing is there."""
    made = silent_project(folder)
    queue.create(str(made.root / "runs.db"))
    submit("true", "{k}", runs=str(made.root / "runs.db"), watch=True)
    time.sleep(4)
    one = psutil.Process((process.read_json(made.data_job / SCHEDULER / STATE) or {})["process"]["pid"])
    both = [one, *one.children()]

    def used() -> float:
        return sum(part.cpu_times().user + part.cpu_times().system for part in both)

    before, began = used(), time.monotonic()
    time.sleep(seconds)
    share = (used() - before) / (time.monotonic() - began)
    jobs.kill(made.job)
    return share


def main(runs: int = 200, times: int = 3) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        took: dict[str, list[float]] = {"plan": [], "queue": []}
        for turn in range(times):
            for kind, seen in took.items():
                seen.append(milliseconds(kind, Path(name, f"{kind}{turn}"), runs))
        plan, of_queue = (statistics.median(took[kind]) for kind in ("plan", "queue"))
        ratio = of_queue / plan
        verdict = "met" if ratio <= GOAL else "MISSED"
        print(f"{runs} short commands, two at once: {plan:.1f} ms a run from a plan, {of_queue:.1f} ms from a queue")
        print(f"  {ratio:.2f} times (goal {GOAL:g}: {verdict})")
        share = idle(Path(name, "idle"))
        verdict = "met" if share <= IDLE_GOAL else "MISSED"
        print(f"waiting for runs: {100 * share:.2f} % of a core (goal {100 * IDLE_GOAL:g} %: {verdict})")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:3]))
