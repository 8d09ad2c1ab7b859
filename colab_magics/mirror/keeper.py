"""The work of a sync, a step at a time: look, store over, delete, bring back. `daemon` says when."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ColabMagicsError, Unavailable, Unmounted
from ..files import DEAD_MOUNT
from ..transport import filters
from ..transport.places.store import Mark, Opened, rights_of
from . import guard, native, owner, patterns, restore, scan, state
from .deletes import Trash, folders_of, renamed
from .lease import Leases
from .ledger import Ledger
from .looking import Findings, Looker
from .native import CHANGED, DONE, GONE, OPEN, OTHER
from .pending import HOT_SECONDS, Pending
from .rights import FolderRights
from .room import Full, no_space
from .sender import Batch, Keep, Sender, slices
from .watch import Watch
from .ways import sweep

log = logging.getLogger("colab_magics.mirror")

BUSY_SECONDS = 2.0
"""A file that is open for writing is looked at this often, beside the event of its closing."""
TRIES = 6
"""How often one request tries a file that changes while it is copied."""


class Keeper(Looker):
    """Keeps one folder at one Place.

    Parameters
    ----------
    folder : Path
        What is written down about it; see `colab_magics.mirror.state`.
    config : state.Config
        What to do.
    status : dict
        What it tells; the keeper fills in its part.
    wake : callable
        Called from another thread when something changed.
    say : callable
        Called with a state's name when one begins.
    """

    def __init__(
        self,
        folder: Path,
        config: state.Config,
        status: dict[str, Any],
        wake: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.folder, self.status, self.say = folder, status, say
        self.leases = Leases()
        self.pending = Pending()
        self.seen = Findings()
        self.handed_files = self.handed_bytes = 0
        self.handed_at: float | None = None
        self.conflicts = 0
        self.scan_began: float | None = None
        self.scan_cpu = 0.0
        self.held_source: int | None = None
        self.swept = self.adopted = False
        self.folders: set[str] = set()
        """Folders that were made at the Place because they were empty."""
        self.doubtful = False
        """Whether the Place may lack what was handed over: it was mounted anew, or is a copy of itself."""
        self.source = config.source
        self.ownership = owner.Ownership(folder.name)
        self.watch = Watch(config.source, wake)
        self.place_id = ""
        self.mark: Mark | None = None
        self.configure(config)

    def configure(self, config: state.Config) -> None:
        """Take over options."""
        self.config = config
        self.place = config.target()
        if config.place_id != self.place_id:
            self.place_id, self.mark = config.place_id, None
            self.ledger = Ledger(self.folder / "journal.jsonl", self.place_id)
            self.trash = Trash(self.folder / "trash.json", self.place_id)
            self.adopted, self.folders = False, set()
        self.left_out = filters.matcher([*patterns.OURS, *patterns.NOT_SENT, *config.exclude])
        flags, deleting = guard.split_flags(config.rsync) if config.rsync is not None else ([], [])
        before, self.deleting = self.deleting, config.delete or bool(deleting)
        if self.scan_began is not None and self.deleting != before:
            self.follow()
            self.folders = {name for name in self.folders if os.path.lexists(os.path.join(self.source, name))}
        keep = Keep(config.keep[0], filters.matcher([config.keep[1]])) if config.keep else None
        self.sender = Sender(
            self.source, self.place, self.ledger, self.leases, keep=keep, flags=guard.special_flags(flags)
        )
        self.rights = FolderRights(self.source, self.place, self.ledger)
        self.flags = flags
        self.pending.large = config.large
        self.pending.hot = min(HOT_SECONDS, config.every) if self.place.uploads_later else 0.0

    # ── handing over ──────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def mark_tells(self) -> bool:
        """Whether the sentinel's file tells if the Place is the same as before; of Drive what is there comes later."""
        return self.mark is not None and not self.place.uploads_later

    @contextmanager
    def guarded(self, *, take_over: bool = False) -> Iterator[Opened]:
        """Open the Place when it is there, ours, and nobody else's.

        Raises
        ------
        Unavailable
            When it is not; nothing may be written.
        """
        if not os.path.isdir(self.source):
            raise Unavailable(
                f"The folder {self.source} is gone; what was handed over of it is untouched.",
                f"If that is meant: %sync stop {self.source}",
            )
        try:
            with self.place.opened(self.place_id, make=rights_of(self.source), known=self.mark) as opened:
                opened.store.source = self.source
                if self.mark is not None and opened.mark != self.mark:
                    self.doubtful = True
                self.mark = opened.mark
                if other := self.ownership.claim(opened.store, take_over=take_over):
                    self.status["owner"] = other
                    raise Unavailable(f"{self.place}: {owner.told(other)}.", owner.TAKE_OVER)
                self.status.pop("owner", None)
                if not self.swept:
                    sweep(opened.store, Path(self.source))
                    self.swept = True
                yield opened
        except OSError as error:
            raise self._explained(error) from error

    def _explained(self, error: OSError) -> Exception:
        """Tell errors that last from those that pass."""
        what = error.strerror or str(error)
        if error.filename is not None and os.fsdecode(error.filename).startswith(str(self.folder)):
            return Unavailable(f"{self.folder} cannot be written: {what}.", "Free some space on this machine.")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return no_space(what)
        if error.errno == errno.EROFS:
            return Unavailable(f"{self.place} is mounted read-only.", "Mount it again for writing.")
        if error.errno in DEAD_MOUNT:
            return Unmounted(f"The mount of {self.place} has died: {what}.", self.place.mount_again())
        return error

    def send(self, *, urgent: bool) -> Full | None:
        """Hand over what may go now; `urgent`: everything that changed. Returns why some had no room."""
        full: Full | None = None
        for attempt in range(TRIES if urgent else 1):
            if attempt:
                time.sleep(0.1 * attempt)
            names = self._pick(self.pending.all() if urgent else self.pending.ready(), urgent=urgent)
            if not names:
                return full
            self.say("SYNCING")
            again, full = False, None
            for batch in slices(names, {name: self.pending.waiting[name].size for name in names}):
                with self.guarded() as opened:
                    self.rights.carry(opened.store, folders_of(batch))
                    stubborn = {n for n in batch if n in self.pending.waiting and self.pending.waiting[n].tries >= 3}
                    done = self.sender.send(
                        opened, batch, open_since=self.seen.open_since, urgent=urgent, stubborn=stubborn
                    )
                again |= self._record(done)
                self.tell()
                self.say("SYNCING")
                full = full or done.full
                if done.full is not None and not done.files:
                    break  # small ones went first
            if not again:
                return full
        return full

    def send_folders(self) -> None:
        """Make the empty folders there, which no file brings; with ``--delete`` those go that are gone here."""
        fresh = self.seen.empty - self.folders
        gone = {name for name in self.folders if not os.path.lexists(os.path.join(self.source, name))}
        if not self.deleting or guard.why_no_deletes(self.status["restore"], Path(self.source), self.held_source):
            gone = set()
        if fresh or gone or self.rights.due:
            with self.guarded() as opened:
                opened.store.make_folders(sorted(fresh))
                opened.store.drop_folders(sorted(gone))
                self.rights.carry(opened.store)
            self.folders = (self.folders | fresh) - gone

    def _pick(self, names: Iterable[str], *, urgent: bool) -> list[str]:
        """Leave out what need not or cannot go now, without asking the Place."""
        names = list(names)
        few, now, chosen = len(names) <= 200, time.monotonic(), []
        for name, found in self._looks(names):
            if found is None:
                self.pending.drop(name)
                if name in self.ledger.acknowledged:
                    self.seen.gone.add(name)
                continue
            if not self._note(name, *found, quiet=True):
                self.pending.drop(name)
                continue
            waiting = self.pending.waiting[name]
            if not urgent:
                self.pending.hold_back(name, found[0].size)
                if waiting.not_before > now:
                    continue
            if (few or name in self.seen.open_since) and self._is_open(name, urgent):
                continue
            chosen.append(name)
        return chosen

    def _is_open(self, name: str, urgent: bool) -> bool:
        if self.sender.resting(name, self.seen.open_since, urgent).outcome != OPEN:
            return False
        self._busy(name)
        return True

    def _busy(self, name: str) -> None:
        self.seen.open_since.setdefault(name, time.time())
        self.pending.later(name, BUSY_SECONDS)

    def _record(self, done: Batch) -> bool:
        """Take up what became of a batch; returns whether some of it should be tried again at once."""
        again = False
        for name, copied in done.copied.items():
            if copied.outcome == DONE and name not in done.refused:
                self.pending.done(name, copied.entry.size if copied.entry else 0)
                if name in self.seen.open_since and copied.closed:
                    del self.seen.open_since[name]
                    self.seen.whole[name] = time.time()
                self.seen.refused.pop(name, None)
            elif copied.outcome == OPEN:
                self._busy(name)
            elif copied.outcome == CHANGED and name in self.pending.waiting:
                waiting = self.pending.waiting[name]
                waiting.tries += 1
                self.pending.later(name, min(30.0, 0.3 * 2**waiting.tries))
                again = True
            elif copied.outcome == GONE:
                self.pending.drop(name)
            elif copied.outcome in (OTHER, native.UNREADABLE):
                self.pending.drop(name)
                self.seen.refused[name] = (
                    copied.entry or scan.version(self.source, name),
                    copied.why or "no plain file",
                )
        for name, why in done.refused.items():
            self.pending.drop(name)
            self.seen.refused[name] = (scan.version(self.source, name), f"the Place refuses it: {why}")
        if done.files:
            self.handed_files += done.files
            self.handed_bytes += done.bytes
            self.handed_at = time.time()
        self.conflicts += done.conflicts
        return again

    @property
    def settled(self) -> bool:
        """Whether everything was handed over but what is open for writing."""
        return all(name in self.seen.open_since or one.tries >= TRIES for name, one in self.pending.waiting.items())

    # ── deleting, comparing, bringing back ────────────────────────────────────────────────────────────────────────

    def delete(self, record: dict[str, Any], *, confirmed: bool = False, earlier: bool = False) -> None:
        """Move to the trash there what is gone here, when it may be; `earlier`: also what was gone before."""
        gone = self.seen.gone = self._still_gone(self.seen.gone - self.seen.earlier)
        if earlier and self.deleting:
            self._delete_earlier(record)
        held = ""
        if gone and self.deleting:
            held = guard.why_no_deletes(record, Path(self.source), self.held_source, confirmed=confirmed)
            if not held:
                moved = renamed(gone, self.ledger)
                if not confirmed:
                    known = len(self.ledger.acknowledged) - len(moved) - len(self.seen.earlier)
                    held = self.trash.over_budget(len(gone - moved), known)
                if going := moved if held else gone:
                    self._delete(sorted(going), free=moved)
                    gone = self.seen.gone = gone - going
            if held and not confirmed and self.pending.is_young(self.ledger.acknowledged):
                held = ""  # what waits may be the same files under other names; then they go by themselves
        self._tell_earlier()
        self.status["held_deletes"] = {"count": len(gone), "reason": held, "names": sorted(gone)[:5]} if held else ""

    def _still_gone(self, names: Iterable[str]) -> set[str]:
        known = self.ledger.acknowledged
        return {name for name, found in self._looks(name for name in names if name in known) if found is None}

    def _delete_earlier(self, record: dict[str, Any]) -> None:
        going = self._still_gone(self.seen.earlier)
        if going and not guard.why_no_deletes(record, Path(self.source), self.held_source, confirmed=True):
            self._delete(sorted(going), free=going)
            self.seen.earlier = set()

    def _delete(self, names: list[str], *, free: set[str]) -> None:
        with self.guarded() as opened:
            self.trash.take(opened.store, names, self.ledger, free=free)
            left = [name for name in folders_of(names) if not os.path.lexists(os.path.join(self.source, name))]
            opened.store.drop_folders(left)

    def tidy(self) -> None:
        """Empty the trash of what is old, and say at the Place that we live."""
        with self.guarded() as opened:
            if not self.adopted:
                self.trash.adopt(opened.store)
                self.adopted = True
            self.sender.adopt_versions(opened.store)
            self.trash.purge(opened.store, truncate=self.place.uploads_later)
            self.status["free"] = opened.store.free()

    def audit(self) -> list[str]:
        """Compare everything with the Place and send again what is not as it was handed over."""
        with self.place.opened(self.place_id, make=rights_of(self.source)) as opened:
            self.mark = opened.mark
            hidden = [*patterns.OURS, *self.config.exclude]
            found = opened.store.compare(Path(self.source), hidden=hidden, fetch=False, known=self.ledger.known)
        lacking = []
        for one in found:
            if one.alike:
                continue
            lacking.append(one.name)
            self.ledger.forget(one.name)
            if (here := scan.look(self.source, one.name)) is not None:
                self._note(one.name, *here, quiet=True)
        self.rights.doubt()
        self.ledger.flush()
        self.doubtful = False
        return lacking

    def bring_back(self, mode: str) -> restore.Plan:
        """Fetch what the Place has."""
        source = Path(self.source)
        source.mkdir(parents=True, exist_ok=True)
        with self.place.opened(self.place_id) as opened:
            if not self.place.names():
                plan = restore.Plan()
            else:
                store, light = opened.store, mode == "light"
                plan = restore.plan(store, source, self.ledger, exclude=self.config.exclude, light=light)
                restore.carry_out(plan, self.place, store, source, self.ledger, flags=self.flags)
        self.rights.brought(plan.folders)
        if mode == "all":
            for name in [name for name in self.ledger.acknowledged if name not in plan.there]:
                self.ledger.forget(name)  # deleted there, or by another hand: sent again if it is here
            self.ledger.flush()
            self.saw_all = True
        self.ledger.nothing_new()
        self.conflicts += len(plan.aside)
        if self.held_source is not None:
            os.close(self.held_source)
        # Held open, its number in the file system cannot go to another; see `guard.why_no_deletes`.
        self.held_source = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
        return plan

    def release(self) -> None:
        """Say at the Place that nobody keeps it any more."""
        try:
            with self.place.opened(self.place_id) as opened:
                self.ownership.release(opened.store)
        except (ColabMagicsError, OSError) as error:
            log.info("the owner's file stays: %s", error)

    def tell(self) -> None:
        """Fill in the status."""
        seen, told = self.seen, list(self.rights.told().items())
        # Of those that are open others are there already as they are here.
        busy = [name for name in seen.open_since if name in self.pending.waiting]
        self.status |= {
            "pending": self.pending.summary(),
            "handed": {"files": self.handed_files, "bytes": self.handed_bytes, "at": self.handed_at},
            "uploaded": None if self.place.uploads_later else True,
            "busy": [
                {"path": name, "since": seen.open_since[name], "whole": seen.whole.get(name)} for name in busy[:10]
            ],
            "busy_count": len(busy),
            "trash": self.trash.summary(),
            "conflicts": self.conflicts,
            "observer": self.watch.state,
            "restarts": max(0, self.watch.restarts),
            "skipped": sorted(seen.skipped)[:5],
            "skipped_count": len(seen.skipped),
            "refused": dict([*((name, why) for name, (_, why) in seen.refused.items()), *told][:5]),
            "refused_count": len(seen.refused) + len(told),
            "secrets": sorted(seen.secrets)[:5],
        }
