"""What runs execute. A payload is one file plus one line here, or an entry point of group ``colab_magics.payload``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from ..errors import InvalidInput
from ..registry import Registry
from .base import NOTEBOOK, Payload, Unknown, kind_of

PAYLOADS = Registry(
    "payload",
    {NOTEBOOK: "colab_magics.payloads.notebook:Notebook", "command": "colab_magics.payloads.command:Command"},
)


def payload_of(record: Mapping[str, Any]) -> Payload:
    """Return what a run executes, by its record; a notebook where that says nothing, `Unknown` for other kinds."""
    kind = kind_of(record)
    try:
        return cast("Payload", PAYLOADS.load(kind)())
    except InvalidInput:
        return Unknown(kind)
