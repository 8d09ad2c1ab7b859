"""Every word of ``%jobs`` means the current job; ``--all`` and names mean others, of which a line tells."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import pytest

from colab_magics import __main__ as face
from colab_magics import jobs, session
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound
from colab_magics.records.run import Run
from colab_magics.runs import scheduler
from colab_magics.runs.board import Board

from .folders import leave_run


@pytest.fixture
def others(project: Project) -> Project:
    """Two jobs beside the current one; the last run that started is of another."""
    reports = [{"loss": 1.0, "step": 1}, {"loss": 0.5, "step": 2}]
    leave_run(project.data_job, 0, reports=reports)
    leave_run(project.data_job, 1, "failed", reports=reports)
    leave_run(project.data_job.parent / "other", 0, "failed", reports=reports, started=9000.0)
    leave_run(project.data_job.parent / "sweep", 5, reports=reports)
    (project.data_job.parent / "no runs yet").mkdir()
    return project


WORDS: dict[str, Callable[..., Any]] = {
    "list": jobs,
    "show": jobs.show,
    "watch": jobs.watch,
    "logs": jobs.logs,
    "table": jobs.table,
    "metrics": jobs.metrics,
    "plot": lambda *ids, **options: jobs.plot("loss", *ids, **options),
    "du": jobs.du,
}


@pytest.mark.parametrize("word", WORDS)
def test_without_ids_the_current_job_is_meant_and_a_line_tells_of_others(
    others: Project, said: io.StringIO, word: str
) -> None:
    shown = str(WORDS[word]())
    assert "baseline/" in shown
    assert "other/" not in shown
    assert "sweep/" not in shown
    everything = shown + said.getvalue()
    assert everything.count("2 other jobs: --all") == 1


@pytest.mark.parametrize("word", [word for word in WORDS if word != "logs"])
def test_all_means_every_job_and_no_line_is_needed(others: Project, said: io.StringIO, word: str) -> None:
    shown = str(WORDS[word](all=True))
    assert all(name in shown for name in ("baseline/0", "baseline/1", "other/0", "sweep/5"))
    assert "other job" not in shown + said.getvalue()


def test_logs_of_the_last_run_are_of_the_current_job(others: Project) -> None:
    assert str(jobs.logs()).startswith("baseline/")
    assert str(jobs.logs(all=True)).startswith("other/0")


def test_words_with_all_are_read_in_every_job(others: Project) -> None:
    def ids(*words: str) -> list[str]:
        return [run.id for run in jobs(*words, all=True).runs]

    assert ids("failed") == ["baseline/1", "other/0"]
    assert ids("0") == ["baseline/0", "other/0"]
    assert ids("5", "other") == ["sweep/5", "other/0"]
    with pytest.raises(NotFound, match="No job has a run 7"):
        ids("0,7")
    with pytest.raises(InvalidInput, match="did you mean failed"):
        ids("faild")
    assert "No such runs in any job: killed" in str(jobs("killed", all=True))


@pytest.mark.parametrize("word", WORDS)
def test_an_empty_current_job_names_those_that_are_not(others: Project, said: io.StringIO, word: str) -> None:
    others.job = "fresh"
    try:
        shown = str(WORDS[word]())
    except NotFound as error:
        shown = str(error)
    assert word == "du" or "The current job fresh has no runs; there are some of baseline, other, sweep." in shown
    assert "--all" in shown


def test_kill_and_rm_with_a_state_keep_to_the_current_job(others: Project) -> None:
    for job in ("baseline", "other"):
        leave_run(others.data_job.parent / job, 8, None)
    jobs.kill("waiting")
    assert Run.load(others.data_job / "sub_job_008").status().phase == "killed"
    assert Run.load(others.data_job.parent / "other" / "sub_job_008").status().phase == "waiting"
    assert [row[0] for row in jobs.rm("failed", yes=True).rows] == ["baseline/1"]
    jobs.kill(all=True)
    assert Run.load(others.data_job.parent / "other" / "sub_job_008").status().phase == "killed"
    assert [row[0] for row in jobs.rm("failed", all=True, yes=True).rows] == ["other/0"]


def test_the_kill_hint_names_what_was_watched(others: Project) -> None:
    waiting = [leave_run(others.data_job, index, None) for index in (5, 6, 7)]
    leave_run(others.data_job.parent / "other", 9, None)
    assert Board.of(waiting).job_words() == "baseline"  # all of it that has not ended
    assert Board.of(waiting[:2]).job_words() == "baseline/5,6"
    assert not scheduler.is_running(others.data_job)
    ui = session.current().ui

    class Interrupts:
        stays = True

        def __enter__(self) -> Interrupts:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def show(self, table: object) -> None:
            raise KeyboardInterrupt

    ui.live = lambda **_: Interrupts()  # type: ignore[method-assign]
    with pytest.raises(SystemExit):
        jobs.watch("waiting")
    assert "%jobs kill baseline ends them" in ui.out.getvalue()  # type: ignore[attr-defined]


def test_all_in_a_shell(others: Project, capsys: pytest.CaptureFixture[str]) -> None:
    os.chdir(others.root)
    assert face.main(["jobs", "list", "--all"]) == 0
    assert "sweep/5" in capsys.readouterr().out
    assert face.main(["jobs"]) == 0
    shown = capsys.readouterr().out
    assert "sweep/5" not in shown
    assert "2 other jobs: --all" in shown
