"""What cells that ask Colab's page cost above ``%fork``: warm runs with a mount of Drive, a secret and a ``!`` there.

    python tests/bench/colab_runs.py [RUNS] [FOLDER_OF_A_MOUNTED_DRIVE]

Within a Colab runtime, or what stands in for one, google.colab is the one that is installed there, and Drive has to be
mounted; elsewhere it is the tests' own stand-in, which speaks as Google's does. Goal: 1.2 times the same notebook
without these cells at most. Calls take turns, and of each the quickest of five counts: others use the machine, too.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "tests" / "tools" / "colab_package"
WORK = ["%load_ext colab_magics", "import pandas as pd", "frame = pd.DataFrame({'a': range(10)})", "frame.mean()"]
ASKS = [
    "from google.colab import drive\ndrive.mount('{drive}')",
    "from google.colab import userdata\nassert userdata.get('TOKEN') == 's3cret'",
    "!echo hello",
]
FORK = """
import io, sys, time
from pathlib import Path
from colab_magics import fork, session
from colab_magics.checkout.project import Project
from colab_magics.session import Session
from colab_magics.ui import TerminalUI
root, (n, name) = Path(sys.argv[1]), sys.argv[2:]
project = Project(name="net", job=f"{name}{time.time_ns()}", root=root, notebooks=root)
session.activate(Session(ui=TerminalUI(out=io.StringIO()), project=project))
began = time.perf_counter()
board = fork(n=int(n), workers=4, start="warm", notebook=str(root / f"{name}.ipynb"))
print(time.perf_counter() - began)
assert {status.text for _, status in board.statuses()} == {"done"}
assert not any((run.state() or {}).get("note") for run in board.runs)
"""


def has_google_colab() -> bool:
    """Whether google.colab is installed here."""
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:
        return False


def measured(root: Path, n: int, name: str) -> float:
    """Measure a whole call, in a fresh process."""
    paths = [str(ROOT), *([] if has_google_colab() else [str(PACKAGE)]), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "TOKEN": "s3cret"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    argv = [sys.executable, "-c", FORK, str(root), str(n), name]
    done = subprocess.run(argv, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure and print."""
    import nbformat

    n = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        drive = sys.argv[2] if len(sys.argv) > 2 else "/content/drive" if has_google_colab() else str(root / "drive")
        if not has_google_colab():
            (root / "drive" / "My Drive").mkdir(parents=True)
        spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        below = ["%fork n=20", "print(i_sub_job)"]
        for name, asks in (("plain", []), ("asks", [text.format(drive=drive) for text in ASKS])):
            cells = [nbformat.v4.new_code_cell(text) for text in [*WORK, *asks, *below]]
            nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=spec), root / f"{name}.ipynb")
        measured(root, 2, "asks")  # compiles what is not compiled yet
        times: dict[str, list[float]] = {"plain": [], "asks": []}
        for _ in range(5):
            for name, all_of_it in times.items():
                all_of_it.append(measured(root, n, name))
        plain, asks = min(times["plain"]), min(times["asks"])
        whose = "the installed google.colab" if has_google_colab() else "the tests' stand-in"
        print(f"{n} warm runs, 4 workers, {os.cpu_count()} cores, {whose}")
        for name, took in (("without the three cells", plain), ("with them", asks)):
            print(f"  {name:26}{took:6.2f} s  {1000 * took / n:5.0f} ms a run")
        print("  each call:", {name: [round(one, 1) for one in found] for name, found in times.items()})
        print(f"  ratio                     {asks / plain:6.2f}    (goal: 1.20 at most)")


if __name__ == "__main__":
    main()
