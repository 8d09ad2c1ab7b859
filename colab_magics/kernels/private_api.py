"""The one place that touches private parts of IPython and ipykernel; tests/kernels/test_private_api.py watches them.

It is also the program that a run's kernel is: ``python private_api.py -f CONNECTION_FILE`` in place of
``python -m ipykernel_launcher``. It stands alone, imports nothing of colab_magics, and so runs under any interpreter
that has ipykernel, and leaves nothing in the run's ``sys.modules`` that a stock kernel would not have.

What it changes
---------------
No output is lost: ipykernel's publisher drops messages above 1000 that a slow reader has not fetched. Here nothing is
dropped; what waits, waits in the kernel's memory.

No port is opened where ``COLAB_MAGICS_KERNEL_PIPE`` names a path: ipykernel lets processes that a cell forks send their
output through a port of its own, also when all its channels are unix sockets. Here that is a unix socket, too.

No stalls at the end: at exit ipykernel stops its output thread while the control thread may still wait for it, for
seconds. Here the control thread ends first.

What programs print comes with the cell that ran them: ipykernel reads it in a thread that may be late, and then it is
the next cell's. Here a cell ends when it has been read.

No waiting for nothing: ipykernel hands both streams over to its output thread twice after each cell, and waits each
time, also where nothing was printed: a third of what a cell costs.

A fork of a running kernel becomes a kernel of its own: `release` lets go of what belongs to the notebook's kernel (its
ports and streams), `serve_again` starts new ones around the same shell. So the fork has not only the notebook's
variables, but its magics, extensions, hooks and plotting backend too.
"""

from __future__ import annotations

import os.path
import sys

if __name__ == "__main__" and sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
    # The folder of this file must not shadow anything; ipykernel puts the working folder where notebooks expect it.
    del sys.path[0]

import asyncio
import atexit
import codecs
import contextlib
import os
import select
import socket
import threading
import time
from typing import Any

import zmq
from ipykernel import kernelapp
from ipykernel.iostream import IOPubThread, OutStream
from ipykernel.kernelapp import IPKernelApp
from IPython.core.interactiveshell import InteractiveShell
from zmq.eventloop.zmqstream import ZMQStream

USES = {
    "ipykernel.kernelapp.IPKernelApp": ("init_iopub", "initialize", "start", "control_thread", "init_signal"),
    "ipykernel.kernelapp": ("IOPubThread",),
    "ipykernel.iostream.IOPubThread": ("_setup_pipe_in", "_setup_pipe_out", "_handle_pipe_msg", "schedule"),
    "ipykernel.control.ControlThread": ("stop", "join"),
    "ipykernel.iostream.OutStream": ("write", "writelines", "flush", "fileno", "isatty", "_flush", "_watch_pipe_fd"),
    "ipykernel.zmqshell.ZMQInteractiveShell": ("instance", "set_parent", "_showtraceback"),
    "traitlets.config.SingletonConfigurable": ("_instance", "clear_instance"),
    "IPython.core.builtin_trap.BuiltinTrap": ("__enter__", "__exit__"),
    "IPython.core.display_trap.DisplayTrap": ("__enter__", "__exit__"),
    "IPython.core.displayhook.DisplayHook": ("prompt_count",),
    "IPython.core.history.HistoryManager": ("enabled", "save_thread", "save_flag"),
    "zmq.Context": ("_instance",),
    "asyncio.events": ("_set_running_loop",),
    "multiprocessing.util": ("_exit_function", "_finalizer_registry", "_run_after_forkers"),
    "multiprocessing.process": ("_children",),
    "multiprocessing.forkserver": ("_forkserver",),
    "atexit": ("_clear",),
}
"""What this module relies on, for the canary tests."""


class UnixPipeThread(IOPubThread):  # type: ignore[misc]
    """ipykernel's output thread, with a unix socket for the output of forked processes."""

    path = ""

    def _setup_pipe_in(self) -> None:
        self._pipe_uuid = os.urandom(16)
        pipe = self.socket.context.socket(zmq.PULL)
        pipe.linger = 0
        pipe.bind(f"ipc://{self.path}")
        self._pipe_in = ZMQStream(pipe, self.io_loop)
        self._pipe_in.on_recv(self._handle_pipe_msg)

    def _setup_pipe_out(self) -> tuple[zmq.Context[Any], zmq.Socket[Any]]:
        context: zmq.Context[Any] = zmq.Context()
        pipe = context.socket(zmq.PUSH)
        pipe.linger = 3000  # the child may end at once
        pipe.connect(f"ipc://{self.path}")
        return context, pipe


class Streams:
    """What takes the place of methods of `OutStream`: see "No waiting for nothing" above."""

    flush, send = OutStream.flush, OutStream._flush

    @classmethod
    def watch(cls) -> None:
        """See to it that these are used, by the streams that are made from here on."""
        OutStream._is_sending = OutStream._is_reading = False
        OutStream.flush, OutStream._flush, OutStream._watch_pipe_fd = (
            cls.flush_once,
            cls.note_and_send,
            cls.read_programs,
        )

    @staticmethod
    def note_and_send(stream: OutStream) -> None:
        """What waits is being sent; this is the output thread."""
        stream._is_sending = True
        try:
            Streams.send(stream)
        finally:
            stream._is_sending = False

    @staticmethod
    def read_programs(stream: OutStream) -> None:
        """Take what programs print, in a thread. What nobody has noted yet to be read stays in the pipe."""
        if stream._fid is None:
            return
        ready = select.poll()
        ready.register(stream._fid, select.POLLIN)
        text = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            while ready.poll():
                stream._is_reading = True
                raw = os.read(stream._fid, 1 << 16)
                if not raw or not stream._should_watch:
                    return
                stream.write(text.decode(raw))
                os.write(stream._original_stdstream_copy, raw)
                stream._is_reading = False
        except Exception:  # noqa: BLE001 - it is told when the stream is closed
            stream._exc = sys.exc_info()
        finally:
            stream._is_reading = False

    @staticmethod
    def take_what_programs_printed(stream: OutStream) -> None:
        """Wait until all has been read that is in the pipe, but not for a program that goes on and on."""
        thread = getattr(stream, "watch_fd_thread", None)
        end = time.monotonic() + _ON_AND_ON
        while (
            thread is not None
            and (stream._is_reading or select.select([stream._fid], [], [], 0)[0])
            and thread.is_alive()
            and time.monotonic() < end
        ):
            time.sleep(0.0002)

    @staticmethod
    def flush_once(stream: OutStream) -> None:
        """Flush as ipykernel does; between cells only if there is anything to send."""
        shell = InteractiveShell._instance
        between = shell is not None and not shell.builtin_trap._nested_level and stream._is_master_process()
        if between:
            Streams.take_what_programs_printed(stream)
        waits = stream._flush_pending or stream._subprocess_flush_pending or stream._is_sending or stream.echo
        if waits or not between:
            Streams.flush(stream)


_ON_AND_ON = 0.1
"""Seconds that the end of a cell waits for what programs printed in it."""


class KernelApp(IPKernelApp):  # type: ignore[misc]
    """ipykernel's application with output that is not lost and an exit that does not stall."""

    name = "ipython-kernel"

    def init_iopub(self, context: Any) -> None:
        """Publish without a limit on what waits."""
        # A context's options are those of the sockets that it makes: here the one that publishes.
        context.setsockopt(zmq.SNDHWM, 0)
        UnixPipeThread.path = os.environ.pop("COLAB_MAGICS_KERNEL_PIPE", "")
        kernelapp.IOPubThread = UnixPipeThread if UnixPipeThread.path else IOPubThread
        super().init_iopub(context)

    def initialize(self, argv: list[str] | None = None) -> None:
        """Prepare the kernel."""
        Streams.watch()
        super().initialize(argv)
        # traitlets lets its logger make a record of everything, and its handler drop it: six for each message.
        self.log.setLevel(max(self.log.level, self.log_level))
        # A fork has no debugger on purpose; ipykernel 6 would warn of it in each run's log.
        log: Any = self.log
        getattr(log, "logger", log).addFilter(lambda record: "debugpy_stream" not in str(record.msg))
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


_OF_PARENT: list[Any] = []
"""Pools of the notebook, in a fork of it."""


def publish_without_limit(kernel: Any) -> None:
    """Have a running kernel drop no output that its front end is slow to take: it waits in the kernel's memory."""
    thread = kernel.iopub_thread
    # A socket belongs to its thread. libzmq hands a new limit on to the connections that there are.
    thread.schedule(lambda: thread.socket.setsockopt(zmq.SNDHWM, 0))


def reply_with(shell: Any, lines: list[str]) -> None:
    """Let the reply to the cell that is being executed carry these lines, which are shown in another way."""
    shell._last_traceback = lines


class ForkedApp(KernelApp):
    """The application of a kernel that was forked from a running one: its shell is there and configured."""

    def init_path(self) -> None:
        """The notebook's path is the fork's."""

    def init_gui_pylab(self) -> None:
        """The notebook's plotting is the fork's."""

    def init_extensions(self) -> None:
        """The notebook's extensions are loaded."""

    def init_code(self) -> None:
        """What runs when a kernel starts has run in the notebook."""


def release(shell: Any) -> None:
    """In a fork of a running kernel, let go of what is the kernel's: its ports, and where its output went.

    Ports that stayed open here could not be bound again when the notebook's kernel restarts.

    Parameters
    ----------
    shell : InteractiveShell
        The running shell.
    """
    app = IPKernelApp.instance() if IPKernelApp.initialized() else None
    ports = {getattr(app, f"{channel}_port", 0) for channel in ("shell", "iopub", "stdin", "control", "hb")} - {0}
    own = str(getattr(app, "ip", "")) if getattr(app, "transport", "tcp") == "ipc" else ""
    copies = [getattr(stream, "_original_stdstream_copy", None) for stream in (sys.stdout, sys.stderr)]
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        with contextlib.suppress(OSError):
            if fd in copies or _is_of_kernel(fd, ports, own):
                os.close(fd)
    history = shell.history_manager
    # The thread that writes it down is the notebook's, and may have held its locks when we were forked.
    history.enabled = False
    history.db_input_cache_lock, history.db_output_cache_lock = threading.Lock(), threading.Lock()
    history.save_thread = None
    if not isinstance(getattr(type(history), "save_flag", None), property):
        history.save_flag = threading.Event()


def _is_of_kernel(fd: int, ports: set[int], path: str) -> bool:
    if not os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
        return False
    with socket.socket(fileno=os.dup(fd)) as found:
        name = found.getsockname()
    if isinstance(name, tuple):
        return len(name) > 1 and name[1] in ports
    return bool(path) and str(name).startswith(path)


def serve_again(shell: Any, argv: list[str]) -> None:
    """In a fork of a running kernel, be the kernel of another connection file, with the shell as it is.

    Parameters
    ----------
    shell : InteractiveShell
        The running shell; a cell of it may be half executed.
    argv : list of str
        Arguments of the kernel's application.
    """
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    _forget_parent()
    for known in (IPKernelApp._instance, getattr(shell, "kernel", None)):
        if known is not None:
            type(known).clear_instance()
    # We are inside of a cell that never ends here.
    for trap in (shell.builtin_trap, shell.display_trap):
        trap._nested_level = 0
    # Its number is taken; IPython 7 would count on at its end only.
    shell.execution_count = shell.displayhook.prompt_count + 1
    app = ForkedApp.instance()
    app.initialize(argv)
    shell.kernel = app.kernel
    # IPython draws one with every kernel_info, from the user's random numbers.
    shell.enable_tip = False
    for old, new in zip(streams, (sys.stdout, sys.stderr), strict=True):
        # Log handlers and progress bars hold the notebook's stream: what they write comes out here.
        for part in ("write", "writelines", "flush", "fileno", "isatty"):
            setattr(old, part, getattr(new, part))
    app.start()


def _forget_parent() -> None:
    """Drop the parent's event loop, sockets, exit handlers and processes, as multiprocessing does after a fork."""
    asyncio.events._set_running_loop(None)
    asyncio.set_event_loop(asyncio.new_event_loop())
    zmq.Context._instance = None
    atexit._clear()
    if util := sys.modules.get("multiprocessing.util"):
        util._finalizer_registry.clear()
        util._run_after_forkers()
        sys.modules["multiprocessing.process"]._children = set()  # type: ignore[attr-defined]
        atexit.register(util._exit_function)
    if module := sys.modules.get("multiprocessing.forkserver"):
        # It is the notebook's child: here another is started when one is needed.
        server = module._forkserver
        server._forkserver_pid = server._forkserver_address = server._forkserver_alive_fd = None
    for name in ("loky.reusable_executor", "joblib.externals.loky.reusable_executor"):
        if (module := sys.modules.get(name)) and (executor := getattr(module, "_executor", None)) is not None:
            # Its threads are the notebook's. Kept from being collected, which would tell them something.
            _OF_PARENT.append(executor)
            module._executor = None  # type: ignore[attr-defined]


if __name__ == "__main__":
    KernelApp.launch_instance()
