"""What a run costs on Ray beyond Ray itself: ``python tests/bench/ray_runs.py [RUNS]``.

A cluster of two nodes with three cores on the loopback. The peer is a plain Ray task for each run, in a fresh process
each (``max_calls=1``), that executes the same command; ours is ``%submit on=ray -- true`` with a grid of so many
values. Both from the line to the last result, the connection to the cluster in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "tools")]

from measuring import silent_project  # noqa: E402
from ray_server import ray_server  # noqa: E402

from colab_magics import submit  # noqa: E402

PEER = """
import logging, subprocess, sys
import ray
ray.init(log_to_driver=False, logging_level=logging.ERROR)
@ray.remote(max_calls=1)
def one(x):
    return subprocess.run(["true", str(x)]).returncode
assert not any(ray.get([one.remote(x) for x in range(int(sys.argv[1]))]))
"""


def main(runs: int = 200) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, ray_server() as server:
        os.environ |= {"HOME": folder, **server.environment}
        project = Path(folder, "net")
        silent_project(project)
        os.chdir(project)
        print(f"{runs} short runs on nodes of 3 cores in all")
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", PEER, str(runs)], check=True)
        peer = time.monotonic() - began
        print(f"plain tasks, a process each: {peer:.1f} s")
        began = time.monotonic()
        submit("true", "{x}", grid={"x": list(range(runs))}, on="ray", wait=True, yes=True)
        ours = time.monotonic() - began
        print(f"%submit on=ray: {ours:.1f} s, {ours / peer:.2f} of that (goal 1.1)")
        os.chdir("/")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:2]))
