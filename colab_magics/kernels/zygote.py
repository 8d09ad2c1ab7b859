"""The process that warm kernels are forked from: ``python zygote.py LISTENER LIFELINE FOLDER``.

It is a fresh program, not a fork of the notebook, under the Python of the runs' kernel. It imports ipykernel and the
modules that the runs will import and what else a start needs, as the notebook's own kernel or a throw-away one shows
it, does what the starts of kernels have in common, and waits in one ``poll``: no threads, no event loop, no sockets of
ZeroMQ. A runner connects to its socket (mode 0600) and sends arguments, environment, working folder and its standard
streams; it gets the process id of a fork that is the kernel, and later its exit status. When the runner goes away, its
kernel does; when the scheduler does (the lifeline closes), the zygote ends with its last kernel.

A kernel is then what it would have been as a process of its own, with four differences that a notebook could see, for
which warm is asked for and never the default: modules that the notebook imports are there already, so that what they
read at import (``OMP_NUM_THREADS``, ``MPLBACKEND``) must be in the environment of ``%fork`` and not set in a cell;
``sys.modules`` holds more; all runs share the seed of ``hash("text")``; and the kernel has no
debugger, which takes a tenth of a second to import and which nobody could reach. Python's, numpy's and torch's random
generators are seeded anew in each.

It stands alone and imports nothing of colab_magics, which would stay in the runs' ``sys.modules``, unless the notebook
itself loads the extension.
"""

from __future__ import annotations

import os.path
import sys

if __name__ == "__main__" and sys.path and sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
    del sys.path[0]

import contextlib
import gc
import importlib
import importlib.util
import json
import os
import select
import shutil
import signal
import socket
import tempfile
import threading
import traceback
from types import ModuleType
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
_RUN = "COLAB_MAGICS_RUN"
_DEVICES = ("/dev/nvidia", "/dev/kfd", "/dev/accel", "/dev/vfio")
_SCOUT_SECONDS = 30.0
_KNOWN = ["tornado.platform.asyncio", "sqlite3", "psutil", "IPython.core.logger"]
"""What starts and ends of kernels import: the scout need not find it, and the last two it cannot find."""


def _say(text: str) -> None:
    """Write to the log."""
    os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))


def _load(name: str, path: str) -> ModuleType:
    """Load a file of ours without its package."""
    spec = importlib.util.spec_from_file_location(name, os.path.join(_HERE, path))
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Unfit(Exception):
    """Forks of this process could not be trusted."""


def preload(names: list[str]) -> None:
    """Import modules; those that cannot be imported are left to the runs.

    Raises
    ------
    Unfit
        When one opened a GPU, or started a thread or a process.
    """
    failed = {}
    for name in names:
        if name in sys.modules:
            continue
        try:
            importlib.import_module(name)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the run's own import will show it
            failed[name] = error
        check(name)
    # Some can only be imported by others.
    for name in failed.keys() - sys.modules.keys():
        _say(f"not preloaded: {name}: {failed[name]!r}")


def check(name: str) -> None:
    """Raise `Unfit` when this process cannot be forked any more; `name` is what was imported last."""
    if threading.active_count() > 1:
        others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        raise Unfit(f"importing {name} starts threads ({', '.join(others)})")
    if gpu := gpu_in_use():
        raise Unfit(f"importing {name} {gpu}")
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return
    raise Unfit(f"importing {name} starts processes")


def gpu_in_use() -> str:
    """Say how this process uses a GPU or TPU, such as ``initialises CUDA``; empty when it does not.

    A fork cannot use what its parent has opened: the drivers forbid it.
    """
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda") and torch.cuda.is_initialized():
        return "initialises CUDA"
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{fd}")
            if target.startswith(_DEVICES):
                return f"opens a GPU ({target})"
    return ""


def scout(kernel: ModuleType) -> list[str]:
    """Start a kernel that nobody uses; return the modules that a start imports."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            folder = tempfile.mkdtemp(prefix="cms-")
            app = kernel.KernelApp.instance()
            connection = ["-f", f"{folder}/k.json", "--transport=ipc", f"--ip={folder}/k"]
            app.initialize([*connection, "--HistoryManager.hist_file=:memory:", "--log-level=CRITICAL"])
            app.shell.run_cell("None", silent=True)
            shutil.rmtree(folder, ignore_errors=True)
            with os.fdopen(writer, "w") as stream:
                json.dump(list(sys.modules), stream)
            status = 0
        except BaseException:  # noqa: BLE001 - it says so in the log, and the runs import for themselves
            _say(traceback.format_exc())
        finally:
            os._exit(status)
    os.close(writer)
    raw = b""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while poll.poll(_SCOUT_SECONDS * 1000) and (part := os.read(reader, 1 << 16)):
        raw += part
    os.close(reader)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        found: list[str] = json.loads(raw)
    except ValueError:
        return []
    return found


def reseed() -> None:
    """Give a fork random numbers of its own; the generators came with the parent's state."""
    if "random" in sys.modules:
        sys.modules["random"].seed()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(int.from_bytes(os.urandom(7), "big"))


class Zygote:
    """Forks kernels on request.

    Parameters
    ----------
    listener : socket
        Where runners connect.
    lifelines : list of int
        Each closes when a scheduler is gone.
    """

    def __init__(self, listener: socket.socket, lifelines: list[int]) -> None:
        self.listener, self.lifelines = listener, lifelines
        self.problem = ""
        self.kernel: Any = None
        self.forking: Any = None
        self.runners: dict[int, socket.socket] = {}
        self.pids: dict[int, int] = {}
        self.wake, self.woken = os.pipe()
        for fd in (self.wake, self.woken):
            os.set_blocking(fd, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.woken)

    def prepare(self, names: list[str], perhaps: list[str], started: list[str] | None = None) -> None:
        """Import everything, of `perhaps` what is installed; then `problem` says why nothing can be forked, if so.

        `started` is what the start of such a kernel imports of IPython's; where nobody knows it, a scout shows it.
        """
        gc.disable()  # what is imported stays: looking for what does not takes a tenth of the time
        try:
            self.forking = _load("_colab_magics_forking", "../engines/forking.py")
            self.forking.make_room()
            self.forking.import_without("ipykernel.debugger", ["debugpy"])
            self.kernel = _load("_colab_magics_ready", "ready_kernel.py")
            installed = _load("_colab_magics_preload", "preload.py").installed
            preload([*_KNOWN, *names, *installed(perhaps)])
            preload(scout(self.kernel) if started is None else started)
            if why := self.kernel.made_ready():
                _say(f"kernels start from the beginning: {why}")
            check("IPython's shell")
        except Unfit as unfit:
            self.problem = str(unfit)
        except Exception as error:  # noqa: BLE001 - runners are told, and start cold
            _say(traceback.format_exc())
            self.problem = f"preloading failed: {error!r}"
        gc.enable()
        # Not collected before: the little that imports leave behind takes as long to find as two kernels to start.
        gc.freeze()

    def serve(self) -> None:
        """Answer until the scheduler and the last kernel are gone."""
        while self.lifelines or self.pids or self.is_wanted():
            poll = select.poll()
            for fd in (self.listener.fileno(), self.wake, *self.lifelines, *self.runners):
                poll.register(fd, select.POLLIN)
            for fd, _ in poll.poll(self.patience):
                if fd == self.listener.fileno():
                    self._accept()
                elif fd in self.lifelines:
                    self.scheduler_said(fd)
                elif fd == self.wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self.wake, 4096)
                elif fd in self.runners:
                    self._runner_left(fd)
            self._reap()

    patience: int | None = None
    """Milliseconds until `is_wanted` is asked again."""

    def is_wanted(self) -> bool:
        """Whether to stay though no scheduler is there."""
        return False

    def scheduler_said(self, fd: int) -> None:
        """A scheduler closes its lifeline when it is gone."""
        if not os.read(fd, 1):
            self.lifelines.remove(fd)
            os.close(fd)

    def _accept(self) -> None:
        runner, _ = self.listener.accept()
        try:
            runner.settimeout(5)
            request, fds = _receive(runner)
            if request.get("schedules"):
                self.lifelines.append(runner.detach())
                return
            if self.problem:
                _send(runner, {"problem": self.problem})
                runner.close()
                for fd in fds:
                    os.close(fd)
                return
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            pid = os.fork()
            if pid == 0:
                self._be_kernel(request, fds, runner)
            for fd in fds:
                os.close(fd)
            self.runners[runner.fileno()] = runner
            self.pids[pid] = runner.fileno()
            _send(runner, {"pid": pid})
        except (OSError, ValueError) as error:
            _say(f"a request failed: {error!r}")
            if runner.fileno() not in self.runners:
                runner.close()

    def _runner_left(self, fd: int) -> None:
        """A runner says nothing more: when it is gone, so is its kernel."""
        with contextlib.suppress(OSError):
            if self.runners[fd].recv(1):
                return
        self.runners.pop(fd).close()
        for pid, of in self.pids.items():
            if of == fd:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                self.pids[pid] = -1

    def _reap(self) -> None:
        for pid in list(self.pids):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                runner = self.runners.pop(self.pids.pop(pid), None)
                if runner is not None:
                    with contextlib.suppress(OSError):
                        _send(runner, {"status": os.waitstatus_to_exitcode(status)})
                    runner.close()

    def _be_kernel(self, request: dict[str, Any], fds: list[int], runner: socket.socket) -> None:
        """Be the kernel that was asked for, in the forked process; never returns."""
        status = 1
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for target, fd in enumerate(fds):
                os.dup2(fd, target)
            others = [self.wake, self.woken, *self.lifelines, self.listener.detach(), runner.detach()]
            for fd in [*others, *(one.detach() for one in self.runners.values()), *fds]:
                if fd > 2:
                    os.close(fd)
            self.stand_in(request["cwd"])
            argv = request["argv"]
            self.forking.become(argv, {**request["env"], "JPY_PARENT_PID": str(os.getppid())}, _RUN)
            self.become_kernel(argv, request["program"])
            status = 0
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
        except BaseException:  # noqa: BLE001 - nobody is left who could catch it
            _say(traceback.format_exc())
        finally:
            self.forking.leave(status)

    def stand_in(self, folder: str) -> None:
        """Change into a run's working folder, in the forked process."""
        os.chdir(folder)

    def become_kernel(self, argv: list[str], program: int) -> None:
        """Serve as a kernel until it is told to end, in the forked process; `program` is its place in `argv`."""
        reseed()
        sys.argv, sys.orig_argv = argv[program:], list(argv)
        self.kernel.serve([*argv[program + 1 :], f"--IPKernelApp.parent_handle={os.getppid()}"])


def _receive(runner: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Read one line of JSON and the open files that come with it."""
    raw, fds, _, _ = socket.recv_fds(runner, 1 << 16, 3)
    while raw and not raw.endswith(b"\n"):
        part = runner.recv(1 << 16)
        if not part:
            break
        raw += part
    request: dict[str, Any] = json.loads(raw)
    return request, list(fds)


def _send(runner: socket.socket, answer: dict[str, Any]) -> None:
    runner.sendall(json.dumps(answer).encode() + b"\n")


def main() -> None:
    """Run as a program."""
    listener, lifeline, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    zygote = Zygote(socket.socket(fileno=listener), [lifeline])
    try:
        with open(os.path.join(folder, "preload.json"), encoding="utf-8") as stream:
            order = json.load(stream)
        zygote.prepare(order.get("modules", []), order.get("perhaps", []), order.get("started"))
        zygote.serve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if zygote.forking is not None:
        zygote.forking.leave(0)


if __name__ == "__main__":
    main()
