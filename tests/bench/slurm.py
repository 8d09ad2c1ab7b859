"""What a run costs on Slurm beyond Slurm itself: ``python tests/bench/slurm.py [RUNS]``.

A cluster of one node on the loopback. The peers are ``sbatch --array`` of ``python -c pass``, which starts one Python a
task as we do, and submitit's array of a function, where submitit is installed. Ours is ``%submit on=slurm -- true``
with a grid of so many values, from the line to the last result. Also counted: how often Slurm was asked.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "tools")]

from slurm_server import PROGRAMS, SlurmServer, program, slurm_server  # noqa: E402

from colab_magics import submit  # noqa: E402

MEMORY = "200"
"""Megabytes of each task."""
POLLS_A_SECOND = 1.0


def main(runs: int = 200) -> None:
    """Measure and print."""
    if any(program(name) is None for name in PROGRAMS) or os.getuid() != 0:
        print("Slurm is not here (apt-get install slurm-wlm slurm-wlm-basic-plugins munge), or this is not root.")
        return
    with tempfile.TemporaryDirectory() as folder, slurm_server() as server:
        os.environ |= {"HOME": folder, **server.environment}
        project = Path(folder, "net")
        project.mkdir()
        os.chdir(project)
        print(f"{runs} short runs on a node of 4 cores")
        print(f"sbatch --array of python -c pass: {_by_sbatch(server, runs):.1f} s")
        if importlib.util.find_spec("submitit") is not None:
            print(f"submitit's array of a function: {_by_submitit(runs):.1f} s")
        _count_calls(Path(folder, "counted"))
        began = time.monotonic()
        submit("true", "{x}", grid={"x": list(range(runs))}, on="slurm", mem=f"{MEMORY}MB", wait=True, yes=True)
        took = time.monotonic() - began
        calls = Path(folder, "counted", "calls").read_text().split()
        submissions, polls = calls.count("sbatch"), calls.count("squeue")
        met = "met" if polls <= POLLS_A_SECOND * took + 1 and submissions == 1 else "MISSED"
        print(
            f"%submit on=slurm: {took:.1f} s, {submissions} submission, {polls} questions (goal 1, 1 a second: {met})"
        )
        os.chdir("/")


def _by_sbatch(server: SlurmServer, runs: int) -> float:
    began = time.monotonic()
    words = [f"--array=0-{runs - 1}", f"--mem={MEMORY}", "--output=/dev/null", f"--wrap={sys.executable} -c pass"]
    subprocess.run(["sbatch", "--parsable", *words], check=True, stdout=subprocess.DEVNULL)
    while server.ask("squeue", "-h"):
        time.sleep(0.2)
    return time.monotonic() - began


def _by_submitit(runs: int) -> float:
    import submitit

    executor = submitit.AutoExecutor(folder="submitit", cluster="slurm")
    executor.update_parameters(slurm_mem=f"{MEMORY}M", timeout_min=5, slurm_array_parallelism=runs)
    began = time.monotonic()
    jobs = executor.map_array(abs, list(range(runs)))
    for job in jobs:
        job.result()
    return time.monotonic() - began


def _count_calls(folder: Path) -> None:
    """Put programs before Slurm's own that write down that they were called."""
    folder.mkdir()
    (folder / "calls").touch()
    for name in ("sbatch", "squeue"):
        lines = ["#!/bin/bash", f"[[ $* == *--test-only* ]] || echo {name} >>{folder}/calls"]
        (folder / name).write_text("\n".join([*lines, f'exec {program(name)} "$@"']) + "\n")
        (folder / name).chmod(0o755)
    os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:2]))
