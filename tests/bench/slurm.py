"""What a run costs on Slurm beside submitit: ``python tests/bench/slurm.py [RUNS [ROUNDS]]``.

A cluster of one node on the loopback. Both do the same: one array whose tasks each start ``python -c pass`` from a
Python of their own, from the line to the last result; in turns, because what else this machine does changes. Ours is
``%submit on=slurm -- python -c pass {x}`` with a grid of so many values, submitit's its ``CommandFunction`` mapped over
them (extra ``dev``; without it the peer is ``sbatch --array`` of that command alone). Also counted: how
often Slurm was asked. Besides: what Slurm itself takes, submitit's array of a function of Python, and our notebooks.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "tools")]

from conftest import set_up  # noqa: E402
from runs.notebooks import write_notebook  # noqa: E402
from slurm_server import CPUS, PROGRAMS, SlurmServer, program, slurm_server  # noqa: E402

from colab_magics import fork, submit  # noqa: E402

MEMORY = "200"
"""Megabytes of each task."""
COMMAND = [sys.executable, "-c", "pass"]
GOAL = 1.1


def main(runs: int = 200, rounds: int = 3) -> None:
    """Measure and print."""
    if any(program(name) is None for name in PROGRAMS) or os.getuid() != 0:
        print("Slurm is not here (apt-get install slurm-wlm slurm-wlm-basic-plugins munge), or this is not root.")
        return
    has_peer = importlib.util.find_spec("submitit") is not None
    with tempfile.TemporaryDirectory() as folder, slurm_server() as server:
        os.environ |= {"HOME": folder, **server.environment}
        calls = _Calls(Path(folder, "counted"))
        name = "submitit" if has_peer else "sbatch --array"
        print(f"{runs} short runs, {rounds} rounds, on a node of {CPUS} cores", flush=True)
        ratios = []
        for number in range(rounds):
            with _project(folder, f"round{number}"):
                work = [lambda: _by_submitit(runs) if has_peer else _by_sbatch(server, runs), lambda: _ours(runs)]
                turns = [0, 1] if number % 2 == 0 else [1, 0]
                took = {}
                for turn in turns:
                    calls.clear()
                    took[turn] = _seconds(work[turn])
                    if turn == 1:
                        calls.read(took[turn])
                ratios.append(took[1] / took[0])
                print(f"{name} {took[0]:.1f} s, %submit {took[1]:.1f} s: {ratios[-1]:.2f} x", flush=True)
        ratio = statistics.median(ratios)
        goal = f" (goal {GOAL} x: {'met' if ratio <= GOAL else 'MISSED'})" if has_peer else ""
        print(f"median {ratio:.2f} x{goal}")
        print(f"%submit: {calls}", flush=True)
        with _project(folder, "others"):
            print(f"sbatch --array of the command: {_seconds(lambda: _by_sbatch(server, runs)):.1f} s", flush=True)
            if has_peer:
                took_by = _seconds(lambda: _by_submitit(runs, command=False))
                print(f"submitit's array of a function: {took_by:.1f} s", flush=True)
            few = max(1, runs // 5)
            print(f"%fork, {few} notebooks: {_seconds(lambda: _notebooks(few)):.1f} s", flush=True)


@contextlib.contextmanager
def _project(folder: str, name: str) -> Iterator[None]:
    os.chdir(set_up(Path(folder, name)).root)
    try:
        yield
    finally:
        os.chdir("/")


def _seconds(work: Callable[[], None]) -> float:
    """Return how long it takes; what it and its programs print is not shown."""
    sys.stdout.flush()
    kept, nowhere = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    began = time.monotonic()
    try:
        work()
        return time.monotonic() - began
    finally:
        sys.stdout.flush()
        for number, fd in enumerate(kept, 1):
            os.dup2(fd, number)
            os.close(fd)
        os.close(nowhere)


def _by_sbatch(server: SlurmServer, runs: int) -> None:
    words = [f"--array=0-{runs - 1}", f"--mem={MEMORY}", "--output=/dev/null", f"--wrap={' '.join(COMMAND)}"]
    subprocess.run(["sbatch", "--parsable", *words], check=True, stdout=subprocess.DEVNULL)
    while server.ask("squeue", "-h"):
        time.sleep(0.2)


def _by_submitit(runs: int, *, command: bool = True) -> None:
    import submitit

    # There is no sacct here: it says so at each look, and goes by the files of the jobs.
    logging.getLogger("submitit").setLevel(logging.ERROR)
    executor = submitit.AutoExecutor(folder="submitit", cluster="slurm")
    executor.update_parameters(slurm_mem=f"{MEMORY}M", timeout_min=5, slurm_array_parallelism=runs)
    function = submitit.helpers.CommandFunction(COMMAND, verbose=False) if command else abs
    for job in executor.map_array(function, list(range(runs))):
        job.result()


def _ours(runs: int) -> None:
    values = {"x": list(range(runs))}
    submit(*COMMAND, "{x}", grid=values, on="slurm", mem=f"{MEMORY}MB", wait=True, yes=True)


def _notebooks(runs: int) -> None:
    notebook = write_notebook(Path("a.ipynb"), "pass")
    fork(n=runs, on="slurm", mem=f"{MEMORY}MB", notebook=str(notebook))


class _Calls:
    """Programs before Slurm's own on PATH, which write down that they were called.

    Parameters
    ----------
    folder : Path
        Where they are.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._said = folder / "calls"
        self._found: list[str] = []
        for name in ("sbatch", "squeue"):
            lines = ["#!/bin/bash", f"[[ $* == *--test-only* ]] || echo {name} $EPOCHREALTIME >>{self._said}"]
            (folder / name).write_text("\n".join([*lines, f'exec {program(name)} "$@"']) + "\n")
            (folder / name).chmod(0o755)
        os.environ["PATH"] = f"{folder}:{os.environ['PATH']}"
        self.clear()

    def clear(self) -> None:
        """Count from here."""
        self._said.write_text("")

    def read(self, took: float) -> None:
        """Note what was counted in so many seconds."""
        lines = [line.split() for line in self._said.read_text().splitlines()]
        asked = [float(moment) for name, moment in lines if name == "squeue"]
        submissions = sum(name == "sbatch" for name, _ in lines)
        met = len(asked) <= took + 1 and submissions == 1
        said = f"{submissions} submission, {len(asked)} questions in {took:.0f} s"
        self._found.append(f"{said} (goal 1, 1 a second: {'met' if met else 'MISSED'})")

    def __str__(self) -> str:
        return "; ".join(self._found)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:3]))
