"""Trying the claim on the user's own spreadsheet, in a tab of its own, which is deleted afterwards."""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from ...errors import Unavailable
from ..base import READY, Probed
from .client import Client, Unsure
from .requests import Request, swap, write_cells
from .table import Table
from .texts import new_uid


def probe(client: Client, *, clients: int, rounds: int) -> Probed:
    """Let so many swap the same cell at once, so often; see `base.Queue.probe`.

    Each waits until Google allows all of them a call, so that they really go at once.
    """
    title = f"colab_magics trial {new_uid()}"
    gid = _new_tab(client, title, rounds)
    try:
        filled = [write_cells(gid, row, 0, [{"userEnteredValue": {"stringValue": READY}}]) for row in range(rounds)]
        client.batch([*filled, swap(gid, "", "found", row=0, column=1)], "")
        winners, took = [], []
        with ThreadPoolExecutor(clients) as pool:
            for row in range(rounds):
                client.budget.take("write", clients)
                won, seconds = _round(client, pool, gid, title, row, clients)
                winners.append(won)
                took.append(seconds)
        finds_empty = Table(client.read(gid), gid).holds("found")
    finally:
        _again(client, [{"deleteSheet": {"sheetId": gid}}])
    remark = "" if finds_empty else "Google does not find empty cells here: rows get no worker's name and no record."
    return Probed(clients, rounds, winners, statistics.median(took) if took else 0.0, remark)


def _new_tab(client: Client, title: str, rounds: int) -> int:
    size = {"rowCount": rounds + 3, "columnCount": 3}
    made = _again(client, [{"addSheet": {"properties": {"title": title, "gridProperties": size}}}])
    if made is None:
        tabs = [tab.get("properties", {}) for tab in client.tabs().get("sheets") or []]
        made = next((int(tab["sheetId"]) for tab in tabs if tab.get("title") == title), None)
    if made is None:
        raise Unavailable("Google Sheets does not answer: a tab for the trial was not made.", "Say it again later.")
    return made


def _again(client: Client, requests: list[Request]) -> int | None:
    """Make a change that is made once however often it is asked; returns the new tab's id where it says one."""
    try:
        replies = client.batch(requests, "").get("replies") or [{}]
    except Unsure:
        return None
    properties = (replies[0].get("addSheet") or {}).get("properties") or {}
    return int(properties["sheetId"]) if "sheetId" in properties else None


def _round(client: Client, pool: ThreadPoolExecutor, gid: int, title: str, row: int, clients: int) -> tuple[int, float]:
    """Return how many have won a row, and the seconds that it took."""
    at_once = threading.Barrier(clients)

    def claim(number: int) -> bool | None:
        at_once.wait(60)
        asked = swap(gid, READY, f"{row} {number}", row=row, column=0)
        try:
            replies = client.batch([asked], "", turn=False).get("replies") or [{}]
        except Unsure:
            return None
        return int((replies[0].get("findReplace") or {}).get("occurrencesChanged", 0)) == 1

    began = time.monotonic()
    answers = list(pool.map(claim, range(clients)))
    seconds = time.monotonic() - began
    won = sum(answer is True for answer in answers)
    if None in answers:
        table = Table(client.read(gid), gid)
        won += sum(answer is None and table.holds(f"{row} {number}") for number, answer in enumerate(answers))
    return won, seconds
