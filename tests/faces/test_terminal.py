"""The program in a terminal: its live window, colours, sizes, ends; and in pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import poll
from fronts import ROOT
from runs.folders import leave_run
from terminal import Terminal, terminal

from colab_magics.checkout.project import Project
from colab_magics.ui import Table, TerminalUI

WATCH = [sys.executable, "-m", "colab_magics", "jobs", "watch"]
IN, OUT, CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"
COLUMNS = ["run", "state", "time", "lr", "loss", "trend", "last line"]
RUNS = [["a/0", "step 3 of 60", "12 s", "0.1", "0.5365", "█▇▆▅▄▃▃▂▁▁", "epoch 3: loss 0.5365"],
        ["a/1", "failed in cell 4, step 20 of 60: ValueError", "8.4 s", "0.01", "0.3892", "█▇▆▅▄▃▃▂▁▁", "ValueError"],
        ["a/2", "waiting", "", "0.001", "", "", ""]]  # fmt: skip


@pytest.fixture
def job(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Leave a run that goes on, one that is done, and one that failed."""
    for index, phase in enumerate(("running", "done", "failed")):
        leave_run(project.data_job, index, phase, alive=phase == "running", started=time.time() - 60,
                  parameters={"lr": 0.1 / (index + 1)}, reports=[{"loss": 0.5, "acc": 0.125}])  # fmt: skip
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return project


def whole(window: Terminal) -> list[str]:
    """Return the page once its last line is there."""
    page = window.page()
    return page if page and any("Ctrl-C stops watching" in line for line in page) else []


def test_watching_takes_the_window_and_gives_it_back(job: Project) -> None:
    with terminal(WATCH, job.root) as window:
        page = poll(lambda: whole(window), what="the table")
        assert page[0].startswith("1 done, 1 running, 1 failed")
        assert page[1].startswith("━") or page[1].startswith("─")
        assert page[2].split()[:3] == ["run", "state", "time"]
        assert "\x1b[1;36mstarting\x1b[0m" in window.text
        assert "\x1b[32mdone\x1b[0m" in window.text
        assert f"file://{os.uname().nodename}{job.data_job.resolve()}/sub_job_000/notebook.ipynb" in window.text
        window.resize(40, 12)
        poll(lambda: len(window.page()) <= 12 and max(map(len, window.page())) <= 40, what="a small window")
        assert any(line.startswith("no room here for: ") for line in window.page())
        window.resize(80, 6)
        poll(lambda: any("more in a higher window" in line for line in window.page()), what="a low window")
        # Nobody is there to stop it for: it gives the window back, and has it again at once.
        window.process.send_signal(signal.SIGTSTP)
        poll(lambda: IN in window.read().partition(OUT)[2], what="the window again")
        window.type("\x03")
        assert window.ended() == 130
    before, _, after = window.text.rpartition(OUT)
    assert IN in before
    assert CURSOR in window.text.rpartition("\x1b[?25l")[2]
    assert "baseline/0" in after  # what was seen last stays
    assert "Stopped watching (1 done, 1 running, 1 failed). The runs go on: colab-magics jobs watch baseline" in after
    assert "Traceback" not in window.text


def test_ended_by_others_it_gives_the_window_back(job: Project) -> None:
    with terminal(WATCH, job.root, NO_COLOR="1") as window:
        poll(lambda: whole(window), what="the table")
        assert "\x1b[1;36m" not in window.text
        assert "\x1b[32m" not in window.text
        window.process.send_signal(signal.SIGTERM)
        assert window.ended() == 128 + signal.SIGTERM
    assert CURSOR in window.text.partition(OUT)[0].rpartition("\x1b[?25l")[2]


def test_a_plain_terminal_gets_lines(job: Project) -> None:
    with terminal(WATCH, job.root, TERM="dumb") as window:
        poll(lambda: "baseline/2  failed" in window.read(), what="the lines")
        window.type("\x03")
        assert window.ended() == 130
    assert "\x1b" not in window.text


def test_signs_that_cannot_be_written_have_others(job: Project) -> None:
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*WATCH[:-1], "3"], cwd=job.root, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (1, b"", 2)
    assert b"\n> It has: 0 to 2.\n" in done.stderr


def test_a_pipe_that_is_closed_is_no_error(job: Project) -> None:
    (job.data_job / "sub_job_001" / "log.txt").write_text("a line\n" * 100_000)
    words = [*WATCH[:-1], "logs", "1"]
    with subprocess.Popen(words, cwd=job.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        assert program.stdout.readline().startswith("baseline/1: ")
        program.stdout.close()
        assert program.stderr.read() == ""


def test_a_pipe_gets_a_line_for_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    note = "3 × ValueError: no <b> in cell 4: a/1, a/5"
    with TerminalUI().live(screen=True) as live:
        live.show(Table(COLUMNS, RUNS))
        live.show(Table(COLUMNS, [[*RUNS[0][:1], "step 4 of 60", *RUNS[0][2:]], *RUNS[1:]], notes=[note]))
        live.show(Table(COLUMNS, [["a/0", "done", *RUNS[0][2:]], *RUNS[1:]], notes=[note.replace("3", "4")]))
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "a/0  step 3 of 60  time=12 s  lr=0.1  loss=0.5365  trend=█▇▆▅▄▃▃▂▁▁  last line=epoch 3: loss 0.5365",
        "a/1  failed in cell 4, step 20 of 60: ValueError  time=8.4 s  lr=0.01  loss=0.3892  trend=█▇▆▅▄▃▃▂▁▁  "
        "last line=ValueError",
        note,
        "a/0  done  time=12 s  lr=0.1  loss=0.5365  trend=█▇▆▅▄▃▃▂▁▁  last line=epoch 3: loss 0.5365",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 140])
def test_numbers_are_whole_or_not_there(width: int) -> None:
    table = Table(COLUMNS, RUNS, right=["time", "lr", "loss"])
    lines = table.text(width).splitlines()
    assert max(map(len, lines)) <= width
    shown = lines[0].split("  ")
    left_out = [name for name in COLUMNS if name not in lines[0]]
    assert ("0.5365" in lines[1]) == ("loss" not in left_out)
    assert lines[1].startswith("a/0  step 3")
    assert (len(lines) == 5) == bool(left_out), shown


def test_wide_letters_keep_the_columns() -> None:
    lines = Table(["run", "state", "loss"], [["模型/0", "done", "1"], ["b/1", "done", "2"]]).text().splitlines()
    assert lines[1:] == ["模型/0  done   1", "b/1     done   2"]
