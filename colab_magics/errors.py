"""The errors that users see: what happened, then the one thing to do.

The tree::

    ColabMagicsError          every error of ours that a user can mend
    ├── InvalidInput          a word, option or value that cannot be right (also a ValueError)
    ├── NotFound              something named is not there: notebook, run, secret, project
    ├── Unavailable           a program, package, Place or service is missing or does not answer
    │   └── Unmounted         a Place that was there is not: it is not mounted, or another folder stands there
    ├── CommandFailed         a program ended with an error; carries its output
    ├── Busy                  somebody else holds it: who, since when, how to take over
    └── RunsFailed            runs ended with an error; raised after all the others have ended

A face shows the text of such an error and nothing else: no stack trace. Anything that is not of this tree is a defect
of ours and keeps its trace.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ColabMagicsError(Exception):
    """An error whose text is all a user needs.

    Parameters
    ----------
    what : str
        What happened, in a sentence; further lines may hold details.
    mend : str, optional
        The one thing to do now.
    """

    def __init__(self, what: str, mend: str = "") -> None:
        super().__init__(what, mend)
        self.what = what
        self.mend = mend

    def __str__(self) -> str:
        from .units import without_controls  # which raises errors of ours

        # Names in it may come from elsewhere: of files, of metrics that another user's run has reported.
        return without_controls(f"{self.what}\n→ {self.mend}" if self.mend else self.what, colours=True)

    def _render_traceback_(self) -> list[str]:
        # IPython (7.34 and later) shows these lines in place of a stack trace. A list that is empty or None hides the
        # message or breaks nbclient, and whoever reads an executed notebook needs the whole text.
        return str(self).splitlines() or [type(self).__name__]


class InvalidInput(ColabMagicsError, ValueError):
    """A word, option or value that cannot be right."""


class NotFound(ColabMagicsError, LookupError):
    """Something that was named is not there."""


class Unavailable(ColabMagicsError):
    """A program, package, Place or service is missing or does not answer."""


class Unmounted(Unavailable):
    """A Place that was there is not: it is not mounted, or another folder stands there."""


class Busy(ColabMagicsError):
    """Somebody else holds what is needed."""


class RunsFailed(ColabMagicsError):
    """One or more runs of a job ended with an error.

    Parameters
    ----------
    what, mend : str
        See `ColabMagicsError`.
    status : int, default 1
        The exit status that a shell gets for it: that of a command that failed alone.
    """

    def __init__(self, what: str, mend: str = "", *, status: int = 1) -> None:
        super().__init__(what, mend)
        self.status = status


class CommandFailed(ColabMagicsError):
    """A program ended with an error.

    Parameters
    ----------
    what, mend : str
        See `ColabMagicsError`.
    returncode : int
        The program's exit status.
    output : str
        What it printed (standard output and error), without secrets.
    """

    def __init__(self, what: str, mend: str = "", *, returncode: int = 1, output: str = "") -> None:
        super().__init__(what, mend)
        self.returncode = returncode
        self.output = output


def did_you_mean(word: str, known: Iterable[str], *, kind: str) -> InvalidInput:
    """Build the error for an unknown word: the nearest known one, and the list of all.

    Parameters
    ----------
    word : str
        What the user wrote.
    known : iterable of str
        What would have been understood.
    kind : str
        What the word names, such as ``"option of %fork"``.

    Returns
    -------
    InvalidInput
        The error, to be raised by the caller.
    """
    names = sorted(known)
    near = nearest(word, names)
    hint = f"did you mean {near}? " if near else ""
    return InvalidInput(f"{word!r} is no {kind}.", f"{hint}Known: {', '.join(names) or 'none'}.")


def nearest(word: str, known: Iterable[str], *, cutoff: float = 0.5) -> str | None:
    """Return the known word that a slip of the pen may have meant; None when none is near."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)), None)
