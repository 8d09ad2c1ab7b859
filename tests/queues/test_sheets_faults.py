"""What goes wrong with a Google Sheet: lost replies, quotas, rights, dead workers, and links that lead nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import poll
from sheets_server import MAIL, Book, Server, Sheet

from colab_magics import process
from colab_magics.colab import consent
from colab_magics.errors import Busy, ColabMagicsError, InvalidInput, NotFound, Unavailable
from colab_magics.queues.base import DONE, FAILED, READY, STALE, Beat, End, New, Report, new_ticket
from colab_magics.queues.sheets import auth
from colab_magics.queues.sheets.budget import Budget, Limits
from colab_magics.queues.sheets.queue import SheetsQueue

from .conftest import FAST, Open, fill

TABLE = [["run_name", "status", "worker_name", "x"], [], *[[f"r{n}", "ready", None, n] for n in range(6)]]


@pytest.fixture
def runs(tab: Sheet) -> Sheet:
    """Six that are ready."""
    fill(tab, TABLE)
    return tab


# Lost replies, refusals, delays


@pytest.mark.parametrize("fault", ["drop", "drop before", "500", "500 after", "503", "429"])
def test_a_reply_that_is_lost_loses_no_run_and_claims_no_second(
    runs: Sheet, server: Server, open: Open, fault: str
) -> None:
    queue = open()
    queue.claim("before")
    server.faults = [fault, "", fault]
    answer = queue.exchange("w", ticket=new_ticket(), number=1)
    (claim,) = answer.claims
    assert queue.heartbeat([Beat(claim, Report("1 / 2"))]) != [None]
    server.faults = [fault]
    answer = queue.exchange("w", ticket=new_ticket(), ends=[End(claim)], number=1)
    assert answer.ended == [True]
    assert len(answer.claims) == 1
    states = [row["status"].partition(" [")[0] for row in runs.by_name().values()]
    assert sorted(states) == sorted([DONE, "running", "running", READY, READY, READY])
    assert [row["worker_name"] for row in runs.by_name().values()].count("w") == 1
    assert not server.faults


def test_a_heartbeat_without_reply_counts(runs: Sheet, server: Server, open: Open) -> None:
    queue = open()
    claim = queue.claim("w")
    assert claim is not None
    server.faults = ["drop"]
    assert queue.heartbeat([Beat(claim, Report("2 / 3", metrics={"loss": 1.0}))]) != [None]
    assert runs.by_name()["r0"]["status"].startswith("2 / 3 [w#1.1")


def test_a_claim_that_comes_to_pass_too_late_is_given_back(tab: Sheet, server: Server, open: Open) -> None:
    """A request that stalls on its way is applied after its worker has given it up, where another row stands now."""
    fill(tab, [[*TABLE[0], "run_record"], *TABLE[1:]])
    queue = open()
    signs = iter([-1, 1] * 10)

    def turn(book: Book) -> None:
        sign = next(signs)
        tab.sort(lambda row: sign * row[3])

    server.before_write, server.faults, server.stall = turn, ["late"], 0.3
    (claim,) = queue.exchange("w", ticket=new_ticket(), number=1).claims

    def tokens() -> list[str]:
        with server.lock:
            return sorted(name for name, row in tab.by_name().items() if "[w#" in str(row["status"]))

    assert tokens() == [claim.name] == ["r5"]
    poll(lambda: tokens() == ["r0", "r5"], what="the late claim")
    assert queue.heartbeat([Beat(claim)]) != [None]
    assert queue.heartbeat([Beat(claim)]) != [None]
    assert tokens() == ["r5"]
    rows = tab.by_name()
    assert [(rows[f"r{n}"]["status"], rows[f"r{n}"]["worker_name"]) for n in range(5)] == [(READY, None)] * 5
    server.before_write = lambda book: None
    assert len(queue.exchange("v", ticket=new_ticket(), number=6).claims) == 5


def test_a_stall_gives_no_run_to_two(runs: Sheet, server: Server, open: Open) -> None:
    """✗ Two workers get one run under latency."""
    server.faults, server.stall, server.pause = ["stall", "stall"], 0.3, 0.02
    names: list[str] = []

    def work(worker: str) -> None:
        queue, ends = open(), []
        while claims := queue.exchange(worker, ticket=new_ticket(), ends=ends, number=1).claims:
            names.append(claims[0].name)
            ends = [End(claims[0])]

    threads = [threading.Thread(target=work, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(names) == [f"r{number}" for number in range(6)]


def test_runs_are_added_once_whatever_is_lost(runs: Sheet, server: Server, open: Open) -> None:
    queue = open()
    server.faults = ["drop", "500 after", "drop before", "drop"]
    assert queue.add([New({"x": 6, "new": 1}), New({"x": 7}, name="mine")]) == ["run_1", "mine"]
    assert not server.faults
    added = [row for row in runs.by_name().values() if row["x"] in (6, 7)]
    assert [(row["run_name"], row["status"]) for row in added] == [("run_1", READY), ("mine", READY)]


def test_google_that_does_not_answer_is_told(runs: Sheet, server: Server, open: Open) -> None:
    queue = open(limits=Limits(per_minute=1e6, burst=100, minute=0.6, timeout=1.0, patience=0.5))
    queue.rows()
    ticket = new_ticket()
    server.chances = {"drop before": 1.0}
    with pytest.raises(Unavailable, match="does not answer"):
        queue.exchange("w", ticket=ticket, number=1)
    server.chances = {}
    (claim,) = queue.exchange("w", ticket=ticket, number=1).claims
    states = [row["status"] for row in runs.by_name().values()]
    assert sum(state.startswith("running [w#") for state in states) == 1
    assert queue.finish(End(claim))
    server.faults = ["read:503"] * 50
    with pytest.raises(Unavailable, match="503"):
        queue.rows()


def test_who_asks_again_gets_what_was_won_although_nobody_heard_of_it(runs: Sheet, server: Server, open: Open) -> None:
    queue = open(limits=Limits(per_minute=1e6, burst=100, minute=0.6, timeout=1.0, patience=0.3))
    assert queue.claim("before") is not None
    ticket = new_ticket()
    server.faults = ["drop", *["read:503"] * 100]
    with pytest.raises(Unavailable, match="503"):
        queue.exchange("w", ticket=ticket, number=2)
    server.faults = []
    won = sorted(name for name, row in runs.by_name().items() if "[w#" in row["status"])
    assert len(won) == 2
    for one in (queue, open()):
        assert sorted(claim.name for claim in one.exchange("w", ticket=ticket, number=2).claims) == won
    assert sum("[w#" in row["status"] for row in runs.by_name().values()) == 2


def test_who_dies_between_claim_and_end_has_its_run_taken_over(runs: Sheet, open: Open) -> None:
    """✗ A crashed worker's run stays `running` for ever."""
    queue = open(lease=0.4)
    assert queue.exchange("dead", ticket=new_ticket(), number=6).claims
    other = open(lease=0.4)
    assert other.claim("w") is None
    began = time.monotonic()
    claim = poll(lambda: other.claim("w"))
    assert time.monotonic() - began < 5
    assert (claim.epoch, claim.attempts) == (2, 2)
    row = runs.by_name()[claim.name]
    assert row["status"].startswith("running [w#2.2 ")
    assert row["worker_name"].startswith("w·")
    assert other.finish(End(claim))
    assert runs.by_name()[claim.name]["worker_name"] == "w"


def test_of_those_who_take_over_a_run_one_does(runs: Sheet, server: Server, open: Open) -> None:
    queue = open(lease=0.3)
    queue.exchange("dead", ticket=new_ticket(), number=6)
    others = [open(lease=0.3) for _ in range(4)]
    for other in others:
        other.rows()
    time.sleep(0.4)  # nothing can be seen while a lease goes by
    server.pause = 0.05
    names: list[str] = []
    gate = threading.Barrier(4)

    def take(queue: SheetsQueue, worker: str) -> None:
        gate.wait(10)
        names.extend(one.name for one in queue.exchange(worker, ticket=new_ticket(), number=1).claims)

    threads = [threading.Thread(target=take, args=(q, f"w{n}")) for n, q in enumerate(others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(names) == len(set(names)) == 4
    rows = runs.by_name()
    for name in names:
        worker = rows[name]["status"].partition("[")[2].partition("#")[0]
        assert rows[name]["worker_name"].partition("·")[0] == worker


def test_requeue_finds_its_rows_while_they_are_sorted(runs: Sheet, server: Server, open: Open) -> None:
    queue = open()
    claims = queue.exchange("w", ticket=new_ticket(), number=6).claims
    ends = [End(one, FAILED if one.name in ("r1", "r4") else DONE, "no") for one in claims]
    queue.exchange("w", ticket=new_ticket(), ends=ends)
    signs = iter([1, -1, 1, 1, -1, 1, -1])

    def sort(book: Book) -> None:
        sign = next(signs)
        runs.sort(lambda row: sign * row[3])

    server.before_write = sort
    assert sorted(queue.requeue([FAILED])) == ["r1", "r4"]
    rows = runs.by_name()
    assert {name: row["status"] for name, row in rows.items()} == {
        name: READY if name in ("r1", "r4") else DONE for name in rows
    }
    assert {name for name, row in rows.items() if row["worker_name"] is None} == {"r1", "r4"}
    assert {row["worker_name"] for row in rows.values()} == {"w", None}


def test_a_run_that_somebody_holds_is_not_requeued(runs: Sheet, open: Open) -> None:
    queue = open()
    queue.claim("w")
    with pytest.raises(Busy, match="being executed by w"):
        queue.requeue(["r0"])


def test_who_comes_anew_looks_for_a_lease_which_workers_are_dead(runs: Sheet, open: Open) -> None:
    dead, living = open(lease=0.8), open(lease=0.8)
    assert dead.claim("dead") is not None
    claim = living.claim("living")
    assert claim is not None
    over = threading.Event()

    def live() -> None:
        while not over.wait(0.1):
            living.heartbeat([Beat(claim)])

    beating = threading.Thread(target=live)
    beating.start()
    try:
        assert open().requeue([STALE]) == ["r0"]
    finally:
        over.set()
        beating.join()
    rows = runs.by_name()
    assert rows["r0"]["status"] == READY
    assert rows[claim.name]["status"] != READY


def test_a_run_that_somebody_copies_is_another_one(runs: Sheet, open: Open) -> None:
    """S14."""
    queue = open()
    claim = queue.claim("w")
    assert claim is not None
    copied = list(runs.rows[2])
    runs.rows.insert(8, copied)
    assert "copy of a run" in [row.remark for row in queue.rows()][-1]
    runs.rows[8] = [*copied]
    runs.rows[8][0:3] = [{"userEnteredValue": {"stringValue": one}} if one else None for one in ("again", "ready", "")]
    (held,) = queue.heartbeat([Beat(claim)])
    assert held is not None
    names = {one.uid: one.name for one in queue.exchange("v", ticket=new_ticket(), number=6).claims}
    assert sorted(names.values()) == ["again", "r1", "r2", "r3", "r4", "r5"]
    assert claim.uid not in names
    assert queue.finish(End(claim))


def test_what_a_dead_loser_has_left_is_taken_back(runs: Sheet, open: Open) -> None:
    """A claim that was lost wrote into empty cells of a row that came there meanwhile, and then its worker died."""
    queue = open()
    queue.rows()
    claim = queue.claim("w")
    assert claim is not None
    runs.put("r5", "status", "draft")
    runs.put("r5", "worker_name", "dead12·201fd9acb")
    runs.put("r5", "run_record", '6gmjye2a #1.1 {"by": "dead12", "tag": "201fd9acb"}')
    assert [row.worker for row in queue.rows()][5] == ""
    assert queue.heartbeat([Beat(claim)]) != [None]
    row = runs.by_name()["r5"]
    assert (row["status"], row["worker_name"], row["run_record"]) == ("draft", None, None)
    assert runs.by_name()["r0"]["worker_name"].startswith("w·")
    assert queue.finish(End(claim))


def test_a_run_goes_on_while_somebody_spoils_the_columns(runs: Sheet, open: Open) -> None:
    """Hours of training are not ended because a heading is being typed."""
    queue = open()
    claim = queue.claim("w")
    assert claim is not None
    runs.rows[0][5] = runs.rows[0][3]
    with pytest.raises(InvalidInput, match="both mean the parameter 'x'"):
        open().claim("v")
    with pytest.raises(Unavailable, match="both mean the parameter 'x'"):
        queue.heartbeat([Beat(claim)])
    ticket = new_ticket()
    with pytest.raises(Unavailable, match="both mean the parameter 'x'"):
        queue.exchange("w", ticket=ticket, ends=[End(claim)], number=1)
    runs.rows[0][5] = None
    assert queue.exchange("w", ticket=ticket, ends=[End(claim)], number=1).ended == [True]


def test_rows_that_have_one_name_are_told_apart(runs: Sheet, open: Open) -> None:
    runs.put("r1", "run_name", "r0")
    names = [one.name for one in open().exchange("w", ticket=new_ticket(), number=2).claims]
    assert len(set(names)) == 2
    assert all(name.startswith("r0-") for name in names)


# Quota


def test_a_quota_is_waited_for(runs: Sheet, server: Server, open: Open) -> None:
    """✗ no back-off: 8 workers die of quota in 14 s."""
    server.quota, server.minute = 6, 0.5
    queue = open(limits=Limits(per_minute=1e6, burst=100, minute=0.5, timeout=5, patience=20))
    ends: list[End] = []
    for _ in range(6):
        answer = queue.exchange("w", ticket=new_ticket(), ends=ends, number=1)
        for _ in range(3):
            queue.heartbeat([Beat(answer.claims[0])])
        ends = [End(answer.claims[0])]
    assert server.calls["429"] > 0
    assert queue.calls["write"] >= 24


def test_calls_are_spread_over_the_processes_of_a_machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    slept: list[float] = []
    limits = Limits(per_minute=60, burst=2)
    one, two = (Budget("me", limits, clock=lambda: now[0], sleep=slept.append) for _ in range(2))
    for _ in range(3):
        one.take("write")
        two.take("write")
    assert slept == pytest.approx([1, 2, 3, 4])
    one.take("read")
    Budget("you", limits, clock=lambda: now[0], sleep=slept.append).take("write")
    assert len(slept) == 4
    now[0] = 110
    two.take("write", 8)
    assert len(slept) == 4, "a group of calls goes when there is room for its first"
    now[0] = 5
    monkeypatch.setattr(process, "boot_id", lambda: "another")
    Budget("me", limits, clock=lambda: now[0], sleep=slept.append).take("write")
    assert len(slept) == 4, "a machine that was started anew begins anew"


def test_google_is_left_alone_as_long_as_it_asks(runs: Sheet, server: Server, open: Open) -> None:
    queue = open()
    queue.rows()
    server.faults, server.retry_after = ["429"], "1"
    began = time.monotonic()
    assert queue.claim("w") is not None
    assert time.monotonic() - began >= 1


# Who asks


def said(queue: SheetsQueue) -> ColabMagicsError:
    with pytest.raises(ColabMagicsError) as caught:
        queue.claim("w")
    return caught.value


def test_a_sheet_that_is_not_shared_is_told_with_whom_to_share_it(runs: Sheet, book: Book, open: Open) -> None:
    book.editors = {"somebody@example.org"}
    assert f"Share → {MAIL} → Editor" in str(said(open()))
    book.viewers = {MAIL}
    assert "only for viewing" in str(said(open()))
    assert [row.name for row in open().rows()][:1] == ["r0"]


def test_a_sheet_that_is_not_there_a_tab_that_is_not_there(server: Server, book: Book, open: Open) -> None:
    error = said(open(gid=99))
    assert isinstance(error, NotFound)
    assert "no tab with gid=99" in error.what
    assert "notes (gid=0), my runs' (gid=7)" in error.mend
    queue = SheetsQueue("https://docs.google.com/spreadsheets/d/nothing-there/edit", limits=FAST)
    assert f"share the sheet with {MAIL}" in said(queue).mend
    queue.close()


def test_an_api_that_is_not_enabled_is_told(runs: Sheet, server: Server, open: Open) -> None:
    server.is_enabled = False
    assert "Enable it: https://console.cloud.google.com" in str(said(open()))


def test_a_tab_that_gets_another_name_is_found(runs: Sheet, open: Open) -> None:
    queue = open()
    claim = queue.claim("w")
    assert claim is not None
    runs.title = "yesterday's"
    assert queue.finish(End(claim))


def test_who_asks_is_found_in_the_usual_places(
    server: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S12."""
    key = server.key(tmp_path, "a@project.iam.gserviceaccount.com")
    monkeypatch.setenv("SHEET_KEY", key.read_text())
    assert auth.credentials("", "secret:SHEET_KEY")[1] == "a@project.iam.gserviceaccount.com"
    assert auth.credentials()[1] == MAIL
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    with pytest.raises(Unavailable, match="share the sheet with its e-mail"):
        auth.credentials()
    usual = home / ".config" / "gspread" / "service_account.json"
    usual.parent.mkdir(parents=True)
    usual.write_text(server.key(tmp_path, "g@x.iam.gserviceaccount.com").read_text())
    assert auth.credentials()[1] == "g@x.iam.gserviceaccount.com"


def test_keys_that_are_none_are_told_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHEET_KEY", "very secret words")
    with pytest.raises(InvalidInput, match="The secret 'SHEET_KEY' is no key") as caught:
        auth.credentials("", "secret:SHEET_KEY")
    assert "very secret" not in str(caught.value)
    with pytest.raises(NotFound, match="OTHER"):
        auth.credentials("", "secret:OTHER")
    broken = tmp_path / "key.json"
    broken.write_text(json.dumps({"type": "service_account", "private_key": "very secret"}))
    with pytest.raises(InvalidInput) as caught:
        auth.credentials("", str(broken))
    assert "very secret" not in str(caught.value)
    with pytest.raises(NotFound, match="cannot be read"):
        auth.credentials("", str(tmp_path / "gone.json"))


def test_no_other_machine_gets_the_token(runs: Sheet, open: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLAB_MAGICS_SHEETS", "https://evil.example.org")
    with pytest.raises(InvalidInput, match="no server of this machine"):
        open().rows()


def test_colab_is_asked_in_the_notebook_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """S12: what it asks is tried on Colab's own package in tests/colab."""
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    monkeypatch.setattr(consent, "_asked", [])
    consent.ask("shell")
    assert not consent._asked


# The probe


def test_a_probe_shows_one_winner_each_and_leaves_nothing(runs: Sheet, book: Book, open: Open) -> None:
    before = runs.values()
    tried = open().probe(clients=8, rounds=5)
    assert (tried.winners, tried.remark) == ([1] * 5, "")
    assert list(book.sheets) == [0, 7]
    assert runs.values() == before


def test_a_probe_of_a_server_that_serves_several_at_once_shows_it(
    runs: Sheet, open: Open, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test that cannot fail shows nothing."""
    real = Sheet.find_replace

    def find_replace(self: Sheet, asked: dict[str, str]) -> dict[str, int]:
        return real(self, asked) if asked["find"] == "^$" else {"occurrencesChanged": 1}

    monkeypatch.setattr(Sheet, "find_replace", find_replace)
    assert open().probe(clients=3, rounds=2).winners == [3, 3]
    monkeypatch.setattr(Sheet, "find_replace", lambda self, asked: {} if asked["find"] == "^$" else real(self, asked))
    assert "no worker's name" in open().probe(clients=2, rounds=1).remark


def test_a_sheet_where_nothing_finds_empty_cells_works_all_the_same(
    runs: Sheet, open: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Google does not document: then rows get no worker's name and no record, and runs are executed once."""
    real = Sheet.find_replace
    monkeypatch.setattr(Sheet, "find_replace", lambda self, asked: {} if asked["find"] == "^$" else real(self, asked))
    queue, ends, names = open(), [], []
    while claims := (answer := queue.exchange("w", ticket=new_ticket(), ends=ends, number=1)).claims:
        assert answer.ended == [True] * len(ends)
        names.append(claims[0].name)
        assert queue.heartbeat([Beat(claims[0], Report("1 / 2"))]) != [None]
        ends = [End(claims[0], report=Report(output="/out"))]
    assert names == [f"r{number}" for number in range(6)]
    assert {row["status"] for row in runs.by_name().values()} == {DONE}


def test_a_fork_of_the_process_has_connections_of_its_own(
    runs: Sheet, open: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = open()
    claim = queue.claim("w")
    assert claim is not None
    calls = queue.calls
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        assert queue.heartbeat([Beat(claim)]) != [None]
        assert sum(queue.calls.values()) < sum(calls.values()), "counted anew"
        queue.close()


def test_another_process_says_the_heartbeats_of_a_claim(
    runs: Sheet, server: Server, open: Open, tmp_path: Path
) -> None:
    """A run's own process says its heartbeats with the claim that the scheduler has made."""
    queue = open()
    claim = queue.claim("w")
    assert claim is not None
    code = (
        "import sys; from colab_magics.queues.base import Beat, Claim, Report;"
        "from colab_magics.queues import open_queue;"
        f"held = open_queue({queue.address!r}).heartbeat([Beat(Claim(*{(claim.uid, claim.name, 'w', 1)!r}, {{}}),"
        "Report('from there'))]); sys.exit(held[0].config != {'x': 0})"
    )
    environment = {**os.environ, **server.environment(tmp_path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=60)
    assert runs.by_name()["r0"]["status"].startswith("from there [w#1.1 ")
    assert queue.finish(End(claim))
