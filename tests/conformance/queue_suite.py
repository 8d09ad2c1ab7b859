"""What every queue keeps to; each one's test module makes a subclass that says how it is opened and how people edit."""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import pytest
from conftest import HOSTILE_NAMES, poll

from colab_magics.errors import Busy, InvalidInput, NotFound, Unavailable
from colab_magics.queues.base import (
    DONE,
    FAILED,
    MOST_ATTEMPTS,
    READY,
    RUNNING,
    STALE,
    Beat,
    Claim,
    End,
    New,
    Queue,
    Report,
    Row,
    Value,
    new_ticket,
)

Open = Callable[..., Queue]
Lose = Callable[[Queue, int], Queue]

HOSTILE = [
    *HOSTILE_NAMES,
    "'; DROP TABLE runs; --",
    '=1+1"',
    "\\",
    "a\tb",
    "🦕\u200b",
    "x" * 30_000,
    "%s ? $now :a {b}",
]
"""Values that break careless quoting."""


class QueueSuite:
    """Tests of a queue by its contract."""

    LEASE: ClassVar[float] = 0.6
    """Seconds; short enough to be waited for, and longer than any step of a test takes."""
    VALUES: ClassVar[list[Value]] = [
        *[
            True,
            False,
            0,
            1,
            -7,
            2**53 + 1,
            10**30,
            0.1,
            5e-4,
            1e300,
            -0.0,
            1.0,
            math.inf,
            math.nan,
            None,
            "",
            "1",
            "true",
        ],
        *[
            "007",
            "1_000",
            "5,00E-04",
            "nan",
            [],
            [1, "a", None, [0.5]],
            {},
            {"a": {"b": [True]}},
            "\0",
            "\ud800",
            " a ",
        ],
        *HOSTILE,
    ]
    """What comes back as it was, its type too."""
    REFUSED: ClassVar[list[Any]] = [object(), {1: 2}, [b"x"], {"a": {3}}]
    CLIENTS, RUNS = 8, 40

    @pytest.fixture
    def open(self) -> Open:
        """Return a function that opens one and the same table, by a client of its own: ``open(lease=60.0)``."""
        raise NotImplementedError

    def edit(self, queue: Queue, name: str, **cells: Any) -> None:
        """Change a run as people do: ``status=``, ``priority=``, and ``config=`` all of its parameters."""
        raise NotImplementedError

    def stop_run(self, queue: Queue, name: str, why: str) -> None:
        """Write that a run is to end, as people do."""
        raise NotImplementedError

    def stop_worker(self, queue: Queue, worker: str, why: str) -> None:
        """Write that a worker is to claim no more, as people do."""
        raise NotImplementedError

    @pytest.fixture
    def lose(self) -> Lose:
        """Return a function that gives a client whose next replies get lost, so many: what it asked for is done."""
        return Losing

    @pytest.fixture
    def queue(self, open: Open) -> Queue:
        """A queue without runs, whose leases no test outlives."""
        made = open()
        made.create()
        return made

    @pytest.fixture
    def short(self, queue: Queue, open: Open) -> Queue:
        """The same queue by a client whose leases are short."""
        return open(lease=self.LEASE)

    def row(self, queue: Queue, name: str) -> Row:
        (found,) = (one for one in queue.rows() if one.name == name)
        return found

    def claims(self, queue: Queue, worker: str, number: int = 1) -> list[Claim]:
        return queue.exchange(worker, ticket=new_ticket(), number=number).claims

    def names(self, queue: Queue, worker: str = "w") -> list[str]:
        """Claim all that is ready, in its order."""
        found = []
        while claim := queue.claim(worker):
            found.append(claim.name)
        return found

    # The table

    def test_a_queue_that_is_not_there_is_told_with_its_mend(self, open: Open) -> None:
        for ask in (lambda q: q.rows(), lambda q: q.add([New({})]), lambda q: q.claim("w")):
            with pytest.raises(NotFound, match="%queue create"):
                ask(open())

    def test_one_that_is_there_stays_as_it_is(self, queue: Queue, open: Open) -> None:
        queue.add([New({"lr": 0.1}, name="a")])
        other = open()
        other.create({"lr": 5.0, "more": 1})
        assert [row.config for row in other.rows()] == [{"lr": 0.1}]

    def test_many_create_it_at_once(self, open: Open) -> None:
        together(self.CLIENTS, lambda number: open().create({"number": number}))
        queue = open()
        queue.add([New({})])
        assert self.row(queue, queue.rows()[0].name).config["number"] in range(self.CLIENTS)

    # Adding

    def test_runs_are_added_in_order_with_names_of_their_own(self, queue: Queue) -> None:
        given = [{"x": number} for number in range(5)]
        before = copy.deepcopy(given)
        names = queue.add([New(one, name="mine" if number == 2 else "") for number, one in enumerate(given)])
        names += queue.add([New({"x": 5})])
        assert given == before, "the caller's dicts stay as they are"
        assert len(set(names)) == 6
        assert all(names)
        assert names[2] == "mine"
        assert [(row.name, row.config["x"], row.status) for row in queue.rows()] == [
            (name, number, READY) for number, name in enumerate(names)
        ]
        assert len({row.uid for row in queue.rows()}) == 6
        assert all(row.place and row.lease_left is None and not row.remark for row in queue.rows())

    def test_a_chosen_name_is_none_that_is_there(self, queue: Queue) -> None:
        (first,) = queue.add([New({})])
        following = first[:-1] + str(int(first[-1]) + 1)
        queue.add([New({}, name=following)])
        assert queue.add([New({})])[0] not in (first, following)
        assert len(queue.rows()) == 3

    def test_a_name_that_is_there_lets_none_be_added(self, queue: Queue) -> None:
        queue.add([New({}, name="a")])
        with pytest.raises(InvalidInput, match="'a'"):
            queue.add([New({}, name="b"), New({}, name="a")])
        with pytest.raises(InvalidInput, match="'c'"):
            queue.add([New({}, name="c"), New({}, name="c")])
        assert [row.name for row in queue.rows()] == ["a"]

    def test_many_add_at_once(self, queue: Queue, open: Open) -> None:
        names = together(4, lambda number: open().add([New({"n": number, "i": i}) for i in range(5)]))
        assert len({name for some in names for name in some}) == 20
        assert len(queue.rows()) == 20

    def test_values_come_back_as_they_were(self, queue: Queue) -> None:
        queue.add([New({"value": value}) for value in self.VALUES])
        claims = self.claims(queue, "w", len(self.VALUES))
        assert [repr(one.config["value"]) for one in claims] == [repr(value) for value in self.VALUES]
        assert [repr(one.config["value"]) for one in queue.rows()] == [repr(value) for value in self.VALUES]

    def test_hostile_names_are_names(self, queue: Queue) -> None:
        hostile = [name for name in HOSTILE if len(name) < 200]
        queue.add([New({name: number}, name=name) for number, name in enumerate(hostile)])
        assert self.names(queue, "w'; --") == hostile
        assert [dict(row.config) for row in queue.rows()] == [{name: number} for number, name in enumerate(hostile)]

    def test_what_cannot_be_kept_is_refused(self, queue: Queue) -> None:
        for value in self.REFUSED:
            with pytest.raises(InvalidInput, match="lr"):
                queue.add([New({"fine": 1}), New({"lr": value})])
        assert queue.rows() == []

    def test_the_row_goes_before_the_queue_and_the_queue_before_the_code(self, open: Open) -> None:
        queue = open()
        queue.create({"lr": 0.5, "n": 10})
        queue.add([New({"lr": 0.1}, name="a"), New({}, name="b")])
        own = {"lr": 9.0, "n": 9, "seed": 3}
        a, b = queue.exchange("w", ticket=new_ticket(), number=2, own=own).claims
        assert (a.config, b.config) == ({"lr": 0.1, "n": 10, "seed": 3}, {"lr": 0.5, "n": 10, "seed": 3})
        assert [held and held.config for held in queue.heartbeat([Beat(a), Beat(b)])] == [a.config, b.config]
        assert self.row(queue, "a").config == {"lr": 0.1, "n": 10}

    # Claims

    def test_the_highest_priority_goes_first_then_who_was_added_first(self, queue: Queue) -> None:
        queue.add([New({}, name=name, priority=p) for name, p in (("c", 0), ("a", 2.5), ("d", 0), ("b", 1), ("e", -1))])
        assert self.names(queue) == ["a", "b", "c", "d", "e"]

    def test_drafts_are_left_alone(self, queue: Queue) -> None:
        queue.add(
            [New({}, name=f"draft {status}", status=status) for status in ("draft", "Ready ", "done", "todo", "")]
        )
        queue.add([New({}, name="a")])
        assert self.names(queue) == ["a"]
        assert [row.status for row in queue.rows()] == ["draft", "Ready ", "done", "todo", "", RUNNING]
        assert [row.remark for row in queue.rows()] == ["", "'Ready ' is not 'ready'", "", "", "", ""]
        self.edit(queue, "draft todo", status=READY)
        assert self.names(queue) == ["draft todo"]

    def test_a_claim_says_what_it_is(self, queue: Queue) -> None:
        queue.add([New({"lr": 0.1}, name="a")])
        claim = queue.claim("w1")
        row = self.row(queue, "a")
        assert claim == Claim(row.uid, "a", "w1", 1, {"lr": 0.1}, 1)
        assert (row.status, row.worker, row.epoch, row.attempts) == (RUNNING, "w1", 1, 1)
        assert row.lease_left is not None
        assert 0 < row.lease_left <= queue.lease
        assert queue.claim("w2") is None

    def test_no_more_are_claimed_than_are_wanted_or_there(self, queue: Queue) -> None:
        queue.add([New({}) for _ in range(5)])
        assert [len(self.claims(queue, "w", number)) for number in (0, 2, 9, 1)] == [0, 2, 3, 0]

    def test_many_claim_at_once_and_each_run_goes_to_one(self, queue: Queue, open: Open) -> None:
        names = queue.add([New({}) for _ in range(self.RUNS)])
        together_names = together(self.CLIENTS, lambda number: self.names(open(), f"w{number}"))
        claimed = [name for some in together_names for name in some]
        assert sorted(claimed) == sorted(names)

    def test_threads_share_one_client(self, queue: Queue) -> None:
        names = queue.add([New({}) for _ in range(self.RUNS)])
        claimed = [n for some in together(4, lambda number: self.names(queue, f"w{number}")) for n in some]
        assert sorted(claimed) == sorted(names)

    # Tickets and lost replies

    def test_the_same_ticket_has_the_same_answer(self, queue: Queue) -> None:
        queue.add([New({"n": number}) for number in range(4)])
        first, second = new_ticket(), new_ticket()
        one = queue.exchange("w", ticket=first, number=2)
        ends = [End(claim, FAILED, "no") for claim in one.claims]
        assert queue.exchange("w", ticket=first, number=2) == one
        two = queue.exchange("w", ticket=second, ends=ends, number=1)
        assert two.ended == [True, True]
        assert queue.exchange("w", ticket=second, ends=ends, number=1) == two
        assert [row.status for row in queue.rows()] == [FAILED, FAILED, RUNNING, READY]

    def test_a_ticket_that_won_nothing_wins_nothing_later(self, queue: Queue) -> None:
        ticket = new_ticket()
        assert queue.exchange("w", ticket=ticket, number=1).claims == []
        queue.add([New({})])
        assert queue.exchange("w", ticket=ticket, number=1).claims == []
        assert queue.claim("w") is not None

    def test_a_lost_reply_loses_no_run_and_claims_no_second(self, queue: Queue, open: Open, lose: Lose) -> None:
        queue.add([New({}, name="a"), New({}, name="b"), New({}, name="c")])
        ends: list[End] = []
        for name in "abc":
            ticket = new_ticket()
            unlucky = lose(open(), 2)
            answer = insist(lambda: unlucky.exchange("w", ticket=ticket, ends=ends, number=1))  # noqa: B023
            assert [claim.name for claim in answer.claims] == [name]
            assert answer.ended == [True] * len(ends)
            ends = [End(answer.claims[0])]
        assert [row.status for row in queue.rows()] == [DONE, DONE, RUNNING]
        assert [row.attempts for row in queue.rows()] == [1, 1, 1]

    def test_a_heartbeat_and_a_requeue_without_reply_are_repeated(self, queue: Queue, open: Open, lose: Lose) -> None:
        queue.add([New({"n": 1}, name="a")])
        (claim,) = self.claims(queue, "w")
        unlucky = lose(open(), 2)
        (held,) = insist(lambda: unlucky.heartbeat([Beat(claim, Report("1 / 2"))]))
        assert held is not None
        assert (held.config, self.row(queue, "a").report.text) == ({"n": 1}, "1 / 2")
        queue.finish(End(claim, FAILED))
        unlucky = lose(open(), 2)
        insist(lambda: unlucky.requeue(["a"]))
        assert self.row(queue, "a").status == READY

    # Ends

    def test_an_end_is_written_with_what_there_is_to_tell(self, queue: Queue) -> None:
        queue.add([New({}, name="a"), New({}, name="b"), New({}, name="c")])
        a, b, c = self.claims(queue, "w", 3)
        report = Report("3 / 3", "/out/a", "abc1234", {"loss": 0.25, "acc": 1.0})
        error = "ValueError: it's $(no) good\n日本" + "x" * 5000
        ends = [End(a, report=report), End(b, FAILED, error), End(c, "diverged")]
        assert queue.exchange("w", ticket=new_ticket(), ends=ends).ended == [True] * 3
        rows = queue.rows()
        assert [(row.status, row.worker, row.lease_left) for row in rows] == [
            (status, "w", None) for status in (DONE, FAILED, "diverged")
        ]
        assert rows[0].report == report
        assert (rows[1].error, rows[0].error) == (error, "")
        assert self.claims(queue, "w") == []

    def test_the_same_end_twice_is_written_both_times(self, queue: Queue) -> None:
        queue.add([New({}), New({}), New({})])
        a, b, c = self.claims(queue, "w", 3)
        for _ in range(2):
            assert queue.finish(End(a))
            assert queue.finish(End(b, FAILED, "no"))
            assert queue.finish(End(c, READY))
        assert [row.status for row in queue.rows()] == [DONE, FAILED, READY]

    def test_a_run_that_is_given_back_is_claimed_again_and_had_no_attempt(self, queue: Queue) -> None:
        queue.add([New({}, name="a")])
        for epoch in range(1, MOST_ATTEMPTS + 3):
            (claim,) = self.claims(queue, "w")
            assert (claim.epoch, claim.attempts) == (epoch, 1)
            assert queue.finish(End(claim, READY))
        row = self.row(queue, "a")
        assert (row.status, row.worker, row.attempts) == (READY, "", 0)

    def test_ends_and_claims_go_together(self, queue: Queue) -> None:
        queue.add([New({"n": number}) for number in range(3)])
        seen, ends = [], []
        while claims := (answer := queue.exchange("w", ticket=new_ticket(), ends=ends, number=1)).claims:
            assert answer.ended == [True] * len(ends)
            seen.append(claims[0].config["n"])
            ends = [End(claims[0])]
        assert seen == [0, 1, 2]
        assert [row.status for row in queue.rows()] == [DONE] * 3

    # Leases and epochs

    def test_a_dead_workers_run_is_back_after_its_lease_and_not_before(self, short: Queue) -> None:
        short.add([New({}, name="a")])
        began = time.monotonic()
        assert short.claim("dead") is not None
        assert short.claim("w") is None
        claim = poll(lambda: short.claim("w"))
        assert time.monotonic() - began >= 0.9 * self.LEASE
        assert (claim.epoch, claim.attempts, claim.worker) == (2, 2, "w")

    def test_heartbeats_keep_a_run(self, short: Queue) -> None:
        short.add([New({}, name="a"), New({}, name="b")])
        claims = self.claims(short, "w", 2)
        until = time.monotonic() + 2.5 * self.LEASE
        while time.monotonic() < until:
            assert [held is not None for held in short.heartbeat([Beat(one) for one in claims])] == [True, True]
            assert short.claim("other") is None
            time.sleep(short.beat)
        assert short.exchange("w", ticket=new_ticket(), ends=[End(one) for one in claims]).ended == [True, True]

    def test_who_comes_back_too_late_changes_nothing(self, short: Queue, queue: Queue) -> None:
        short.add([New({}, name="a")])
        zombie = short.claim("zombie")
        assert zombie is not None
        claim = poll(lambda: queue.claim("w"))
        for _ in range(2):
            assert short.heartbeat([Beat(zombie, Report("99 / 100", metrics={"loss": 0.0}))]) == [None]
            assert short.exchange("zombie", ticket=new_ticket(), ends=[End(zombie, FAILED, "late")]).ended == [False]
            assert not short.finish(End(zombie, READY))
        row = self.row(queue, "a")
        assert (row.status, row.worker, row.epoch, row.error, row.report.text) == (RUNNING, "w", 2, "", "")
        assert queue.finish(End(claim, report=Report("100 / 100")))
        assert not short.finish(End(zombie))
        row = self.row(queue, "a")
        assert (row.status, row.worker, row.report.text) == (DONE, "w", "100 / 100")

    def test_an_older_claim_of_the_same_worker_changes_nothing(self, short: Queue) -> None:
        short.add([New({}, name="a")])
        old = short.claim("w")
        assert old is not None
        new = poll(lambda: short.claim("w"))
        assert short.exchange("w", ticket=new_ticket(), ends=[End(old, FAILED), End(new)]).ended == [False, True]
        assert self.row(short, "a").status == DONE

    def test_who_comes_back_before_anybody_wanted_it_goes_on(self, short: Queue, queue: Queue) -> None:
        short.add([New({}, name="a"), New({}, name="b")])
        a, b = self.claims(short, "w", 2)
        poll(lambda: [row.status for row in queue.rows()] == [STALE, STALE])
        assert queue.heartbeat([Beat(a)]) != [None]
        assert self.row(queue, "a").status == RUNNING
        assert queue.finish(End(b))
        assert self.row(queue, "b").status == DONE

    def test_whose_workers_die_again_and_again_is_left(self, short: Queue) -> None:
        short.add([New({}, name="a")])
        for attempt in range(1, MOST_ATTEMPTS + 1):
            claim = poll(lambda: short.claim("w"))
            assert (claim.attempts, claim.epoch) == (attempt, attempt)
        poll(lambda: self.row(short, "a").status == STALE)
        assert short.claim("w") is None
        row = self.row(short, "a")
        assert (row.attempts, row.lease_left) == (MOST_ATTEMPTS, 0)
        assert "requeue" in row.remark
        assert short.requeue([STALE]) == ["a"]
        claim = short.claim("w")
        assert claim is not None
        assert (claim.attempts, claim.epoch) == (1, MOST_ATTEMPTS + 1)

    def test_a_clock_that_jumps_ends_no_lease(self, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
        queue.add([New({}, name="a")])
        assert queue.claim("w") is not None
        now = time.time
        for jump in (1e6, -1e6):
            monkeypatch.setattr(time, "time", lambda: now() + jump)  # noqa: B023
            assert queue.claim("other") is None
            row = self.row(queue, "a")
            assert row.status == RUNNING
            assert 0 < (row.lease_left or 0) <= queue.lease

    # What people do

    def test_what_is_edited_during_a_run_comes_with_its_heartbeat(self, queue: Queue) -> None:
        queue.add([New({"lr": 0.1, "n": 5}, name="a")])
        (claim,) = self.claims(queue, "w")
        self.edit(queue, "a", config={"lr": 0.01, "n": 5})
        (held,) = queue.heartbeat([Beat(claim, Report("4 / 10"))])
        assert held is not None
        assert (held.config, held.stop) == ({"lr": 0.01, "n": 5}, "")
        assert self.row(queue, "a").report.text == "4 / 10"
        queue.heartbeat([Beat(claim)])
        assert self.row(queue, "a").report.text == "4 / 10", "what is empty stays as it is"

    def test_a_priority_that_is_edited_counts(self, queue: Queue) -> None:
        queue.add([New({}, name="a"), New({}, name="b")])
        self.edit(queue, "b", priority=3)
        assert self.names(queue) == ["b", "a"]

    def test_a_run_is_stopped(self, queue: Queue) -> None:
        queue.add([New({}, name="a"), New({}, name="b")])
        a, b = self.claims(queue, "w", 2)
        self.stop_run(queue, "a", "it diverges")
        held = queue.heartbeat([Beat(a), Beat(b)])
        assert [bool(one and one.stop) for one in held] == [True, False]
        assert queue.finish(End(a, "stopped"))
        assert self.row(queue, "a").status == "stopped"

    def test_a_worker_is_stopped_and_writes_its_ends_all_the_same(self, queue: Queue) -> None:
        queue.add([New({}, name="a"), New({}, name="b")])
        (claim,) = self.claims(queue, "w")
        self.stop_worker(queue, "w", "the machine is wanted")
        answer = queue.exchange("w", ticket=new_ticket(), ends=[End(claim)], number=1)
        assert (answer.ended, answer.claims, bool(answer.stop)) == ([True], [], True)
        assert [one.name for one in self.claims(queue, "other")] == ["b"]

    def test_failed_runs_are_made_ready_again(self, queue: Queue) -> None:
        queue.add([New({}, name=name) for name in "abcd"])
        a, b, c, _ = self.claims(queue, "w", 4)
        queue.exchange("w", ticket=new_ticket(), ends=[End(a), End(b, FAILED, "no"), End(c, FAILED, "no")])
        assert queue.requeue([FAILED]) == ["b", "c"]
        assert queue.requeue([FAILED]) == []
        assert [row.status for row in queue.rows()] == [DONE, READY, READY, RUNNING]
        claims = self.claims(queue, "v", 2)
        assert [(claim.name, claim.epoch, claim.attempts) for claim in claims] == [("b", 2, 1), ("c", 2, 1)]
        assert queue.requeue(["a", self.row(queue, "a").uid]) == ["a"]
        assert self.row(queue, "a").status == READY
        assert not queue.finish(End(b, DONE)), "it belongs to another claim now"
        assert self.row(queue, "b").status == RUNNING

    def test_requeue_does_all_or_nothing(self, queue: Queue) -> None:
        queue.add([New({}, name=name) for name in "abc"])
        a, _ = self.claims(queue, "w", 2)
        queue.finish(End(a, FAILED))
        before = queue.rows()
        with pytest.raises(NotFound, match="'nobody'"):
            queue.requeue(["a", "nobody"])
        with pytest.raises(Busy, match="w"):
            queue.requeue(["a", "b"])
        assert [(row.status, row.attempts) for row in queue.rows()] == [(row.status, row.attempts) for row in before]

    def test_a_claim_is_tried_on_a_row_of_its_own(self, queue: Queue, open: Open) -> None:
        queue.add([New({}, name="a")])
        tried = queue.probe(clients=4, rounds=3)
        assert (tried.clients, tried.rounds, tried.winners) == (4, 3, [1, 1, 1])
        assert tried.seconds > 0
        assert [(row.name, row.status) for row in open().rows()] == [("a", READY)]

    def test_it_may_be_used_again_after_it_was_closed(self, queue: Queue) -> None:
        queue.add([New({}, name="a")])
        queue.close()
        assert [row.name for row in queue.rows()] == ["a"]


class Losing:
    """A client whose first replies get lost: what was asked for is done, and nobody hears of it."""

    def __init__(self, queue: Queue, count: int) -> None:
        self._queue = queue
        self._left = count

    def __getattr__(self, name: str) -> Any:
        def ask(*words: Any, **more: Any) -> Any:
            answer = getattr(self._queue, name)(*words, **more)
            if self._left:
                self._left -= 1
                raise Unavailable("the reply got lost", "ask again")
            return answer

        return ask


def insist(ask: Callable[[], Any]) -> Any:
    """Ask again until there is an answer."""
    for _ in range(10):
        try:
            return ask()
        except Unavailable:
            continue
    raise AssertionError("no answer")


def together(count: int, do: Callable[[int], Any]) -> list[Any]:
    """Do something in so many threads that begin at once; returns what came of each."""
    gate = threading.Barrier(count)

    def one(number: int) -> Any:
        gate.wait(30)
        return do(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
