"""What a sweep costs its user: a notebook with ``%load_ext``, ``%project``, ``%fork`` and ``%stop``, as a whole.

    python tests/bench/whole_sweep.py [RUNS] [ROUNDS]

The notebook is executed by papermill, as a user would execute it unattended: the set-up, the fork of all runs (pandas,
four workers, start=warm and start=cold) and the wait for them. One bare papermill execution of an empty notebook is
taken off. Beside it stand its peers with the same work: papermill one after another, and plain scripts four at once.
Goals: papermill takes at least 10 times as long, the sweep at most 0.6 of the plain scripts; our four lines take 15 ms
of a run. The rounds take turns, so that a machine with other work is unfair to all alike; the median counts, and
processor time says what a loaded machine hides.

What the lines take is measured in a sweep of its own, where a cell that does nothing stands above each: the first cell
of a run takes longer than others, whatever is in it, and four runs share the cores.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
NOTHING = "0"
WORK = ["frame = pd.DataFrame({'a': range(10)})", "print(frame.sum())", "frame.mean()", "1 + 1"]
EXECUTE = """
import sys, time
import papermill
began = time.perf_counter()
for number in range(int(sys.argv[2])):
    papermill.execute_notebook(sys.argv[1], sys.argv[1] + ".out", progress_bar=False)
print(time.perf_counter() - began)
"""
_PR_SET_CHILD_SUBREAPER = 36


def cpu() -> float:
    """Wait for all that was started here; return the seconds of processor time that it has used so far."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            break
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def executed(notebook: Path, times: int = 1) -> float:
    """Execute a notebook so often; papermill's own start is not counted."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLAB_MAGICS_NOTEBOOK": str(notebook)}
    env["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    # An installed package is compiled, as the peers are.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    argv = [sys.executable, "-c", EXECUTE, str(notebook), str(times)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def scripts(script: Path, times: int) -> float:
    """Run a script so often, four at once."""

    def one(_: int) -> None:
        subprocess.run([sys.executable, str(script)], check=True, capture_output=True)

    began = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(times)))
    return time.perf_counter() - began


def write(root: Path, n: int) -> None:
    """Write the notebooks, and the work as a script."""
    spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}

    def notebook(name: str, *texts: str) -> None:
        cells = [nbformat.v4.new_code_cell(text) for text in texts]
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=spec), root / f"{name}.ipynb")

    notebook("empty", "1")
    notebook("bare", "import pandas as pd", *WORK)
    (root / "bare.py").write_text("\n".join(["import pandas as pd", *WORK]))
    for start in ("warm", "cold"):
        setup = ["%load_ext colab_magics", f"%project name={start} root={root}", "import pandas as pd"]
        cells = [*setup, f"%fork n={n} workers=4 start={start}", *WORK, "%stop"]
        notebook(start, *cells)
        notebook(f"{start}_lines", *(text for cell in cells for text in ([NOTHING] * (cell[0] == "%") + [cell])))


def sweep(root: Path, start: str, variant: str = "") -> float:
    """Execute a notebook that forks, anew."""
    shutil.rmtree(root / start, ignore_errors=True)
    took = executed(root / f"{start}{variant}.ipynb")
    states = [json.loads(file.read_text()) for file in root.glob(f"{start}/data_job/*/sub_job_*/state.json")]
    wrong = [state for state in states if state["phase"] != "done" or state.get("note")]
    if wrong or not states:
        raise SystemExit(f"runs that did not end as they should: {wrong}")
    return took


def lines(root: Path, start: str) -> tuple[float, float]:
    """Return the milliseconds that our four lines take of a run, and those of the cells above them that do nothing."""
    sweep(root, start, "_lines")
    ours, others = [], []
    for file in root.glob(f"{start}/data_job/*/sub_job_*/notebook.ipynb"):
        cells = json.loads(file.read_text())["cells"]
        took = [("".join(cell["source"]), 1000 * cell["metadata"]["papermill"]["duration"]) for cell in cells]
        ours.append(sum(value for text, value in took if text.startswith("%")))
        others.append(sum(value for text, value in took if text == NOTHING))
    return statistics.median(ours), statistics.median(others)


def main() -> None:
    """Measure and print."""
    n, rounds = (int(word) for word in [*sys.argv[1:], *("20", "3")[len(sys.argv) - 1 :]])
    # What detaches itself is ours to wait for, or its processor time would be lost.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root, n)
        table: dict[str, Callable[[], float]] = {
            "an empty notebook": lambda: executed(root / "empty.ipynb"),
            "the sweep, warm": lambda: sweep(root, "warm"),
            "plain scripts, 4 at once": lambda: scripts(root / "bare.py", n),
            "papermill, one after another": lambda: executed(root / "bare.ipynb", n),
            "the sweep, cold": lambda: sweep(root, "cold"),
        }
        sweep(root, "warm")  # compiles what is not compiled yet
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in table}
        for _ in range(rounds):
            for name, run in table.items():
                before = cpu()
                found[name].append((run(), cpu() - before))
        wall, used = ({name: statistics.median(x[i] for x in took) for name, took in found.items()} for i in (0, 1))
        print(f"{n} runs with pandas, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, median of {rounds}")
        for name in table:
            less = wall["an empty notebook"] if "sweep" in name else 0.0
            print(f"  {name:32}{wall[name] - less:7.2f} s   processor {used[name]:6.2f} s")
        warm = wall["the sweep, warm"] - wall["an empty notebook"]
        print(f"  papermill takes {wall['papermill, one after another'] / warm:5.1f} x the warm sweep   (goal: 10)")
        print(f"  the warm sweep takes {warm / wall['plain scripts, 4 at once']:4.2f} of plain scripts  (goal: 0.6)")
        for start in ("warm", "cold"):
            ours, others = lines(root, start)
            print(f"  our four lines in a {start} run take {ours:5.1f} ms, four cells that do nothing {others:5.1f} ms")


if __name__ == "__main__":
    main()
