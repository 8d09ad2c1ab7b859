"""Many workers on one sheet, each a process: killed, with lost replies, sorted in mid-run, and at Google's quota."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import pytest
from conftest import poll
from sheets_server import Book, Server, Sheet
from sheets_worker import Crowd, count

from colab_magics.queues.base import DONE

from .conftest import fill

WORKERS = 8
FREE = {"per_minute": 1e6, "burst": 1000, "minute": 0.6, "timeout": 20.0, "patience": 60.0}


def table(tab: Sheet, number: int) -> list[str]:
    """Fill a tab with so many runs that are ready, and others that are none; returns the names of the former."""
    names = [f"r{index}" for index in range(number)]
    rows = [[name, "ready", None, index, f"mine {index}"] for index, name in enumerate(names)]
    rows += [[f"old{index}", "done", "old1wk", -1, f"old {index}"] for index in range(10)]
    rows += [[f"draft{index}", "draft", None, -1, f"draft {index}"] for index in range(10)]
    fill(tab, [["run_name", "status", "worker_name", "n", "remark"], [None, None, None, 0], *rows])
    return names


def check(tab: Sheet, names: list[str], crowd: Crowd, *, killed: set[int]) -> None:
    """Nothing lost, nothing double, nothing misplaced."""
    said, rows = crowd.said(), tab.by_name()
    assert {name for name in names if rows[name]["status"] != DONE} == set(), "lost"
    assert all(one["n"] == names.index(one["name"]) for one in said if one["what"] == "claimed"), "misplaced"
    assert max(count(said, "ended").values()) == 1, "ended twice"
    alive = count([one for one in said if one["pid"] not in killed], "claimed")
    assert {name: number for name, number in alive.items() if number > 1} == {}, "executed twice"
    for index, name in enumerate(names):
        row = rows[name]
        assert (row["n"], row["remark"], row["metrics.n"]) == (index, f"mine {index}", index), "misplaced"
        assert len(row["worker_name"]) == 6, row
    for kind, status, worker in (("old", "done", "old1wk"), ("draft", "draft", None)):
        for index in range(10):
            row = rows[f"{kind}{index}"]
            found = (row["status"], row["worker_name"], row["n"], row["remark"], row["run_record"])
            assert found == (status, worker, -1, f"{kind} {index}", None), "misplaced"


@pytest.fixture
def crowd(server: Server, book: Book, tmp_path: Path) -> Crowd:
    """Workers without a quota."""
    (tmp_path / "logs").mkdir()
    options = {"lease": 20.0, "seconds": 0.0, "wait": True, "limits": FREE}
    return Crowd(server.link(book, 7), tmp_path / "logs", options, server.environment(tmp_path))


def test_three_workers_share_a_sheet(tab: Sheet, server: Server, crowd: Crowd) -> None:
    """S14, shortly; ✗ lost races end the worker as if the queue were empty."""
    names = table(tab, 30)
    server.chances = {"drop": 0.03, "drop before": 0.02}
    for _ in range(3):
        crowd.start()
    assert crowd.join(90) == [0] * 3
    check(tab, names, crowd, killed=set())


@pytest.mark.long
@pytest.mark.timeout(580)
def test_eight_workers_twenty_kills_lost_replies_and_somebody_who_sorts(
    tab: Sheet, server: Server, crowd: Crowd
) -> None:
    """S14: 500 runs, 20 SIGKILLs, 5 % of replies lost, sorted all the time: 0 double, 0 lost, 0 misplaced."""
    names = table(tab, 500)
    server.chances = {"drop": 0.03, "drop before": 0.01, "500 after": 0.01, "429": 0.01}
    server.check_answers = False  # which takes longer than all the rest
    dice = random.Random(11)
    over = threading.Event()

    def meddle() -> None:
        while not over.wait(0.5):
            with server.lock:
                tab.shuffle(dice)
                tab.insert_row(dice.randrange(2, 100), [None, None, None, None, "a heading"])

    def finished() -> int:
        with server.lock:
            return sum(row["status"] == DONE for row in tab.by_name().values())

    person = threading.Thread(target=meddle)
    person.start()
    living = [crowd.start() for _ in range(WORKERS)]
    killed: set[int] = set()
    try:
        for kill in range(20):
            poll(lambda: finished() > 20 * (kill + 1), timeout=120)  # noqa: B023
            victim = living.pop(dice.randrange(len(living)))
            if victim.poll() is None:
                killed.add(victim.pid)
            crowd.kill(victim)
            living.append(crowd.start())
        codes = crowd.join(300)
    finally:
        over.set()
        person.join()
    assert len(killed) == 20
    assert sorted(codes) == [-9] * 20 + [0] * WORKERS, "no worker dead but those that were killed"
    check(tab, names, crowd, killed=killed)
    assert os.getpid() not in killed


@pytest.mark.long
@pytest.mark.timeout(300)
def test_eight_workers_at_googles_quota_neither_die_nor_starve(tab: Sheet, server: Server, crowd: Crowd) -> None:
    """✗ 15–17 calls a run, 8 workers die of quota in 14 s. A minute is six seconds here, Google's and the workers'."""
    names = table(tab, 160)
    server.quota, server.minute, server.check_answers = 60, 6.0, False
    crowd.options = {**crowd.options, "limits": {"minute": 6.0}, "wait": False}
    began = time.monotonic()
    for _ in range(WORKERS):
        crowd.start()
    assert crowd.join(240) == [0] * WORKERS
    check(tab, names, crowd, killed=set())
    by_worker = {one["worker"]: 0 for one in crowd.said()}
    for one in crowd.said():
        by_worker[one["worker"]] += one["what"] == "ended"
    assert min(by_worker.values()) >= 0.25 * len(names) / WORKERS, by_worker
    print(f"{(server.calls['read'] + server.calls['write']) / len(names):.2f} calls a run", server.calls)
    print(f"{len(names) / (time.monotonic() - began) * server.minute:.1f} runs a minute")
