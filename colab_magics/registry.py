"""Backends by name: loaded when first used, with the mend when a package is missing.

A backend is one file plus one line in the registry of its kind; other packages add theirs by an entry point.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import Unavailable, did_you_mean

if TYPE_CHECKING:
    import importlib.metadata


class Registry:
    """Names of backends and where their classes stand.

    Parameters
    ----------
    kind : str
        What they are, for messages: ``"engine"``.
    backends : mapping of str to str
        Name → ``"module:Class"``.
    extras : mapping of str to str
        Name → extra of this package that brings what the backend imports.
    """

    def __init__(self, kind: str, backends: Mapping[str, str], extras: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._backends = dict(backends)
        self._extras = dict(extras or {})

    def names(self) -> list[str]:
        """Return all known names, entry points of group ``colab_magics.<kind>`` among them."""
        return sorted({*self._backends, *(point.name for point in self._points())})

    def load(self, name: str) -> Any:
        """Import a backend's class.

        Raises
        ------
        InvalidInput
            For an unknown name; lists the known ones.
        Unavailable
            When a package is missing; says how to install it.
        """
        target = self._backends.get(name)
        if target is None:
            for point in self._points():
                if point.name == name:
                    return point.load()
            raise did_you_mean(name, self.names(), kind=self.kind)
        module, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            extra = self._extras.get(name)
            if extra is None:
                raise
            raise Unavailable(
                f"The {self.kind} {name!r} needs the package {error.name!r}, which is not installed.",
                f"pip install 'colab-magics[{extra}]'",
            ) from error

    def _points(self) -> importlib.metadata.EntryPoints:
        import importlib.metadata  # each run's process would pay for it

        return importlib.metadata.entry_points(group=f"colab_magics.{self.kind}")
