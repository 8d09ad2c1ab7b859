"""Runs in a Google Sheet: the S rows, against a stand-in that is held against Google's own document."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest
from sheets_server import Book, Server, Sheet

from colab_magics.errors import InvalidInput
from colab_magics.queues import kind_of, open_queue
from colab_magics.queues.base import DONE, FAILED, READY, RUNNING, Beat, End, New, Report, new_ticket, worker_name
from colab_magics.queues.sheets.queue import SheetsQueue
from colab_magics.queues.sheets.requests import colour_formulas
from colab_magics.queues.sheets.texts import Record

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


def test_the_first_tab_counts_where_the_link_names_none(server: Server, tab: Sheet, open: Open) -> None:
    """S12."""
    fill(tab, PREDECESSOR)
    other = server.add(Book([tab, Sheet(0, "notes", [["not a table"]])]))
    queue = SheetsQueue(server.link(other))
    assert [row.name for row in queue.rows()][:2] == ["1", "2"]
    assert open(gid=7).rows() == queue.rows()
    queue.close()


def test_a_link_is_a_sheets_address() -> None:
    link = "https://docs.google.com/spreadsheets/d/1AbC-_xyz123/edit?gid=5#gid=5"
    assert kind_of(link) == "sheets"
    assert isinstance(open_queue(link), SheetsQueue)
    for wrong in ("https://docs.google.com/spreadsheets/u/0/", "https://docs.google.com/spreadsheets/d/e/2PACX-1/pub"):
        with pytest.raises(InvalidInput, match="copy the link"):
            open_queue(wrong)


def test_a_worker_has_six_letters_or_digits() -> None:
    """S4."""
    assert re.fullmatch("[a-z0-9]{6}", worker_name())


def test_row_before_sheet_before_code(tab: Sheet, open: Open) -> None:
    """S5 S6."""
    fill(tab, [["run_name", "status", "worker_name", "a", "b", "c"], [None, None, None, 2, 2], ["r", "ready", None, 1]])
    (claim,) = open().exchange("w", ticket=new_ticket(), number=1, own={"a": 3, "b": 3, "c": 3, "d": 3}).claims
    assert claim.config == {"a": 1, "b": 2, "c": 3, "d": 3}


def test_types_come_from_what_a_cell_holds(tab: Sheet, open: Open) -> None:
    """S7 ✗: rounded numbers, 007 → 7, 1_000 → 1000."""
    date = {"userEnteredValue": {"numberValue": 45000}, "userEnteredFormat": {"numberFormat": {"type": "DATE"}}}
    values = [True, 3.0, 0.1234567890123, "007", "1_000", "nan", "TRUE", "5,00E-04", "1,5", "gpu 0,1", "1e-3", date]
    keys = [f"k{index}" for index in range(len(values))]
    fill(tab, [["run_name", "status", *keys], [], ["r", "ready", *values]])
    claim = open().claim("w")
    assert claim is not None
    found = list(claim.config.values())
    assert found == [True, 3, 0.1234567890123, "007", "1_000", "nan", True, 5e-4, "1,5", "gpu 0,1", 1e-3, "2023-03-15"]
    assert [type(one) for one in found[:2]] == [bool, int]


def test_decimal_commas_in_comma_locales(tab: Sheet, book: Book, open: Open) -> None:
    """S7."""
    book.locale = "de_DE"
    fill(tab, [["run_name", "status", "a", "b"], [], ["r", "ready", "1,5", "5,00E-04"]])
    claim = open().claim("w")
    assert claim is not None
    assert claim.config == {"a": 1.5, "b": 5e-4}


def test_drafts_are_left_alone_and_told_why(tab: Sheet, open: Open) -> None:
    """S2."""
    rows = [["a", "Ready "], ["b", "ready", "someone"], ["c", "running"], ["d", "READY"], ["e", None], ["f", "todo"]]
    fill(tab, [["run_name", "status", "worker_name"], [], *rows])
    queue = open()
    assert queue.claim("w") is None
    assert [(row.place, row.remark) for row in queue.rows()] == [
        ("row 3", "'Ready ' is not 'ready'"),
        ("row 4", "'ready', but worker_name is 'someone'"),
        ("row 5", "'running', but no worker holds it; write 'ready' and clear worker_name"),
        ("row 6", "'READY' is not 'ready'"),
        ("row 7", ""),
        ("row 8", ""),
    ]
    assert [row[:3] for row in tab.values()[2:]] == [*rows[:4], ["e"], ["f", "todo"]]


def test_a_column_of_words_is_one_parameter(tab: Sheet, open: Open) -> None:
    fill(tab, [["run_name", "status", "learning rate"], [], ["r", "ready", 0.1]])
    claim = open().claim("w")
    assert claim is not None
    assert claim.config == {"learning_rate": 0.1}


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        (["learning rate", "learning_rate"], r"'learning rate' \(C\) and 'learning_rate' \(D\) both mean"),
        (["2nd lr"], "'2nd lr' cannot be a parameter"),
        (["lambda"], "'lambda' cannot be a parameter"),
        (["status"], "B and C are both called 'status'"),
    ],
)
def test_columns_that_can_be_no_parameters_are_told(tab: Sheet, open: Open, headers: list[str], said: str) -> None:
    fill(tab, [["run_name", "status", *headers], [], ["r", "ready", 1, 2]])
    with pytest.raises(InvalidInput, match=said):
        open().claim("w")
    assert tab.values()[2][1] == READY


def test_a_tab_of_something_else_is_left_alone(open: Open, book: Book) -> None:
    queue = open(gid=0)
    for ask in (queue.create, queue.rows, lambda: queue.claim("w"), lambda: queue.add([New({})])):
        with pytest.raises(InvalidInput, match="no column 'status'"):
            ask()
    assert book.sheets[0].values() == [["not a table"]]


def test_a_formula_that_gives_an_error_is_no_empty_cell(tab: Sheet, open: Open) -> None:
    broken = {"userEnteredValue": {"errorValue": {"type": "REF"}}}
    fill(tab, [["run_name", "status", "lr"], [None, None, 0.1], ["a", "ready", broken], ["b", "ready"]])
    queue = open()
    assert [one.name for one in queue.exchange("w", ticket=new_ticket(), number=2).claims] == ["b"]
    assert queue.rows()[0].remark == "the formula in column 'lr' gives an error"


def test_a_workers_name_that_the_sheet_cannot_keep_is_refused(tab: Sheet, open: Open) -> None:
    fill(tab, PREDECESSOR)
    with pytest.raises(InvalidInput, match="cannot be a worker's name"):
        open().claim("w[1]")


def test_a_formula_that_says_ready_is_not_claimed_for_ever(
    tab: Sheet, open: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tab, [["run_name", "status", "worker_name"], [], ["a", "ready"], ["b", "ready"]])
    real = Sheet.find_replace

    def find_replace(self: Sheet, asked: dict[str, Any]) -> dict[str, Any]:
        return {} if asked.get("range", {}).get("startRowIndex") == 2 else real(self, asked)

    monkeypatch.setattr(Sheet, "find_replace", find_replace)  # which leaves formulas alone
    claim = open().claim("w")
    assert claim is not None
    assert claim.name == "b"


def test_a_status_of_ones_own_and_colours(tab: Sheet, open: Open) -> None:
    """S8 S18: running orange, done blue; the rules are added once."""
    fill(tab, PREDECESSOR)
    queue, other = open(), open()
    a, b = queue.exchange("w", ticket=new_ticket(), number=2).claims
    other.claim("v")
    assert queue.exchange("w", ticket=new_ticket(), ends=[End(a, "diverged"), End(b)]).ended == [True, True]
    assert [row["status"] for row in list(tab.by_name().values())[:2]] == ["diverged", DONE]
    formulas = [rule["booleanRule"]["condition"]["values"][0]["userEnteredValue"] for rule in tab.rules]
    assert sorted(formulas) == sorted(colour_formulas(1).values())
    colours = {
        formula: rule["booleanRule"]["format"]["backgroundColorStyle"]["rgbColor"]
        for formula, rule in zip(formulas, tab.rules, strict=True)
    }
    assert colours[colour_formulas(1)[RUNNING]] == {"red": 1.0, "green": 0.8, "blue": 0.5}
    assert colours[colour_formulas(1)[DONE]]["blue"] == 1.0
    assert [row[0] for row in tab.values(shown=True)].count("learning_rate") == 1
    assert tab.values()[0].count("run_record") == 1


def test_people_edit_during_a_run_and_see_how_far_it_is(tab: Sheet, open: Open) -> None:
    """S9 S10."""
    fill(tab, PREDECESSOR)
    queue = open()
    claim = queue.exchange("w", ticket=new_ticket(), number=1, own={"seed": 1}).claims[0]
    tab.put("1", "n_epoch", 12)
    (held,) = queue.heartbeat([Beat(claim, Report("4 / 10"))])
    assert held is not None
    assert held.config == {"learning_rate": 5e-4, "n_epoch": 12, "seed": 1}
    assert tab.by_name()["1"]["status"].startswith("4 / 10 [w#1.1 ")
    (held,) = queue.heartbeat([Beat(claim)])
    assert tab.by_name()["1"]["status"].startswith("4 / 10 [w#1.1 ")
    assert open().heartbeat([Beat(claim)]) != [None], "another process of the same worker knows it by its claim"


def test_what_a_worker_tells_stands_in_columns_of_its_own(tab: Sheet, open: Open) -> None:
    """S9 S13 ✗ two writers: nothing is written into these columns, each shows its row's record."""
    fill(tab, PREDECESSOR)
    queue = open()
    a, b = queue.exchange("w", ticket=new_ticket(), number=2).claims
    report = Report("10 / 10", "/out/a", "abc1234", {"loss": 0.125, "val acc": 97.0})
    queue.exchange("w", ticket=new_ticket(), ends=[End(a, report=report), End(b, FAILED, 'it said "no"')])
    rows = tab.by_name()
    shown = {key: rows["1"][key] for key in ("run_output", "run_commit", "metrics.loss", "metrics.val acc")}
    assert shown == {"run_output": "/out/a", "run_commit": "abc1234", "metrics.loss": 0.125, "metrics.val acc": 97.0}
    assert rows["2"]["run_error"] == r"it said \"no\""
    found = queue.rows()
    assert (found[0].report, found[1].error) == (report, 'it said "no"')
    assert [row.config for row in found[:2]] == [a.config, b.config], "results are no parameters"
    claim = open().claim("v")
    assert claim is not None
    assert set(claim.config) == {"learning_rate", "n_epoch"}


def test_runs_are_added_with_new_columns_below_everything(tab: Sheet, open: Open) -> None:
    """S11 ✗ the caller's dicts are changed; appends that lose rows."""
    fill(tab, PREDECESSOR)
    queue = open()
    assert queue.add([New({"learning_rate": 1.0, "seed": 3}), New({"seed": 4}, name="mine")]) == ["run_1", "mine"]
    rows = queue.rows()[-2:]
    assert [(row.place, row.name, row.status) for row in rows] == [("row 9", "run_1", READY), ("row 10", "mine", READY)]
    assert rows[1].config == {"learning_rate": 0.001, "n_epoch": 10, "seed": 4}
    assert [row[:4] for row in tab.values()[2:8]] == [row[:4] for row in tab.values()[2:8]]


def test_an_empty_tab_becomes_a_table(tab: Sheet, open: Open) -> None:
    queue = open()
    queue.create({"lr": 0.1})
    assert tab.values()[:2] == [["run_name", "status", "worker_name", "lr", "run_record"], ["default", None, None, 0.1]]
    assert queue.add([New({"lr": 0.5})]) == ["run_1"]
    assert len(tab.rules) == 3
    assert [(row.place, row.config) for row in queue.rows()] == [("row 3", {"lr": 0.5})]


def test_runs_and_workers_are_stopped_from_the_sheet(tab: Sheet, open: Open) -> None:
    """S16."""
    header = ["run_name", "status", "worker_name", "manual_run_stop", "manual_worker_stop"]
    fill(tab, [header, [], *[[name, "ready"] for name in "abcd"]])
    queue = open()
    a, b = queue.exchange("w", ticket=new_ticket(), number=2).claims
    assert [held and held.stop for held in queue.heartbeat([Beat(a), Beat(b)])] == ["", ""]
    tab.put("a", "manual_run_stop", True)
    assert [held and held.stop for held in queue.heartbeat([Beat(a), Beat(b)])] == ["row 3 says manual_run_stop", ""]
    tab.put("b", "manual_worker_stop", "machine needed")
    answer = queue.exchange("w", ticket=new_ticket(), ends=[End(a, "stopped")], number=1)
    assert (answer.ended, answer.claims, answer.stop) == ([True], [], "row 4 says manual_worker_stop: machine needed")
    assert [row["status"] for row in tab.by_name().values()][2:] == [READY, READY]
    assert open().claim("v") is not None


def test_a_parameter_nan_is_not_changed(tab: Sheet, open: Open) -> None:
    """✗ `nan` always "changed"."""
    fill(tab, [["run_name", "status", "x"], [], ["r", "ready", "nan"]])
    queue = open()
    claim = queue.claim("w")
    assert claim is not None
    (held,) = queue.heartbeat([Beat(claim)])
    assert held is not None
    assert held.config == claim.config == {"x": "nan"}


def move(kind: str, dice: random.Random) -> Callable[[Sheet], None]:
    """Return what people do to a sheet while it is worked on."""

    def sort(tab: Sheet) -> None:
        tab.shuffle(dice)

    def insert(tab: Sheet) -> None:
        tab.insert_row(dice.randrange(2, 2 + max(1, len(tab.values()) - 2)), ["", "draft"])

    def columns(tab: Sheet) -> None:
        if dice.random() < 0.3:
            tab.move_column(dice.randrange(4), dice.randrange(4))

    return {"sorted": sort, "recorded": sort, "inserted": insert, "columns": columns}[kind]


@pytest.mark.parametrize("kind", ["sorted", "recorded", "inserted", "columns"])
def test_rows_that_move_meanwhile_are_never_mistaken(tab: Sheet, server: Server, open: Open, kind: str) -> None:
    """S14 ✗ row numbers are kept: before each batch is applied people sort, insert rows or move columns."""
    names = [f"r{number}" for number in range(24)]
    ready = [[name, "ready", None, number] for number, name in enumerate(names)]
    other = [[f"o{number}", "done", "wold", 100 + number] for number in range(8)]
    drafts = [[f"d{number}", "draft", None, 200 + number] for number in range(8)]
    header = ["run_name", "status", "worker_name", "x"]
    if kind == "recorded":  # as in rows that were added by us, or are executed again
        header.append("run_record")
        ready = [[*row, str(Record(f"uid{row[3]}", epoch=4))] for row in ready]
    fill(tab, [header, [], *ready, *other, *drafts])
    meddle = move(kind, random.Random(3))
    server.before_write = lambda book: meddle(tab)
    claimed: list[str] = []

    def work(worker: str) -> None:
        queue, ends = open(), []
        while claims := (answer := queue.exchange(worker, ticket=new_ticket(), ends=ends, number=1)).claims:
            assert answer.ended == [True] * len(ends)
            (claim,) = claims
            assert claim.config == {"x": names.index(claim.name)}
            if kind == "recorded":
                assert (claim.uid, claim.epoch) == (f"uid{claim.config['x']}", 5)
            claimed.append(claim.name)
            (held,) = queue.heartbeat([Beat(claim, Report(f"1 / 2 of {claim.name}"))])
            assert held is not None
            assert held.config == claim.config
            ends = [
                End(
                    claim,
                    f"ok {claim.name}",
                    report=Report(output=f"/out/{claim.name}", metrics={"n": claim.config["x"]}),
                )
            ]
        assert answer.ended == [True]

    threads = [threading.Thread(target=work, args=(f"work{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(claimed) == sorted(names)
    server.before_write = lambda book: None
    rows = tab.by_name()
    for number, name in enumerate(names):
        row = rows[name]
        assert (row["status"], row["x"]) == (f"ok {name}", number)
        assert row["metrics.n"] == number or kind == "columns"
        # Where a column moves just then, the worker's name finds no cell, and stays away.
        assert row["run_output"] == f"/out/{name}" or kind == "columns"
        assert re.fullmatch(r"work\d", row["worker_name"] or ("work0" if kind == "columns" else "")), row
    for number in range(8):
        for name, status, worker in ((f"o{number}", "done", "wold"), (f"d{number}", "draft", None)):
            row = rows[name]
            assert (row["status"], row["worker_name"], row["run_record"]) == (status, worker, None)
