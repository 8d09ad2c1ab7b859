"""The rights of folders: those at the Place follow those here.

A folder is made there with the rights it has here. When they change, no file brings the new ones: what was carried is
written down in the ledger, each look at everything compares, and so does each batch before it is sent, as what is new
in a folder is for those alone who may see it here. The Place is asked only for what has changed.

Of a folder that nobody has written down, such as one that a Place had before, rights are only taken away there: what it
lacks somebody may have meant so. What the user named as the Place is the user's own folder, and loses no more than the
one here does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..transport.places.base import Place
from ..transport.places.store import Store, granted
from .ledger import Ledger
from .patterns import CONFLICT
from .scan import Unreadable

REFUSED = "its rights cannot be changed at the Place"


@dataclass
class FolderRights:
    """Carries the rights of folders to a Place.

    Parameters
    ----------
    source : str
        The folder here.
    place : Place
        The folder there.
    ledger : Ledger
        What was carried.
    """

    source: str
    place: Place
    ledger: Ledger
    due: set[str] = field(default_factory=set)
    """Folders whose rights nobody had carried when all was looked at."""
    _refused: dict[str, int] = field(default_factory=dict)

    def looked(self, folders: Mapping[str, int], unreadable: Unreadable) -> None:
        """Take up the folders that a look at everything found, and their modes."""
        self.due = {name for name, mode in folders.items() if self._is_new(name, granted(mode))}
        gone = [name for name in self.ledger.folders if name not in folders and not unreadable.hides(name)]
        for name in gone:
            self.ledger.forget_folder(name)
        self._refused = {name: mode for name, mode in self._refused.items() if name in folders}

    def carry(self, store: Store, folders: Iterable[str] = ()) -> None:
        """Give these folders, those that are due, and the one that is kept, the rights there that they have here."""
        if not self.place.keeps_links:
            return
        news: dict[str, int] = {}
        exact: dict[str, int] = {}
        less: dict[str, int] = {}
        for name in {"", *self.due, *folders}:
            mode = self._here(name)
            if mode is None or not self._is_new(name, mode):
                continue
            news[name] = mode
            known, own = name in self.ledger.folders, not name and not self.place.parts
            if known and not own:
                exact[name] = mode
            elif known or name:
                less[name] = mode
        self.due = set()
        if not news:
            return
        refused = [*store.set_rights(exact, less=False), *store.set_rights(less, less=True)]
        for name, mode in news.items():
            self._refused.pop(name, None)
            if name in refused:
                self._refused[name] = mode
            else:
                self.ledger.carry(name, mode)
        self.ledger.flush()

    def brought(self, folders: Iterable[str]) -> None:
        """Note that folders came from the Place: what they have here is no change."""
        for name in folders if self.place.keeps_links else ():
            if (mode := self._here(name)) is not None:
                self.ledger.carry(name, mode)

    def doubt(self) -> None:
        """Forget what was carried: the Place may be another copy of itself."""
        for name in list(self.ledger.folders):
            self.ledger.forget_folder(name)

    def told(self) -> dict[str, str]:
        """Return the folders whose rights the Place does not take, and why."""
        return {f"{name or '.'}/": REFUSED for name in self._refused}

    def _is_new(self, name: str, mode: int) -> bool:
        """Whether nobody has carried this mode, or tried to; what lost a conflict is for its owner alone there."""
        known = self.ledger.folders.get(name) == mode or self._refused.get(name) == mode
        return not known and name.partition("/")[0] != CONFLICT

    def _here(self, name: str) -> int | None:
        try:
            seen = os.lstat(os.path.join(self.source, name) if name else self.source)
        except OSError:
            return None
        return granted(seen.st_mode) if stat.S_ISDIR(seen.st_mode) else None
