"""Canaries: what private_api.py and ready_kernel.py rely on is still there, in every new IPython and ipykernel."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest
import zmq
from ipykernel.iostream import OutStream
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.builtin_trap import BuiltinTrap
from IPython.core.display_trap import DisplayTrap
from IPython.core.interactiveshell import InteractiveShell

from colab_magics.engines import forking
from colab_magics.kernels import private_api, ready_kernel


@pytest.mark.parametrize(
    ("uses", "where"), [(uses, where) for uses in (private_api.USES, ready_kernel.USES, forking.USES) for where in uses]
)
def test_the_parts_that_they_use_are_there(uses: dict[str, tuple[str, ...]], where: str) -> None:
    try:
        owner = importlib.import_module(where)
    except ModuleNotFoundError:
        module, _, name = where.rpartition(".")
        owner = getattr(importlib.import_module(module), name)
    missing = [part for part in uses[where] if not hasattr(owner, part)]
    assert not missing, (
        f"{where} has lost {missing}: see kernels/private_api.py, ready_kernel.py and engines/forking.py"
    )


def test_the_reply_to_a_cell_carries_what_was_shown_last() -> None:
    assert "shell._last_traceback" in inspect.getsource(IPythonKernel.do_execute)
    assert "self._last_traceback = stb" in inspect.getsource(ZMQInteractiveShell._showtraceback)


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
    assert ready_kernel._OnceOnly in (order := ready_kernel.ReadyApp.__mro__)[order.index(IPKernelApp) + 1 :]
    source = inspect.getsource(IPythonKernel.__init__)
    assert source.count("sys.modules") == source.count("_kernel_modules = [")


def test_a_stream_says_what_waits_to_be_sent() -> None:
    source = inspect.getsource(OutStream)
    for name in ("_flush_pending", "_subprocess_flush_pending"):
        assert f"self.{name} = True" in source, name
        assert f"self.{name} = False" in inspect.getsource(OutStream._flush), name
    assert "self.pub_thread.schedule(self._flush)" in inspect.getsource(OutStream.flush)
    for name in ("_fid", "_should_watch", "_original_stdstream_copy", "_exc"):
        assert f"self.{name}" in inspect.getsource(OutStream._watch_pipe_fd), name
    assert "watch_fd_thread = threading.Thread(target=self._watch_pipe_fd)" in source
    assert "builtin_trap" in inspect.getsource(InteractiveShell.run_cell_async)


def test_a_kernel_finds_the_shell_that_there_is() -> None:
    source = inspect.getsource(IPythonKernel.__init__)
    assert "shell_class.instance(" in source, "a forked kernel would no longer take the notebook's shell over"
    for name in ("init_path", "init_gui_pylab", "init_extensions", "init_code"):
        assert f"self.{name}()" in inspect.getsource(IPKernelApp.initialize), f"{name} would run again in a fork"
    for trap in (BuiltinTrap, DisplayTrap):
        assert "_nested_level" in inspect.getsource(trap)
