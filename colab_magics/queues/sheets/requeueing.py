"""Runs made ready again, in rows that may move meanwhile.

A run that has ended holds no text of its own in its status: ``failed`` stands in other rows as well. So its status is
marked first, ``failed [again k3f9qz2m]``, where it stood when it was read; the reply shows which row that is now. If it
is the right one the mark makes way for ``ready``, wherever the row is then; if it is another the mark is taken back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from ...errors import Busy, NotFound
from ..base import FAILED, READY, STALE
from .requests import Request, swap
from .tab import Tab
from .table import STATUS, WORKER, Line, Table
from .texts import Record, marked, new_uid, unmarked

_TRIES = 6
_LOOK_SECONDS = 10.0
"""Between two looks whether workers live: six of the sixty reads that Google allows in a minute."""


def requeue(tab: Tab, which: Sequence[str]) -> list[str]:
    """Make runs ready again; see `base.Queue.requeue`."""
    table = tab.look().check()
    if STALE in which:
        table = _judged(tab, table)
    chosen = _chosen(tab, table, which)
    for line in chosen:
        if line.token is not None and not tab.is_stale(line):
            raise Busy(
                f"{line.called} is being executed by {line.token.worker}.",
                f"Stop it there; if its worker is dead, stale in place of its name looks for {line.token.lease:.10g} s "
                "whether it is.",
            )
    tag = new_uid()
    names = {_key(line): line.called for line in chosen}
    for _ in range(_TRIES):
        requests = _again(tab, table, set(names), tag)
        if not requests:
            return list(names.values())
        table = tab.change(requests).table.check()
    raise Busy("The rows of these runs are being moved or changed by somebody else.", "Say it again.")


def _judged(tab: Tab, table: Table) -> Table:
    """Look until it is known of each run that is executed whether its worker lives: it writes, or a lease goes by.

    Nothing in a sheet tells how old a heartbeat is, and clocks are not compared: who comes anew has to wait for one.
    """
    first = {line.token.claim: line.status for line in table.lines if line.token is not None}
    while True:
        left = [
            line.token.lease - tab.unchanged(line)
            for line in table.lines
            if line.token is not None and not tab.is_stale(line) and first.get(line.token.claim) == line.status
        ]
        if not left:
            return table
        time.sleep(min(_LOOK_SECONDS, max(left)))
        table = tab.look().check()


def _key(line: Line) -> str:
    """Return what names a row for as long as this takes."""
    return line.uid if line.token is not None or line.record is not None else f"{line.name} {line.number}"


def _chosen(tab: Tab, table: Table, which: Sequence[str]) -> list[Line]:
    found: list[Line] = []
    for word in which:
        if word == FAILED:
            lines = [line for line in table.lines if line.status == FAILED]
        elif word == STALE:
            lines = [line for line in table.lines if tab.is_stale(line)]
        else:
            lines = [line for line in table.lines if word in (line.name, line.uid, line.place)]
            if not lines:
                raise NotFound(f"There is no run {word!r} in the sheet.", "Look: %queue show")
        found += [line for line in lines if line not in found]
    return found


def _again(tab: Tab, table: Table, wanted: set[str], tag: str) -> list[Request]:
    """Return the next step for each run that is not ready yet."""
    mark, requests = f" [again {tag}]", []
    for line in table.lines:
        is_marked = line.status.endswith(mark)
        if _key(line) not in wanted:
            if is_marked:  # another row stood there meanwhile
                requests.append(swap(tab.gid, line.status, line.status.removesuffix(mark)))
            name, was_marked = unmarked(line.worker)
            if was_marked and line.worker == marked(name, tag):
                requests.append(swap(tab.gid, line.worker, name))
        elif line.is_ready:
            continue
        elif line.token is not None or is_marked:
            texts = {line.status: READY}
            if unmarked(line.worker)[1]:
                texts[line.worker] = ""
            if line.record is not None:
                epoch = max(line.record.epoch, line.token.epoch if line.token else 0)
                texts[line.record_text] = str(Record(line.record.uid, epoch))
            requests += [swap(tab.gid, old, new) for old, new in texts.items()]
        else:
            row, columns = line.number - 1, table.columns
            requests.append(swap(tab.gid, line.status, f"{line.status}{mark}", row=row, column=columns[STATUS]))
            if line.who:
                name = marked(line.who, tag)
                requests.append(swap(tab.gid, line.worker, name, row=row, column=columns[WORKER]))
    return requests
