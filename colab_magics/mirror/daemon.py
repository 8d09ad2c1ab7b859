"""The process that keeps one folder at one Place: ``python -P -m colab_magics.mirror.daemon STATE_FOLDER``.

It restores once, then hands over what Linux tells and what a look at everything finds. States: INIT → RESTORING →
SCANNING ⇄ IDLE ⇄ SYNCING; deletes wait for the user's word → WAITING; the guard says no → HELD; an error → BACKOFF;
SIGTERM → FLUSHING → STOPPED. It ends by itself when the folder is gone for good, and when the processes that started it
have ended and nothing has changed for `state.QUIET_END` seconds: a run that lives writes its heartbeat into the folder.

Times in ``status.json`` named ``began`` are of the monotonic clock, which all processes of one boot share: whoever
asked at a moment can see whether a pass began after it.
"""

from __future__ import annotations

import logging
import os
import random
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import process
from ..errors import ColabMagicsError, Unavailable, Unmounted
from . import notices, state
from .ending import GONE_SECONDS, Ending, unneeded
from .keeper import Keeper
from .room import Full

log = logging.getLogger("colab_magics.mirror")

FIRST_BACKOFF, LAST_BACKOFF = 0.5, 60.0
HELD_LEAST, HELD_MOST = 5.0, 30.0
"""A Place that is not there is looked for once in so many seconds, as often as all is looked at between these two."""
LOOK_SECONDS = 5.0
"""Requests wake the daemon by a signal; should one get lost, it looks this often. Also the heartbeat."""
TIDY_SECONDS = 60.0
SCAN_SHARE = 250
"""While events come, looks at everything take at most this share of the time: of big folders it is a long one."""
SLOW_SECONDS = 30.0
FLUSH_TRIES = 3
MOST_LOG = 1_000_000
_AT_REST = ("IDLE", "WAITING", "HELD", "BACKOFF", "STOPPED")
_DYING_SECONDS = 2.0
"""A process that was killed counts as dead a moment before its last thread, and with it its lock, is gone."""
REQUESTS = ("push", "restore", "audit", "delete", "delete_earlier", "take_over")


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
        self.answered = dict.fromkeys(REQUESTS, 0.0)
        self.tidied = 0.0
        self.moved = time.time()
        self.ending, self.gone = Ending(config.source), ""
        self._written = 0.0
        self._progress = time.monotonic()
        self._lock = threading.Lock()
        self._config_seen = 0
        self._logged = ""
        self.status: dict[str, Any] = {"state": "INIT", "reason": "", "restore": {}, "good": {}, "began": None}
        self.status["heard"] = dict.fromkeys(REQUESTS, 0.0)
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.keeper = Keeper(folder, config, self.status, self._wake, self._enter)

    def run(self) -> None:
        """Work until SIGTERM, or until it is over, then flush."""
        self._listen()
        for request in REQUESTS:
            # Left by an earlier daemon; after a reboot its times would lie in the future.
            (self.folder / f"{request}.request").unlink(missing_ok=True)
        self._say("INIT", identity=process.identity())
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()
        while not self.stopping:
            self._read_config()
            self.turn()
            self._rest()
            if self._is_over():
                log.info("over: %s", self.gone or "whoever started it has ended, and nothing changes")
                self.stopping = True
        self.flush()

    def turn(self) -> bool:
        """Do what is due, and note how it went; returns whether all was well."""
        began = time.monotonic()
        # In this order: who asks for a push last finds that what was asked for before it is heard too.
        asked = {what: self._asked(what) for what in REQUESTS}
        new = {what for what in REQUESTS if asked[what] > self.answered[what]}
        urgent = self.stopping or "push" in new
        self.status |= {"began": began, "heard": asked}
        try:
            trouble = self._restore() if self._restore_is_due() else ""
            if "take_over" in new:
                with self.keeper.guarded(take_over=True):
                    log.info("taken over by the user's word")
                self.answered["take_over"] = asked["take_over"]
            self._work(urgent, asked)
        except Unavailable as error:
            # Of a disk the sentinel's file tells whether it is the same again; what Drive had not uploaded may be gone.
            self.keeper.doubtful |= isinstance(error, Unmounted) and not self.keeper.mark_tells
            return self._failed("HELD", " ".join(filter(None, (error.what, error.mend))))
        except (ColabMagicsError, OSError) as error:
            return self._failed("BACKOFF", notices.words_of(error))
        except Exception as error:
            # A defect of ours: it must be seen, but the next turn may still save the user's files.
            log.exception("unexpected")
            return self._failed("BACKOFF", f"unexpected: {type(error).__name__}: {error}")
        if urgent:
            self.answered["push"] = asked["push"]
        self._note_success(urgent)
        if trouble:
            return self._failed("BACKOFF", f"the restore failed: {trouble}")
        self.failures = 0
        self.status["error"] = ""
        self.keeper.tell()
        self._say("WAITING" if self.status.get("held_deletes") else "IDLE")
        return True

    def _work(self, urgent: bool, asked: dict[str, float]) -> None:
        keeper, answered = self.keeper, self.answered
        for _ in range(2):
            if asked["audit"] > answered["audit"] or keeper.doubtful:
                lacking = keeper.audit()
                answered["audit"] = asked["audit"]
                self.status["audit"] = {"at": time.time(), "began": time.monotonic(), "lacking": len(lacking)}
            keeper.take_hints()
            scan = urgent or self._scan_at() <= time.monotonic()
            if scan:
                keeper.scan()
            full = self._try(lambda: keeper.send(urgent=urgent))
            if scan:
                full = self._try(keeper.send_folders) or full
            said = {what: asked[what] > answered[what] for what in ("delete", "delete_earlier")}
            keeper.delete(self.status["restore"], confirmed=said["delete"], earlier=said["delete_earlier"])
            answered |= {what: asked[what] for what in said}
            if scan or time.monotonic() - self.tidied >= TIDY_SECONDS:
                full = self._try(keeper.tidy) or full
                self.tidied = time.monotonic()
            if full is not None:
                raise full  # only now: deletes make room
            if not keeper.doubtful:
                return  # otherwise it was seen only now that the Place was mounted anew

    def _try(self, act: Callable[[], Full | None]) -> Full | None:
        """Do something at the Place; returns why there was no room for it."""
        try:
            return act()
        except Full as error:
            return error

    def _note_success(self, urgent: bool) -> None:
        keeper, good = self.keeper, self.status["good"]
        began = keeper.scan_began
        if keeper.handed_at is not None:
            self.moved = max(self.moved, keeper.handed_at)
        if began is not None and began > good.get("began", 0.0) and (urgent or keeper.settled):
            handed = {"files": keeper.handed_files, "bytes": keeper.handed_bytes}
            self.status["good"] = {"began": began, "at": time.time(), **handed}

    def flush(self) -> None:
        """Hand over a last time, then say that we are gone."""
        self._say("FLUSHING")
        self._read_config()
        done, self.gone = False, self.ending.gone(self.keeper.held_source)
        for attempt in range(0 if self.gone else FLUSH_TRIES):
            if attempt:
                time.sleep(FIRST_BACKOFF)
            done = self.turn()
            if done or self.status["state"] == "HELD":
                break
        reason = "" if done else self.gone or self.status["reason"]
        self.keeper.watch.close()
        self.keeper.release()
        self._say("STOPPED", reason, flushed=done, gone=bool(self.gone))

    # ── restore ───────────────────────────────────────────────────────────────────────────────────────────────────

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
            self.keeper.doubtful = bool(self.keeper.ledger.acknowledged)
            return False
        return True

    def _restore(self) -> str:
        """Fetch what the Place has and record how that went; returns what rsync complained of."""
        mode = "light" if self.config.restore == "light" and not self._asked("restore") else "all"
        record: dict[str, Any] = {"mode": mode, "ok": False, "began": time.monotonic(), "at": time.time()}
        self._say("RESTORING")
        trouble = ""
        try:
            plan = self.keeper.bring_back(mode)
            record |= {"ok": True, "files": len(plan.fetch), "conflicts": len(plan.aside)}
            record["unfit"] = {"count": len(plan.unfit), "names": sorted(plan.unfit)[:5]} if plan.unfit else ""
            record["outward"] = {"count": len(plan.outward), "names": sorted(plan.outward)[:5]} if plan.outward else ""
        except Unavailable as error:
            record["error"] = error.what
            raise
        except (ColabMagicsError, OSError) as error:
            record["error"] = trouble = notices.words_of(error)
        finally:
            self.status["restore"] = record
            if record["ok"] or not self.failures:
                log.info("restore: %s", record)
        return trouble

    # ── when ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _scan_at(self) -> float:
        """When to look at everything again."""
        keeper = self.keeper
        if keeper.scan_began is None or keeper.watch.suspicion():
            return 0.0
        events = keeper.watch.state == "watching"
        return keeper.scan_began + max(self.config.every, keeper.scan_cpu * (SCAN_SHARE if events else 20))

    def _failed(self, word: str, reason: str) -> bool:
        most = min(max(self.config.every, HELD_LEAST), HELD_MOST) if word == "HELD" else LAST_BACKOFF
        pause = min(most, FIRST_BACKOFF * 2 ** min(self.failures, 10))
        self.failures += 1
        self.due = time.monotonic() + pause * random.uniform(0.8, 1.2)
        self.keeper.tell()
        self._say(word, reason, error=reason, error_at=time.time(), failures=self.failures)
        return False

    def _rest(self) -> None:
        """Sleep until something is due or asked for."""
        while not self.stopping:
            # Not by the times: a request may be written down a moment after it was made, while a turn begins.
            if any(self._asked(what) > self.status["heard"][what] for what in REQUESTS):
                return
            now = time.monotonic()
            if self.failures:
                left = self.due - now
            else:
                at = min(self._scan_at(), self.tidied + TIDY_SECONDS)
                following = self.keeper.pending.next_due()
                left = (at if following is None else min(at, following)) - now
            if left <= 0:
                return
            self._progress = now
            select.select([self._reader], [], [], min(left, LOOK_SECONDS))
            woken = False
            while select.select([self._reader], [], [], 0)[0]:
                woken |= b"\0" in os.read(self._reader, 512)
            if woken and not self.failures:
                # Events come in crowds: a short while gathers them, and their own time counts, not ours.
                time.sleep(0.03)
                self.keeper.take_hints()
            if self.keeper.watch.state != self.status.get("observer"):
                self.keeper.tell()
                self._write()
            if self._read_config() or self._is_over():
                return

    def _is_over(self) -> bool:
        """Whether this sync ends by itself."""
        self.gone = self.ending.gone(self.keeper.held_source, seconds=min(GONE_SECONDS, self.config.quiet_end))
        waits = bool(self.keeper.pending.waiting) and not self.failures
        return bool(self.gone) or unneeded(self.config, moved=self.moved, waits=waits)

    def _asked(self, what: str) -> float:
        """When somebody asked last, on the monotonic clock; 0 when nobody did."""
        return float((process.read_json(self.folder / f"{what}.request") or {}).get("asked", 0.0))

    def _listen(self) -> None:
        """Let signals wake us."""
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

        def stop(number: int, frame: object) -> None:
            self.stopping = True

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda number, frame: None)

    def _wake(self) -> None:
        """Wake the main thread: something changed."""
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            return  # it is full, so the main thread is about to wake anyway

    def _read_config(self) -> bool:
        """Take over new options; returns whether there were any."""
        try:
            seen = os.stat(self.folder / "config.json").st_mtime_ns
        except FileNotFoundError:
            seen = -1
        if seen == self._config_seen:
            return False
        config = state.Config.load(self.folder)
        if config is None:
            # Our folder was removed, and with it the lock: whoever starts the sync again must not meet us.
            self.stopping = True
            return False
        self._config_seen = seen
        changed, self.config = config != self.config, config
        if changed:
            self.keeper.configure(config)
        return changed

    # ── telling ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _enter(self, word: str) -> None:
        if not self.stopping:
            self._say(word)

    def _say(self, word: str, reason: str = "", **more: Any) -> None:
        now = time.monotonic()
        changed = (word, reason) != (self.status["state"], self.status["reason"])
        passing = word in ("SYNCING", "SCANNING") or (word == "RESTORING" and self.failures)
        told = "" if word in ("IDLE", "WAITING") else notices.gist(f"{word} {reason}")
        if changed and not passing and told != self._logged:
            # Of tries that fail alike the first is enough.
            log.info("%s %s", word, reason)
            self._logged = told
        with self._lock:
            self._progress = now
            self.status |= {"state": word, "reason": reason, **more}
            self.status.pop("slow", None)
        if changed or more or word != "SYNCING" or now - self._written > 0.5:
            self._write()

    def _write(self) -> None:
        with self._lock:
            told = notices.of(self.status, str(self.keeper.place))
            self.status["notices"] = notices.merge(self.status.get("notices", []), told)
            self._written = time.monotonic()
            try:
                state.write_status(self.folder, self.status)
            except OSError as error:
                # A full disk here must not end the sync: it may be what saves the files.
                log.warning("status.json could not be written: %s", error)

    def _beat(self) -> None:
        """Say that we live, also while a dead mount holds the main thread."""
        beat = self.folder / "heartbeat"
        while True:
            try:
                beat.touch()
                stuck = time.monotonic() - self._progress
                if stuck > SLOW_SECONDS and self.status["state"] not in _AT_REST:
                    with self._lock:
                        self.status["slow"] = round(stuck)
                    self._write()
            except OSError as error:
                log.warning("no heartbeat: %s", error)
            time.sleep(LOOK_SECONDS)


def main() -> int:
    """Run the daemon of the state folder that is named on the command line; a second one for it ends."""
    folder = Path(sys.argv[1])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr)
    if (folder / "log.txt").stat().st_size > MOST_LOG:
        os.truncate(folder / "log.txt", 0)
    end = time.monotonic() + _DYING_SECONDS
    while time.monotonic() < end:
        with state.locked(folder / "lock", wait=False) as ours:
            if ours:
                os.chdir("/")
                Daemon(folder).run()
                return 0
        time.sleep(0.05)
    log.info("another process keeps this folder already")
    return 0


if __name__ == "__main__":
    sys.exit(main())
