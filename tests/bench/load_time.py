"""How long ``%load_ext colab_magics`` takes beyond a bare IPython, and what it imports.

    python tests/bench/load_time.py [REPEATS]

Each measurement is a fresh process; the median counts. The extension should take 50 ms at most, and leave papermill,
nbclient, cyclopts and every cloud library unimported.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MEASURE = """
import json, sys, time
kernel = len(sys.argv) > 1
if kernel:
    import ipykernel.zmqshell, ipykernel.ipkernel
from IPython.core.interactiveshell import InteractiveShell
ip = InteractiveShell.instance()
before, began = set(sys.modules), time.perf_counter()
ip.extension_manager.load_extension("colab_magics")
took = time.perf_counter() - began
print(json.dumps({"took": took, "modules": sorted(set(sys.modules) - before)}))
"""
HEAVY = ("papermill", "nbclient", "nbformat", "cyclopts", "rich", "watchdog", "gdown", "ruamel", "google", "obstore")


def measure(cache: str, *words: str) -> dict[str, Any]:
    """Load the extension in a fresh process, compiled as an installed package is."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *words],
        capture_output=True,
        text=True,
        check=True,
        env={**env, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": cache},
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure and print."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    for name, words in (("bare IPython", ()), ("a kernel (ipykernel imported)", ("kernel",))):
        with tempfile.TemporaryDirectory() as cache:
            measure(cache, *words)
            rounds = [measure(cache, *words) for _ in range(repeats)]
        times = sorted(1000 * one["took"] for one in rounds)
        modules = rounds[0]["modules"]
        ours = [module for module in modules if module.split(".")[0] == "colab_magics"]
        heavy = sorted({module.split(".")[0] for module in modules} & set(HEAVY))
        print(f"%load_ext colab_magics beyond {name}: median {statistics.median(times):.1f} ms", end="")
        print(f" (least {times[0]:.1f}, most {times[-1]:.1f}, {repeats} processes)")
        print(f"  imports {len(modules)} modules, {len(ours)} of them ours; heavy ones: {', '.join(heavy) or 'none'}")
        print(f"  not ours: {', '.join(module for module in modules if module not in ours)}")


if __name__ == "__main__":
    main()
