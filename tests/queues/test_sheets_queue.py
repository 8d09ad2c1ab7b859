"""A Google Sheet keeps to what queues keep to."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from sheets_server import Server, Sheet

from colab_magics.queues.base import New, Queue, Value
from colab_magics.queues.sheets.table import STOP_RUN, STOP_WORKER

from .conftest import Open

suite = pytest.importorskip("conformance.queue_suite")
_COLUMNS = {"priority": "run_priority"}


class TestSheetsQueue(suite.QueueSuite):
    """The link of a sheet."""

    LEASE = 1.5
    VALUES: ClassVar[list[Value]] = [
        *[True, False, 0, 1, -7, 2**53, 0.1, 5e-4, 1e300, -2.5],
        *["1", "007", "1_000", "nan", " a ", "5 / 10", "ready", *suite.HOSTILE],
    ]
    REFUSED: ClassVar[list[Any]] = [
        *[object(), {1: 2}, [b"x"], [], {}, 2**53 + 1, 10**30],
        *[float("inf"), float("nan"), "true", "5,00E-04", "x" * 50_001],
    ]
    CLIENTS, RUNS = 4, 20

    @pytest.fixture
    def open(self, open: Open) -> Open:
        """That of `conftest`."""
        return open

    @pytest.fixture(autouse=True)
    def tab_of_the_test(self, tab: Sheet, server: Server) -> None:
        self.tab, self.server = tab, server

    def edit(self, queue: Queue, name: str, **cells: Any) -> None:
        with self.server.lock:
            for key, value in cells.items():
                for inner, one in (value if key == "config" else {_COLUMNS.get(key, key): value}).items():
                    self.tab.put(name, inner, one)

    def stop_run(self, queue: Queue, name: str, why: str) -> None:
        self.edit(queue, name, **{STOP_RUN: why})

    def stop_worker(self, queue: Queue, worker: str, why: str) -> None:
        with self.server.lock:
            rows = self.tab.by_name().items()
            name = next(name for name, row in rows if str(row["worker_name"]).startswith(worker))
            self.tab.put(name, STOP_WORKER, why)

    def test_hostile_names_are_names(self, queue: Queue) -> None:
        """A parameter of a sheet is a variable's name; a run's name may be anything."""
        queue.add([New({"number": number}, name=name) for number, name in enumerate(suite.HOSTILE)])
        assert self.names(queue, "w'; --") == suite.HOSTILE
        assert [row.config for row in queue.rows()] == [{"number": number} for number, _ in enumerate(suite.HOSTILE)]
