"""Names that servers give to files, made safe. Stands alone: shipped to hosts."""

from __future__ import annotations

import os
import re
import unicodedata
import urllib.parse

_LONGEST = 200
_TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""They let a name look like another one."""
_EXTENDED = re.compile(r";\s*filename\*\s*=\s*\"?([\w-]+)'[^']*'([^;\"]*)", re.IGNORECASE)
_PLAIN = re.compile(r';\s*filename\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))', re.IGNORECASE)


def safe(name: str) -> str:
    """Return a name for a file that can only mean a file in its folder, and a visible one.

    Parameters
    ----------
    name : str
        Anything: what a server or an address says.

    Returns
    -------
    str
        Its last part, without control characters, without dots and dashes at its start, of at most 200 bytes;
        ``download`` where nothing is left.
    """
    name = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    kept = (c for c in name if unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") and c not in _TURNS)
    name = unicodedata.normalize("NFC", "".join(kept)).strip().lstrip(".-~ ").rstrip(". ")
    stem, ending = os.path.splitext(name)
    # Endings such as .tar.gz are short; one that is not is no ending.
    ending = ending if len(ending.encode()) <= 20 else ""
    stem = stem if ending else name
    room = _LONGEST - len(ending.encode())
    return (stem.encode()[:room].decode(errors="ignore") + ending) or "download"


def of_header(header: str) -> str:
    """Return the name that ``Content-Disposition`` gives, as it stands there; empty when it gives none."""
    header = _as_text(header)
    if match := _EXTENDED.search(f";{header}"):
        try:
            return urllib.parse.unquote(match[2], encoding=match[1], errors="replace")
        except LookupError:
            return ""
    if match := _PLAIN.search(f";{header}"):
        quoted, plain = match[1], match[2]
        return re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain.strip()
    return ""


def of_path(path: str) -> str:
    """Return the last part of an address's path, as it stands there."""
    return urllib.parse.unquote(path.rstrip("/").rsplit("/", 1)[-1])


def _as_text(header: str) -> str:
    """Headers come as Latin-1; many servers write UTF-8."""
    try:
        return header.encode("latin-1").decode()
    except ValueError:
        return header
