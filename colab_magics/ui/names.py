"""The names of the user's own code: the variables that a verb reads and assigns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Names(Protocol):
    """A face with a namespace."""

    def set_variables(self, values: Mapping[str, Any]) -> None:
        """Assign variables in the user's namespace."""

    def get_variable(self, name: str) -> Any:
        """Read a variable of the user's namespace; None when there is none."""

    def injected_parameters(self) -> dict[str, Any] | None:
        """Parameters that papermill injected into this kernel; None when it did not."""


class NoNames:
    """A script's: a verb reads and assigns none of its variables."""

    def set_variables(self, values: Mapping[str, Any]) -> None:
        """Nothing to do: a script has the handle that the verb returns."""

    def get_variable(self, name: str) -> Any:
        return None

    def injected_parameters(self) -> dict[str, Any] | None:
        return None
