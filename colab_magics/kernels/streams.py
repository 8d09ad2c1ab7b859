"""What a cell prints, joined as Jupyter joins it: pieces of one stream that follow each other are one output."""

from __future__ import annotations

import re
from typing import Any

_BACKSPACE = re.compile(r"[^\n\b]\x08")
_MANY = 2000


class Stream:
    """One stream output that grows.

    Parameters
    ----------
    output : NotebookNode
        The output in the notebook; its text is brought up to date by `settle`.
    """

    def __init__(self, output: Any) -> None:
        self.output = output
        self._parts: list[str] = [output["text"]]

    def add(self, text: str) -> None:
        """Append what was printed."""
        self._parts.append(text)
        # A progress bar that runs for days must not fill the memory with what it overwrote.
        if len(self._parts) > _MANY and "\r" in text:
            self.settle()

    def settle(self) -> None:
        """Write the joined text into the output."""
        if len(self._parts) > 1 or "\r" in self._parts[0] or "\b" in self._parts[0]:
            text = overwritten("".join(self._parts))
            self.output["text"] = text
            self._parts = [text]


def coalesced(outputs: list[Any]) -> list[Any]:
    """Join all that went to one stream in its first output, standard output first; nbclient's ``coalesce_streams``."""
    joined: list[Any] = []
    streams: dict[str, Any] = {}
    for output in outputs:
        if output["output_type"] != "stream":
            joined.append(output)
        elif output["name"] in streams:
            streams[output["name"]]["text"] += output["text"]
        else:
            streams[output["name"]] = output
            joined.append(output)
    for output in streams.values():
        output["text"] = overwritten(output["text"])
    for at in range(len(joined) - 1):
        if [one.get("name") for one in joined[at : at + 2]] == ["stderr", "stdout"]:
            joined[at], joined[at + 1] = joined[at + 1], joined[at]
    return joined


def overwritten(text: str) -> str:
    """Return what a terminal would show: carriage returns and backspaces have done their work.

    A carriage return at the very end stays, because what it overwrites with is still to come.
    """
    if "\b" in text:
        before = None
        while before != text:
            before, text = text, _BACKSPACE.sub("", text)
    if "\r" not in text:
        return text
    *lines, last = text.split("\n")
    rest = last.rstrip("\r")
    waiting = "\r" if len(rest) < len(last) else ""
    return "\n".join([_one_line(line.rstrip("\r")) for line in lines] + [_one_line(rest) + waiting])


def _one_line(line: str) -> str:
    shown = ""
    for part in line.split("\r"):
        shown = part + shown[len(part) :]
    return shown
