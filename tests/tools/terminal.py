"""A pseudo terminal with a program in it, as a user has it in a window."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

from conftest import poll

ESCAPES = re.compile(r"\x1b\][^\x1b\x07]*(?:\x07|\x1b\\)|\x1b\[[0-?]*[ -/]*[@-~]")
HOME = "\x1b[H"


class Terminal:
    """A window of some size, and all that was written to it."""

    def __init__(self, words: Sequence[str], folder: Path, env: dict[str, str], size: tuple[int, int]) -> None:
        self.master, slave = pty.openpty()
        self.resize(*size)
        kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            words, cwd=folder, env={**kept, "TERM": "xterm-256color", **env}, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(slave)
        self.text = ""

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self) -> str:
        """Return all that was written until now."""
        with contextlib.suppress(OSError):  # the program has ended
            while select.select([self.master], [], [], 0.05)[0] and (data := os.read(self.master, 65536)):
                self.text += data.decode()
        return self.text

    def page(self) -> list[str]:
        """Return the lines of the last whole window, without colours."""
        before, _, last = self.read().rpartition(HOME)
        return [ESCAPES.sub("", line).rstrip() for line in last.split("\r\n")] if before else []

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self.master, keys.encode())

    def ended(self) -> int:
        """Wait for the program; returns its exit status."""
        poll(lambda: (self.read(), self.process.poll() is not None)[1], what="the program's end")
        self.read()
        return int(self.process.returncode)


@contextlib.contextmanager
def terminal(
    words: Sequence[str], folder: Path, *, size: tuple[int, int] = (120, 30), **env: str
) -> Iterator[Terminal]:
    """Start a program in a window."""
    window = Terminal(words, folder, env, size)
    try:
        yield window
    finally:
        window.process.kill()
        window.process.wait()
        os.close(window.master)
