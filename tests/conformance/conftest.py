"""A real PostgreSQL for the tests of a session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server; each test has tables of its own."""
    with postgres_server() as server:
        yield server
