"""What a scheduler costs while a thousand runs wait: its processor time, as a share of one core.

``python tests/bench/waiting_runs.py [RUNS] [SECONDS]``. One command sleeps, the others wait for it. Beside it stands
what a process of Python costs that looks at one file as often.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from measuring import silent_project  # noqa: E402 (the paths come first)

from colab_magics import jobs, process, submit  # noqa: E402
from colab_magics.records.names import SCHEDULER, STATE  # noqa: E402

GOAL = 0.02
PEER = "import os, time\nwhile True:\n    os.stat({file!r})\n    time.sleep(0.1)\n"


def share(pid: int, seconds: float) -> float:
    """Return the processor time that a process takes, as a share of one core."""
    one = psutil.Process(pid)
    before, began = one.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after = one.cpu_times()
    return (after.user + after.system - before.user - before.system) / (time.monotonic() - began)


def main(runs: int = 1000, seconds: float = 20.0) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        job = silent_project(Path(folder)).data_job
        began = time.monotonic()
        submit("sleep", "{x}", grid={"x": [1000 + number for number in range(runs)]}, workers=1, yes=True)
        print(f"{runs} runs submitted in {time.monotonic() - began:.1f} s")
        time.sleep(3)
        who = (process.read_json(job / SCHEDULER / STATE) or {})["process"]
        with subprocess.Popen([sys.executable, "-c", PEER.format(file=str(job / SCHEDULER / STATE))]) as peer:
            theirs = share(peer.pid, seconds)
            peer.kill()
        ours = share(who["pid"], seconds)
        memory = psutil.Process(who["pid"]).memory_info().rss / 1e6
        verdict = "met" if ours <= GOAL else "MISSED"
        print(f"scheduler {100 * ours:.2f} % of a core (goal {100 * GOAL:g} %: {verdict}), {memory:.0f} MB")
        print(f"a look at one file as often: {100 * theirs:.2f} %")
        began = time.monotonic()
        jobs.kill(job.name)
        print(f"all killed in {time.monotonic() - began:.1f} s")
        os.chdir("/")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:3]))
