"""The one place that touches private parts of IPython and ipykernel; tests/kernels/test_private_api.py watches them.

It is also the program that a run's kernel is: ``python private_api.py -f CONNECTION_FILE`` in place of
``python -m ipykernel_launcher``. It stands alone, imports nothing of colab_magics, and so runs under any interpreter
that has ipykernel, and leaves nothing in the run's ``sys.modules`` that a stock kernel would not have.

What it changes
---------------
No output is lost: ipykernel's publisher drops messages above 1000 that a slow reader has not fetched. Here nothing is
dropped; what waits, waits in the kernel's memory.

No stalls at the end: at exit ipykernel stops its output thread while the control thread may still wait for it, for
seconds. Here the control thread ends first.
"""

from __future__ import annotations

import os.path
import sys

if __name__ == "__main__" and sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
    # The folder of this file must not shadow anything; ipykernel puts the working folder where notebooks expect it.
    del sys.path[0]

import atexit
import threading
from typing import Any

import zmq
from ipykernel.kernelapp import IPKernelApp

USES = {
    "ipykernel.kernelapp.IPKernelApp": ("init_iopub", "initialize", "start", "control_thread", "init_signal"),
    "ipykernel.control.ControlThread": ("stop", "join"),
    "threading": ("_shutdown",),
    "atexit": ("_run_exitfuncs",),
}
"""What this module relies on, for the canary tests."""


class KernelApp(IPKernelApp):  # type: ignore[misc]
    """ipykernel's application with output that is not lost and an exit that does not stall."""

    name = "ipython-kernel"

    def init_iopub(self, context: Any) -> None:
        """Publish without a limit on what waits."""
        # A context's options are those of the sockets that it makes: here the one that publishes.
        context.setsockopt(zmq.SNDHWM, 0)
        super().init_iopub(context)

    def initialize(self, argv: list[str] | None = None) -> None:
        """Prepare the kernel."""
        super().initialize(argv)
        # Handlers run in reverse order: this one comes before those that stop the output thread.
        atexit.register(self.end_control)

    def end_control(self) -> None:
        """End the control thread, while the output that it may wait for still flows."""
        thread = getattr(self, "control_thread", None)
        if thread is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.stop()
            thread.join(timeout=10)


def serve(argv: list[str]) -> None:
    """Be the kernel of a connection file until it is told to shut down; in a process that was forked for it."""
    app = KernelApp.instance()
    app.initialize(argv)
    app.start()


def leave(status: int) -> None:
    """End a forked process as the interpreter would: threads, exit handlers, streams; without taking modules apart."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
    except BaseException as error:  # noqa: BLE001 - nobody is left who could catch it
        os.write(2, f"at the kernel's end: {error!r}\n".encode(errors="backslashreplace"))
        status = status or 1
    finally:
        os._exit(status)


if __name__ == "__main__":
    KernelApp.launch_instance()
