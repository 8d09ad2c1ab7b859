"""What n runs of a notebook that imports pandas cost, beside papermill, nbclient and plain scripts.

    python tests/bench/warm_runs.py [RUNS]

Ours is the whole call: ``fork(n=…, workers=4)`` with the start of its scheduler and, for warm, of its zygote. The
overhead of a run is what a run more takes of a notebook whose one cell does nothing: the difference of two calls. Goals
on two cores: warm at least 10 times as fast as papermill one after another and at most 0.6 of plain scripts four at
once; an overhead of 100 ms at most alone, 60 ms with four workers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTHING = ["1"]
CELLS = ["import pandas as pd", "frame = pd.DataFrame({'a': range(10)})", "print(frame.sum())", "frame.mean()", "1 + 1"]
FORK = """
import io, sys, time
from pathlib import Path
from colab_magics import fork, session
from colab_magics.checkout.project import Project
from colab_magics.session import Session
from colab_magics.ui import TerminalUI
root, (start, n, workers, name) = Path(sys.argv[1]), sys.argv[2:]
project = Project(name="net", job=f"{name}_{start}{n}x{workers}", root=root, notebooks=root)
session.activate(Session(ui=TerminalUI(out=io.StringIO()), project=project))
began = time.perf_counter()
board = fork(n=int(n), workers=workers, start=start, notebook=str(root / f"{name}.ipynb"), resume="rerun")
print(time.perf_counter() - began)
assert {status.text for _, status in board.statuses()} == {"done"}
assert not any((run.state() or {}).get("note") for run in board.runs)
"""
PAPERMILL = """
import sys, time
import papermill
root, n = sys.argv[1:]
began = time.perf_counter()
for i in range(int(n)):
    papermill.execute_notebook(f"{root}/a.ipynb", f"{root}/out.ipynb", parameters={"i": i}, progress_bar=False)
print(time.perf_counter() - began)
"""
NBCLIENT = """
import asyncio, sys, time
import nbformat
from nbclient import NotebookClient
root, n = sys.argv[1:]
async def main():
    gate = asyncio.Semaphore(4)
    async def one():
        async with gate:
            await NotebookClient(nbformat.read(f"{root}/a.ipynb", as_version=4)).async_execute()
    await asyncio.gather(*(one() for _ in range(int(n))))
began = time.perf_counter()
asyncio.run(main())
print(time.perf_counter() - began)
"""


def measured(code: str, *words: object) -> float:
    """Run code in a fresh process; the last line that it prints is its time."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    # An installed package is compiled, as the peers are.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    argv = [sys.executable, "-c", code, *map(str, words)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def four_at_once(argv: list[str], n: int) -> float:
    """Run a program n times, four at once."""

    def one(_: int) -> None:
        subprocess.run(argv, check=True, capture_output=True)

    began = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(n)))
    return time.perf_counter() - began


def write(root: Path) -> None:
    """Write the notebooks, and the first as a script."""
    import nbformat

    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    for name, texts in (("a", CELLS), ("nothing", NOTHING)):
        cells = [nbformat.v4.new_code_cell(text) for text in texts]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=spec), root / f"{name}.ipynb")
    (root / "a.py").write_text("\n".join(CELLS))


def ours(root: Path, start: str, n: int, workers: int, name: str = "a") -> float:
    """Measure a whole call of ours."""
    return measured(FORK, root, start, n, workers, name)


def main() -> None:
    """Measure and print."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root)
        papermill_cli = [sys.executable, "-m", "papermill", "--no-progress-bar", str(root / "a.ipynb"), "/dev/null"]
        table: dict[str, Callable[[], float]] = {
            "warm, 4 workers": lambda: ours(root, "warm", n, 4),
            "plain scripts, 4 at once": lambda: four_at_once([sys.executable, str(root / "a.py")], n),
            "cold, 4 workers": lambda: ours(root, "cold", n, 4),
            "nbclient, 4 at once in one process": lambda: measured(NBCLIENT, root, n),
            "papermill, one after another": lambda: measured(PAPERMILL, root, n),
            "papermill's program, 4 at once": lambda: four_at_once(papermill_cli, n),
        }
        ours(root, "warm", 2, 2)  # compiles what is not compiled yet
        times = {name: run() for name, run in table.items()}
        warm = times["warm, 4 workers"]
        print(f"{n} runs of a notebook that imports pandas, {os.cpu_count()} cores")
        for name, took in times.items():
            print(f"  {name:36} {took:6.2f} s  {1000 * took / n:5.0f} ms a run  {took / warm:5.1f} x warm")
        faster, ratio = times["papermill, one after another"] / warm, warm / times["plain scripts, 4 at once"]
        print(f"  papermill one after another takes   {faster:6.1f} x warm    (goal: 10 at least)")
        print(f"  warm takes of plain scripts         {ratio:6.2f}           (goal: 0.60 at most)")
        for workers, goal in ((1, 100), (4, 60)):
            for name, what in (("nothing", "overhead of a run"), ("a", "a run more, with pandas")):
                more = ours(root, "warm", 3 * n, workers, name) - ours(root, "warm", n, workers, name)
                aim = f"(goal: {goal} ms at most)" if name == "nothing" else ""
                print(f"  {what + f', {workers} at once':36}{1000 * more / (2 * n):5.0f} ms         {aim}")


if __name__ == "__main__":
    main()
