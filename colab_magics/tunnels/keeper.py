"""The process that is a tunnel, the command of its run: ``python -P -m colab_magics.tunnels.keeper FOLDER``.

It starts the server, sees that it lets nobody in without its secret, opens the connection, and opens it again, with
growing pauses, when it was cut. It ends by SIGINT or SIGTERM, when its server has ended, or when the sessions for which
it works have; and with it the server, the connection, and the secret's file.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .. import process
from ..errors import ColabMagicsError, Unavailable
from ..records.names import LOG
from ..session import RUN_VARIABLE
from ..transport import ssh
from ..transport.forward import LOCAL
from . import servers
from .folder import Folder
from .links import Link, NgrokLink, SshLink
from .relays import Relay

log = logging.getLogger("colab_magics.tunnels")

VARIABLE = "COLAB_MAGICS_TUNNEL"
"""Environment variable of the server: its tunnel's folder."""
NGROK_TOKEN = "ngrok_token"
START_SECONDS = 90.0
KNOWN_SECONDS = 40.0
LOOK_SECONDS = 0.3
"""So often it looks whether it is to end."""
FIRST_PAUSE, LAST_PAUSE = 0.5, 60.0
STEADY_SECONDS = 60.0
"""A connection that has stood so long was a good one: the next pause is short again."""
TRIES_OF_A_PORT = 6
"""So often a plain sshd is asked for the port that it gave before: it may still believe in the cut connection."""


class Keeper:
    """A tunnel.

    Parameters
    ----------
    folder : Folder
        Says what to do.
    """

    def __init__(self, folder: Folder) -> None:
        self.folder, self.settings = folder, folder.settings()
        self._over = ""
        self._server: dict[str, Any] | None = None
        self._state: dict[str, Any] = {"process": process.identity(), "run": os.environ.get(RUN_VARIABLE, "")}
        self._with_session = True
        self._there = int(self.settings.get("relay_port") or 0)
        self._tries = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._end("it was asked to end"))

    def _end(self, why: str) -> None:
        self._over = self._over or why

    def run(self) -> int:
        """Work until it is over; returns the exit status."""
        if not self.settings:
            log.error("This tunnel was closed; %%tunnel opens it again.")
            return 1
        trouble: ColabMagicsError | None = None
        try:
            self._say("starting")
            self._start_server()
            self._keep_open()
            self._say("closing")
        except ColabMagicsError as error:
            trouble = error
            log.error("%s", error)
        finally:
            if self._server is not None:
                process.end_tree(self._server["pid"], grace=5.0)
            self.folder.clean()
        if trouble is not None:
            self._say("failed", what=trouble.what, mend=trouble.mend)
            return 1
        log.info("closed: %s", self._over)
        return 0

    def _say(self, phase: str, **values: Any) -> None:
        self._state |= {"phase": phase, "since": time.time(), **values}
        self.folder.say(self._state)

    def _is_over(self) -> bool:
        """Whether it is to end.

        Raises
        ------
        Unavailable
            When its server has ended by itself.
        """
        if not self._over and not self.folder.is_wanted():
            self._end("the session that opened it has ended")
        process.reap()
        if not self._over and self._server is not None and not process.is_alive(self._server):
            raise Unavailable(f"{self._title} has ended by itself.", "Its last words stand above, in the run's log.")
        return bool(self._over)

    @property
    def _title(self) -> str:
        return servers.TITLES.get(self.settings["what"], f"port {self.settings['port']}")

    def _start_server(self) -> None:
        words, what, port = self.settings["server"], self.settings["what"], int(self.settings["port"])
        if not words:
            return
        # What an earlier tunnel of this name has left, should it have been killed.
        process.end_all_with(VARIABLE, str(self.folder.path))
        run = os.environ.get(RUN_VARIABLE)
        pid = process.start_detached(
            words,
            log_file=Path(run, LOG) if run else os.devnull,
            cwd=self.settings["start_in"],
            env={VARIABLE: str(self.folder.path)},
        )
        self._server = process.identity(pid)
        end = time.monotonic() + START_SECONDS
        while not self._is_over() and not servers.is_ready(what, port, self.folder.secret()):
            if time.monotonic() > end:
                raise Unavailable(f"{self._title} does not answer at port {port}.", "Look at the run's log.")
            time.sleep(0.2)

    def _keep_open(self) -> None:
        if self.settings["via"] == "colab":
            self._say("open", address="")
            while not self._is_over():
                time.sleep(LOOK_SECONDS)
            return
        pause, cuts = FIRST_PAUSE, 0
        while not self._is_over():
            began = time.monotonic()
            known, why = self._use(cuts)
            if self._is_over():
                return
            if why is None:
                continue  # at once, in another way
            if not known and (cuts == 0 or isinstance(why, ssh.UnknownHost)):
                raise why
            cuts += 1
            if known and time.monotonic() - began > STEADY_SECONDS:
                pause = FIRST_PAUSE
            self._say("cut", cuts=cuts, why=why.what)
            log.warning("cut (%s); again in %.1f s", why.what, pause)
            self._rest(pause)
            pause = min(2 * pause, LAST_PAUSE)

    def _rest(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._is_over() and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))

    def _use(self, cuts: int) -> tuple[bool, ColabMagicsError | None]:
        """Connect, and wait until that has ended; returns whether it stood, and why it does not any more."""
        try:
            link = self._link()
        except Unavailable as error:
            return False, error
        try:
            lives, shown, limit = True, "", time.monotonic() + KNOWN_SECONDS
            while lives and not self._is_over() and (shown or time.monotonic() < limit):
                lives = link.wait(LOOK_SECONDS)
                if link.address and link.address != shown:
                    shown = link.address
                    self._say("open", address=shown, cuts=cuts)
                    log.info("open: %s", shown)
        finally:
            why = link.close()
        if isinstance(link, SshLink) and link.session_was_refused and self._with_session and link.relay.service is None:
            self._with_session = False
            return True, None
        if lives and not shown:
            why = Unavailable(
                f"{self.settings['relay']} named no address within {KNOWN_SECONDS:.0f} s.", "Say it again."
            )
        self._note_port(shown)
        return bool(shown), why

    def _note_port(self, shown: str) -> None:
        """Want the port again that a plain sshd has given, for a while."""
        if shown.startswith(f"tcp://{LOCAL}:"):
            self._there, self._tries = int(shown.rpartition(":")[2]), 0
            return
        self._tries += 1
        if self._tries >= TRIES_OF_A_PORT:
            self._there = int(self.settings.get("relay_port") or 0)

    def _link(self) -> Link:
        port, tcp = int(self.settings["port"]), bool(self.settings["tcp"])
        if self.settings["via"] == "ngrok":
            return NgrokLink(port, tcp=tcp, token=self.folder.secret(NGROK_TOKEN))
        relay = Relay.named(self.settings["relay"], tcp=tcp)
        return SshLink(relay, port, self.folder, self._there, self._with_session, lambda line: log.info("%s", line))


def main() -> None:
    """Run as a program."""
    os.umask(0o077)
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    sys.exit(Keeper(Folder(Path(sys.argv[1]))).run())


if __name__ == "__main__":
    main()
