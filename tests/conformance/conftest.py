"""A real PostgreSQL, a real Slurm and a real Ray for the tests of a session, and an API server of Kubernetes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from postgres_server import PostgresServer, postgres_server
from ray_server import RayServer, ray_server
from slurm_server import SlurmServer, slurm_server

if TYPE_CHECKING:
    from kubernetes_server import KubernetesServer


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
    _use(cluster.environment, ("SLURM_", "SBATCH_", "SQUEUE_"), monkeypatch)
    yield cluster
    cluster.end_jobs()


@pytest.fixture
def own_slurm(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlurmServer]:
    """A cluster of this test alone, whose node has two GPUs, found as `slurm` is."""
    with slurm_server(gpus=2) as server:
        _use(server.environment, ("SLURM_", "SBATCH_", "SQUEUE_"), monkeypatch)
        yield server


def _use(environment: Mapping[str, str], foreign: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process, and those that it starts, find a cluster and no other."""
    for name in [name for name in os.environ if name.startswith(foreign)]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayServer]:
    """A cluster of two nodes."""
    pytest.importorskip("ray")
    with ray_server() as server:
        yield server


@pytest.fixture
def ray(ray_cluster: RayServer, monkeypatch: pytest.MonkeyPatch) -> RayServer:
    """The cluster, found by this process and those that it starts."""
    _use(ray_cluster.environment, ("RAY_",), monkeypatch)
    return ray_cluster


@pytest.fixture
def kubernetes(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesServer]:
    """A cluster whose pods are processes here, found by this process and those that it starts."""
    from kubernetes_server import check_answers, kubernetes_server  # its packages are not those of the other tests

    (tmp_path / "pods").mkdir()
    with kubernetes_server(tmp_path / "pods", home) as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
        yield server
        check_answers(server)
