"""Claims and ends a second of queues in SQLite and PostgreSQL, and how fairly workers share them, beside Optuna.

    python tests/bench/queue_sql.py [--workers 8] [--runs 4000] [--peer-runs 100] [--rounds 3]

So many processes empty one table, and a run takes no time. A pair is one claim and one end: in one exchange, as the
scheduler of ``%fork runs=URL`` asks for it, or in two calls, as a script may. Optuna's is one ``ask`` of trials that
were enqueued, and one ``tell``, in the same databases. Fair is a worker's share of the runs that is the same for all;
shown is the least share, in the middle of the rounds. PostgreSQL has every commit on its disk; SQLite is in WAL mode.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import multiprocessing
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tools")]
from measuring import median, show  # noqa: E402 (the paths come first)

GOAL, FAIR = 1000, 0.25


# What a worker does, in a process of its own: it returns what it has got


def one_exchange(address: str, name: str, begin: Callable[[], Any]) -> list[str]:
    """Our queue, an end and the next claim at once."""
    from colab_magics.queues import open_queue
    from colab_magics.queues.base import End, new_ticket

    queue, ends, got = open_queue(address), [], []
    queue.heartbeat([])
    queue.exchange(name, ticket=new_ticket())
    begin()
    while claims := queue.exchange(name, ticket=new_ticket(), ends=ends, number=1).claims:
        got.append(claims[0].uid)
        ends = [End(claims[0])]
    queue.close()
    return got


def two_calls(address: str, name: str, begin: Callable[[], Any]) -> list[str]:
    """Our queue, a claim and then an end."""
    from colab_magics.queues import open_queue
    from colab_magics.queues.base import End, new_ticket

    queue, got = open_queue(address), []
    queue.exchange(name, ticket=new_ticket())
    begin()
    while claim := queue.claim(name):
        got.append(claim.uid)
        queue.finish(End(claim))
    queue.close()
    return got


def optuna(address: str, name: str, begin: Callable[[], Any]) -> list[str]:
    """Optuna's study, of trials that were enqueued."""
    from optuna.exceptions import UpdateFinishedTrialError
    from optuna.trial import TrialState

    study, got = optuna_study(address), []
    enqueued = len(study.get_trials(deepcopy=False))
    begin()
    while True:
        trial = study.ask()
        if trial.number >= enqueued:  # one of its own choice: no more wait
            study.tell(trial, state=TrialState.PRUNED)
            return got
        got.append(str(trial.number))
        try:
            trial.suggest_int("n", 0, 10**6)
            study.tell(trial, 0.0)
        except (UpdateFinishedTrialError, ValueError) as error:  # another worker had it as well, and told it first
            if "COMPLETE" not in str(error) and "finished" not in str(error):
                raise


def optuna_study(address: str) -> Any:
    """Return the study, made where it is not there."""
    import optuna as package

    package.logging.set_verbosity(logging.ERROR)
    storage = package.storages.RDBStorage(address)
    sampler = package.samplers.RandomSampler()
    return package.create_study(storage=storage, study_name="bench", sampler=sampler, load_if_exists=True)


# Filling a table, and emptying it together


def fill(address: str, runs: int) -> None:
    """Make our queue, with runs."""
    from colab_magics.queues import open_queue
    from colab_magics.queues.base import New

    queue = open_queue(address)
    queue.create()
    queue.add([New({"lr": 0.1, "n": number}) for number in range(runs)])
    queue.close()


def fill_optuna(address: str, runs: int) -> None:
    """Make Optuna's study, with trials."""
    study = optuna_study(address)
    for number in range(runs):
        study.enqueue_trial({"n": number})


def worker(way: str, address: str, name: str, gate: Any, results: Any) -> None:
    """Wait until all are there, then work."""
    began = []

    def begin() -> None:
        gate.wait(120)
        began.append(time.monotonic())

    got = globals()[way](address, name, begin)
    results.put((got, began[0], time.monotonic()))


def together(way: str, address: str, workers: int) -> tuple[float, float, int]:
    """Empty a table; returns runs a second, the least share of a worker beside the fair one, and double claims."""
    context = multiprocessing.get_context("spawn")
    gate, results = context.Barrier(workers), context.Queue()
    crew = [
        context.Process(target=worker, args=(way, address, f"w{n}", gate, results), daemon=True) for n in range(workers)
    ]
    for one in crew:
        one.start()
    told = [results.get(timeout=90) for _ in crew]
    for one in crew:
        one.join()
    claimed = Counter(run for got, _, _ in told for run in got)
    took = max(end for _, _, end in told) - min(began for _, began, _ in told)
    least = min(len(got) for got, _, _ in told) / (claimed.total() / workers)
    return len(claimed) / took, least, claimed.total() - len(claimed)


def main() -> None:
    """Measure, in turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("workers", 8), ("runs", 4000), ("peer-runs", 100), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        made: dict[str, Callable[[], str]] = {"SQLite": lambda: f"sqlite:///{folder}/{uuid.uuid4().hex}.db"}
        from postgres_server import postgres_server, program

        if program("initdb") and program("postgres"):
            server = stack.enter_context(postgres_server(durable=True))
            made["PostgreSQL"] = lambda: server.address(f"t_{uuid.uuid4().hex[:12]}")
        else:
            print("PostgreSQL is not installed here")
        for database, address in made.items():
            measure(database, address, options)


def measure(database: str, address: Callable[[], str], options: argparse.Namespace) -> None:
    """Measure all ways in one kind of database."""
    told: dict[str, list[tuple[float, float, int]]] = {"one_exchange": [], "two_calls": [], "optuna": []}
    if importlib.util.find_spec("optuna") is None:
        print("Optuna is not installed here: no peer")
        del told["optuna"]
    for _ in range(options.rounds):
        for way, figures in told.items():
            where = address()
            if way == "optuna":
                # A study of its own each time, so that it is never slowed down by earlier ones.
                where = peer_address(where)
                fill_optuna(where, options.peer_runs)
            else:
                fill(where, options.runs)
            figures.append(together(way, where, options.workers))
    print(f"{database}, {options.workers} workers")
    peer = median([pairs for pairs, _, _ in told["optuna"]]) if "optuna" in told else None
    for way, figures in told.items():
        pairs, least = (median([one[at] for one in figures]) for at in (0, 1))
        what = {"one_exchange": "end and claim at once", "two_calls": "claim, then end", "optuna": "Optuna: ask, tell"}[
            way
        ]
        shown = f"{pairs:,.0f} pairs/s, {sum(one[2] for one in figures)} double"
        goal = f"{GOAL}/s" if way != "optuna" and database == "SQLite" else ""
        show(what, shown, pairs / peer if peer and way != "optuna" else None, goal)
        show("  the least share of a worker, 1 is fair", f"{least:.2f}", None, f"{FAIR:g}" if way != "optuna" else "")


def peer_address(address: str) -> str:
    """Return a fresh place of the same kind, as Optuna names it."""
    if address.startswith("sqlite"):
        return address
    import psycopg

    plain = address.partition("?")[0]
    name = f"optuna_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(plain, autocommit=True) as db:
        db.execute(f"CREATE DATABASE {name}".encode())
    return plain.rpartition("/")[0].replace("postgresql://", "postgresql+psycopg://") + f"/{name}"


if __name__ == "__main__":
    main()
