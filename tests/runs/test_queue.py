"""Runs of a queue by real schedulers and kernels: each once, whatever dies, goes away or is edited meanwhile."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import signal
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from boxes import boxes
from conftest import HOSTILE_NAMES, poll, set_up
from postgres_server import postgres_server
from sheets_server import Book, Sheet, sheets_server

import colab_magics
from colab_magics import fork, jobs, process, session, submit
from colab_magics.checkout.project import Project
from colab_magics.engines.base import EVERY, Resources
from colab_magics.errors import ColabMagicsError, InvalidInput, RunsFailed
from colab_magics.queues import addresses, open_queue
from colab_magics.queues.base import New, Row
from colab_magics.records.names import CLAIM, SCHEDULER, is_named, named_folder, number_of
from colab_magics.records.run import Run, runs_of
from colab_magics.runs import attempts, scheduler
from colab_magics.runs.board import Board
from colab_magics.runs.of_queue import claims, sweep
from colab_magics.runs.of_queue.table import Table
from colab_magics.runs.order import Order
from colab_magics.session import Session
from colab_magics.ui import TerminalUI
from colab_magics.verbs import fork_queue

from .notebooks import write_notebook

HERE = Path(__file__).parent


def table(project: Project, configs: Sequence[dict[str, Any]], names: Sequence[str] = ()) -> str:
    """Make a queue in the project with these runs."""
    url = str(project.root / "runs.db")
    queue = open_queue(url)
    queue.create()
    queue.add([New(config, name) for config, name in zip(configs, names or [""] * len(configs), strict=True)])
    return url


def rows(url: str) -> dict[str, Row]:
    return {row.name: row for row in open_queue(url).rows()}


def ended(job_folder: Path) -> None:
    poll(lambda: not scheduler.is_running(job_folder), timeout=60)


@pytest.fixture
def moody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give schedulers short leases, and a queue that is away while the file that this returns is there."""
    monkeypatch.setenv("PYTHONPATH", str(HERE / "moody"))
    monkeypatch.setenv("QUEUE_IS_AWAY", str(tmp_path / "away"))
    return tmp_path / "away"


def test_a_row_is_a_run_of_this_notebook_and_its_end_goes_back(project: Project, said: io.StringIO) -> None:  # S3, S9
    notebook = write_notebook(
        project.root / "train.ipynb",
        "%load_ext colab_magics\nlr = size = 0",
        "%fork runs=runs.db",
        "import colab_magics\ncolab_magics.report(loss=2 * lr, step=4, total=10)\n"
        "open(data_job + '/test.txt', 'w').write(f'{lr} {size} {i_sub_job}')",
        "if size == 3: raise ValueError('too big')",
    )
    queue = open_queue(url := str(project.root / "runs.db"))
    queue.create({"size": 1})
    queue.add([New({"lr": 0.1}, "a"), New({"lr": 0.2, "size": 2}, "b"), New({"lr": 0.3, "size": 3}, "c")])
    queue.add([New({"lr": 0.4}, "draft", status="Ready ")])
    with pytest.raises(RunsFailed, match="c  failed in cell 4: ValueError: too big"):
        fork(runs=url, workers="2", notebook=str(notebook))
    found = rows(url)
    assert {name: row.status for name, row in found.items()} == {
        "a": "done",
        "b": "done",
        "c": "failed",
        "draft": "Ready ",
    }
    folder = project.data_job / "sub_job_b"
    assert (folder / "test.txt").read_text() == f"0.2 2 {Run.load(folder).i_sub_job}"
    assert found["b"].report.text == "4 / 10"
    assert found["b"].report.metrics == {"loss": 0.4}
    assert found["b"].report.output == str(folder)
    assert len(found["b"].worker) == 6  # S4
    assert found["c"].error.startswith("ValueError: too big")
    assert "2 done, 1 failed, 1 other" in said.getvalue()
    # Run All again: nothing is left, and what failed before is no error of this call.
    board = fork(runs=url, notebook=str(notebook))
    assert isinstance(board, Board)
    assert [run.name for run in board.runs] == ["a", "b", "c"]
    assert [run.attempt for run in board.runs] == [1, 1, 1]
    assert "1 runs failed here before" in said.getvalue()
    colab_magics.queue.requeue(url, "failed")
    notebook.write_text(notebook.read_text().replace("size == 3", "size == 4"))
    fork(runs=url, notebook=str(notebook), resume="keep")
    assert rows(url)["c"].status == "done"
    assert Run.load(project.data_job / "sub_job_c").attempt == 2  # in its own folder: checkpoints serve


def test_two_schedulers_eat_from_one_table_and_each_run_is_executed_once(tmp_path: Path) -> None:  # S14
    done, projects = tmp_path / "done.txt", []
    for name in ("one", "two"):
        projects.append(set_up(tmp_path / name, TerminalUI(out=io.StringIO())))
        if name == "one":
            url = table(projects[0], [{"k": k} for k in range(12)])
        submit(f"echo {{k}} >> {done}; sleep 0.1", runs=url, workers="2")
    for one in projects:
        ended(one.data_job)
    assert sorted(map(int, done.read_text().split())) == list(range(12))
    assert {row.status for row in rows(url).values()} == {"done"}
    here = [len(runs_of(one.data_job)) for one in projects]
    assert sum(here) == 12
    assert min(here) > 0
    assert "by other workers" in sweep.others(projects[0].data_job, url, open_queue(url).rows())


def test_a_scheduler_that_is_killed_loses_no_run_and_the_next_goes_on_with_its_runs(project: Project) -> None:
    url = table(project, [{"k": k} for k in range(6)])
    done, go = project.root / "done.txt", project.root / "go"
    line = f"while ! test -e {go}; do sleep 0.05; done; echo {{k}} >> {done}"
    submit(line, runs=url, workers="2")
    poll(lambda: len([run for run in runs_of(project.data_job) if run.runner_lives()]) == 2)
    before = {name: row.epoch for name, row in rows(url).items() if row.status == "running"}
    state = json.loads((project.data_job / SCHEDULER / "state.json").read_text())
    os.kill(state["process"]["pid"], signal.SIGKILL)
    ended(project.data_job)
    assert "others may claim them: say the line with runs= again" in str(jobs())
    board = submit(line, runs=url, workers="2")
    assert isinstance(board, Board)
    assert "others may claim them" not in str(jobs())
    poll(lambda: scheduler.is_running(project.data_job))
    go.touch()
    ended(project.data_job)
    assert sorted(map(int, done.read_text().split())) == list(range(6))
    assert {row.status for row in rows(url).values()} == {"done"}
    assert {name: rows(url)[name].epoch for name in before} == before == dict.fromkeys(before, 1)
    assert {row.attempts for row in rows(url).values()} == {1}


def test_a_claim_whose_reply_nobody_heard_is_executed_by_the_next_scheduler(project: Project) -> None:
    url = table(project, [{"k": 1}])
    folder = project.data_job / SCHEDULER
    folder.mkdir(parents=True)
    # What a scheduler leaves that is killed between the exchange and the run's folder.
    asked = {"queue": url, "worker": "abc123", "ticket": "t" * 32, "number": 1, "boot": process.boot_id()}
    process.write_json(folder / "exchange.json", asked)
    (claim,) = open_queue(url).exchange("abc123", ticket="t" * 32, number=1).claims
    submit("echo {k}", runs=url)
    ended(project.data_job)
    row = rows(url)[claim.name]
    assert (row.status, row.epoch, row.worker) == ("done", 1, "abc123")


def test_the_queue_is_away_for_a_while_and_runs_go_on(project: Project, moody: Path) -> None:
    url = table(project, [{"k": k} for k in range(3)])
    go = project.root / "go"
    submit(f"while ! test -e {go}; do sleep 0.05; done; echo {{k}}", runs=url, workers="2")
    poll(lambda: len([run for run in runs_of(project.data_job) if run.runner_lives()]) == 2)
    moody.touch()
    log = project.data_job / SCHEDULER / "log.txt"
    poll(lambda: "does not answer" in log.read_text())
    assert any("runs go on" in line for line in scheduler.waits_for(project.data_job))
    go.touch()
    poll(lambda: [run.status().phase for run in runs_of(project.data_job)] == ["done"] * 2)
    assert {row.status for row in rows(url).values()} == {"running", "ready"}
    board = sweep.board(project.data_job, url)
    assert any("does not answer" in line for line in board.tells(board.statuses()))
    moody.unlink()
    ended(project.data_job)
    assert {row.status for row in rows(url).values()} == {"done"}
    assert log.read_text().count("does not answer") == 1
    assert "answers again" in log.read_text()


def test_a_run_that_went_to_somebody_else_is_ended_and_its_end_does_not_count(project: Project, moody: Path) -> None:
    url = table(project, [{"k": 1}], ["a"])
    submit("sleep 60 # {k}", runs=url)
    run = poll(lambda: next((run for run in runs_of(project.data_job) if run.runner_lives()), None))
    with closing(sqlite3.connect(url, timeout=30, isolation_level=None)) as other:
        # As if its lease had ended, and another worker had come.
        changed = other.execute("UPDATE runs SET worker = 'other', epoch = epoch + 1")
        assert changed.rowcount == 1
    ended(project.data_job)
    assert run.status().phase == "killed"
    assert "not this worker's any more" in (run.verdict() or {})["reason"]
    assert (rows(url)["a"].status, rows(url)["a"].worker) == ("running", "other")


def test_people_stop_a_run_in_the_table_and_a_worker(project: Project, moody: Path) -> None:  # S16
    url = table(project, [{"k": 1}, {"k": 2}, {"k": 3}], ["a", "b", "c"])
    submit("sleep 60 # {k}", runs=url, workers="2")
    poll(lambda: len([run for run in runs_of(project.data_job) if run.runner_lives()]) == 2)
    worker = rows(url)["a"].worker
    colab_magics.queue.stop(url, worker=worker)
    colab_magics.queue.stop(url, "a", "b", why="it diverges")
    ended(project.data_job)
    assert [run.status().phase for run in runs_of(project.data_job)] == ["killed", "killed"]
    assert {name: row.status for name, row in rows(url).items()} == {"a": "stopped", "b": "stopped", "c": "ready"}
    assert "it diverges" in rows(url)["a"].error


def test_a_worker_that_was_stopped_says_so_and_the_next_one_works(project: Project, said: io.StringIO) -> None:  # S16
    url = table(project, [{"k": 1}, {"k": 2}], ["a", "b"])
    go = project.root / "go"
    line = f"while ! test -e {go}; do sleep 0.05; done; echo {{k}}"
    submit(line, runs=url, workers="1")
    poll(lambda: any(run.runner_lives() for run in runs_of(project.data_job)))
    colab_magics.queue.stop(url, worker=rows(url)["a"].worker, why="lunch")
    go.touch()
    ended(project.data_job)
    assert {name: row.status for name, row in rows(url).items()} == {"a": "done", "b": "ready"}
    assert "claim no more: lunch" in sweep.others(project.data_job, url, open_queue(url).rows())
    submit(line, runs=url, workers="1", wait=True)
    assert rows(url)["b"].status == "done"


def test_the_process_that_talks_with_the_queue_is_killed_and_another_goes_on(project: Project) -> None:
    url = table(project, [{"k": k} for k in range(3)])
    go = project.root / "go"
    submit(f"while ! test -e {go}; do sleep 0.05; done; echo {{k}}", runs=url, workers="2")
    poll(lambda: len([run for run in runs_of(project.data_job) if run.runner_lives()]) == 2)
    runners = {(run.state() or {})["process"]["pid"] for run in runs_of(project.data_job)}
    children = {child.pid for child in psutil.Process(scheduler_of(project)).children()}
    for pid in children - runners:
        os.kill(pid, signal.SIGKILL)
    go.touch()
    ended(project.data_job)
    assert {row.status for row in rows(url).values()} == {"done"}
    assert {row.attempts for row in rows(url).values()} == {1}


def test_retries_are_of_one_claim_and_go_on_in_the_folder(project: Project) -> None:
    url = table(project, [{"k": 1}], ["a"])
    submit("test -e $data_job/x || { touch $data_job/x; exit 3; } # {k}", runs=url, retries=1, wait=True)
    assert (rows(url)["a"].status, rows(url)["a"].attempts) == ("done", 1)
    assert Run.load(project.data_job / "sub_job_a").attempt == 2


def test_a_killed_sweep_gives_back_what_has_not_begun(project: Project) -> None:
    url = table(project, [{"k": k} for k in range(4)], ["a", "b", "c", "d"])
    submit("sleep 60 # {k}", runs=url, workers="1")
    poll(lambda: any(run.runner_lives() for run in runs_of(project.data_job)))
    board = jobs.kill(project.job)
    ended(project.data_job)
    assert f"No more runs are taken from {url}." in board.notes
    assert [rows(url)[name].status for name in "abcd"] == ["killed", "ready", "ready", "ready"]
    assert [rows(url)[name].attempts for name in "bcd"] == [0, 0, 0]


def test_when_too_many_fail_the_others_are_for_somebody_else(project: Project) -> None:
    url = table(project, [{"k": k} for k in range(4)])
    with pytest.raises(RunsFailed):
        submit("exit {k}1", runs=url, workers="1", max_failures=2, wait=True)
    assert sorted(row.status for row in rows(url).values()) == ["failed", "failed", "ready", "ready"]


def test_watch_waits_for_runs_that_are_added(project: Project) -> None:
    url = table(project, [])
    submit("echo {k}", runs=url, watch=True)
    poll(lambda: scheduler.is_running(project.data_job))
    open_queue(url).add([New({"k": 1}, "late")])
    poll(lambda: rows(url)["late"].status == "done")
    assert scheduler.is_running(project.data_job)
    board = sweep.board(project.data_job, url)
    assert poll(lambda: board.tells(board.statuses())) == [f"Waits for runs that become ready in {url}."]
    jobs.kill(project.job)
    ended(project.data_job)


def test_what_would_make_all_runs_compute_the_same_is_refused_before_anything_is_claimed(project: Project) -> None:
    url = table(project, [{"lr": 1, "momentum": 2}])
    notebook = write_notebook(project.root / "a.ipynb", "%fork runs=runs.db", "print(3)")
    with pytest.raises(InvalidInput, match="uses the parameter lr"):
        fork(runs=url, notebook=str(notebook))
    again = write_notebook(project.root / "b.ipynb", "%fork runs=runs.db", "lr = 3\nprint(lr, momentum)")
    with pytest.raises(InvalidInput, match="Cell 2, below %fork, assigns lr again"):
        fork(runs=url, notebook=str(again))
    assert [row.attempts for row in rows(url).values()] == [0]
    assert not runs_of(project.data_job)


def test_a_column_of_remarks_is_told_and_the_runs_go_on(project: Project) -> None:
    """People keep what they like in a table of theirs; a name that no parameter may have is no harm there."""
    url = table(project, [{"k": 1, "remarks": "try this", "my idea": "?"}, {"k": 2, "remarks": "or this"}], ["a", "b"])
    said = "Nothing uses the columns remarks, my idea: runs that differ in nothing else compute the same."
    assert said in str(submit("echo {k}", runs=url, dry_run=True))
    board = submit("echo {k}", runs=url, wait=True)
    assert said in str(board)
    assert {row.status for row in rows(url).values()} == {"done"}
    assert [run.record["parameters"] for run in board.runs] == [
        {"k": 1, "remarks": "try this"},
        {"k": 2, "remarks": "or this"},
    ]


def test_a_column_that_comes_later_and_nothing_uses_is_told_at_the_end(project: Project) -> None:
    go, url = project.root / "go", table(project, [{"k": 1}], ["a"])
    submit(f"while ! test -e {go}; do sleep 0.05; done; echo {{k}}", runs=url, workers="1")
    poll(lambda: any(run.runner_lives() for run in runs_of(project.data_job)))
    open_queue(url).add([New({"k": 2, "kk": 3}, "b")])
    go.touch()
    ended(project.data_job)
    assert rows(url)["b"].status == "done"
    assert "Nothing uses the column kk" in sweep.others(project.data_job, url, open_queue(url).rows())


def test_s9_an_edit_of_a_row_that_runs_reaches_its_code(project: Project, moody: Path) -> None:
    url = table(project, [{"lr": 0.1, "size": 4}], ["a"])
    script, asked = project.root / "train.py", project.root / "asked"
    script.write_text(
        "import pathlib, time, colab_magics\n"
        "print('before', colab_magics.changes())\n"
        f"pathlib.Path({str(asked)!r}).touch()\n"
        "while not (new := colab_magics.changes()): time.sleep(0.02)\n"
        "print('changed', new, colab_magics.changes())\n"
    )
    board = submit(shlex.join([sys.executable, str(script), "{lr}", "{size}"]), runs=url)
    poll(asked.exists)
    with closing(sqlite3.connect(url, timeout=30, isolation_level=None)) as other:
        other.execute("UPDATE runs SET config = ?", ('{"lr": 0.01, "remark": "slower"}',))
    ended(project.data_job)
    said = board.runs[0].log.read_text()
    assert "before {}" in said
    assert "changed {'lr': 0.01, 'remark': 'slower', 'size': None} {}" in said
    assert board.runs[0].record["parameters"] == {"lr": 0.1, "size": 4}, "what it began with"


def test_an_engine_that_takes_all_runs_at_once_claims_no_more_than_execute(tmp_path: Path) -> None:
    """Other workers would get none."""
    draft: Any = None
    all_of_them = Order(tmp_path, draft, [], tmp_path, tmp_path, engine="slurm", resources=Resources(EVERY))
    with pytest.raises(InvalidInput, match="on=slurm would claim every run of the queue") as error:
        all_of_them.a_few_at_once(fork_queue.CLAIMS_ALL)
    assert "workers=8" in error.value.mend
    some = replace(all_of_them, resources=Resources(EVERY, at_once=3))
    assert some.a_few_at_once(fork_queue.CLAIMS_ALL).feed.workers == 3


def test_a_bad_row_fails_with_the_sentence_and_the_others_go_on(project: Project) -> None:
    go = project.root / "go"
    url = table(project, [{"k": 1}], ["a"])
    queue = open_queue(url)
    submit(f"while ! test -e {go}; do sleep 0.05; done; echo {{k}}", runs=url, workers="1")
    poll(lambda: any(run.runner_lives() for run in runs_of(project.data_job)))
    queue.add([New({"j": 2}, "b"), New({"k": 3}, "c"), New({}, "d")])
    go.touch()
    ended(project.data_job)
    assert {name: row.status for name, row in rows(url).items()} == {
        "a": "done",
        "b": "failed",
        "c": "done",
        "d": "failed",
    }
    assert "Nothing uses the parameter j" in rows(url)["b"].error
    assert "the run has no parameter k" in rows(url)["d"].error


def test_a_run_whose_folder_is_deleted_fails_with_the_reason(project: Project) -> None:
    url = table(project, [{"k": 1}, {"k": 2}], ["a", "b"])
    submit("sh -c 'test {k} = 1 || rm -r \"$COLAB_MAGICS_RUN\"'", runs=url, workers="1")
    ended(project.data_job)
    found = rows(url)
    assert {name: row.status for name, row in found.items()} == {"a": "done", "b": "failed"}
    assert found["b"].error == "its folder is not there any more"
    assert sweep.others(project.data_job, url, list(found.values())).endswith(": 1 done, 1 failed.")


def test_dry_run_shows_the_table_and_claims_nothing(project: Project) -> None:
    url = table(project, [{"k": 1}], ["a b"])
    shown = str(submit("echo {k}", runs=url, dry_run=True))
    assert "k=1 (int)" in shown
    assert named_folder("a b") in shown
    assert "Nothing was claimed" in shown
    assert rows(url)["a b"].attempts == 0


def test_other_runs_cannot_stand_beside_those_of_a_queue(project: Project) -> None:
    url = table(project, [{"k": 1}])
    go = project.root / "go"
    submit(f"while ! test -e {go}; do sleep 0.05; done; echo {{k}}", runs=url)
    with pytest.raises(ColabMagicsError, match="are taken from"):
        submit("echo 1")
    with pytest.raises(InvalidInput, match="and so does a grid"):
        submit("echo {k}", runs=url, grid={"k": [1]})
    go.touch()
    ended(project.data_job)
    with pytest.raises(InvalidInput, match="is done"):
        jobs.retry(runs_of(project.data_job)[0].id)


def test_hostile_names_of_runs_get_folders_of_their_own(project: Project) -> None:
    names = [
        *HOSTILE_NAMES,
        "../x",
        "..",
        ".hidden",
        "x" * 300,
        "A",
        "a",
        "007",
        "7",
        "sub_job_007",
        "failed",
        "~",
        "日本",
    ]
    url = table(project, [{"k": k} for k in range(len(names))], names)
    submit("echo {k} > $data_job/k", runs=url, workers="4")
    ended(project.data_job)
    found = runs_of(project.data_job)
    assert sorted(run.name for run in found) == sorted(names)
    assert {run.name: int((run.folder / "k").read_text()) for run in found} == {n: k for k, n in enumerate(names)}
    assert len({run.folder.name.casefold() for run in found}) == len({run.index for run in found}) == len(names)
    assert {run.folder.parent for run in found} == {project.data_job}
    assert all(is_named(run.folder.name) and number_of(run.folder.name) == run.index for run in found)
    assert [path.name for path in project.root.parent.iterdir()] == [project.root.name]
    for run in found:
        if run.name not in ("failed", "-rf"):  # a word of %jobs, an option
            assert run.id in str(jobs.show(f"{project.job}/{run.word}"))
    assert "A~" in str(jobs.show("A"))


def test_a_password_is_nowhere(project: Project, said: io.StringIO) -> None:
    url = "postgresql://me:geheim@127.0.0.1:1/runs?connect_timeout=1"
    with pytest.raises(ColabMagicsError) as refused:
        submit("echo {k}", runs=url)
    assert "geheim" not in str(refused.value)
    assert "geheim" not in said.getvalue()
    project.data_job.mkdir(parents=True, exist_ok=True)
    template = project.data_job / SCHEDULER / "of_queue"
    template.mkdir(parents=True, exist_ok=True)
    process.write_json(template / "run.json", {"index": 0, "payload": {"kind": "command", "words": ["true"]}})
    with scheduler.taken(project.data_job) as held:
        pid = scheduler.start(
            project.data_job, [], held[0], engine="local", feed=scheduler.Feed(), queue=Table(url, watch=True)
        )
    log = project.data_job / SCHEDULER / "log.txt"
    poll(lambda: "does not answer" in log.read_text())
    assert "geheim" not in Path(f"/proc/{pid}/cmdline").read_text()
    os.kill(pid, signal.SIGKILL)
    ended(project.data_job)
    for path in project.root.rglob("*"):
        assert not path.is_file() or b"geheim" not in path.read_bytes(), path


def test_workers_of_two_machines_share_a_database_and_its_password_stays_in_memory(tmp_path: Path) -> None:
    made = [set_up(tmp_path / name, TerminalUI(out=io.StringIO())) for name in ("one", "two")]
    done = tmp_path / "done.txt"
    with postgres_server() as server:
        url = server.address()
        queue = open_queue(url)
        queue.create()
        queue.add([New({"k": k}) for k in range(8)])
        for one in made:
            session.activate(Session(ui=TerminalUI(out=io.StringIO()), project=one))
            submit(f"env > $data_job/env; echo {{k}} >> {done}; sleep 0.2", runs=url, workers="2")
        pids = [poll(partial(scheduler_of, one)) for one in made]
        assert not any("p%40ss" in Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)
        for one in made:
            ended(one.data_job)
        assert {row.status for row in queue.rows()} == {"done"}
        queue.close()
    assert sorted(map(int, done.read_text().split())) == list(range(8))
    for path in (path for one in made for path in one.root.rglob("*") if path.is_file()):
        held = path.read_bytes()
        assert b"p%40ss" not in held and b"p@ss" not in held, path  # noqa: PT018
    assert min(len(runs_of(one.data_job)) for one in made) > 0


def scheduler_of(project: Project) -> Any:
    state = project.data_job / SCHEDULER / "state.json"
    return state.exists() and json.loads(state.read_text())["process"]["pid"]


def test_join_returns_the_runs_that_are_here(project: Project) -> None:
    url = table(project, [{"k": 1}, {"k": 2}], ["a", "b"])
    notebook = write_notebook(project.root / "a.ipynb", "%fork runs=runs.db", "print(k)", "%join")
    fork(runs=url, notebook=str(notebook), then="continue")
    assert [run.name for run in colab_magics.join().runs] == ["a", "b"]
    session.activate(Session(ui=TerminalUI(out=io.StringIO()), project=project))
    assert [run.name for run in colab_magics.join().runs] == ["a", "b"]  # after a restart of the kernel


def test_the_claim_stands_in_the_folder_before_the_run_begins(project: Project) -> None:
    url = table(project, [{"k": 1}], ["a"])
    submit(f"cp $data_job/{CLAIM} $data_job/seen.json # {{k}}", runs=url)
    ended(project.data_job)
    seen = json.loads((project.data_job / "sub_job_a" / "seen.json").read_text())
    assert (seen["name"], seen["epoch"], seen["over"]) == ("a", 1, False)
    assert json.loads((project.data_job / "sub_job_a" / CLAIM).read_text())["over"]


@pytest.mark.parametrize("name", ["lr-3", "a", "run_001", "3d"])
def test_plain_names_are_folders_as_they_are(name: str) -> None:
    assert named_folder(name) == f"sub_job_{name}"


@pytest.mark.parametrize(
    "folder", ["sub_job_", "sub_job_A", "sub_job_.x", "sub_job_a b", "sub_job_-a", "sub_job_a~xyz"]
)
def test_what_is_no_folder_of_a_run(folder: str) -> None:
    assert number_of(folder) is None
    assert not is_named(folder)


def test_numbers_of_names_are_none_that_other_runs_get() -> None:
    assert number_of("sub_job_lr-3") == number_of("sub_job_lr-3")
    assert 10**8 <= (number_of("sub_job_lr-3") or 0) < 10**9
    assert number_of("sub_job_007") == 7
    assert named_folder("a", other="x") != named_folder("a", other="y")


def test_another_queue_s_run_of_the_same_name_gets_a_folder_of_its_own(project: Project) -> None:
    for name in ("one", "two"):
        url = str(project.root / f"{name}.db")
        colab_magics.queue.add(url, [{"k": name, "run_name": "a"}])
        submit("echo {k} > $data_job/k", runs=url)
        ended(project.data_job)
    found = [run for run in runs_of(project.data_job) if run.name == "a"]
    assert sorted((run.folder / "k").read_text().strip() for run in found) == ["one", "two"]


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("postgresql://me:geheim@host:5/db?a=1", "postgresql://me@host:5/db?a=1"),
        ("postgresql://host/db?password=geheim&a=1", "postgresql://host/db?a=1"),
        ("https://docs.google.com/spreadsheets/d/x/edit#gid=3", "https://docs.google.com/spreadsheets/d/x/edit#gid=3"),
        ("/tmp/a:b@c.db", "/tmp/a:b@c.db"),
    ],
)
def test_addresses_are_shown_without_their_passwords(address: str, safe: str) -> None:
    assert addresses.shown(address) == safe
    told = f"cannot reach {address}" + (": geheim is wrong" if address != safe else "")
    assert "geheim" not in addresses.blotted(told, address)


def test_an_address_means_the_same_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = str(tmp_path / "runs.db")
    assert [addresses.absolute(one) for one in ("runs.db", "./runs.db", "sqlite:///runs.db")] == [wanted] * 3
    assert addresses.absolute(f"sqlite:///{wanted}") == wanted
    (Path(wanted).parent / "link").symlink_to(Path(wanted).parent)
    assert addresses.absolute("link/runs.db") == wanted, "one queue has one name, wherever it is said"
    with pytest.raises(InvalidInput, match="Which queue"):
        addresses.absolute(" ")


def test_on_colab_a_worker_asks_first_and_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    url = table(project, [{"k": 1}])
    with pytest.raises(InvalidInput, match="distributed computing") as refused:
        submit("echo {k}", runs=url)
    assert "colab_terms=accepted" in refused.value.mend
    with pytest.raises(InvalidInput, match="distributed computing"):
        colab_magics.queue(url).claim()
    assert "Nothing was claimed" in str(submit("echo {k}", runs=url, dry_run=True))
    assert rows(url)["run_001"].attempts == 0
    submit("echo {k}", runs=url, colab_terms="accepted")
    ended(project.data_job)
    assert colab_magics.queue(url).claim() is None  # remembered
    asked: list[str] = []
    fresh = Session(ui=TerminalUI(out=io.StringIO()), project=project)
    monkeypatch.setattr(fresh.ui, "ask", lambda question: bool(asked.append(question)) or True)
    session.activate(fresh)
    for _ in range(2):
        assert colab_magics.queue(url).claim() is None
    assert len(asked) == 1


def test_runs_of_a_queue_are_executed_on_other_machines(
    project: Project, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.root)
    url = table(project, [{"k": k} for k in range(4)], ["a", "B b", "c", "d"])
    (project.root / "train.py").write_text(
        "import os, sys\nfrom colab_magics import report\nreport(loss=float(sys.argv[1]))\n"
        "open(os.environ['data_job'] + '/home', 'w').write(os.environ['HOME'])"
    )
    with boxes(tmp_path, home) as (alpha, beta):
        submit("python", "train.py", "{k}", runs=url, on="ssh:alpha,beta", workers="2", wait=True)
        homes = {(run.folder / "home").read_text() for run in runs_of(project.data_job)}
    assert homes <= {str(alpha.home), str(beta.home)}
    found = rows(url)
    assert {row.status for row in found.values()} == {"done"}
    assert [found[name].report.metrics["loss"] for name in ("a", "B b", "c", "d")] == [0, 1, 2, 3]


@pytest.mark.parametrize("credentials", ["", "file", "secret"])
def test_runs_of_a_google_sheet(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, credentials: str
) -> None:  # S main example, S8, S12
    sheet = Sheet(7, "runs")
    with sheets_server() as server:
        book = server.add(Book([Sheet(0, "notes", [["not a table"]]), sheet]))
        server.set(monkeypatch, tmp_path)
        key = Path(os.environ["GOOGLE_APPLICATION_CREDENTIALS"])
        options = {"": None, "file": str(key), "secret": "secret:SHEETS_KEY"}
        if credentials:
            monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
        if credentials == "secret":
            monkeypatch.setenv("SHEETS_KEY", key.read_text())
        content = [
            ["learning rate", "status", "n_epoch", "run_name", "worker_name"],
            [0.001, None, 10, None, None],
            *([lr, "ready", None, str(n + 1), None] for n, lr in enumerate((5e-4, 1e-4, 5e-5))),
            [1e-2, "draft", None, "4", None],
        ]
        sheet.rows = Sheet(7, "runs", content).rows
        line = "echo {learning_rate} {n_epoch}; env > $data_job/env"
        url = server.link(book, 7)
        submit(line, runs=url, workers="2", wait=True, credentials=options[credentials])
        found = sheet.by_name()
        assert [found[name]["status"] for name in "1234"] == ["done", "done", "done", "draft"]
        assert {len(found[name]["worker_name"]) for name in "123"} == {6}
        logs = {run.name: run.log.read_text() for run in runs_of(project.data_job)}
        assert "5e-05 10" in logs["3"]
        assert "3 done" in str(colab_magics.queue.show(url, credentials=options[credentials]))
    for path in project.root.rglob("*"):
        # A secret of the environment is the runs' as well, as all that stands there.
        if path.is_file() and path.name != "env":
            assert b"PRIVATE KEY" not in path.read_bytes(), path


@pytest.mark.parametrize("gone", [False, True])
def test_a_claimed_run_that_never_began_is_begun_by_the_next_scheduler(project: Project, gone: bool) -> None:
    url = table(project, [{"k": 1}], ["a"])
    submit("echo {k}", runs=url)
    ended(project.data_job)
    colab_magics.queue.requeue(url, "a")
    # A scheduler wrote the folder, and was killed before the run began.
    (claim,) = open_queue(url).exchange("abc123", ticket="t" * 32, number=1).claims
    folder = project.data_job / "sub_job_a"
    claims.write(folder, url, claim)
    attempts.renew(folder)
    assert Run.load(folder).status().phase == "waiting"
    if gone:
        shutil.rmtree(folder)
    submit("echo {k}", runs=url, wait=True)
    row = rows(url)["a"]
    # Of a folder that is gone nothing is known: its lease decides.
    assert (row.status, row.epoch) == (("running", 2) if gone else ("done", 2))
