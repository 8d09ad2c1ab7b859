"""Trying the claim in a database: many clients at once want one row, which is no run and is gone afterwards."""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from . import statements as text
from .base import READY, Probed
from .sql import SqlQueue
from .tables import Tables


def probe(queue: SqlQueue, *, clients: int, rounds: int) -> Probed:
    """Let clients claim the same row at once; see `Queue.probe`.

    The row has a word in `stop` by which only these clients claim it, also when it is left behind.
    """
    uid = uuid.uuid4().hex
    word = f"trial of the claim {uid}"
    others = [queue.another() for _ in range(clients)]
    at_once = threading.Barrier(clients)
    winners, took = [], []

    def claim(one: SqlQueue) -> int:
        at_once.wait(60)
        return len(one.claim_trial(word))

    def put(tables: Tables) -> None:
        tables.run(text.REMOVE, (uid,))
        tables.run(text.ADD, (uid, f"trial_{uid}", READY, 0.0, "{}"))
        tables.run(text.STOP, (word, uid))

    try:
        with ThreadPoolExecutor(clients) as pool:
            for _ in range(rounds):
                queue.in_transaction(put)
                began = time.monotonic()
                winners.append(sum(pool.map(claim, others)))
                took.append(time.monotonic() - began)
    finally:
        queue.in_transaction(lambda tables: tables.run(text.REMOVE, (uid,)))
        for one in others:
            one.close()
    return Probed(clients, rounds, winners, statistics.median(took) if took else 0.0)
