"""The process that keeps one folder at one Place: ``python -P -m colab_magics.mirror.daemon STATE_FOLDER``.

It restores once, then sends every interval and whenever somebody asks. States: STARTING → RESTORING → IDLE ⇄ SYNCING;
a Place that is not there is HELD, any other error BACKOFF, and both are tried again; SIGTERM → FLUSHING → STOPPED.

Times in ``status.json`` named ``began`` are of the monotonic clock, which all processes of one boot share: whoever
asked at a moment can see whether a pass began after it.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

from .. import process
from ..errors import ColabMagicsError, Unavailable
from . import guard, state, transfer

log = logging.getLogger("colab_magics.mirror")

FIRST_BACKOFF, LAST_BACKOFF = 0.5, 60.0
HELD_SECONDS = 30.0
"""A Place that is not there is looked for at least this often: looking costs nothing."""
LOOK_SECONDS = 5.0
"""Requests wake the daemon by a signal; should one get lost, it looks this often."""
FLUSH_TRIES = 3
MOST_LOG = 1_000_000


class Daemon:
    """One folder kept at one Place.

    Parameters
    ----------
    folder : Path
        The folder of `colab_magics.mirror.state` that says what to do.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = state.Config.load(folder)
        if config is None:
            raise SystemExit(f"{folder / 'config.json'} cannot be read")
        self.config = config
        self.stopping = False
        self.failures = 0
        self.due = 0.0
        self.held_source: int | None = None
        self.status: dict[str, Any] = {"state": "STARTING", "reason": "", "restore": {}, "good": {}, "began": None}

    def run(self) -> None:
        """Work until SIGTERM, then flush."""
        woken = self._listen()
        for request in ("push", "restore"):
            # Left by an earlier daemon; after a reboot its times would lie in the future.
            (self.folder / f"{request}.request").unlink(missing_ok=True)
        self._say("STARTING", identity=process.identity())
        while not self.stopping:
            self._read_config()
            self.cycle()
            self._rest(woken)
        self.flush()

    def cycle(self) -> bool:
        """Restore if that is due, send, and note how it went; returns whether all was well."""
        self.status["began"] = time.monotonic()
        try:
            trouble = self._restore() if self._restore_is_due() else ""
            self._push()
        except Unavailable as error:
            return self._failed("HELD", error.what)
        except (ColabMagicsError, OSError) as error:
            return self._failed("BACKOFF", str(error))
        except Exception as error:
            # A defect of ours: it must be seen, but the next pass may still save the user's files.
            log.exception("unexpected")
            return self._failed("BACKOFF", f"unexpected: {type(error).__name__}: {error}")
        if trouble:
            return self._failed("BACKOFF", f"the restore failed: {trouble}")
        self.failures = 0
        self.due = time.monotonic() + self.config.every
        self._say("IDLE", error="")
        return True

    def flush(self) -> None:
        """Send a last time, then say that we are gone."""
        self._say("FLUSHING")
        self._read_config()
        done = False
        for attempt in range(FLUSH_TRIES):
            if attempt:
                time.sleep(FIRST_BACKOFF)
            done = self.cycle()
            if done or self.status["state"] == "HELD":
                break
        reason = "" if done else self.status["reason"]
        self._say("STOPPED", reason, flushed=done)

    def _restore_is_due(self) -> bool:
        record = self.status["restore"]
        if self._asked("restore") > record.get("began", 0.0):
            return True
        if self.stopping:
            return False  # whoever stops us waits for what is here to be sent, not for what is there
        if record:
            return not record["ok"] and record["mode"] != "none"
        if self.config.restore == "none":
            self.status["restore"] = {"mode": "none", "ok": False, "began": time.monotonic()}
            return False
        return True

    def _restore(self) -> str:
        """Fetch what the Place has and record how that went; returns what rsync complained of."""
        mode = "light" if self.config.restore == "light" and not self._asked("restore") else "all"
        record: dict[str, Any] = {"mode": mode, "ok": False, "began": time.monotonic(), "at": time.time()}
        self._say("RESTORING")
        trouble, source, place = "", Path(self.config.source), self.config.target()
        try:
            done = transfer.pull(
                place, source, expected=self.config.place_id, exclude=self.config.exclude, light=mode == "light"
            )
            record |= {
                "ok": True,
                "files": done.files,
                "empty": not place.names(),
            }
            self._hold(source)
        except Unavailable as error:
            record["error"] = error.what
            raise
        except (ColabMagicsError, OSError) as error:
            record["error"] = trouble = str(error)
        finally:
            self.status["restore"] = record
            log.info("restore: %s", record)
        return trouble

    def _hold(self, source: Path) -> None:
        """Keep the folder that was restored open; see `guard.why_no_deletes`."""
        if self.held_source is not None:
            os.close(self.held_source)
        self.held_source = os.open(source, os.O_RDONLY | os.O_DIRECTORY)

    def _push(self) -> None:
        source = Path(self.config.source)
        if not source.is_dir():
            raise Unavailable(f"The folder {source} is gone; what was sent of it is untouched.")
        record = self.status["restore"]
        began = time.monotonic()
        if not self.stopping:
            self._say("SYNCING")
        done = transfer.push(
            self.config,
            update=not guard.is_complete(record),
            why_no_deletes=lambda: guard.why_no_deletes(record, source, self.held_source),
        )
        self.status |= {
            "good": {"began": began, "at": time.time(), "files": done.files},
            "held_deletes": done.held_deletes,
            "skipped": list(done.skipped[:5]),
            "skipped_count": len(done.skipped),
        }

    def _failed(self, word: str, reason: str) -> bool:
        pause = min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(self.failures, 10))
        if word == "HELD":
            pause = min(self.config.every, HELD_SECONDS)
        self.failures += 1
        self.due = time.monotonic() + pause
        self._say(word, reason, error=reason, failed_at=time.time())
        return False

    def _rest(self, woken: int) -> None:
        """Sleep until the next pass is due or asked for."""
        while not self.stopping:
            began = self.status["began"]
            if self._asked("push") > began or self._asked("restore") > began:
                return
            left = self.due - time.monotonic()
            if left <= 0:
                return
            select.select([woken], [], [], min(left, LOOK_SECONDS))
            while select.select([woken], [], [], 0)[0]:
                os.read(woken, 512)
            if self._read_config():
                return

    def _asked(self, what: str) -> float:
        """When somebody asked last, on the monotonic clock; 0 when nobody did."""
        return float((process.read_json(self.folder / f"{what}.request") or {}).get("asked", 0.0))

    def _listen(self) -> int:
        """Let signals wake us; returns the file to wait on."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

        def stop(number: int, frame: object) -> None:
            self.stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda number, frame: None)
        return reader

    def _read_config(self) -> bool:
        """Take over new options; returns whether there were any."""
        config = state.Config.load(self.folder)
        if config is None:
            # Our folder was removed, and with it the lock: whoever starts the sync again must not meet us.
            self.stopping = True
            return False
        changed, self.config = config != self.config, config
        return changed

    def _say(self, word: str, reason: str = "", **more: Any) -> None:
        if (word, reason) != (self.status["state"], self.status["reason"]) and word not in ("IDLE", "SYNCING"):
            log.info("%s %s", word, reason)
        self.status |= {"state": word, "reason": reason, **more}
        try:
            process.write_json(self.folder / "status.json", self.status)
        except OSError as error:
            # A full disk here must not end the sync: it may be what saves the files.
            log.warning("status.json could not be written: %s", error)


def main() -> int:
    """Run the daemon of the state folder that is named on the command line; a second one for it ends at once."""
    folder = Path(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    if (folder / "log.txt").stat().st_size > MOST_LOG:
        os.truncate(folder / "log.txt", 0)
    with state.locked(folder / "lock", wait=False) as ours:
        if not ours:
            log.info("another process keeps this folder already")
            return 0
        os.chdir("/")
        Daemon(folder).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
