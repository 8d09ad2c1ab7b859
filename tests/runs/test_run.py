"""A run's status is derived from what its files and its process say."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from colab_magics import process
from colab_magics.records.beats import Beats
from colab_magics.records.status import SILENT, derive

NOW = time.time()


def state(phase: str = "running", **more: object) -> dict[str, object]:
    return {
        "attempt": 1,
        "phase": phase,
        "beat": NOW - 1,
        "cell": 9,
        "cells": 14,
        "process": process.identity(),
        **more,
    }


def test_a_living_runner_is_running() -> None:
    status = derive(state(), None, now=NOW)
    assert (status.phase, status.text) == ("running", "cell 9 of 14")


def test_what_a_run_says_of_its_steps_stands_in_place_of_the_cell_and_beside_it_at_the_end() -> None:
    step = "step 30 of 100"
    assert derive(state(), None, now=NOW, step=step).text == step
    assert derive(state("killed"), None, now=NOW, step=step).text.endswith(", cell 9 of 14, step 30 of 100")
    failed = state("failed", error={"cell": 9, "ename": "ValueError"})
    assert derive(failed, None, now=NOW, step=step).text == "failed in cell 9, step 30 of 100: ValueError"
    assert derive(state("done"), None, now=NOW, step=step).text == "done"


def test_a_runner_of_an_earlier_boot_was_interrupted() -> None:
    who = {**process.identity(), "boot": "another boot"}
    status = derive(state(process=who), None, now=NOW)
    assert status.phase == "interrupted"
    assert status.text.endswith("cell 9 of 14")
    assert status.text.startswith("interrupted ")


def test_another_process_with_the_same_number_is_not_the_runner() -> None:  # ✗ PID reuse
    who = process.identity()
    assert derive(state(process={**who, "started": who["started"] - 1}), None, now=NOW).phase == "interrupted"


def test_a_runner_on_another_machine_lives_while_its_heart_beats() -> None:
    who = {"pid": 1, "started": 1, "host": "elsewhere", "boot": "theirs"}
    assert derive(state(process=who), None, now=NOW).phase == "running"
    assert derive(state(process=who, beat=NOW - SILENT - 1), None, now=NOW).phase == "interrupted"


def test_a_beat_is_fresh_that_was_seen_to_change_whatever_the_clock_there_says() -> None:
    moments = [100.0]
    beats, folder, there = Beats(lambda: moments[0]), Path("sub_job_000"), NOW - 3600
    assert beats.is_fresh(folder, NOW - 1, NOW), "at the first look the clocks tell"
    late = Path("late")
    assert not beats.is_fresh(late, there, NOW), "an hour behind, or dead for an hour"
    assert beats.is_fresh(late, there + 10, NOW), "it was seen to change"
    moments[0] += SILENT - 1
    assert beats.is_fresh(late, there + 10, NOW)
    moments[0] += 2
    assert not beats.is_fresh(late, there + 10, NOW), "and has not changed again"


def test_a_dead_runner_is_seen_at_once() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    who = process.identity(child.pid)
    assert derive(state(process=who), None, now=NOW).phase == "running"
    child.kill()
    child.communicate()
    assert derive(state(process=who), None, now=NOW).phase == "interrupted"


@pytest.mark.parametrize("phase", ["done", "failed", "killed"])
def test_what_the_runner_said_at_its_end_is_final(phase: str) -> None:
    late = {"attempt": 1, "verdict": "lost", "at": NOW}
    assert (
        derive(state(phase, error={"cell": 2, "ename": "E"} if phase == "failed" else None), late, now=NOW).phase
        == phase
    )


def test_what_an_engine_knows_of_an_end_is_said() -> None:
    late = {"attempt": 1, "verdict": "lost", "at": NOW, "reason": "over its time"}
    ended = derive(state("killed"), late, now=NOW)
    assert (ended.phase, ended.text.startswith("lost "), ended.text.endswith(": over its time")) == (
        "interrupted",
        True,
        True,
    )
    failed = derive(state("failed", error={"cell": 2, "ename": "E"}), late, now=NOW)
    assert (failed.phase, failed.text) == ("failed", "failed in cell 2: E; over its time")
    assert derive(None, late, now=NOW).text == "lost before it started: over its time"


def test_a_run_that_is_queued_a_second_time_waits() -> None:
    out = {"engine": "slurm", "seen": "queued", "since": NOW, "says": "Priority\x1b[2J"}
    for before in (state("killed", beat=NOW - 5), state("running", beat=NOW - 5)):
        again = derive(before, None, now=NOW, out=out)
        assert (again.phase, again.text) == ("waiting", "queued again on slurm (Priority)")
    assert derive(None, None, now=NOW, out=out).text == "queued on slurm (Priority)"
    assert derive(state("running", beat=NOW + 1), None, now=NOW, out=out).phase == "running"


def test_a_run_that_executes_in_a_cluster_says_on_which_node() -> None:
    out = {"engine": "slurm", "seen": "running", "since": NOW, "says": "node gpu07"}
    assert derive(None, None, now=NOW, out=out).text == "starting on slurm, node gpu07"
    there = {**out, "ref": {"host": "login"}}
    assert derive(None, None, now=NOW, out=there).text == "starting on login, node gpu07"
    assert derive(state("running"), None, now=NOW, out=there).text.endswith(", on login, node gpu07")
    waited = {**out, "seen": "queued", "since": NOW - 10, "says": "Priority"}
    assert "Priority" not in derive(state("running"), None, now=NOW, out=waited).text


def test_killed_before_it_started() -> None:
    assert derive(None, {"attempt": 1, "verdict": "killed", "at": NOW}, now=NOW).text == "killed before it started"
    assert derive(None, None, now=NOW).phase == "waiting"
