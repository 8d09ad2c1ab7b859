"""Which files are left out: patterns as rsync reads them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

Matcher = Callable[[str, bool], bool]
"""From a relative path and whether it is a folder to whether it is left out."""


def matcher(patterns: Iterable[str]) -> Matcher:
    """Build the test for some patterns.

    Parameters
    ----------
    patterns : iterable of str
        As for rsync's ``--exclude``: a leading ``/`` ties a pattern to the top, a trailing one means folders, ``*``
        stays within a name, ``**`` does not.
    """
    plain: list[str] = []
    folders: list[str] = []
    for pattern in patterns:
        (folders if pattern.endswith("/") else plain).append(_expression(pattern.rstrip("/")))
    any_kind = re.compile("|".join(plain) or r"(?!)", re.DOTALL)
    a_folder = re.compile("|".join([*plain, *folders]) or r"(?!)", re.DOTALL)

    def left_out(path: str, is_folder: bool) -> bool:
        return (a_folder if is_folder else any_kind).fullmatch(path) is not None

    return left_out


def within(path: str, left_out: Matcher) -> bool:
    """Whether a file is left out by its own name or by that of a folder above it."""
    at = path.find("/")
    while at >= 0:
        if left_out(path[:at], True):
            return True
        at = path.find("/", at + 1)
    return left_out(path, False)


def _expression(pattern: str) -> str:
    tied = pattern.startswith("/")
    pattern = pattern.lstrip("/")
    parts = re.findall(r"\*\*|\*|\?|\[!?\]?[^\]]*\]|\\.|.", pattern, re.DOTALL)
    text = "".join(map(_piece, parts))
    return text if tied else rf"(?:.*/)?{text}"


def _piece(part: str) -> str:
    fixed = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    if part in fixed:
        return fixed[part]
    if part.startswith("[") and len(part) > 1:
        inner = part[1:-1].replace("\\", "\\\\")
        return f"[^{inner[1:]}]" if inner[:1] in ("!", "^") else f"[{inner}]"
    return re.escape(part[-1] if part.startswith("\\") and len(part) > 1 else part)
