"""Names as Kubernetes takes them, from any words: small letters, digits and hyphens, and not too long.

What is no such word keeps what is plain of it and gets a mark of the whole: ``learning-rate-5f2a9c01``. So names stay
readable, and two different ones stay different.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

MOST = 52
"""Characters of a name; what Kubernetes adds to it, as a pod's number, must not lead beyond 63."""
_MOST_OF_LABEL = 63
_MARK = 8
_PLAIN, _PART = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"), re.compile(r"[a-z0-9]+")
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?")


def mark(*words: str) -> str:
    """Return a mark of words: the same for the same ones alone."""
    text = "\0".join(f"{len(word)}:{word}" for word in words)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def name(words: Sequence[str], *, unique: str = "", most: int = MOST) -> str:
    """Build a name of a Kubernetes object: an RFC 1123 label.

    Parameters
    ----------
    words : sequence of str
        What it is to say; anything.
    unique : str, default ""
        What tells it from others of these words, such as a submission's key.
    most : int, default 52
        Its greatest length.

    Returns
    -------
    str
        The words with hyphens between them, if that is a name and no other words give it; else with a mark.
    """
    words = [word for word in words if word]
    joined = "-".join(words)
    # Where one word may hold hyphens, several are not told apart by them.
    clear = _PLAIN.fullmatch(joined) and (len(words) == 1 or all(_PART.fullmatch(word) for word in words))
    if clear and not unique and len(joined) <= most and not joined[0].isdigit():
        return joined
    plain = _plain(joined, most - _MARK - 1)
    return f"{plain or 'x'}-{mark(*words, *([unique] if unique else []))[:_MARK]}"


def _plain(text: str, most: int) -> str:
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    # Services and some add-ons take no name that begins with a digit.
    plain = re.sub(r"^[0-9-]+", lambda found: f"x{found[0]}" if found[0].strip("-") else "", _hyphens(letters))
    return plain[:most].strip("-")


def _hyphens(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def label(text: str) -> str:
    """Return a label's value: the text itself, or, where it is none, what is plain of it and a mark."""
    if len(text) <= _MOST_OF_LABEL and _LABEL.fullmatch(text):
        return text
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", letters).strip("-_.")[: _MOST_OF_LABEL - _MARK - 1].strip("-_.")
    return f"{plain or 'x'}-{mark(text)[:_MARK]}"


def is_name(text: str, *, dots: bool = False) -> bool:
    """Whether a text is a name as it is; with `dots` one of those that may have several parts, as secrets'."""
    parts = text.split(".") if dots else [text]
    return len(text) <= (253 if dots else 63) and all(_PLAIN.fullmatch(part) for part in parts)
