"""Heartbeats: the leases of runs renewed in one batch, which brings their rows as they are now."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ..base import Beat, Held, Value
from .requests import Request, swap
from .tab import Claimed, Tab, checked, patience_is_over
from .table import Line, Table


def beat(
    tab: Tab, beats: Sequence[Beat], own: Mapping[Claimed, Mapping[str, Value]], *, patience: float
) -> list[Held | None]:
    """Renew leases; see `base.Queue.heartbeat`.

    Each token is replaced by itself with one beat more, wherever its row stands; see `exchanging`.

    Parameters
    ----------
    tab : Tab
        The tab.
    beats : sequence of Beat
        What lives.
    own : mapping
        Defaults of the worker's code, by claim.
    patience : float
        Seconds for which lost answers are borne.
    """
    keys = [(one.claim.uid, one.claim.worker, one.claim.epoch) for one in beats]
    wanted: dict[int, str] = {}
    """The token that each beat is to leave behind."""
    done: set[int] = set()
    table, fresh, began = tab.usable(at_work=True), False, time.monotonic()
    while True:
        asked: list[tuple[int, list[Request]]] = []
        unknown = False
        for index, (key, one) in enumerate(zip(keys, beats, strict=True)):
            if index in done:
                continue
            line = table.held(key)
            if line is None:
                unknown = unknown or not fresh
            elif wanted.get(index) == line.status:
                done.add(index)
            else:
                wanted[index], requests = _beat(tab, line, one)
                asked.append((index, requests))
        if not asked and not unknown:
            break
        if unknown and not asked:
            table, fresh = checked(tab.look(), at_work=True), True
            continue
        answer = tab.change([request for _, requests in asked for request in requests])
        table, fresh = checked(answer.table, at_work=True), True
        if time.monotonic() - began > patience:
            raise patience_is_over()
    return [_held(table, keys[index], own) if index in done else None for index in range(len(beats))]


def _beat(tab: Tab, line: Line, one: Beat) -> tuple[str, list[Request]]:
    """Return the token that is to stand there, and what brings it there."""
    if line.token is None:
        return "", []
    token = str(line.token.next(one.report.text, tab.lease))
    requests = [swap(tab.gid, line.status, token)]
    record = line.record
    if record is not None and (record.uid, record.by) == (line.token.uid, line.token.worker):
        new = str(record.told(one.report))
        if new != line.record_text:
            requests.append(swap(tab.gid, line.record_text, new))
    return token, requests


def _held(table: Table, key: Claimed, own: Mapping[Claimed, Mapping[str, Value]]) -> Held | None:
    line = table.held(key)
    return None if line is None else Held(table.config(line, own.get(key)), table.stop(line))
