"""Shells for the tests of the faces: one in this process, and real kernels spoken to as front ends do."""

from __future__ import annotations

import asyncio
import os
import sys
import types
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from fronts import ROOT, Front
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from colab_magics.verbs import call_only, subcommand


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """Make a shell in this process, without our extension."""
    config = Config()
    config.HistoryManager.enabled = False
    config.HistoryManager.hist_file = ":memory:"
    before = dict(sys.modules)
    ip = InteractiveShell.instance(config=config)
    yield ip
    ip.history_manager.end_session()
    InteractiveShell.clear_instance()
    sys.modules["__main__"] = before["__main__"]


@pytest.fixture
def toy_sync(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Put a verb of known options in place of ``sync``; returns the calls that it gets."""
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    @call_only("delete", "force")
    def sync(  # noqa: D417 - a docstring of a group and nothing else
        source: str | None = None,
        /,
        *more: str,
        to: str | None = None,
        every: str | float = "30s",
        max_failures: int | None = None,
        restore: Literal["all", "light", "none"] = "all",
        delete: bool = False,
        force: bool = False,
        quick: bool = False,
    ) -> str:
        """Keep a folder safe.

        Parameters
        ----------
        source : str, optional
            The folder.
        to, every : str
            Where, and how often; as in ``%sync every=5m``.
        """
        values = {key: value for key, value in locals().items() if key not in ("source", "more", "calls")}
        calls.append(("sync", (source, *more) if source is not None else (), values))
        return "synced"

    @subcommand(sync)
    def now(*, timeout: float = 60.0) -> str:
        """Sync now."""
        calls.append(("now", (), {"timeout": timeout}))
        return "now"

    @subcommand(sync)
    def stop_all() -> None:
        """Stop."""
        calls.append(("stop_all", (), {}))

    module = types.ModuleType("colab_magics.verbs.sync")
    module.sync = sync  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "colab_magics.verbs.sync", module)
    return calls


@pytest.fixture
def start_kernel(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Front]]:
    """Start real kernels in the test's folder; the extension is on their path, not loaded."""
    from jupyter_client.manager import KernelManager

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # jupyter_client 7 (Colab's) takes the thread's loop, and Python 3.13 wants somebody to have made one.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    running: list[tuple[Any, Any]] = []

    def start(**env: str) -> Front:
        # named as Jupyter's servers name it: the name holds the kernel's id
        connection = tmp_path_factory.mktemp("connection") / f"kernel-{uuid.uuid4()}.json"
        manager = KernelManager(kernel_name="python3", connection_file=str(connection))
        manager.start_kernel(cwd=str(tmp_path), env={**os.environ, **env})
        client = manager.client()
        running.append((manager, client))
        client.start_channels()
        client.wait_for_ready(timeout=60)
        return Front(client, manager.provisioner.pid)

    yield start
    for manager, client in running:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def front(start_kernel: Callable[..., Front]) -> Front:
    """A front end with a kernel into which the extension is loaded."""
    one = start_kernel()
    assert one.run("%load_ext colab_magics").status == "ok"
    return one
