"""A program that we talk to while it runs, through its standard input and output."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Sequence

from .process import need

log = logging.getLogger("colab_magics")


class Pipes:
    """A running program with pipes to it.

    Parameters
    ----------
    command : sequence of str
        The argument list.
    """

    def __init__(self, command: Sequence[str]) -> None:
        argv = [need(command[0]), *command[1:]]
        log.debug("talk to %s", shlex.join(argv))
        # A file takes what it complains: a pipe that nobody reads would stop it.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - `close` closes it
        # A session of its own: an interrupt of the notebook is sent to the notebook's whole process group.
        self._child = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, bufsize=0, start_new_session=True
        )
        if self._child.stdin is None or self._child.stdout is None:
            raise RuntimeError("a pipe is missing")
        self._streams = self._child.stdin, self._child.stdout
        self.stdin, self.stdout = self._streams[0].fileno(), self._streams[1].fileno()
        self.pid = self._child.pid
        os.set_blocking(self.stdin, False)
        # More at once wakes it, and us, less often. Linux alone knows that, and a user may own only so much of it.
        with contextlib.suppress(OSError, AttributeError):
            fcntl.fcntl(self.stdout, fcntl.F_SETPIPE_SZ, 1 << 20)
        # Numbers of pipes and processes are used again: nobody may write to, or kill, what was closed meanwhile.
        self._alive = threading.RLock()

    def write(self, data: memoryview) -> int:
        """Write what fits now; 0 when nothing does. Any thread may."""
        with self._alive:
            try:
                return self._streams[0].write(data) or 0
            except BlockingIOError:
                return 0

    def kill(self) -> None:
        """End it at once: whoever waits on its output sees the end. Any thread may."""
        with self._alive:
            if self._child.poll() is None:
                os.killpg(self.pid, signal.SIGKILL)

    def interrupt(self) -> None:
        """Have it end as by Ctrl-C in a terminal: it may put in order what it has begun. Any thread may."""
        with self._alive:
            if self._child.poll() is None:
                os.killpg(self.pid, signal.SIGINT)

    def close(self) -> tuple[int, str]:
        """End it, close its pipes; returns its exit status and what it complained."""
        with self._alive:
            self.kill()
            status = self._child.wait()
            for stream in self._streams:
                stream.close()
            return status, self._take_errors()

    def end_input(self) -> None:
        """Let it see the end of its input."""
        with self._alive:
            self._streams[0].close()

    def wait(self, timeout: float) -> int | None:
        """Wait until it has ended by itself; None when it has not."""
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def _take_errors(self) -> str:
        if self._errors.closed:
            return ""
        self._errors.seek(0)
        text = self._errors.read().decode("utf-8", "backslashreplace")
        self._errors.close()
        return text
