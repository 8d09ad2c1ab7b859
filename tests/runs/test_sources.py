"""Where a scheduler takes its runs from: it asks for as many as there is room for, and does not know how many come."""

from __future__ import annotations

import threading
from pathlib import Path

from conftest import poll

from colab_magics.checkout.project import Project
from colab_magics.engines.base import Work
from colab_magics.engines.local import LocalEngine
from colab_magics.records.run import Run, runs_of
from colab_magics.records.status import Status
from colab_magics.runs import feeding, scheduler, sources
from colab_magics.runs.runner import Runner

from .folders import leave_run


class Table(sources.Source):
    """Runs that come one by one, as in a table that others fill."""

    def __init__(self) -> None:
        self.rows: list[Run] = []
        self.asked: list[int] = []
        self.ended: dict[int, str] = {}
        self.closed = False

    def take(self, number: int) -> list[Run]:
        self.asked.append(number)
        return [self.rows.pop(0) for _ in range(min(number, len(self.rows)))]

    def settle(self, run: Run, status: Status) -> None:
        self.ended[run.index] = status.phase

    def exhausted(self) -> bool:
        return self.closed and not self.rows

    def cancel(self, reason: str) -> None:
        self.rows.clear()
        self.closed = True


def fed(job: Path, table: Table, **feed: int) -> threading.Thread:
    """Feed an engine from a table, in a thread: its runs are programs."""
    engine = LocalEngine()
    engine.prepare(Work(job, Runner()))
    (job / ".scheduler").mkdir(parents=True, exist_ok=True)
    work = feeding.Scheduler(job, engine, table, scheduler.Feed(**feed)).run
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_runs_that_come_later_are_executed_and_each_is_settled_once(project: Project) -> None:
    table = Table()
    thread = fed(project.data_job, table, workers=2, retries=1)
    for index, cell in enumerate(("1", "1 / 0", "1")):
        table.rows.append(leave_run(project.data_job, index, None, cells=(cell,)))
        poll(lambda index=index: index in table.ended, timeout=60)  # type: ignore[misc]
    assert thread.is_alive(), "more may come"
    table.closed = True
    thread.join(30)
    assert table.ended == {0: "done", 1: "failed", 2: "done"}
    assert Run.load(project.data_job / "sub_job_001").attempt == 2, "it was settled when no attempt was left"
    assert max(table.asked) == 2, "never more than there is room for"


def test_a_run_that_comes_again_while_it_is_tried_again_is_executed_once(project: Project) -> None:
    table, cell = Table(), "open(data_job + '/count', 'a').write('x')\nimport time; time.sleep(0.5)\n1 / 0"
    run = leave_run(project.data_job, 0, None, cells=(cell,))
    table.rows = [run, run, run]
    thread = fed(project.data_job, table, workers=2, retries=1)
    poll(lambda: table.ended == {0: "failed"}, timeout=60)
    table.closed = True
    thread.join(30)
    assert (run.folder / "count").read_text() == "xx", "once, and once again"


def test_what_was_not_taken_is_cancelled_by_the_source(project: Project) -> None:
    table = Table()
    table.rows = [leave_run(project.data_job, index, None, cells=("1 / 0",)) for index in range(3)]
    fed(project.data_job, table, workers=1, max_failures=1).join(60)
    assert table.ended == {0: "failed"}
    assert table.closed
    assert [run.status().phase for run in runs_of(project.data_job)] == ["failed", "waiting", "waiting"]
