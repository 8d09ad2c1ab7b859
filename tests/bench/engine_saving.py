"""What it costs to keep a notebook on disk while it runs: 200 cells that print 10 kB each.

    python tests/bench/engine_saving.py [CELLS]

Ours, papermill's own engine, nbclient (which saves nothing before the end), and ours without any saving, in fresh
processes, the best of two. Goals: 8 times as fast as papermill at least, 1.2 times the time without saving at most.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import sys, time
from pathlib import Path
import nbformat, papermill
from colab_magics.kernels import execution, papermill_engine
how, folder, n = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
cells = [nbformat.v4.new_code_cell(f"print(('{i:3} ' * 25 + '\\\\n') * 100)") for i in range(n)]
spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
notebook = nbformat.v4.new_notebook(cells=cells, metadata=spec)
nbformat.write(notebook, folder / "in.ipynb")
if how == "without":
    execution.Execution.save = lambda self: None
    execution.Execution.changed = lambda self: None
    execution.Journal = lambda *_: None
began = time.perf_counter()
if how == "papermill":
    papermill.execute_notebook(str(folder / "in.ipynb"), str(folder / "out.ipynb"), progress_bar=False)
elif how == "nbclient":
    from nbclient import NotebookClient
    NotebookClient(notebook).execute()
    nbformat.write(notebook, folder / "out.ipynb")
else:
    with open(folder / "log.txt", "w") as log:
        way = execution.Execution(folder / "out.ipynb", log)
        done = papermill_engine.execute(notebook, way, parameters={}, kernel=None, cwd=folder)
    assert done.error is None
print(time.perf_counter() - began)
"""


def measured(how: str, cells: int) -> float:
    """Execute the notebook one way; the better of two."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYDEVD_DISABLE_FILE_VALIDATION": "1"}
    times = []
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            argv = [sys.executable, "-c", RUN, how, folder, str(cells)]
            done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
            times.append(float(done.stdout.splitlines()[-1]))
    return min(times)


def main() -> None:
    """Measure and print."""
    cells = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    times = {how: measured(how, cells) for how in ("ours", "without", "papermill", "nbclient")}
    ours, without, theirs = times["ours"], times["without"], times["papermill"]
    print(f"{cells} cells of 10 kB")
    for how, took in times.items():
        print(f"  {how:12} {took:6.2f} s  {took / ours:5.2f} x ours")
    print(f"  papermill takes {theirs / ours:.1f} x ours (goal: 8 at least)")
    print(f"  ours takes {ours / without:.2f} x without saving (goal: 1.20 at most)")


if __name__ == "__main__":
    main()
