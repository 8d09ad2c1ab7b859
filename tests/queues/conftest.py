"""A stand-in for Google Sheets for each test of a queue there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import google.auth.credentials
import pytest
from sheets_server import Book, Server, Sheet, sheets_server

from colab_magics.queues.sheets.budget import Limits
from colab_magics.queues.sheets.queue import SheetsQueue

FAST = Limits(per_minute=1e6, burst=1000, minute=0.6, timeout=5.0, patience=5.0)
"""For servers without a quota; pauses a hundred times as short."""

Open = Callable[..., SheetsQueue]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server that this process uses."""
    with sheets_server() as running:
        running.set(monkeypatch, tmp_path)
        # google-auth asks Google at home, in a thread, what a service account may do where.
        kind = getattr(google.auth.credentials, "CredentialsWithRegionalAccessBoundary", None)
        if kind is not None:
            monkeypatch.setattr(kind, "_is_regional_access_boundary_lookup_required", lambda self: False)
        yield running


@pytest.fixture
def tab() -> Sheet:
    """An empty tab; `runs_in` fills one."""
    return Sheet(7, "my runs'")


@pytest.fixture
def book(server: Server, tab: Sheet) -> Book:
    """A spreadsheet with that tab behind another one."""
    return server.add(Book([Sheet(0, "notes", [["not a table"]]), tab]))


@pytest.fixture
def open(server: Server, book: Book) -> Iterator[Open]:
    """Return a function that opens it, by a client of its own."""
    opened: list[SheetsQueue] = []

    def one(lease: float = 60.0, gid: int | None = 7, limits: Limits = FAST) -> SheetsQueue:
        opened.append(SheetsQueue(server.link(book, gid), lease=lease, limits=limits))
        return opened[-1]

    yield one
    for queue in opened:
        queue.close()


def fill(tab: Sheet, rows: Sequence[Sequence[Any]]) -> None:
    """Write into an empty tab, from A1."""
    tab.rows = Sheet(tab.gid, tab.title, rows).rows
