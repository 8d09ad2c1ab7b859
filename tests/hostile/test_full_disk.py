"""A disk without room, a folder that is taken away, a fork that fails: no run ends by it that could go on."""

from __future__ import annotations

import importlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import poll, set_up
from faults.kit import as_root, tmpfs
from runs.folders import leave_run
from runs.notebooks import outputs, write_notebook

from colab_magics import fork, jobs, process, session
from colab_magics.checkout.project import Project
from colab_magics.engines.base import Work
from colab_magics.engines.local import LocalEngine
from colab_magics.errors import ColabMagicsError, CommandFailed
from colab_magics.kernels import journal
from colab_magics.records.names import SCHEDULER
from colab_magics.records.run import Run, runs_of
from colab_magics.runs import feeding, joined, scheduler, sources
from colab_magics.runs.log import open_log
from colab_magics.runs.runner import Runner
from colab_magics.transport.places import parse

NOBODY = 65534
GO = """
import os, time
print("line", i_sub_job, flush=True)
while not os.path.exists(GO + str(i_sub_job)):
    time.sleep(0.02)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    as_root()
    folder = tmp_path / "disk"
    with tmpfs(folder, size="2m"):
        yield folder
        (folder / "ballast").unlink(missing_ok=True)
        for run in [run for job in (folder / "net" / "data_job").glob("*") for run in runs_of(job)]:
            process.end_all_with(session.RUN_VARIABLE, str(run.folder))
        poll(lambda: not scheduler.is_running(folder / "net" / "data_job" / "baseline"))


def fill(disk: Path) -> None:
    with open(disk / "ballast", "ab", buffering=0) as stream:
        for size in (4096, 1):
            while True:
                try:
                    stream.write(b"x" * size)
                except OSError:
                    break
    assert os.statvfs(disk).f_bavail == 0


def phases(project: Project) -> list[str]:
    return [run.status().phase for run in runs_of(project.data_job)]


def waiting_runs(project: Project, tmp_path: Path, *, n: int, **options: object) -> None:
    cell = f"GO = {str(tmp_path / 'go')!r}\n{GO}"
    fork(n=n, notebook=str(write_notebook(tmp_path / "a.ipynb", cell)), detach=True, **options)  # type: ignore[arg-type]


def go(tmp_path: Path, *numbers: int) -> None:
    for number in numbers:
        (tmp_path / f"go{number}").touch()


def test_a_full_disk_ends_no_run_and_what_waits_is_started(disk: Path, tmp_path: Path) -> None:
    project = set_up(disk / "net")
    waiting_runs(project, tmp_path, n=3, workers=1)
    poll(lambda: phases(project) == ["running", "waiting", "waiting"])
    fill(disk)
    go(tmp_path, 0)
    poll(lambda: "is full" in str(jobs()), what="it is said")
    assert phases(project)[0] == "running", "it waits until it can say how it ended"
    assert scheduler.is_running(project.data_job)
    (disk / "ballast").unlink()
    poll(lambda: phases(project)[:2] == ["done", "running"])
    assert "line 0" in outputs(project.data_job / "sub_job_000" / "notebook.ipynb")
    fill(disk)
    go(tmp_path, 1, 2)
    (disk / "ballast").unlink()
    poll(lambda: phases(project) == ["done"] * 3)


def test_a_run_begins_and_goes_well_without_room_for_our_own_files(disk: Path, tmp_path: Path) -> None:
    project = set_up(disk / "net")
    waiting_runs(project, tmp_path, n=2, workers=1)
    poll(lambda: phases(project) == ["running", "waiting"])
    fill(disk)
    os.kill(Run.load(project.data_job / "sub_job_000").state()["process"]["pid"], signal.SIGKILL)  # type: ignore[index]
    # Its slot is free: the other begins on the full disk, and waits with its results when its cell is over.
    second = project.data_job / "sub_job_001"
    poll(lambda: len(process.all_with(session.RUN_VARIABLE, str(second))) > 1, what="runner and kernel")
    go(tmp_path, 0, 1)
    poll(lambda: len(process.all_with(session.RUN_VARIABLE, str(second))) == 1, what="its kernel has ended")
    (disk / "ballast").unlink()
    poll(lambda: phases(project) == ["interrupted", "done"])
    assert "line 1" in outputs(second / "notebook.ipynb")


def test_the_cells_own_write_decides(disk: Path, tmp_path: Path) -> None:
    project = set_up(disk / "net")
    cell = f"GO = {str(tmp_path / 'go')!r}\n{GO}\nopen(data_job + '/result', 'w').write('x' * 100_000)"
    fork(n=1, notebook=str(write_notebook(tmp_path / "a.ipynb", cell)), detach=True)
    poll(lambda: "line 0" in str(jobs.logs("0")), what="its cell is at work")
    fill(disk)
    go(tmp_path, 0)
    # A journal that finds no room is removed, which makes some: perhaps enough to say how the run ended.
    folder = str(project.data_job / "sub_job_000")
    poll(lambda: phases(project) == ["failed"] or len(process.all_with(session.RUN_VARIABLE, folder)) == 1)
    (disk / "ballast").unlink()
    poll(lambda: phases(project) == ["failed"])
    assert "No space left" in str(jobs.show("0"))


def test_runs_are_killed_on_a_full_disk_also_those_that_wait(disk: Path, tmp_path: Path) -> None:
    project = set_up(disk / "net")
    waiting_runs(project, tmp_path, n=3, workers=1)
    poll(lambda: phases(project) == ["running", "waiting", "waiting"])
    fill(disk)
    board = jobs.kill("baseline")
    assert [run.status().phase for run in board.runs] == ["killed"] * 3
    poll(lambda: not scheduler.is_running(project.data_job))
    assert not process.all_with(session.RUN_VARIABLE, str(project.data_job / "sub_job_000"))
    (disk / "ballast").unlink()
    go(tmp_path, 0, 1, 2)
    jobs.retry("killed")
    assert phases(project) == ["done"] * 3


def test_without_room_nothing_is_started_and_it_is_said(disk: Path) -> None:
    project = set_up(disk / "net")
    run = leave_run(project.data_job, 0, "failed")
    (project.data_job / SCHEDULER).mkdir()
    fill(disk)
    with pytest.raises(ColabMagicsError, match="No space left"):
        jobs.retry("0")
    with pytest.raises(ColabMagicsError, match="No space left"):
        joined.remember(project.data_job, {"notebook": "", "notebook_path": None, "fork": 1}, [0])
    assert run.status().phase == "failed"


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_folder_that_is_taken_away_ends_no_other_run(tmp_path: Path, how: str) -> None:
    project = set_up(tmp_path / "net")
    waiting_runs(project, tmp_path, n=4, workers=1, retries=1)
    poll(lambda: phases(project) == ["running", "waiting", "waiting", "waiting"])
    for index in (0, 2):
        folder = project.data_job / f"sub_job_00{index}"
        if how == "removed":
            # The run writes at any moment: what it wrote between a listing and the rmdir is removed by the next try.
            poll(lambda folder=folder: shutil.rmtree(folder, ignore_errors=True) or not folder.exists())
        else:
            folder.rename(tmp_path / folder.name)
    go(tmp_path, 0, 1, 2, 3)
    poll(lambda: not scheduler.is_running(project.data_job))
    assert {run.index: run.status().phase for run in runs_of(project.data_job)} == {1: "done", 3: "done"}
    log = (project.data_job / ".scheduler" / "log.txt").read_text()
    assert "baseline/2 is left out" in log
    assert "Traceback" not in log


@pytest.fixture
def of_nobody() -> Iterator[Path]:
    """A folder of another user, which that user can reach."""
    as_root()
    folder = Path(tempfile.mkdtemp())
    yield folder
    shutil.rmtree(folder)


def test_a_fork_that_fails_is_tried_again(of_nobody: Path) -> None:
    job = of_nobody / "net" / "data_job" / "baseline"
    runs = [leave_run(job, index, None) for index in range(2)]
    (job / SCHEDULER).mkdir()
    log = of_nobody / "log.txt"
    log.touch()
    for path in (of_nobody, *of_nobody.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    importlib.import_module("colab_magics.runs.runner")
    _, most = resource.getrlimit(resource.RLIMIT_NPROC)
    child = os.fork()
    if child == 0:
        try:
            for fd in (1, 2):
                os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), fd)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            # Of another user: root's processes are not counted.
            signal.signal(signal.SIGUSR1, lambda *_: resource.setrlimit(resource.RLIMIT_NPROC, (most, most)))
            resource.setrlimit(resource.RLIMIT_NPROC, (0, most))
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            engine = LocalEngine()
            engine.prepare(Work(job, Runner()))
            feeding.Scheduler(job, engine, sources.Planned(job, runs), scheduler.Feed(workers=2)).run()
        except BaseException:  # noqa: BLE001 - the test shows it
            log.write_text(traceback.format_exc())
        finally:
            os._exit(0)
    try:
        poll(lambda: "waits: Resource temporarily unavailable" in log.read_text(), what="it is said")
        state = job / SCHEDULER / "state.json"
        poll(lambda: "temporarily unavailable" in (process.read_json(state) or {}).get("problem", ""))
        assert [run.status().phase for run in runs] == ["waiting", "waiting"]
    finally:
        os.kill(child, signal.SIGUSR1)
        os.waitpid(child, 0)
    # Whether that user can start a kernel is another matter.
    assert all(run.state() is not None for run in runs), "both were started"


def test_a_log_says_what_it_lost(disk: Path) -> None:
    log, raw = open_log(disk / "log.txt")
    fill(disk)
    log.write("lost " * 2000)
    log.flush()
    (disk / "ballast").unlink()
    log.write("kept")
    log.close()
    assert raw.lost
    assert (disk / "log.txt").read_text().endswith(f"── {raw.lost:,} bytes were not written here: {raw.why}\nkept")


def test_a_journal_that_found_no_room_takes_nothing_from_the_notebook(disk: Path) -> None:
    notebook = disk / "notebook.ipynb"
    cell = {"cell_type": "code", "metadata": {}, "source": "1", "outputs": [], "execution_count": None, "id": "a"}
    content = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    book = journal.Journal(notebook, content)
    process.write_json(notebook, {**content, "metadata": {"later": True}})
    fill(disk)
    book.begins(0, {"metadata": {"much": "x" * 10_000}})
    assert not journal.path_of(notebook).exists()
    assert not journal.rebuild(notebook)
    assert "later" in notebook.read_text()


@pytest.mark.parametrize("use", [lambda path: os.mkdir(path), lambda path: process.run(["ls", path])])
def test_an_error_names_a_folder_as_people_know_it(tmp_path: Path, use: Callable[[str], object]) -> None:
    place = parse(str(tmp_path / "place"), project="net")
    place.prepare()
    with pytest.raises((OSError, CommandFailed)) as caught, place.opened() as opened:
        use(os.path.join(str(opened.store.local), "gone", "file"))
    told = f"{caught.value} {getattr(caught.value, 'output', '')}"
    assert "/proc/" not in told
    assert str(tmp_path / "place" / "gone" / "file") in told
