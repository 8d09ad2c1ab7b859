"""What eight kernels that have imported pandas hold, warm beside cold.

    python tests/bench/warm_memory.py [KERNELS]

The sum of the kernels' proportional set sizes (PSS), the zygote's included. Goal: 0.65 of cold at most.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUN = """
import io, os, sys, time
from pathlib import Path
import nbformat
from colab_magics import fork, session
from colab_magics.checkout.project import Project
from colab_magics.session import Session
from colab_magics.ui import TerminalUI
root, start, n = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
cells = ["import pandas as pd, os, time\\nframe = pd.DataFrame({'a': range(10)})\\nprint(frame.mean())",
         "open(data_job + '/ready', 'w').close()\\nwhile not os.path.exists(data_job + '/go'):\\n    time.sleep(0.05)"]
spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
made = [nbformat.v4.new_code_cell(cell) for cell in cells]
nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=spec), root / "a.ipynb")
project = Project(name="net", job=start, root=root, notebooks=root)
session.activate(Session(ui=TerminalUI(out=io.StringIO()), project=project))
board = fork(n=n, workers=n, start=start, notebook=str(root / "a.ipynb"), detach=True)
def pss(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
while not all((run.folder / "ready").exists() for run in board.runs):
    time.sleep(0.1)
kernels = {run.state()["kernel"] for run in board.runs}
parents = {int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in kernels}
zygotes = {pid for pid in parents if "zygote.py" in Path(f"/proc/{pid}/cmdline").read_text()}
total = sum(pss(pid) for pid in kernels | zygotes)
for run in board.runs:
    (run.folder / "go").touch()
board.wait(60)
print(total)
"""


def measured(start: str, kernels: int) -> float:
    """Return MB."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-c", RUN, folder, start, str(kernels)]
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    kernels = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    cold, warm = measured("cold", kernels), measured("warm", kernels)
    print(
        f"{kernels} kernels with pandas: cold {cold:.0f} MB, warm {warm:.0f} MB: {warm / cold:.2f} (goal: 0.65 at most)"
    )


if __name__ == "__main__":
    main()
