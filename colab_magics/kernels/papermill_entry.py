"""What papermill finds by its entry point: ``papermill --engine colab_magics in.ipynb out.ipynb``.

papermill loads its entry points while it is being imported. So this module imports nothing; the engine itself comes
when papermill asks it something.
"""

from __future__ import annotations

from typing import Any


class EntryEngine:
    """Hands over to `colab_magics.kernels.papermill_engine.RunEngine`; see papermill's `Engine`."""

    @classmethod
    def execute_notebook(cls, *args: Any, **kwargs: Any) -> Any:
        """Execute a notebook."""
        return cls._engine().execute_notebook(*args, **kwargs)

    @classmethod
    def nb_kernel_name(cls, *args: Any, **kwargs: Any) -> Any:
        """Return the name of a notebook's kernel."""
        return cls._engine().nb_kernel_name(*args, **kwargs)

    @classmethod
    def nb_language(cls, *args: Any, **kwargs: Any) -> Any:
        """Return a notebook's language."""
        return cls._engine().nb_language(*args, **kwargs)

    @staticmethod
    def _engine() -> Any:
        from .papermill_engine import RunEngine

        return RunEngine
