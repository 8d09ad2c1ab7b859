"""Canaries: what private_api.py relies on in IPython, ipykernel and Python is still there, on every new release."""

from __future__ import annotations

import importlib
import inspect

import pytest
import zmq
from ipykernel.kernelapp import IPKernelApp

from colab_magics.kernels import private_api


@pytest.mark.parametrize("where", private_api.USES)
def test_the_parts_that_it_uses_are_there(where: str) -> None:
    module, _, name = where.rpartition(".")
    owner = importlib.import_module(where) if not module else getattr(importlib.import_module(module), name)
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
