"""The process that is, to Jupyter, the kernel of another machine: it owns the ports here and speaks to the relay there.

A kernelspec starts it (see `host_spec`), by `host_provisioner` or, where nobody knows that, as any kernel. It ends when
Jupyter wants the kernel to end, when the kernel there has ended, or when whoever started it is gone; then nothing is
left there. Where the end cannot be told because there is no connection, a process stays that tells it later.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from .. import process
from ..checkout.project import find_project
from ..errors import ColabMagicsError, InvalidInput, Unavailable
from ..relay.code import Code, folder_there
from ..relay.connection import RelayDied
from ..relay.ports import Ports, Served
from ..relay.remote_kernel import CAP, RemoteKernel, attach

log = logging.getLogger("colab_magics")

MODULE = "colab_magics.kernels.host_kernel"
NOTHING_LEFT = 3
"""Exit status when the kernel there has ended by itself; 0 when it was ended. All others may leave it there."""
END_SECONDS = 8.0
"""So long a kernel there may take to end until nobody waits for it any more."""
AGAIN_SECONDS = 3.0
"""So long the end waits for a connection that is cut."""
LONGEST = 24 * 3600.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serve one kernel, or end one that was left there."""
    options = _options(argv)
    level = os.environ.get("COLAB_MAGICS_LOG", "warning").upper()
    logging.basicConfig(format=f"[colab_magics] {options.host}: %(message)s")
    log.setLevel(level if level in logging.getLevelNamesMapping() else "WARNING")
    if options.end:
        return end_left(options.host, options.end, options.idle or LONGEST)
    return _Process(options).run()


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=MODULE, description=__doc__)
    parser.add_argument("-f", dest="file", help="Jupyter's connection file")
    parser.add_argument("--host", required=True)
    for word in ("python", "env", "folder", "end"):
        parser.add_argument(f"--{word}", default="")
    for word in ("include", "exclude"):
        parser.add_argument(f"--{word}", action="append", default=[])
    parser.add_argument("--idle", type=float, default=0.0)
    parser.add_argument("--cap", type=int, default=CAP)
    parser.add_argument("--tell", action="store_true", help="say on standard output how the start went")
    return parser.parse_args(argv)


class _Process:
    """Everything from the connection file to the exit status."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.file = file = json.loads(Path(options.file).read_text())
        mark = f"{process.host()}\0{os.path.realpath(options.file)}\0{file.get('key')}"
        # The same when Jupyter starts the kernel again: it ends what is left of the one before.
        self.name = f"jupyter-{hashlib.sha256(mark.encode()).hexdigest()[:16]}"
        self.ending = False
        parent = os.environ.get("JPY_PARENT_PID", "")
        self.parent = os.getppid() if parent == str(os.getppid()) else 0

    def run(self) -> int:
        """Return the exit status."""
        signal.signal(signal.SIGTERM, self._stop_starting)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            # Requests that come while the kernel starts wait here.
            self.served = Served(Ports(self.file))
            ahead = Ahead(self.options)
            kernel = self._connect(ahead)
        except ColabMagicsError as error:
            self._tell(error=str(error))
            log.error("%s", error)
            return NOTHING_LEFT
        self._tell(name=self.name)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGHUP, self._stop)
        signal.signal(signal.SIGINT, self._interrupt)
        self.served.serve(kernel, ahead, self._is_wanted)
        # What is acknowledged just before the connection closes may be lost with it.
        if self.served.error is None or self.served.died:
            self._end(kernel)
        kernel.close()
        self.served.finish()
        return NOTHING_LEFT if self.served.error is not None else 0

    def _connect(self, ahead: Ahead) -> RemoteKernel:
        options = self.options
        return attach(
            options.host,
            self.name,
            new=True,
            once=True,
            python=options.python,
            env=options.env,
            folder=options.folder or ahead.folder,
            cap=options.cap,
            idle=options.idle,
            tell=log.warning,
            on_message=self.served.on_message,
            on_state=self.served.on_state,
        )

    def _tell(self, **answer: str) -> None:
        if self.options.tell:
            os.write(1, json.dumps(answer).encode() + b"\n")
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.close(null)

    def _is_wanted(self) -> bool:
        return not self.ending and (not self.parent or os.getppid() == self.parent)

    def _stop_starting(self, number: int, frame: FrameType | None) -> None:
        # A relay that has no client yet ends by itself.
        sys.exit(NOTHING_LEFT)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.ending = True
        self.served.wake()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.served.interrupt_soon()

    def _end(self, kernel: RemoteKernel) -> None:
        """End the kernel there; where it cannot be told now, it is told later."""
        limit = time.monotonic() + AGAIN_SECONDS
        self.served.interrupt()  # a kernel that is busy hears of its end late
        while True:
            try:
                kernel.shutdown(timeout=END_SECONDS)
            except Unavailable as error:
                if kernel.state.kind == "offline" and time.monotonic() < limit:
                    time.sleep(0.05)
                    continue
                # Also where the connection seems to be there: one that was cut a moment ago does, and lost the word.
                log.warning("nobody knows whether the kernel there has heard (%s): it is told again", error)
                leave(self.options.host, self.name, self.options.idle)
            return


class Ahead:
    """The code of the notebook's project, or of its folder, sent ahead of each cell as far as it changed.

    Parameters
    ----------
    options : Namespace
        ``host``, and the patterns ``include`` and ``exclude``.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.host = options.host
        here = Path.cwd()
        project = find_project(here, tell=False)
        root = project.root if project is not None else here
        self.folder = folder_there(root)
        self.code: Code | None = None
        try:
            self.code = Code(root, options.include, options.exclude)
        except InvalidInput as error:
            log.warning("%s", error.what)

    def __call__(self, kernel: RemoteKernel) -> list[str]:
        """Send it; returns what the cell's user should read."""
        if self.code is None:
            return []
        try:
            self.code.send(kernel)
        except InvalidInput as error:
            self.code = None
            return [f"{error.what} Nothing of it goes to {self.host}. {error.mend}"]
        except Unavailable:
            return []  # the cell itself will say so
        left = self.code.left_behind()
        if not left:
            return []
        again = f"If {self.host} may have it: colab-magics host kernel {self.host} include={left[0]}"
        return [f"{', '.join(left)} stayed here, as secrets do by their names. {again}"]


def leave(host: str, name: str, idle: float, env: Mapping[str, str] | None = None) -> None:
    """Have a process of its own, with these variables, end a kernel there as soon as there is a connection."""
    words: list[Any] = [f"--host={host}", f"--end={name}", f"--idle={idle}"]
    process.start_detached(process.python(MODULE, *words), log_file=os.devnull, cwd="/", env=env)


def end_left(host: str, name: str, seconds: float) -> int:
    """End a kernel there, and try again until it is ended, or has ended by itself because nobody came."""
    limit, pause = time.time() + seconds, 0.5
    while time.time() < limit:
        try:
            attach(host, name, start=False).shutdown()
        except RelayDied:
            return 0
        except Unavailable as error:
            log.info("%s", error)
            time.sleep(pause)
            pause = min(2 * pause, 60.0)
        else:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
