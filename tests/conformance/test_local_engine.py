"""The local engine keeps to what engines keep to."""

from __future__ import annotations

import pytest

from colab_magics import fork
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput

from .engine_suite import EngineSuite


class TestLocalEngine(EngineSuite):
    """``on=local``."""

    @pytest.fixture
    def on(self) -> str:
        return "local"

    def test_this_machine_is_one_place(self, project: Project, notebook: str) -> None:
        with pytest.raises(InvalidInput, match=r"on=local:gpu1: local is one place"):
            fork(n=1, on="local:gpu1", notebook=notebook)
