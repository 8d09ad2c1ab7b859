"""Canaries: what private_api.py relies on in IPython, ipykernel and Python is still there, on every new release."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest
import zmq
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from IPython.core.builtin_trap import BuiltinTrap
from IPython.core.display_trap import DisplayTrap

from colab_magics.kernels import private_api


@pytest.mark.parametrize("where", private_api.USES)
def test_the_parts_that_it_uses_are_there(where: str) -> None:
    try:
        owner = importlib.import_module(where)
    except ModuleNotFoundError:
        module, _, name = where.rpartition(".")
        owner = getattr(importlib.import_module(module), name)
    missing = [part for part in private_api.USES[where] if not hasattr(owner, part)]
    assert not missing, f"{where} has lost {missing}: see kernels/private_api.py"


def test_the_output_socket_is_made_by_init_iopub_from_the_context_that_it_gets() -> None:
    source = inspect.getsource(IPKernelApp.init_iopub)
    assert list(inspect.signature(IPKernelApp.init_iopub).parameters) == ["self", "context"]
    assert "context.socket(zmq." in source, "the high-water mark no longer reaches the publisher: output may be lost"


def test_a_contexts_options_are_its_sockets_options() -> None:
    with zmq.Context() as context:
        context.setsockopt(zmq.SNDHWM, 0)
        with context.socket(zmq.XPUB) as socket:
            assert socket.getsockopt(zmq.SNDHWM) == 0


def test_a_kernels_application_reads_options_before_all_else_and_lists_modules_once() -> None:
    calls = re.findall(r"super\(\)\.initialize\(|self\.init_\w+\(", inspect.getsource(IPKernelApp.initialize))
    assert "super().initialize(" in calls[:2], "a kernel that was made ready would read its options again"
    assert private_api._OnceOnly in private_api.ReadyApp.__mro__[private_api.ReadyApp.__mro__.index(IPKernelApp) + 1 :]
    source = inspect.getsource(IPythonKernel.__init__)
    assert source.count("sys.modules") == source.count("_kernel_modules = [")


def test_a_kernel_finds_the_shell_that_there_is() -> None:
    source = inspect.getsource(IPythonKernel.__init__)
    assert "shell_class.instance(" in source, "a forked kernel would no longer take the notebook's shell over"
    for name in ("init_path", "init_gui_pylab", "init_extensions", "init_code"):
        assert f"self.{name}()" in inspect.getsource(IPKernelApp.initialize), f"{name} would run again in a fork"
    for trap in (BuiltinTrap, DisplayTrap):
        assert "_nested_level" in inspect.getsource(trap)
