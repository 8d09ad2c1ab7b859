"""The words that the protocol keeps in cells, for people to read and for nobody else to hold.

- A run that is being executed has a `Token` in its status: ``4 / 10 [k3f9qz#2.1 a8f3k2m9 x8f2c1.17 300s]``. It names
  the worker, the epoch, the attempt, the run, the exchange that claimed it, counts the heartbeats, and says the lease.
- Its worker's cell is *marked*: ``k3f9qz·x8f2c1``; the mark goes when the run ends.
- The column ``run_record`` holds a `Record`: the run's uid, epoch and attempts, and what its worker reported.

Each is unique in the sheet, so that a search finds that cell wherever its row has gone; see `exchanging`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from ..base import Report

_TOKEN = re.compile(
    r"(?P<text>.*) \[(?P<worker>[^\[\]#]+)#(?P<epoch>\d+)\.(?P<attempts>\d+) "
    r"(?P<uid>\w+) (?P<tag>\w+)\.(?P<beat>\d+) (?P<lease>\d+(\.\d+)?)s\]",
    re.DOTALL,
)
_RECORD = re.compile(r"(?P<uid>\w+) #(?P<epoch>\d+)\.(?P<attempts>\d+) (?P<said>\{.*\})", re.DOTALL)
_MARKED = re.compile(r"(?P<name>.*)·(?P<mark>[0-9a-z]{6,})", re.DOTALL)
AGAIN = re.compile(r" \[again \w+\]$")
"""What stands behind the status of a run that is being made ready again; see `requeueing`."""
_LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"
_MOST, _MOST_OF_AN_ERROR = 2000, 20_000
"""Characters of a text that a worker may put into a cell; Google allows 50,000."""


@dataclass(frozen=True)
class Token:
    """What the status of a run holds that is being executed; see the module."""

    worker: str
    epoch: int
    attempts: int
    uid: str
    tag: str
    lease: float
    beat: int = 0
    text: str = "running"

    def __str__(self) -> str:
        who = f"{self.worker}#{self.epoch}.{self.attempts}"
        return f"{self.text or 'running'} [{who} {self.uid} {self.tag}.{self.beat} {self.lease:.10g}s]"

    @classmethod
    def read(cls, text: str) -> Token | None:
        """Return the token that a cell holds; None when it holds none."""
        found = _TOKEN.fullmatch(text)
        if found is None:
            return None
        return cls(
            worker=found["worker"],
            epoch=int(found["epoch"]),
            attempts=int(found["attempts"]),
            uid=found["uid"],
            tag=found["tag"],
            lease=float(found["lease"]),
            beat=int(found["beat"]),
            text=found["text"],
        )

    @property
    def claim(self) -> tuple[str, str, int]:
        """Which claim it is."""
        return self.uid, self.worker, self.epoch

    def next(self, text: str, lease: float) -> Token:
        """Return it after one more heartbeat, with a new text where there is one."""
        return replace(self, beat=self.beat + 1, text=clean(text) or self.text, lease=lease)


@dataclass(frozen=True)
class Record:
    """What ``run_record`` holds of a run; see the module.

    Parameters
    ----------
    uid : str
        Names the run for ever.
    epoch, attempts : int
        See `base.Claim`.
    by, tag : str
        The worker of the last claim, and the exchange that it came of.
    end : str
        How that claim ended; empty while it lasts.
    error : str
        Why it failed.
    report : Report
        What it reported.
    """

    uid: str
    epoch: int = 0
    attempts: int = 0
    by: str = ""
    tag: str = ""
    end: str = ""
    error: str = ""
    report: Report = field(default_factory=Report)

    def __str__(self) -> str:
        said: dict[str, Any] = {"by": self.by, "tag": self.tag, "end": self.end, "error": self.error}
        said |= {"text": self.report.text, "output": self.report.output, "commit": self.report.commit}
        shown = [f"{_json(name)}: {_json(value)}" for name, value in said.items() if value]
        metrics = ", ".join(f"{_json(name)}: {_number(value)}" for name, value in self.report.metrics.items())
        shown += [f'"metrics": {{{metrics}}}'] if metrics else []
        return f"{self.uid} #{self.epoch}.{self.attempts} {{{', '.join(shown)}}}"

    @classmethod
    def read(cls, text: str) -> Record | None:
        """Return the record that a cell holds; None when it holds none."""
        found = _RECORD.fullmatch(text)
        try:
            said = json.loads(found["said"]) if found else None
        except ValueError:
            return None
        if found is None or not isinstance(said, dict):
            return None
        metrics = said.get("metrics")
        words = {name: str(said.get(name, "")) for name in ("text", "output", "commit")}
        return cls(
            uid=found["uid"],
            epoch=int(found["epoch"]),
            attempts=int(found["attempts"]),
            **{name: str(said.get(name, "")) for name in ("by", "tag", "end", "error")},
            report=Report(**words, metrics=_numbers(metrics)),
        )

    @property
    def is_fresh(self) -> bool:
        """Whether it came with a first claim, and nothing was written into it since."""
        return bool(self.tag) and self.epoch == 1 and not (self.end or self.error) and self.report == Report()

    def told(self, report: Report, *, error: str = "") -> Record:
        """Return it with what a worker has to tell; what is empty stays as it is."""
        old = self.report
        new = Report(
            text=clean(report.text) or old.text,
            output=clean(report.output) or old.output,
            commit=clean(report.commit) or old.commit,
            metrics={**old.metrics, **report.metrics},
        )
        return replace(self, report=new, error=error[:_MOST_OF_AN_ERROR] or self.error)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """Write a number without a decimal point, which not every locale reads: ``12E-2``."""
    if not math.isfinite(value):
        return _json(float(value))
    sign, digits, power = Decimal(repr(float(value))).normalize().as_tuple()
    return f"{'-' if sign else ''}{''.join(map(str, digits))}E{power}"


def _numbers(said: object) -> Mapping[str, float]:
    if not isinstance(said, dict):
        return {}
    return {str(name): float(value) for name, value in said.items() if isinstance(value, int | float)}


def clean(text: str) -> str:
    """Return a text that stays text in a cell: in one line, not beginning like a formula, not for ever."""
    text = re.sub(r"\s+", " ", text).strip().lstrip("=+'@ ")[:_MOST]
    return f"\N{MINUS SIGN}{text[1:]}" if text.startswith("-") else text


def tag_of(ticket: str, number: int) -> str:
    """Name the claim of that number of an exchange: the same whenever it is asked."""
    return hashlib.sha256(f"{ticket} {number}".encode()).hexdigest()[:8]


def new_uid() -> str:
    """Name a run; a fresh one is as good as any other, in whichever row it comes to stand."""
    return "".join(secrets.choice(_LETTERS) for _ in range(8))


def marked(name: str, tag: str) -> str:
    """Return the worker's name as it stands while the run lasts."""
    return f"{name}·{tag}"


def unmarked(text: str) -> tuple[str, bool]:
    """Return a worker's name, and whether it was marked."""
    found = _MARKED.fullmatch(text)
    return (found["name"], True) if found else (text, False)
