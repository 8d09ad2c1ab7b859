"""Runs in a Google Sheet: the S rows, against a stand-in that is held against Google's own document."""

from __future__ import annotations

from conftest import poll
from sheets_server import Book, Server, Sheet

from colab_magics.queues.base import DONE, READY, End, new_ticket

from .conftest import Open, fill

PREDECESSOR = [
    ["learning_rate", "status", "n_epoch", "run_name", "worker_name", "remark"],
    [0.001, None, 10, None, None, None],
    [5e-4, "ready", None, "1", None, None],
    [1e-4, "ready", None, "2", None, None],
    [5e-5, "ready", None, "3", None, None],
    [1e-3, "done", 20, "0", "old1wk", "by hand"],
    [1e-2, "draft", None, "4", None, None],
    [1e-2, None, None, "5", None, None],
]


def test_the_main_example(tab: Sheet, open: Open) -> None:
    """S1 S2 S3 S5: a predecessor's sheet, unchanged."""
    fill(tab, PREDECESSOR)
    queue = open()
    seen, ends = [], []
    while claims := (answer := queue.exchange("k3f9qz", ticket=new_ticket(), ends=ends, number=1)).claims:
        assert answer.ended == [True] * len(ends)
        (claim,) = claims
        row = tab.by_name()[claim.name]
        assert row["status"].startswith("running [k3f9qz#1.1 ")
        assert row["worker_name"].startswith("k3f9qz·")
        seen.append((claim.name, claim.config))
        ends = [End(claim)]
    assert answer.ended == [True]
    assert seen == [(str(n), {"n_epoch": 10, "learning_rate": lr}) for n, lr in ((1, 5e-4), (2, 1e-4), (3, 5e-5))]
    rows = tab.by_name()
    assert [(rows[name]["status"], rows[name]["worker_name"]) for name in "123"] == [("done", "k3f9qz")] * 3
    assert tab.values()[0][:6] == PREDECESSOR[0]
    assert [row[:6] for row in tab.values()[5:]] == [PREDECESSOR[5], *[row[:4] for row in PREDECESSOR[6:]]]
