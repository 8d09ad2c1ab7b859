"""What warm and live kernels are forked from, as a scheduler sees it: a zygote that it starts, a copy that it attends.

A zygote is a program that the payload's kernels come with (see `colab_magics.kernels.preparation`). It is held by a
pipe, its lifeline: it ends when that is closed and its last kernel is gone. The frozen copy of a notebook (see
`colab_magics.kernels.live`) is there already; it stays while somebody attends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from .. import process
from ..errors import Unavailable
from ..records.names import LIVE, PRELOAD, SCHEDULER
from . import forking, scratch

log = logging.getLogger(__name__)

VARIABLE = "COLAB_MAGICS_ZYGOTE"
"""Environment variable by which a runner learns of the socket; its kernel does not see it."""
OVER = b"."
"""What a copy is told when all its runs have ended well."""


@dataclass(frozen=True)
class Begun:
    """What was started before the scheduler.

    Parameters
    ----------
    notes : dict
        What the engine must know of it in the scheduler; JSON.
    files : sequence of int
        Open files, which the scheduler inherits under the same numbers.
    """

    notes: dict[str, Any] = field(default_factory=dict)
    files: Sequence[int] = ()

    def close(self) -> None:
        """Close the files here."""
        for fd in self.files:
            os.close(fd)


class ForksKernels(ABC):
    """An engine on whose machine this process is: what kernels are forked from can be started before its scheduler."""

    @abstractmethod
    def begin(self, job_folder: Path, start: str, kernel: str | None) -> Begun:
        """Start what takes a while, in the submitter and before the plan is written.

        It must end by itself when the files that it returns are closed.
        """


def start(job_folder: Path, kernel: str | None) -> Begun:
    """Start the process that kernels are forked from, by the runs' own Python; none where nothing was prepared.

    It ends when the file is closed and its last kernel is gone.
    """
    known = process.read_json(job_folder / SCHEDULER / PRELOAD) or {}
    order = known.get("kernels", {}).get(kernel or "")
    if order is None:
        return Begun()
    folder, held = scratch.make("cmz-")
    process.write_whole(folder / PRELOAD, process.as_json(order))
    # Filled in here and not where it is written down: what they name may be a secret.
    own = {name: Template(text).safe_substitute(os.environ) for name, text in order["env"].items()}
    reader, lifeline = os.pipe()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "zygote"))
        os.chmod(folder / "zygote", 0o600)
        listener.listen(128)
        try:
            process.start_detached(
                [*order["command"], str(listener.fileno()), str(reader), folder],
                log_file=job_folder / SCHEDULER / "zygote.txt",
                # debugpy writes three lines about frozen modules otherwise.
                env={"PYDEVD_DISABLE_FILE_VALIDATION": "1", **os.environ, **own, **forking.ROOM},
                pass_fds=(listener.fileno(), reader, held),
            )
        except OSError as error:
            # That interpreter is not there: the runs' own start says so.
            log.warning("no zygote for the kernel %s: %s", kernel, error)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lifeline)
            return Begun()
        finally:
            os.close(reader)
            os.close(held)
    return Begun({"zygote": str(folder / "zygote"), "kernel": kernel}, [lifeline])


class Attendance:
    """A scheduler's hold on the copy that its runs are forked from: while it lasts the copy stays.

    Parameters
    ----------
    job_folder : Path
        ``data_job`` of the job.

    Raises
    ------
    Unavailable
        When the copy is gone.
    """

    def __init__(self, job_folder: Path) -> None:
        record = process.read_json(job_folder / SCHEDULER / LIVE) or {}
        self.path = str(record.get("socket", ""))
        self._link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._link.connect(self.path)
            self._link.sendall(b'{"schedules": true}\n')
        except OSError:
            self._link.close()
            raise gone() from None

    def end(self, *, over: bool) -> None:
        """Let go; `over` says that all runs have ended well."""
        with contextlib.suppress(OSError):
            if over:
                self._link.sendall(OVER)
        self._link.close()


def gone() -> Unavailable:
    """Build the error for a copy that is not there any more."""
    return Unavailable(
        "The frozen copy of the notebook, from which live runs are forked, has ended: its kernel was restarted, or "
        "memory ended.",
        "Execute the notebook up to the %fork line again: finished runs are kept.",
    )
