"""What was handed over, and what is about to be: a file of lines that survives a kill at any byte.

A line each: ``["+", name, size, mtime, ctime]`` acknowledged, with the version that the Place has told at its end where
it tells one, ``["-", name]`` forgotten, ``["i", [names]]`` a batch
that begins, ``["d", name, mode]`` the rights of a folder carried, ``["d", name]`` forgotten. The first line names the
Place's id: at another Place nothing of it counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from .. import process
from .scan import Entry

VERSION = 2


class Ledger:
    """The versions of files that the Place holds by our doing.

    Parameters
    ----------
    file : Path
        Where it is kept.
    place_id : str
        The id of the Place.
    write : bool, default True
        Whether it is this process that writes it.
    """

    def __init__(self, file: Path, place_id: str, *, write: bool = True) -> None:
        self.file, self.place_id = file, place_id
        self.acknowledged: dict[str, Entry] = {}
        self.versions: dict[str, str] = {}
        """What the Place has called the versions that it got, where it does so."""
        self.folders: dict[str, int] = {}
        """The modes of folders that were carried to the Place; a ledger of an older version has none."""
        self.intended: set[str] = set()
        """Files whose batch began in an earlier process, and nobody knows how it ended."""
        self.fresh: set[str] = set()
        """Names that the Place has got since the look at everything before the last one began."""
        self._newest: set[str] = set()
        self._begun: set[str] = set()
        self._lines = 0
        self._waiting: list[str] = []
        self._load()
        self._begun |= self.intended
        if write:
            self.compact()

    def _load(self) -> None:
        try:
            with open(self.file, encoding="utf-8", errors="replace") as stream:
                head = json.loads(stream.readline())
                if head != {"version": VERSION, "place": self.place_id}:
                    return
                for line in stream:
                    try:
                        self._replay(json.loads(line))
                    except (ValueError, TypeError, IndexError):
                        continue  # the line at which an earlier process was killed
        except (OSError, ValueError):
            return

    def _replay(self, words: list[object]) -> None:
        kind = words[0]
        if kind == "+":
            name, size, mtime, ctime = words[1:5]
            self.acknowledged[str(name)] = Entry(*(int(str(number)) for number in (size, mtime, ctime)))
            self._call(str(name), str(words[5]) if len(words) > 5 else "")
            self.intended.discard(str(name))
        elif kind == "-":
            self.acknowledged.pop(str(words[1]), None)
            self.versions.pop(str(words[1]), None)
        elif kind == "i" and isinstance(words[1], list):
            self.intended.update(map(str, words[1]))
        elif kind == "d" and len(words) > 2:
            self.folders[str(words[1])] = int(str(words[2]))
        elif kind == "d":
            self.folders.pop(str(words[1]), None)

    def intend(self, names: Iterable[str]) -> None:
        """Note that these files are about to be written at the Place; in the file when this returns."""
        if fresh := [name for name in names if name not in self._begun]:
            self._begun.update(fresh)
            self._waiting.append(json.dumps(["i", fresh]))
            self.flush()

    def acknowledge(self, name: str, entry: Entry, version: str = "") -> None:
        """Note that the Place holds this version of a file, and what it calls it."""
        if name not in self.acknowledged:
            self.fresh.add(name)
            self._newest.add(name)
        self.acknowledged[name] = entry
        self._begun.discard(name)
        self.intended.discard(name)
        self._call(name, version)
        self._waiting.append(self._line(name))

    def known(self, name: str) -> tuple[str, float] | None:
        """Return what the Place called the version that it got, and its time of writing; see `store.Known`."""
        version = self.versions.get(name)
        return (version, self.acknowledged[name].seconds) if version else None

    def _call(self, name: str, version: str) -> None:
        if version:
            self.versions[name] = version
        else:
            self.versions.pop(name, None)

    def _line(self, name: str) -> str:
        version = self.versions.get(name)
        return json.dumps(["+", name, *self.acknowledged[name], *([version] if version else [])])

    def nothing_new(self) -> None:
        """Note that what the Place has got until now is no news: it came from there."""
        self.fresh.clear()
        self._newest.clear()

    def looked(self) -> None:
        """Note that a look at everything begins."""
        self.fresh, self._newest = set(self._newest), set()

    def forget(self, name: str) -> None:
        """Note that the Place holds it no more, or that we do not answer for it."""
        if self.acknowledged.pop(name, None) is not None:
            self.versions.pop(name, None)
            self._waiting.append(json.dumps(["-", name]))

    def carry(self, name: str, mode: int) -> None:
        """Note that the folder at the Place has the rights that the one here has with this mode."""
        self.folders[name] = mode
        self._waiting.append(json.dumps(["d", name, mode]))

    def forget_folder(self, name: str) -> None:
        """Note that nobody knows what rights a folder at the Place has."""
        if self.folders.pop(name, None) is not None:
            self._waiting.append(json.dumps(["d", name]))

    def flush(self) -> None:
        """Write what was noted."""
        if not self._waiting:
            return
        text = "".join(f"{line}\n" for line in self._waiting)
        with open(self.file, "a", encoding="utf-8") as stream:
            stream.write(text)
        self._lines += len(self._waiting)
        self._waiting = []
        if self._lines > 2 * (len(self.acknowledged) + len(self.folders)) + 10_000:
            self.compact()

    def compact(self) -> None:
        """Write the file anew with what still counts."""
        temporary = self.file.with_name(f".{self.file.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "w", encoding="utf-8") as stream:
                stream.write(json.dumps({"version": VERSION, "place": self.place_id}) + "\n")
                for name in self.acknowledged:
                    stream.write(self._line(name) + "\n")
                for name, mode in self.folders.items():
                    stream.write(json.dumps(["d", name, mode]) + "\n")
                if self._begun:
                    stream.write(json.dumps(["i", sorted(self._begun)]) + "\n")
            os.replace(temporary, self.file)
        except OSError as error:
            # The old file still tells all; a full disk here must not end the sync.
            process.log.warning("the ledger could not be written anew: %s", error)
            temporary.unlink(missing_ok=True)
        self._lines = len(self.acknowledged) + len(self.folders)
