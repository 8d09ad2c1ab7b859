"""A Google Sheet as a queue at Google's quota: calls a run, and runs a minute, with eight workers as processes.

Against the stand-in of the tests, whose minute, like that of the workers' token bucket, is `--minute` seconds long. So
a second of its answers weighs 60 / minute seconds: slower than Google's, not faster. Runs take no time here, which is
the worst case for the quota.

    .venv/bin/python tests/bench/queue_sheets.py [--runs 500] [--workers 8] [--minute 6]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "tools")]

from measuring import show  # noqa: E402 (the paths come first)
from sheets_server import Book, Sheet, sheets_server  # noqa: E402
from sheets_worker import Crowd, count  # noqa: E402


def main() -> None:
    """Measure, and print it."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--runs", type=int, default=500)
    words.add_argument("--workers", type=int, default=8)
    words.add_argument("--minute", type=float, default=6.0)
    words.add_argument("--lost", type=float, default=0.0, help="how often a reply gets lost")
    asked = words.parse_args()
    rows = [[f"r{number}", "ready", None, number] for number in range(asked.runs)]
    with tempfile.TemporaryDirectory() as home, sheets_server(quota=60, minute=asked.minute) as server:
        server.check_answers, server.chances = False, {"drop": asked.lost}
        tab = Sheet(0, "runs", [["run_name", "status", "worker_name", "n"], [None, None, None, 0], *rows])
        link = server.link(server.add(Book([tab])))
        environment = {**server.environment(Path(home)), "HOME": home, "XDG_STATE_HOME": home}
        options = {"lease": 120.0, "seconds": 0.0, "limits": {"minute": asked.minute}}
        crowd = Crowd(link, Path(home), options, environment)
        for _ in range(asked.workers):
            crowd.start()
        codes = crowd.join(3600)
        said = crowd.said()
        began = max(one["time"] for one in said if one["what"] == "begun")
        took = max(one["time"] for one in said if one["what"] == "over") - began
        ended = count(said, "ended")
        shares = [
            sum(one["what"] == "ended" and one["worker"] == worker for one in said)
            for worker in sorted({one["worker"] for one in said})
        ]
    calls = server.calls["read"] + server.calls["write"]
    double = sum(number > 1 for number in count(said, "claimed").values())
    print(f"{asked.workers} workers, {asked.runs} runs, quota 60 + 60, a minute of {asked.minute:g} s")
    show("runs ended, claimed twice, workers dead", f"{len(ended)}, {double}, {sum(map(bool, codes))}")
    show("calls a run (reads and writes)", f"{calls / asked.runs:.2f}", None, "≤ 1.5")
    show("runs a minute at quota 60", f"{asked.runs / took * asked.minute:.1f}", None, "≥ 40")
    show("refused by quota (429)", str(server.calls["429"]))
    show("runs a worker, least and most", f"{min(shares)}, {max(shares)}")


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"({time.monotonic() - began:.0f} s)")
