"""The handle of a running sync."""

from __future__ import annotations

import html
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .. import process, units
from ..errors import ColabMagicsError, CommandFailed, InvalidInput, Unavailable
from . import restore as restore_of
from . import show, state
from .ledger import Ledger

LOOK_SECONDS = 0.05
URGE_SECONDS = 2.0


class Sync:
    """One folder that is kept at one Place by a process of its own.

    Handles are made by `colab_magics.mirror.control`; any process may hold one.

    Parameters
    ----------
    folder : Path
        Where the sync writes down what it does; see `colab_magics.mirror.state`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.detailed = False
        self.others: Sequence[Sync] = ()
        """Other syncs of this machine, to be listed below."""

    @property
    def config(self) -> state.Config:
        """What it is to do."""
        config = state.Config.load(self.folder)
        if config is None:
            raise Unavailable(f"What is known of this sync is gone ({self.folder}).", "%sync starts it again")
        return config

    @property
    def source(self) -> Path:
        """The folder here."""
        return Path(self.config.source)

    @property
    def place(self) -> str:
        """The folder at the Place, for people."""
        try:
            return str(self.config.target())
        except InvalidInput:  # a kind that came from a package which is not installed any more
            return self.config.place

    def status(self) -> dict[str, Any]:
        """All that its process wrote down last."""
        return state.status(self.folder)

    def state(self) -> str:
        """Return its state: ``IDLE``, ``SYNCING``, ``RESTORING``, ``HELD``, ``BACKOFF``, ``STOPPED`` … or ``GONE``.

        ``HELD``: the Place is not there, nothing is written until it is. ``GONE``: its process has died.
        """
        found = self.status()
        return str(found["state"]) if state.alive(found) or found.get("state") == "STOPPED" else "GONE"

    @property
    def alive(self) -> bool:
        """Whether its process works."""
        return state.alive(self.status())

    @property
    def warning(self) -> str:
        """What the user should know now; empty when all is well."""
        return show.warning(self)

    @property
    def beat(self) -> float:
        """When its process gave its last sign of life, seconds since the epoch; 0 before the first."""
        try:
            return (self.folder / "heartbeat").stat().st_mtime
        except OSError:
            return 0.0

    def notices(self) -> list[dict[str, Any]]:
        """Return what a user must see without asking: ``{"key", "at", "text"}`` each; none when its process is gone."""
        found = self.status()
        told: list[dict[str, Any]] = found.get("notices") or []
        return told if state.alive(found) else []

    def now(self, timeout: float = 600.0, *, delete: bool = False, earlier: bool = False) -> Sync:
        """Hand over everything that has changed before this call.

        A file that somebody has open for writing is left out, and named in `warning`; of a log goes what there is.

        Parameters
        ----------
        timeout : float, default 600.0
            Seconds.
        delete : bool, default False
            Delete what waits for the user's word, too.
        earlier : bool, default False
            Delete what was gone here before the sync followed deletions, too.

        Raises
        ------
        CommandFailed
            When that pass failed, or took longer.
        Unavailable
            When the Place is not there, or the process is gone.
        """
        for word in ("delete",) * delete + ("delete_earlier",) * earlier:
            self.ask(word)
        return self._wait_for_pass(timeout, patient=False)

    def wait(self, timeout: float = 600.0) -> Sync:
        """Wait until a pass that began after this call has ended well, over errors that pass.

        Parameters
        ----------
        timeout : float, default 600.0
            Seconds.

        Raises
        ------
        CommandFailed
            When none did in time; tells the last error.
        Unavailable
            When the process is gone.
        """
        return self._wait_for_pass(timeout, patient=True)

    def restore(self, timeout: float | None = None) -> Sync:
        """Fetch what the Place has: never deletes, never overwrites what is newer here.

        Parameters
        ----------
        timeout : float, optional
            Seconds; by default as long as it takes.

        Raises
        ------
        CommandFailed
            When it failed.
        """
        asked = self.ask("restore")
        found = self.until(
            lambda found: (found.get("restore") or {}).get("began", 0.0) >= asked, timeout, "the restore"
        )
        record = found["restore"]
        if not record["ok"]:
            raise CommandFailed(f"The restore of {self.source} failed.\n{record.get('error', '')}", "Try again.")
        return self

    def plan(self) -> restore_of.Plan:
        """Say what a restore would do, and do nothing."""
        config = self.config
        place = config.target()
        ledger = Ledger(self.folder / "journal.jsonl", config.place_id, write=False)
        with place.opened(config.place_id) as opened:
            if not place.names():
                return restore_of.Plan()
            return restore_of.plan(opened.store, self.source, ledger, exclude=config.exclude, light=False)

    def verify(self, timeout: float | None = None) -> int:
        """Compare everything with the Place by size and time, and hand over again what is not alike there.

        Returns
        -------
        int
            How many files the Place lacked, or held in another version.

        Raises
        ------
        CommandFailed
            When it failed.
        Unavailable
            When the Place is not there.
        """
        asked = self.ask("audit")
        found = self.until(
            lambda found: (found.get("audit") or {}).get("began", 0.0) >= asked,
            timeout,
            "verify",
            heard=("audit", asked),
        )
        return int(found["audit"]["lacking"])

    def stop(self, timeout: float = 600.0) -> Sync:
        """Send a last time and end the process.

        Parameters
        ----------
        timeout : float, default 600.0
            Seconds for the last pass.

        Raises
        ------
        CommandFailed
            When the last pass failed or did not end in time.
        """
        # The lock of those that start: nobody is handed a process that is about to end.
        with state.locked(self.folder / "start.lock", wait=True):
            found = self.status()
            if not state.alive(found):
                return self
            os.kill(int(found["identity"]["pid"]), signal.SIGTERM)
            self.wait_for_end(timeout)
        process.reap()
        found = self.status()
        if not (found.get("flushed") or found.get("gone")):
            why = found.get("reason") or "it was killed"
            raise CommandFailed(
                f"The sync of {self.source} is stopped, but its last pass failed: {why}",
                "What was not sent is still in that folder. %sync starts it again.",
            )
        return self

    def wait_for_end(self, timeout: float) -> None:
        """Wait until the process is gone; see `stop`."""
        who, end = self.status().get("identity") or {}, time.monotonic() + timeout
        while process.is_alive(who):
            if time.monotonic() > end:
                raise CommandFailed(
                    f"The last pass has not ended within {units.show_seconds(timeout)}.",
                    f"%sync status shows how far it is; 'kill -9 {who.get('pid')}' ends it as it is.",
                )
            time.sleep(LOOK_SECONDS)

    def ask(self, what: str) -> float:
        """Ask the process for a ``push``, ``restore``, ``audit``, ``delete``, ``delete_earlier`` or ``take_over``.

        The last three are the user's word, which counts in the next turn: to be followed by asking for a ``push``.

        Returns
        -------
        float
            When that was, on the monotonic clock.
        """
        found = self.status()
        if not state.alive(found):
            raise self._gone()
        asked = time.monotonic()
        process.write_json(self.folder / f"{what}.request", {"asked": asked})
        try:
            os.kill(int(found["identity"]["pid"]), signal.SIGUSR1)
        except ProcessLookupError:
            raise self._gone() from None
        return asked

    def until(
        self,
        condition: Callable[[dict[str, Any]], bool],
        timeout: float | None,
        what: str,
        *,
        heard: tuple[str, float] | None = None,
        urge: bool = False,
    ) -> dict[str, Any]:
        """Wait until the status fulfils `condition` and return it; see `wait` for the errors.

        Parameters
        ----------
        condition : callable
            From a status to whether it is reached.
        timeout : float or None
            Seconds.
        what : str
            What is waited for, for the error.
        heard : tuple of (str, float), optional
            A request, and when it was made: the first failure of a turn that knew of it ends the waiting. What failed
            before, or at the same time, does not count.
        urge : bool, default False
            Ask again while it fails: whoever waits need not wait for the pause after failures, too.
        """
        began = urged = time.monotonic()
        while True:
            found = self.status()
            if condition(found):
                return found
            if not state.alive(found):
                raise self._gone()
            failing = found.get("state") in ("HELD", "BACKOFF")
            if failing and urge and time.monotonic() - urged > URGE_SECONDS:
                urged = self.ask("push")
            if failing and heard is not None and (found.get("heard") or {}).get(heard[0], 0.0) >= heard[1]:
                kind = Unavailable if found["state"] == "HELD" else CommandFailed
                raise kind(f"{self.source} could not be sent: {found['reason']}", "It is tried again: %sync status")
            if timeout is not None and time.monotonic() - began > timeout:
                last = f" Last error: {found['error']}" if found.get("error") else ""
                raise CommandFailed(
                    f"{what} has not ended well within {units.show_seconds(timeout)}.{last}",
                    "It goes on: %sync status shows how far it is.",
                    returncode=124,
                )
            time.sleep(LOOK_SECONDS)

    def _wait_for_pass(self, timeout: float, *, patient: bool) -> Sync:
        asked = self.ask("push")
        self.until(
            lambda found: (found.get("good") or {}).get("began", 0.0) >= asked,
            timeout,
            "the sync",
            heard=None if patient else ("push", asked),
            urge=patient,
        )
        return self

    def _gone(self) -> Unavailable:
        if self.state() == "STOPPED":
            return Unavailable(f"The sync of {self.source} is stopped.", "%sync starts it again")
        log = (self.folder / "log.txt").read_text(errors="replace").splitlines()[-3:]
        said = "\n".join(["", *log]) if log else ""
        return Unavailable(f"The process that syncs {self.source} is gone.{said}", "%sync starts it again")

    def __str__(self) -> str:
        words = show.text(self) if self.detailed else show.line(self)
        return _plain([words, *map(show.line, self.others)])

    def __repr__(self) -> str:
        return f"<Sync {self.config.source} → {self.place}: {self.state()}>"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # What an IPython terminal shows.
        printer.text(repr(self) if cycle else str(self))


def _plain(lines: Iterable[str]) -> str:
    """Join lines; names that are no text are escaped."""
    return "\n".join(lines).encode("utf-8", "backslashreplace").decode()


class Syncs:
    """Several syncs: of one folder, one for each Place; or all of this machine.

    Parameters
    ----------
    syncs : list of Sync
        Their handles.
    """

    def __init__(self, syncs: list[Sync]) -> None:
        self.syncs = syncs

    def __iter__(self) -> Iterator[Sync]:
        return iter(self.syncs)

    def __len__(self) -> int:
        return len(self.syncs)

    def __getitem__(self, index: int) -> Sync:
        return self.syncs[index]

    def now(self, timeout: float = 600.0, *, delete: bool = False, earlier: bool = False) -> Syncs:
        """See `Sync.now`."""
        return self._each(lambda one: one.now(timeout, delete=delete, earlier=earlier))

    def wait(self, timeout: float = 600.0) -> Syncs:
        """See `Sync.wait`."""
        return self._each(lambda one: one.wait(timeout))

    def restore(self, timeout: float | None = None) -> Syncs:
        """See `Sync.restore`."""
        return self._each(lambda one: one.restore(timeout))

    def stop(self, timeout: float = 600.0) -> Syncs:
        """See `Sync.stop`."""
        return self._each(lambda one: one.stop(timeout))

    def _each(self, act: Callable[[Sync], Any]) -> Syncs:
        """Do it with all; one that fails keeps no other from it."""
        failed = []
        for one in self.syncs:
            try:
                act(one)
            except ColabMagicsError as error:
                failed.append(error)
        if failed:
            raise failed[0]
        return self

    def __str__(self) -> str:
        return "\n".join(map(str, self.syncs))

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))
