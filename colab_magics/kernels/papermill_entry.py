"""What papermill finds by its entry point: ``papermill --engine colab_magics in.ipynb out.ipynb``.

papermill loads its entry points while it is being imported. So this module imports nothing that needs papermill whole;
the engine itself comes when a notebook is executed.
"""

from __future__ import annotations

from typing import Any

from papermill.engines import Engine


class EntryEngine(Engine):  # type: ignore[misc]
    """Hands over to `colab_magics.kernels.papermill_engine.RunEngine`."""

    @classmethod
    def execute_notebook(cls, *args: Any, **kwargs: Any) -> Any:
        """Execute a notebook; see papermill's `Engine`."""
        from .papermill_engine import RunEngine

        return RunEngine.execute_notebook(*args, **kwargs)
