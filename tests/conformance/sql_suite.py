"""What queues in databases of SQL keep to beside `QueueSuite`: what people write there by hand, forks, tickets."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from typing import Any

import pytest

from colab_magics.errors import InvalidInput, NotFound
from colab_magics.queues.base import DONE, FAILED, READY, RUNNING, End, New, Queue, Report, new_ticket

from .queue_suite import Open, QueueSuite, together


class SqlQueueSuite(QueueSuite):
    """Tests of a queue in a database."""

    def by_hand(self, queue: Queue, words: str, *values: Any) -> None:
        """Execute a statement as people do, with another program; ``$runs`` and ``$settings`` are the tables."""
        raise NotImplementedError

    def edit(self, queue: Queue, name: str, **cells: Any) -> None:
        for column, value in cells.items():
            kept = json.dumps(value) if column == "config" else value
            self.by_hand(queue, f"UPDATE $runs SET {column} = ? WHERE name = ?", kept, name)

    def stop_run(self, queue: Queue, name: str, why: str) -> None:
        queue.stop([name], why)  # type: ignore[attr-defined]

    def stop_worker(self, queue: Queue, worker: str, why: str) -> None:
        queue.stop_worker(worker, why)  # type: ignore[attr-defined]

    def test_a_fork_has_a_connection_of_its_own(self, queue: Queue) -> None:
        queue.add([New({}, name="a"), New({}, name="b")])
        child = os.fork()
        if child == 0:
            claim = queue.claim("child")
            os._exit(0 if claim is not None and claim.name == "a" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        claim = queue.claim("parent")
        assert claim is not None
        assert claim.name == "b"

    def test_rows_that_people_insert_are_drafts_until_they_say_ready(self, queue: Queue) -> None:
        self.by_hand(queue, "INSERT INTO $runs (name, config) VALUES ('by hand', '{\"lr\": 3}')")
        self.by_hand(queue, "INSERT INTO $runs (status) VALUES ('ready')")
        claim = queue.claim("w")
        assert claim is not None
        assert (claim.name.startswith("run_"), claim.config, len(claim.uid)) == (True, {}, 32)
        assert queue.claim("w") is None
        self.edit(queue, "by hand", status=READY)
        assert [one.config for one in [queue.claim("w")] if one] == [{"lr": 3}]

    def test_ready_over_an_end_is_a_new_run_with_all_attempts(self, queue: Queue) -> None:
        queue.add([New({}, name="a")])
        for epoch in range(1, 6):
            claim = queue.claim("w")
            assert claim is not None
            assert (claim.epoch, claim.attempts) == (epoch, 1)
            queue.finish(End(claim, FAILED))
            self.edit(queue, "a", status=READY)

    def test_a_config_that_somebody_spoilt_fails_alone(self, queue: Queue) -> None:
        queue.add([New({"n": 1}, name="a"), New({}, name="b"), New({}, name="c")])
        self.by_hand(queue, "UPDATE $runs SET config = '{\"n\": ' WHERE name = 'a'")
        self.by_hand(queue, "UPDATE $runs SET config = '[1]' WHERE name = 'b'")
        assert ["no JSON object" in row.remark for row in queue.rows()] == [True, True, False]
        claim = queue.claim("w")
        assert claim is not None
        assert claim.name == "c"
        assert [row.status for row in queue.rows()][:2] == [FAILED, FAILED]
        assert all("no JSON object" in row.error for row in queue.rows()[:2])

    def test_a_priority_that_is_no_number_is_refused_at_once(self, queue: Queue) -> None:
        queue.add([New({}, name="a")])
        with pytest.raises(Exception, match=r"(?i)check|syntax"):
            self.by_hand(queue, "UPDATE $runs SET priority = 'high'")

    def test_defaults_that_somebody_spoilt_are_told(self, queue: Queue) -> None:
        queue.add([New({}, name="a")])
        self.by_hand(queue, "UPDATE $settings SET defaults = 'lr=1'")
        with pytest.raises(InvalidInput, match="defaults"):
            queue.claim("w")
        self.by_hand(queue, "UPDATE $settings SET defaults = '{\"lr\": 1}'")
        claim = queue.claim("w")
        assert claim is not None
        assert claim.config == {"lr": 1}

    def test_what_waits_and_was_stopped_is_not_executed_before_it_is_requeued(self, queue: Queue) -> None:
        queue.add([New({}, name="a"), New({}, name="b")])
        self.stop_run(queue, "a", "not this one")
        assert self.names(queue) == ["b"]
        assert self.row(queue, "a").remark == "stopped: not this one"
        assert queue.requeue(["a"]) == ["a"]
        assert self.names(queue) == ["a"]

    def test_who_writes_over_the_status_takes_the_run_away(self, queue: Queue) -> None:
        queue.add([New({}, name="a")])
        claim = queue.claim("w")
        assert claim is not None
        self.edit(queue, "a", status="draft")
        assert not queue.finish(End(claim))
        assert self.row(queue, "a").status == "draft"

    def test_names_and_statuses_that_no_database_keeps_are_refused(self, queue: Queue) -> None:
        longest = "".join(random.choices("ünïab日本c", k=500))
        assert queue.add([New({}, name=longest, status=longest[::-1])]) == [longest]
        for wrong in ("a\0b", "\ud800", "x" * 501):
            with pytest.raises(InvalidInput, match="name of a run"):
                queue.add([New({}, name=wrong)])
            with pytest.raises(InvalidInput, match="status"):
                queue.add([New({}, status=wrong)])
            with pytest.raises(InvalidInput, match="worker"):
                queue.claim(wrong)
            with pytest.raises(NotFound):
                queue.requeue([wrong])
        assert queue.requeue([longest]) == [longest]
        claim = queue.claim(longest)
        assert claim is not None
        for wrong in ("", RUNNING, "stale", "x" * 501):
            with pytest.raises(InvalidInput):
                queue.finish(End(claim, wrong))
        assert queue.finish(End(claim, FAILED, "\0\ud800", Report("\0", "\ud800", metrics={"a\0": float("nan")})))
        assert queue.rows()[0].error == "\N{REPLACEMENT CHARACTER}?"

    def test_one_ticket_at_once_has_one_answer(self, queue: Queue, open: Open) -> None:
        queue.add([New({}) for _ in range(8)])
        for _ in range(3):
            ticket = new_ticket()
            answers = together(4, lambda number: open().exchange("w", ticket=ticket, number=2))  # noqa: B023
            assert [one == answers[0] for one in answers] == [True] * 4
            assert len(answers[0].claims) == 2
        assert [row.status for row in queue.rows()].count(READY) == 2

    def test_who_is_killed_between_any_two_lines_has_done_all_of_it_or_nothing(self, queue: Queue, open: Open) -> None:
        lived = False
        number = 1
        while not lived:
            a, b = queue.add([New({}), New({})])
            (claim,) = self.claims(queue, "w")
            ticket = new_ticket()
            child = os.fork()
            if child == 0:
                die_at_line(number)
                open().exchange("w", ticket=ticket, ends=[End(claim)], number=1)
                os._exit(0)
            lived = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            before = [self.row(queue, name).status for name in (a, b)]
            assert before in ([RUNNING, READY], [DONE, RUNNING]), f"line {number}"
            answer = queue.exchange("w", ticket=ticket, ends=[End(claim)], number=1)
            assert (answer.ended, [(one.name, one.epoch, one.attempts) for one in answer.claims]) == (
                [True],
                [(b, 1, 1)],
            )
            assert queue.finish(End(answer.claims[0]))
            number += 5
        assert number > 100, "it was killed at many lines"
        assert {row.status for row in queue.rows()} == {DONE}


def die_at_line(number: int) -> None:
    """Kill this process as soon as it has executed so many lines of queues."""
    left = number

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal left
        if "/colab_magics/queues/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)
