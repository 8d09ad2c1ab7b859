"""What a command costs on other machines beyond plain ssh: ``python tests/bench/runs_over_ssh.py [RUNS] [WORKERS]``.

Two machines on the loopback. The peer is ``ssh HOST true`` over one shared connection, as many at once; ours is
``%submit on=ssh:alpha,beta -- true`` with a grid of so many values, from the line to the last result at home.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [
    str(Path(__file__).resolve().parents[2]),
    str(Path(__file__).resolve().parents[1]),
    str(Path(__file__).resolve().parents[1] / "tools"),
]

from boxes import boxes  # noqa: E402
from measuring import silent_project  # noqa: E402

from colab_magics import submit  # noqa: E402
from colab_magics.transport import ssh  # noqa: E402

GOAL = 0.060


def main(runs: int = 100, workers: int = 4) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        home, project = Path(folder, "home"), Path(folder, "net")
        home.mkdir()
        os.environ["HOME"] = str(home)
        silent_project(project)
        (project / "train.sh").write_text("exit 0\n")
        os.chdir(project)
        with boxes(Path(folder), home) as made:
            names = [box.name for box in made]
            for name in names:
                ssh.connect(name)
            began = time.monotonic()
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(lambda number: _plain(names[number % 2]), range(runs)))
            plain = (time.monotonic() - began) / runs
            on = f"ssh:{','.join(names)}"
            submit("true", on=on, wait=True)  # the package goes there once
            began = time.monotonic()
            board = submit("true", "{x}", grid={"x": list(range(runs))}, on=on, workers=workers, wait=True, yes=True)
            ours = (time.monotonic() - began) / runs
            hosts = {run.reference()["ref"]["host"] for run in board.runs}
            over = ours - plain
            print(f"{runs} commands, {workers} at once, on {' and '.join(sorted(hosts))}")
            print(f"ssh HOST true over one connection: {1000 * plain:.1f} ms a command")
            print(
                f"%submit on=ssh: {1000 * ours:.1f} ms a run; {1000 * over:.1f} ms beyond (goal {1000 * GOAL:g}: "
                f"{'met' if over <= GOAL else 'MISSED'})"
            )
            for box in made:
                ssh.drop_shared(box.name)
        os.chdir("/")


def _plain(host: str) -> None:
    subprocess.run(ssh.command(host, ["true"]), check=True, stdin=subprocess.DEVNULL)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:3]))
