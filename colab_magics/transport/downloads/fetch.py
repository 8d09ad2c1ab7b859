"""One file from elsewhere, whole or not at all: resumed after a cut, checked, published by rename.

What has come waits beside the target under a hidden name with a note of which version of the file it is; a server
that has another one by now is read from its first byte. Nothing here knows http: a `Remote` opens the file from some
byte on. Stands alone: shipped to hosts.
"""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import ColabMagicsError, InvalidInput, Unavailable
from ...units import show_seconds, show_size
from . import file_names
from .part import REPLACE, TEMPORARY, Part, Stopped, Watch, digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Body(Protocol):
        """What an answer brings."""

        def read_into(self, view: memoryview) -> int: ...
        def close(self) -> None: ...

    class Remote(Protocol):
        """A file elsewhere. `open` raises `Passing` for what may pass, and errors of ours for what will not."""

        def open(self, start: int, version: str) -> Answer: ...
        def abort(self) -> None: ...


TRIES = 6
"""So often it is tried again without anything new."""
ANEW = 5
"""So often it begins from the first byte."""
LONGEST_WAIT = 300.0
_LITTLE = 1 << 16
_BLOCK = 1 << 16
"""Linux slows down who dirties a disk's pages in larger pieces: with 1 MB it took up to twice as long."""
_RESERVE = 64_000_000


class Passing(Exception):
    """What may pass: it is tried again.

    Parameters
    ----------
    what : str
        What happened.
    wait : float
        Seconds that the other side asks for.
    tries : int
        How often to try again at most; `TRIES` for 0.
    anew : bool
        What has come is no part of the file: it begins anew.
    status : int
        What http calls it.
    """

    def __init__(self, what: str, *, wait: float = 0.0, tries: int = 0, anew: bool = False, status: int = 0) -> None:
        super().__init__(what)
        self.wait, self.tries, self.anew, self.status = wait, tries or TRIES, anew, status


class Answer(NamedTuple):
    """What a `Remote` answers.

    Parameters
    ----------
    name : str
        The file's name there; anything, until `file_names.safe` has seen it.
    start : int
        The byte that comes first: what was asked for, or 0.
    total : int or None
        Size of the whole file; None when it is not told.
    version : str
        What tells this version of the file from all others; empty when nothing does.
    check : str
        ``md5=…``, as the other side says it; empty when it does not.
    ends : bool
        Whether the end can be told from a cut.
    body : Body
        What comes.
    """

    name: str
    start: int
    total: int | None
    version: str
    check: str
    ends: bool
    body: Body


class Wanted(NamedTuple):
    """A file to fetch.

    Parameters
    ----------
    key : str
        Which file it is, and nothing that is a secret: its part is named by it.
    folder : str
        Where to.
    name : str
        Its name there; empty for the one that the other side gives.
    check : str
        ``sha256=…``, ``md5=…`` and the like; empty for none.
    force : bool
        Put it in the place of what has its name.
    """

    key: str
    folder: str
    name: str = ""
    check: str = ""
    force: bool = False


class Fetched(NamedTuple):
    """A file that is there.

    Parameters
    ----------
    path : str
        Where.
    size : int
        Its bytes.
    came : int
        How many of them came just now.
    version : str
        See `Answer`.
    note : str
        What the user should know.
    """

    path: str
    size: int
    came: int
    version: str = ""
    note: str = ""


def fetch(remote: Remote, wanted: Wanted, watch: Watch, claim: Callable[[str], None]) -> Fetched:
    """Fetch a file, or find that it is there.

    Parameters
    ----------
    remote : Remote
        The file.
    wanted : Wanted
        What becomes of it.
    watch : Watch
        Gets how far it is.
    claim : callable
        Is told the path as soon as it is known, and may refuse it.

    Raises
    ------
    ColabMagicsError
        When there is no whole file to be had; what has come of it waits.
    Stopped
        When it was to stop.
    """
    os.makedirs(wanted.folder, exist_ok=True)
    part = Part(os.path.join(wanted.folder, f"{TEMPORARY}{wanted.key}"))
    part.hold(watch)
    try:
        return _Fetch(remote, wanted, watch, claim, part).run()
    finally:
        part.let_go()


class _Fetch:
    """The tries at one file."""

    def __init__(self, remote: Remote, wanted: Wanted, watch: Watch, claim: Callable[[str], None], part: Part) -> None:
        self._remote, self._wanted, self._watch, self._claim, self._part = remote, wanted, watch, claim, part
        self._path, self._check, self._note = "", wanted.check, ""
        self._version, self._total = part.version, part.total
        self._sum: Any = None
        self._anew = 0

    def run(self) -> Fetched:
        failed = 0
        while True:
            before = self._watch.came
            try:
                if (found := self._try()) is not None:
                    return found
                if (wrong := self._wrong()) is None:
                    return self._publish()
                raise Passing(wrong, anew=True, tries=1)
            except Passing as error:
                if self._watch.stop.is_set():
                    raise Stopped from None
                if error.anew:
                    self._begin_anew()
                moved = self._watch.came - before >= min(_LITTLE, (self._total or 0) // 100 + 1)
                failed = 0 if moved and not error.anew else failed + 1
                if failed > error.tries or self._anew > ANEW or error.wait > LONGEST_WAIT:
                    raise self._given_up(error, failed) from error
                wait = max(error.wait, min(60.0, 0.5 * 2 ** (failed - 1)) if failed else 0.0)
                self._watch.says = f"{error} Again in {show_seconds(wait)}." if wait >= 2 else ""
                self._watch.pause(wait * random.uniform(1.0, 1.2))

    def _given_up(self, error: Passing, failed: int) -> ColabMagicsError:
        kept = f" {show_size(self._part.size)} of it wait." if self._part.size and self._version else ""
        if error.wait > LONGEST_WAIT:
            return Unavailable(f"{error} It asks to wait {show_seconds(error.wait)}.{kept}", "Say the line again then.")
        times = f" (tried {failed} times)" if failed > 1 else ""
        if error.anew:
            return Unavailable(f"{error}{times}", "Ask who runs the server, or take the file from elsewhere.")
        again = "Say the line again later: it goes on where it stopped." if kept else "Say the line again later."
        return Unavailable(f"{error}{times}{kept}", again)

    def _try(self) -> Fetched | None:
        """Read what is missing; returns the file where it turns out to be there already."""
        start = self._part.size if self._version else 0
        if start and start == self._total:
            self._settle(self._part.name)
            return None  # it was whole, and not yet published
        answer = self._remote.open(start, self._version)
        try:
            if answer.start and (answer.version != self._version or answer.total not in (None, self._total)):
                raise Passing("The file has changed there meanwhile.", anew=True)
            if (found := self._settle(answer.name, answer)) is not None:
                return found
            if answer.start == 0:
                self._begin(answer)
            self._room()
            self._read(answer)
        finally:
            answer.body.close()
        return None

    def _settle(self, name: str, answer: Answer | None = None) -> Fetched | None:
        """Decide the path, once, and look whether something stands there."""
        if self._path:
            return None
        path = os.path.join(self._wanted.folder, self._wanted.name or file_names.safe(name))
        self._claim(path)
        self._watch.name = os.path.basename(path)
        self._part.name = name
        if os.path.lexists(path) and (found := self._there(path, answer)) is not None:
            return found
        self._path = path
        return None

    def _there(self, path: str, answer: Answer | None) -> Fetched | None:
        """Compare what stands there; None when it is to be replaced."""
        shown = os.path.basename(path)
        if os.path.islink(path) or not os.path.isfile(path):
            raise InvalidInput(f"{path} is no plain file.", "Choose another place: to=FOLDER or to=FILE")
        if self._wanted.force:
            return None
        size = os.path.getsize(path)
        total = self._total if answer is None else answer.total
        check = self._wanted.check or ("" if answer is None else answer.check)
        if check:
            if f"{check.partition('=')[0]}={digest(path, check, self._watch).hexdigest()}" == check:
                self._part.drop()
                return Fetched(path, size, 0, "", "there already, and the checksum is right")
            raise InvalidInput(f"{shown} is there, and its {check.partition('=')[0]} is another one.", REPLACE)
        if total is None:
            raise InvalidInput(f"{shown} is there, and the server does not say how big its own is.", REPLACE)
        if total != size:
            raise InvalidInput(
                f"{shown} is there with {size:,} bytes, the server's has {total:,}: another file, or a part of it.",
                REPLACE,
            )
        self._part.drop()
        return Fetched(path, size, 0, "" if answer is None else answer.version, "there already, of the same size")

    def _begin(self, answer: Answer) -> None:
        self._anew += self._part.size > 0
        self._part.cut()
        self._version, self._total, self._sum = answer.version, answer.total, None
        self._check = self._wanted.check or answer.check
        self._note = (
            "" if answer.ends else "the server does not say where it ends: sha256= would tell whether it is whole"
        )
        self._part.note(answer.name, answer.version, answer.total)

    def _begin_anew(self) -> None:
        self._anew += 1
        self._part.cut()
        self._version, self._total, self._sum = "", None, None

    def _room(self) -> None:
        left = (self._total or 0) - self._part.size
        disk = shutil.disk_usage(self._wanted.folder)
        free = disk.free - min(_RESERVE, disk.total // 100)
        if left > max(free, 0):
            raise Unavailable(
                f"{self._watch.name} needs {show_size(left)} more, and {show_size(max(free, 0))} are free in "
                f"{self._wanted.folder}.",
                "Free some space, or choose another disk: to=FOLDER",
            )

    def _read(self, answer: Answer) -> None:
        watch, part, block = self._watch, self._part, memoryview(bytearray(_BLOCK))
        watch.total, watch.have = answer.total or 0, part.size
        if self._check and self._sum is None:
            self._sum = digest(part.path, self._check, watch)
        watch.says = ""
        while count := answer.body.read_into(block):
            part.write(block[:count])
            if self._sum is not None:
                self._sum.update(block[:count])
            watch.have += count
            watch.came += count
            if watch.stop.is_set():
                raise Stopped
        self._total = part.size if self._total is None else self._total

    def _wrong(self) -> str | None:
        """Say what is wrong with what has come; None when all is right."""
        if self._part.size != self._total:
            return f"{self._watch.name} has {self._part.size:,} bytes, not {self._total:,}."
        if self._check:
            kind, _, value = self._check.partition("=")
            found = (self._sum or digest(self._part.path, self._check, self._watch)).hexdigest()
            if found != value:
                whose = "you" if self._wanted.check else "the server"
                return f"The {kind} of what came as {self._watch.name} is {found}, not {value}, as {whose} said."
        return None

    def _publish(self) -> Fetched:
        size = self._part.size
        self._part.publish(self._path, replace=self._wanted.force)
        return Fetched(self._path, size, self._watch.came, self._version, self._note)
