"""A real PostgreSQL, a real Slurm and a real Ray for the tests of a session."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from postgres_server import PostgresServer, postgres_server
from ray_server import RayServer, ray_server
from slurm_server import SlurmServer, slurm_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server; each test has tables of its own."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[SlurmServer]:
    """A cluster of one node."""
    with slurm_server() as server:
        yield server


@pytest.fixture
def slurm(cluster: SlurmServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmServer]:
    """The cluster, with nothing in its queue, found by this process and those that it starts."""
    for name in [name for name in os.environ if name.startswith(("SLURM_", "SBATCH_", "SQUEUE_"))]:
        monkeypatch.delenv(name)
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    yield cluster
    cluster.end_jobs()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayServer]:
    """A cluster of two nodes."""
    pytest.importorskip("ray")
    with ray_server() as server:
        yield server


@pytest.fixture
def ray(ray_cluster: RayServer, monkeypatch: pytest.MonkeyPatch) -> RayServer:
    """The cluster, found by this process and those that it starts."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    for name, value in ray_cluster.environment.items():
        monkeypatch.setenv(name, value)
    return ray_cluster
