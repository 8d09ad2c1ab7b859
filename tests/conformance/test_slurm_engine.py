"""Runs on a real Slurm of one node keep to what engines keep to, and to what clusters do."""

from __future__ import annotations

import pytest
from slurm_server import SlurmServer

from .engine_suite import EngineSuite


@pytest.fixture
def on(slurm: SlurmServer) -> str:
    """The cluster."""
    return "slurm"


class TestSlurm(EngineSuite):
    """``on=slurm``."""

    @pytest.fixture
    def on(self, slurm: SlurmServer) -> str:
        return "slurm"
