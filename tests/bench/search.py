"""What a search costs beside Optuna's own ``study.optimize``: choosing a point, and what a worker waits for it.

``python tests/bench/search.py [RUNS]``: so many points of five parameters, chosen by both; then as a scheduler does it,
with each run's folder and files. Goals: 20 ms a point, and 5 % of a worker's time where runs take one second.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import optuna

from colab_magics import process
from colab_magics.records.names import METRICS, RECORD, SCHEDULER, SEARCHED, STATE
from colab_magics.runs.search import space as spaces
from colab_magics.runs.search.source import Searched
from colab_magics.runs.search.study import Rules, Study, Tried

POINT, SHARE = 0.02, 0.05
WRITTEN = {f"x{i}": "uniform(-1, 1)" for i in range(4)} | {"depth": "int(1, 12)"}


def value(point: dict[str, Any]) -> float:
    """Return what a run comes to."""
    return float(sum(point[f"x{i}"] ** 2 for i in range(4)) + abs(point["depth"] - 5))


def ours(runs: int) -> list[float]:
    """Return the processor time of each point that the study chooses."""
    study, took = Study(spaces.read(WRITTEN), Rules(["min:loss"], seed=1)), []
    for _ in range(runs):
        began = time.process_time()
        one = study.ask()
        assert one is not None
        study.tell(Tried(one.number, one.parameters, one.told, "done", [value(dict(one.parameters))]))
        took.append(time.process_time() - began)
    return took


def theirs(runs: int) -> list[float]:
    """Return that of Optuna alone."""
    stamps = [time.process_time()]

    def objective(trial: optuna.Trial) -> float:
        point: dict[str, Any] = {f"x{i}": trial.suggest_float(f"x{i}", -1, 1) for i in range(4)}
        point["depth"] = trial.suggest_int("depth", 1, 12)
        stamps.append(time.process_time())
        return value(point)

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1)).optimize(objective, runs)
    return [after - before for before, after in itertools.pairwise(stamps)]


def source(runs: int) -> list[float]:
    """Return the time from a run's end to the next one's folder, as a scheduler's source takes it, files and all."""
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder, "data_job", "many")
        template = job / SCHEDULER / SEARCHED
        template.mkdir(parents=True)
        process.write_json(template / RECORD, {"index": 0, "payload": {"kind": "command", "argv": ["true"]}})
        rules = {"goals": ["min:loss"], "sampler": "tpe", "seed": 1, "stop": "early", "parallel": False}
        one = Searched(job, {"space": WRITTEN, "rules": rules, "before": [], "runs": runs})
        took = []
        for _ in range(runs):
            began = time.perf_counter()
            (run,) = one.take(1)
            chosen = time.perf_counter() - began
            line = {"step": 0, "values": {"loss": value(dict(run.parameters))}, "attempt": 1, "time": time.time()}
            (run.folder / METRICS).write_text(process.as_json(line).replace("\n", "") + "\n")
            now = time.time()
            state = {"attempt": 1, "phase": "done", "started": now, "ended": now, "beat": now}
            process.write_json(run.folder / STATE, state)
            began = time.perf_counter()
            one.tend()
            one.settle(run, run.status(is_home=True))
            took.append(chosen + time.perf_counter() - began)
        return took


def main(runs: int = 60) -> None:
    """Measure and print."""
    mine, alone = statistics.mean(ours(runs)), statistics.mean(theirs(runs))
    print(
        f"{runs} points, the mean: ours {1000 * mine:.2f} ms, Optuna's own optimize {1000 * alone:.2f} ms (processor)"
    )
    whole = source(runs)[1:]
    mean, most = statistics.mean(whole), max(whole)
    print(
        f"with the run's folder: mean {1000 * mean:.2f} ms, longest {1000 * most:.2f} ms (goal {1000 * POINT:g}: ",
        end="",
    )
    print(f"{_met(mean <= POINT)}); {100 * mean:.2f} % of a worker with runs of 1 s (goal {100 * SHARE:g}: ", end="")
    print(f"{_met(mean <= SHARE)})")


def _met(good: bool) -> str:
    return "met" if good else "MISSED"


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:2]))
