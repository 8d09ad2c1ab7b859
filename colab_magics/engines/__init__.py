"""Where runs execute. An engine is one file plus one line here, or an entry point of group ``colab_magics.engine``."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ..records.run import LOCAL
from ..registry import Registry

if TYPE_CHECKING:
    from .base import Engine

ENGINES = Registry(
    "engine", {LOCAL: "colab_magics.engines.local:LocalEngine", "ssh": "colab_magics.engines.ssh.engine:SshEngine"}
)


def open_engine(on: str) -> Engine:
    """Return the engine that ``on=`` names: a name, and after a colon where.

    Raises
    ------
    InvalidInput
        For an unknown name, or words after the colon that it cannot read.
    Unavailable
        When a package is missing.
    """
    name, _, where = on.partition(":")
    return cast("Engine", ENGINES.load(name)(where))
