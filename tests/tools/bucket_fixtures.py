"""Servers of object stores as fixtures: ``pytest_plugins = ("bucket_fixtures",)``.

``server`` runs a test on each of them: rclone and moto, and on Ceph's gateway with ``make test-long``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from buckets_server import SERVERS, Server
from ceph_gateway import ceph_server


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """rclone, which keeps objects as files, and checks signatures."""
    with SERVERS["rclone"](tmp_path_factory.mktemp("rclone")) as running:
        yield running


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """moto, which takes any key."""
    with SERVERS["moto"](tmp_path_factory.mktemp("moto")) as running:
        yield running


@pytest.fixture(scope="session")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Ceph's gateway, which people run."""
    with ceph_server(tmp_path_factory.mktemp("ceph")) as running:
        yield running


@pytest.fixture(params=[*SERVERS, pytest.param("ceph", marks=pytest.mark.long)])
def server(request: pytest.FixtureRequest) -> Server:
    """A server of each kind."""
    found: Server = request.getfixturevalue(request.param)
    return found
