"""Runs on two machines behind real servers of ssh keep to what engines keep to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import Box, boxes

from .engine_suite import EngineSuite


@pytest.fixture
def two(tmp_path: Path, home: Path) -> Iterator[list[Box]]:
    """Two machines, alpha and beta."""
    with boxes(tmp_path, home) as made:
        yield made


class TestSsh(EngineSuite):
    """``on=ssh:alpha,beta``."""

    @pytest.fixture
    def on(self, two: list[Box]) -> str:
        return "ssh:alpha,beta"
