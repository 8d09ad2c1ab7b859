"""Live start: the running notebook is forked, with everything that it holds.

The notebook forks once, at the ``%fork`` line (`freeze`). The copy keeps the state of that moment: it executes nothing
and waits on a unix socket, as the zygote of a warm start does, and forks a kernel whenever a run's turn comes. So it
does not matter how many runs there are, when they start, or what the notebook does meanwhile. Linux shares the memory
between all of them until somebody writes to it (copy on write).

The copy is a session of its own and survives the notebook's kernel. It ends when its runs have all ended well, or when
neither a scheduler nor the notebook's kernel nor a run of it is left. When the machine's memory ends, Linux is to end
runs first, then the copy, and the notebook last (``oom_score_adj``, proc(5)).

What a fork cannot have: threads of the notebook, other than the one that executes cells, are not there; open files,
sockets and database connections are one and the same in all of them; GPUs and TPUs that the notebook has opened do not
work, and `freeze` refuses; modules read their environment (``OMP_NUM_THREADS``) when the notebook imported them.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import gc
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from .. import files, process
from ..engines import forking, scratch
from ..engines.zygotes import OVER, Attendance
from ..errors import Unavailable
from ..records.names import LIVE
from ..session import RUN_VARIABLE, Session
from ..units import show_size
from .memory import free_memory
from .zygote import Zygote, gpu_in_use

_WRITTEN, _LEAST = 0.1, 100 << 20
"""Share of the state that a run is expected to write to, and so to have for itself, and the least that a run needs."""
_COPY_FIRST, _RUNS_FIRST = 300, 600
"""How much earlier than the notebook Linux ends the copy and the runs when memory ends."""
_LOOK_EVERY = 5_000
_USES_GPU = re.compile(r"cuda|gpu|tpu|jax|tensorflow|\btf\.|device|cupy|accelerat", re.I)


def state_size() -> int:
    """Return the bytes of memory that this process holds, and that a fork of it shares."""
    return int(psutil.Process().memory_info().rss)


def workers_that_fit(wanted: int) -> tuple[int, str]:
    """Return how many live runs the free memory has room for at once, at most `wanted`, and how that came about.

    A run shares the notebook's memory until it writes to it; it is expected to write to a tenth of it.

    Raises
    ------
    Unavailable
        When there is no room for one.
    """
    state, free = state_size(), free_memory()
    fit = int(free // max(_LEAST, _WRITTEN * state))
    words = f"{show_size(state)} held, {show_size(free)} free"
    if fit < 1:
        raise Unavailable(
            f"start=live: {words}. That is too little for a run.",
            "Delete what the runs do not need (del x), or use start=warm.",
        )
    return min(fit, wanted), words


def gpu_use_of(count: int | None, source: str) -> str:
    """Say how the cell that was executed just now uses a GPU; empty when this process uses none."""
    how = gpu_in_use()
    if not how:
        return ""
    lines = [line.strip() for line in source.splitlines() if line.strip() and not line.strip().startswith("#")]
    guilty = next((line for line in lines if _USES_GPU.search(line)), lines[0] if lines else "")
    return f"cell [{count or '?'}] {how}: {guilty[:80]}"


def check_state(uses_gpu: str = "") -> Any:
    """Return the shell of this notebook.

    Parameters
    ----------
    uses_gpu : str
        Which of its cells is known to use a GPU; see `gpu_use_of`.

    Raises
    ------
    Unavailable
        When it cannot be forked: there is none, its GPU is in use, or the cell runs in a thread.
    """
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is None or getattr(shell, "kernel", None) is None:
        raise Unavailable("start=live forks the notebook that runs, and here is none.", "Use start=warm.")
    if how := gpu_in_use():
        who = uses_gpu or f"this notebook {how}"
        raise Unavailable(
            f"start=live: a GPU that is in use cannot be forked ({who}).",
            "Restart the kernel and move that below %fork, or use start=warm.",
        )
    if threading.current_thread() is not threading.main_thread():
        raise Unavailable(
            "start=live: this cell runs in a thread of the kernel (a subshell), and a fork would have no other.",
            "Execute the cell in the notebook itself, or use start=warm.",
        )
    return shell


def freeze(folder: Path, here: Session, *, seed: str | None = None, close: Sequence[int] = ()) -> dict[str, Any]:
    """Fork the copy that a job's live runs are forked from; replaces the job's copy before.

    Parameters
    ----------
    folder : Path
        ``.scheduler`` of the job: gets `RECORD` and the copy's log.
    here : Session
        The notebook's, which its runs will find in their memory.
    seed : {None, "keep"}
        Random generators (Python's, numpy's and torch's global ones) are seeded anew in each run, from their state here
        and the run's index: the runs differ, and the same notebook gives the same runs. ``keep`` leaves them alone.
    close : sequence of int
        Open files that the copy must not hold.

    Returns
    -------
    dict
        ``at`` (seconds since 1970) and ``state`` (bytes of memory held).

    Raises
    ------
    Unavailable
        See `check_state`.
    """
    shell = check_state(here.uses_gpu)
    _end_copy(folder)
    place, held = scratch.make("cmz-")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(place / "zygote"))
    os.chmod(place / "zygote", 0o600)
    listener.listen(128)
    notebook, state, numbers = process.identity(), state_size(), random.getstate()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    make = functools.partial(FrozenCopy, listener, shell, here, notebook=notebook, seed=seed, numbers=numbers)
    try:
        pid = _fork(lambda: _be_copy(make, shell, folder, place, close))
    finally:
        listener.close()
        os.close(held)
    process.expect(pid)
    frozen = {"at": time.time(), "state": state}
    record = {"socket": str(place / "zygote"), "process": process.identity(pid), **frozen}
    process.write_json(folder / LIVE, record)
    return frozen


def _fork(be_child: Callable[[], None]) -> int:
    """Fork; the child does `be_child`, which never returns. Returns the child's process id.

    In a thread made for it, which is all that the child has, and its main thread. GNU's OpenMP (torch, scikit-learn)
    keeps its workers by the thread that uses them: in a fork, the thread that had some would wait for them for ever.
    """
    made: list[int | OSError] = []
    torch = sys.modules.get("torch")
    gradients = torch.is_grad_enabled() if torch is not None and hasattr(torch, "is_grad_enabled") else None

    def fork() -> None:
        with warnings.catch_warnings():
            # Of forking with threads: those that the copy lacks are documented, and it starts none.
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                pid = os.fork()
            except OSError as error:
                made.append(error)
                return
        if pid == 0:
            if torch is not None and gradients is not None:
                torch.set_grad_enabled(gradients)  # torch keeps it by thread
            be_child()
        made.append(pid)

    # With this thread's settings, such as numpy's of errors.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(fork,), name="fork")
    thread.start()
    thread.join()
    (pid,) = made
    if isinstance(pid, OSError):
        raise Unavailable(
            f"This notebook cannot be forked: {pid.strerror}.", "Free memory, or use start=warm."
        ) from pid
    return pid


def _end_copy(folder: Path) -> None:
    """End the job's earlier copy, once no run that was forked from it is left."""
    with contextlib.suppress(Unavailable):
        Attendance(folder.parent).end(over=True)


def _be_copy(make: Callable[..., FrozenCopy], shell: Any, folder: Path, place: Path, close: Sequence[int]) -> None:
    """Be the frozen copy, in the forked process; never returns."""
    from . import private_api

    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        for fd in close:
            os.close(fd)
        private_api.release(shell)
        log = files.plain(folder / "live.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for target, fd in ((0, nothing), (1, log), (2, log)):
            os.dup2(fd, target)
        os.close(log)
        os.close(nothing)
        _end_earlier(_COPY_FIRST)
        gc.freeze()
        make(kernel=private_api).serve()
    except BaseException:  # noqa: BLE001 - it ends in the copy's log; runs find nobody to fork them and say so
        os.write(2, traceback.format_exc().encode(errors="backslashreplace"))
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os._exit(0)


class FrozenCopy(Zygote):
    """Forks kernels that hold what the notebook held.

    Parameters
    ----------
    listener : socket
        Where schedulers and runners connect.
    shell : InteractiveShell
        The notebook's shell.
    here : Session
        Its session.
    kernel : module
        `private_api`.
    notebook : dict
        `process.identity` of the notebook's kernel.
    seed : {None, "keep"}
        See `freeze`.
    numbers : tuple
        State of Python's global random generator, which Python itself seeds anew in every fork.
    """

    patience = _LOOK_EVERY

    def __init__(
        self,
        listener: socket.socket,
        shell: Any,
        here: Session,
        kernel: Any,
        notebook: dict[str, Any],
        seed: str | None,
        numbers: tuple[Any, ...],
    ) -> None:
        super().__init__(listener, [])
        self.shell, self.here, self.kernel, self.forking = shell, here, kernel, forking
        self.notebook, self.seed, self.random = notebook, seed, numbers
        self.is_over = False

    def is_wanted(self) -> bool:
        """Whether its runs may be executed again: some did not end well, and the notebook is still there."""
        return not self.is_over and bool(process.is_alive(self.notebook))

    def scheduler_said(self, fd: int) -> None:
        """A scheduler says when all runs have ended well; then it goes."""
        word = os.read(fd, 1)
        self.is_over = self.is_over or word == OVER
        if not word:
            self.lifelines.remove(fd)
            os.close(fd)

    def stand_in(self, folder: str) -> None:
        """Stay where the notebook stood at the fork: it may have changed its folder since it began."""

    def become_kernel(self, argv: list[str], program: int) -> None:
        """Serve as a kernel until it is told to end, in the forked process."""
        _end_earlier(_RUNS_FIRST)
        self.here.run_here = None
        # Kernels elsewhere are the notebook's: its threads hold them.
        self.here.ui.cells_go_to(None)
        self.here.remotes = {}
        random.setstate(self.random)
        if self.seed != "keep":
            reseed(os.environ.get(RUN_VARIABLE, ""))
        self.kernel.serve_again(self.shell, [*argv[program + 1 :], f"--IPKernelApp.parent_handle={os.getppid()}"])


def _end_earlier(by: int) -> None:
    """Have Linux end this process earlier than its parent when memory ends; not all systems allow it."""
    file = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        file.write_text(str(min(1000, int(file.read_text()) + by)))


def reseed(run: str) -> None:
    """Seed the global random generators for one run: from their state and the run's name.

    Generators that the notebook made (``numpy.random.default_rng()``) are the notebook's; they are equal in all runs.
    """

    def fresh(state: object) -> bytes:
        return hashlib.sha256(f"{state}/{Path(run).name}".encode()).digest()

    random.seed(fresh(random.getrandbits(128)))
    if module := sys.modules.get("numpy.random"):
        digest = fresh(module.bytes(16))
        module.seed([int.from_bytes(digest[i : i + 4], "big") for i in range(0, 32, 4)])
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(int.from_bytes(fresh(torch.random.get_rng_state().numpy().tobytes())[:7], "big"))
