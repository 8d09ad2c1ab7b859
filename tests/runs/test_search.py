"""``%fork search=`` by real schedulers and kernels: runs that Optuna chooses, that end early, and that outlive us."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import poll

from colab_magics import fork, jobs, process
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput
from colab_magics.records.run import Run, runs_of
from colab_magics.runs import scheduler
from colab_magics.runs.search.start import SearchBoard

from .notebooks import write_notebook

optuna = pytest.importorskip("optuna", reason="extra [search]")

SPACE = {"lr": "loguniform(1e-4, 1e-1)", "depth": "int(1, 8)"}
LOSS = "(lr - 0.01) ** 2 + abs(depth - 3)"
CELL = f"from colab_magics import report\nreport(loss={LOSS})"


def search(project: Project, runs: int, *cells: str, space: dict[str, Any] = SPACE, **options: Any) -> SearchBoard:
    notebook = write_notebook(project.root / "a.ipynb", *(cells or (CELL,)))
    board = fork(space, search=runs, **{"goal": "min:loss", "seed": "1", "notebook": str(notebook), **options})
    assert isinstance(board, SearchBoard)
    return board


def own(runs: int) -> list[dict[str, Any]]:
    """The points of Optuna alone."""
    points = []

    def objective(trial: Any) -> float:
        lr, depth = trial.suggest_float("lr", 1e-4, 1e-1, log=True), trial.suggest_int("depth", 1, 8)
        points.append({"lr": lr, "depth": depth})
        return float((lr - 0.01) ** 2 + abs(depth - 3))

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.create_study(sampler=optuna.samplers.TPESampler(seed=1)).optimize(objective, runs)
    return points


def points_of(project: Project) -> list[dict[str, Any]]:
    return [run.parameters for run in sorted(runs_of(project.data_job), key=lambda run: run.record["search"]["number"])]


def test_one_worker_executes_optunas_points_and_run_all_again_goes_on(project: Project, said: io.StringIO) -> None:
    search(project, 4, workers=1)
    assert points_of(project) == own(4)
    assert "Best by min:loss: baseline/" in said.getvalue()
    attempts = [run.attempt for run in runs_of(project.data_job)]
    board = search(project, 6, workers=1)
    assert points_of(project) == own(6), "as if it had never ended"
    assert [run.attempt for run in runs_of(project.data_job)] == [*attempts, 1, 1]
    assert len(board) == 6
    board = search(project, 6, workers=1, trend="depth")
    assert len(runs_of(project.data_job)) == 6, "nothing was left to choose"
    assert "Not reported as a number so far: depth" in str(board), "trend= counts for a search, too"


def test_failed_runs_and_missing_goals_count_and_are_said(project: Project, said: io.StringIO) -> None:
    cell = f"from colab_magics import report\nif depth > 6: 1 / 0\nif depth > 1: report(loss={LOSS})\nlr"
    first = {"first": [{"depth": 8}, {"depth": 1}]}
    search(project, 3, cell, space=SPACE | first, workers=2)
    phases = sorted(run.status().phase for run in runs_of(project.data_job))
    assert phases.count("failed") >= 1
    assert len(phases) == 3
    assert "reported no number as loss" in said.getvalue()
    search(project, 3, cell, space=SPACE | first, workers=2)
    assert [run.attempt for run in runs_of(project.data_job)] == [1, 1, 1], "none is repeated"


def test_code_that_changed_asks_as_ever(project: Project) -> None:
    search(project, 2, workers=2)
    with pytest.raises(InvalidInput, match="other code"):
        search(project, 3, CELL + "\n1 + 1")
    search(project, 3, CELL + "\n1 + 1", resume="keep")
    assert len(runs_of(project.data_job)) == 3


def test_a_run_that_cannot_win_is_stopped_early_and_that_is_no_failure(project: Project, said: io.StringIO) -> None:
    cell = """
import time
from colab_magics import report
open(data_job + '/checkpoint', 'w').close()
for step in range(400):
    report(step=step, loss=bad + 1 / (step + 1))
    time.sleep(0.002 if bad < 5 else 0.05)
print('to the end')
"""
    space = {"bad": [0, 1, 2, 3, 4, 9], "first": [{"bad": bad} for bad in (0, 1, 2, 3, 4, 9)]}
    search(project, 6, cell, space=space, workers=1, stop="median")
    last = Run.load(project.data_job / "sub_job_005")
    assert last.parameters == {"bad": 9}
    assert last.status().text.startswith("stopped early at step "), last.status()
    assert last.status().ended_well
    assert (last.folder / "checkpoint").exists()
    assert last.notebook.exists()
    assert "to the end" not in last.log.read_text()
    assert "Best by min:loss: baseline/0" in said.getvalue()
    search(project, 6, cell, space=space, workers=1, stop="median")
    assert last.status() == Run.load(last.folder).status(), "it counts, and is not repeated"


@pytest.mark.long
def test_a_scheduler_that_dies_loses_nothing_but_what_was_running(project: Project) -> None:
    notebook = write_notebook(project.root / "a.ipynb", CELL + "\nimport time; time.sleep(0.3)")
    options = {"search": 6, "goal": "min:loss", "seed": "1", "workers": 1, "notebook": str(notebook)}
    for least in (1, 3):
        fork(SPACE, detach=True, **options)
        poll(lambda least=least: len(ended(project.data_job)) >= least, timeout=60)  # type: ignore[misc]
        who = (process.read_json(project.data_job / ".scheduler" / "state.json") or {})["process"]
        os.kill(who["pid"], signal.SIGKILL)
        poll(lambda who=who: not process.is_alive(who))  # type: ignore[misc]
    fork(SPACE, **options)
    assert len(ended(project.data_job)) == 6
    assert points_of(project) == own(6), "the same points, each once"


def ended(job: Path) -> list[Run]:
    return [run for run in runs_of(job) if run.status().phase == "done"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"goal": None}, "needs a goal"),
        ({"n": 3}, "and so does n"),
        ({"seed": "x"}, "whole number"),
        ({"goal": "min:a,max:b", "stop": "early"}, "one goal"),
        ({"sampler": "grid"}, "no end"),
        ({"patience": 0}, "patience"),
    ],
)
def test_a_line_that_cannot_be_says_so_before_anything_starts(
    project: Project, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        search(project, 3, **options)
    assert not runs_of(project.data_job)


def test_words_of_a_search_without_one_are_refused(project: Project) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", CELL))
    for options in ({"sampler": "tpe"}, {"stop": "early"}, {"patience": 3}, {"seed": "7", "n": 2}):
        with pytest.raises(InvalidInput, match="search"):
            fork(SPACE, notebook=notebook, **options)
    with pytest.raises(InvalidInput, match="Say how many runs"):
        fork(SPACE, notebook=notebook)


def test_nothing_better_ends_a_search(project: Project) -> None:
    cell = "from colab_magics import report\nreport(loss=1.0 + 0 * (lr + depth))"
    search(project, 30, cell, workers=1, patience=2)
    assert len(runs_of(project.data_job)) == 3


def test_what_a_search_has_found_is_drawn_and_its_best_run_is_known(project: Project) -> None:
    board = search(project, 8, workers=2, sampler="random")
    best = board.best()
    losses = [(p["lr"] - 0.01) ** 2 + abs(p["depth"] - 3) for p in points_of(project)]
    assert best.loss == min(losses)
    assert set(best.parameters) == {"lr", "depth"}
    for word in ("importance", "history", "slice", "parallel"):
        drawn = jobs.plot(word)
        assert str(drawn)
        assert "depth" in str(drawn) or word == "history"
    assert "best so far" in str(jobs.plot("history"))
    assert [one.x for one in jobs.plot("slice").drawings] == ["lr", "depth"]


def test_a_search_that_is_killed_chooses_no_more(project: Project) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", CELL + "\nimport time; time.sleep(300)"))
    fork(SPACE, search=20, goal="min:loss", workers=1, detach=True, notebook=notebook)
    poll(lambda: any(run.status().phase == "running" for run in runs_of(project.data_job)))
    jobs.kill("baseline")
    poll(lambda: not scheduler.is_running(project.data_job))
    assert [run.status().phase for run in runs_of(project.data_job)] == ["killed"]


def test_several_goals_make_a_front_and_this_notebook_becomes_the_best_run(project: Project, said: io.StringIO) -> None:
    cell = "from colab_magics import report\nreport(loss=lr, accuracy=lr)\ndepth"
    search(project, 4, cell, goal="min:loss,max:accuracy", workers=2)
    assert "None is better by min:loss and max:accuracy than: " in said.getvalue()
    search(project, 4, cell, goal="min:loss", workers=2)
    best = min(runs_of(project.data_job), key=lambda run: run.parameters["lr"])
    notebook = str(project.root / "a.ipynb")
    fork(SPACE, search=4, goal="min:loss", here="best", notebook=notebook)
    assert f"lr = {best.parameters['lr']!r}" in said.getvalue()
    with pytest.raises(InvalidInput, match="here=best"):
        fork(n=2, here="best", notebook=notebook)
