"""``%jobs du`` and ``%jobs rm``: what runs take, and that nothing else is ever removed."""

from __future__ import annotations

import io
import os
import shutil
import time
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES

from colab_magics import __main__ as face
from colab_magics import jobs, process, session
from colab_magics.checkout.project import Project
from colab_magics.errors import ColabMagicsError, InvalidInput, NotFound
from colab_magics.records import lock as locks
from colab_magics.records.names import LOCK, RECORD, SCHEDULER, STATE
from colab_magics.records.run import Run
from colab_magics.runs import clean
from colab_magics.session import Session
from colab_magics.ui import TerminalUI

from .folders import leave_run


class Answers(TerminalUI):
    """A terminal at which somebody answers."""

    def __init__(self, out: io.StringIO, answer: bool) -> None:
        super().__init__(out=out)
        self.answer, self.asked = answer, list[str]()

    def ask(self, question: str) -> bool:
        self.asked.append(question)
        return self.answer


def answering(project: Project, said: io.StringIO, answer: bool) -> Answers:
    ui = Answers(said, answer)
    session.activate(Session(ui=ui, project=project))
    return ui


def left(job: Path) -> list[str]:
    return sorted(path.name for path in job.iterdir() if path.name != LOCK)


def superseded(job: Path, index: int, number: int = 1) -> Path:
    """Leave what a rerun of run `index` moved aside."""
    run = leave_run(job, index)
    target = job / ".superseded" / f"{run.folder.name}.{number}"
    target.parent.mkdir(exist_ok=True)
    shutil.move(run.folder, target)
    return target


def test_du_measures_runs_and_what_was_moved_aside(project: Project) -> None:
    superseded(project.data_job, 0)
    run = leave_run(project.data_job, 0)
    before = clean.size(run.folder)
    (run.folder / "sub").mkdir()
    (run.folder / "sub" / "model.pt").write_bytes(b"x" * 5000)
    os.link(run.folder / "sub" / "model.pt", run.folder / "same.pt")
    os.symlink("/", run.folder / "link")
    os.symlink(run.folder / "gone", run.folder / "dangling")
    links = 1 + len(str(run.folder / "gone"))
    assert clean.size(run.folder) == clean.Size(before.bytes + 5000 + links - 1, before.files + 2)
    leave_run(project.data_job.parent / "other", 3)
    table = jobs.du(all=True)
    assert [row[0] for row in table.rows] == ["baseline/0", "baseline/.superseded/sub_job_000.1", "other/3"]
    assert table.caption.startswith("3 folders, ")
    assert "Free on this disk" in table.notes[0]
    assert [row[0] for row in jobs.du("0").rows] == ["baseline/0"]


def test_rm_lists_asks_and_removes(project: Project, said: io.StringIO) -> None:
    for index, phase in enumerate(["done", "failed", "failed"]):
        leave_run(project.data_job, index, phase)
    ui = answering(project, said, True)
    table = jobs.rm("failed")
    assert left(project.data_job) == ["sub_job_000"]
    assert len(ui.asked) == 1
    assert ui.asked[0].startswith("Remove 2 folders, ")
    assert "baseline/1  failed in cell 1: ValueError" in said.getvalue()
    assert [row[0] for row in table.rows] == ["baseline/1", "baseline/2"]
    assert table.caption.startswith("Removed: 2 folders, ")


def test_nothing_is_removed_on_a_no_and_when_nobody_can_answer(
    project: Project, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_run(project.data_job, 0)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # no terminal
    assert "--yes" in str(jobs.rm("baseline"))
    answering(project, said, False)
    assert "Nothing was removed." in str(jobs.rm("baseline"))
    assert left(project.data_job) == ["sub_job_000"]


def test_yes_and_ids_come_with_the_call_alone(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    leave_run(project.data_job, 0)
    with pytest.raises(NotFound, match="Which runs"):
        jobs.rm(yes=True)
    with pytest.raises(InvalidInput, match="older=soon"):
        jobs.rm("baseline", older="soon", yes=True)
    (project.root / "pyproject.toml").write_text("[tool.colab_magics.jobs.rm]\nyes = true\n")
    assert face.main(["jobs", "rm", "baseline"]) == 2
    assert "only the call itself may say it" in capsys.readouterr().err
    (project.root / "pyproject.toml").write_text('[tool.colab_magics.jobs.rm]\nolder = "30d"\n')
    assert face.main(["jobs", "rm", "baseline"]) == 0  # nobody can answer
    assert "--yes" in capsys.readouterr().out
    assert left(project.data_job) == ["sub_job_000"]
    assert face.main(["jobs", "rm", "baseline", "older=0", "--yes"]) == 0
    assert left(project.data_job) == []


def test_older_counts_from_the_end(project: Project) -> None:
    now = time.time()
    leave_run(project.data_job, 0, started=now - 40 * 86400)
    leave_run(project.data_job, 1, started=now - 86400)
    leave_run(project.data_job, 2, None, started=now - 40 * 86400)  # submitted long ago, never started
    leave_run(project.data_job, 3, None, started=now)
    jobs.rm("baseline", older="30d", yes=True)
    assert left(project.data_job) == ["sub_job_001", "sub_job_003"]


def test_what_runs_stays(project: Project) -> None:
    leave_run(project.data_job, 0, "running", alive=True)
    leave_run(project.data_job, 1)
    elsewhere = {"pid": 1, "started": 1, "host": "elsewhere", "boot": "theirs"}
    run = leave_run(project.data_job, 2, "running")
    process.write_json(
        run.folder / STATE, {"attempt": 1, "phase": "running", "beat": time.time(), "process": elsewhere}
    )
    text = str(jobs.rm("baseline", yes=True))
    assert left(project.data_job) == ["sub_job_000", "sub_job_002"]
    assert "baseline/0 stays: it runs; end it first: %jobs kill baseline/0" in text
    assert "baseline/2 stays" in text


def test_runs_of_a_scheduler_stay_but_what_is_done_or_not_its_own_goes(project: Project) -> None:
    job = project.data_job
    for index, phase in enumerate([None, "failed", "done", "failed"]):
        leave_run(job, index, phase)
    plan = {"runs": ["sub_job_000", "sub_job_001", "sub_job_002"], "adopt": []}
    (job / SCHEDULER).mkdir()
    process.write_json(job / SCHEDULER / "plan.json", plan)
    lock = locks.take(job)
    try:
        text = str(jobs.rm("0-3", yes=True))
    finally:
        os.close(lock)
    assert left(job) == [".scheduler", "sub_job_000", "sub_job_001"]
    assert "baseline/1 stays: the runs of its job are being executed" in text
    jobs.rm("0-1", yes=True)  # its scheduler is gone
    assert left(job) == [".scheduler"]


def test_a_run_that_starts_while_the_question_stands_stays(project: Project, said: io.StringIO) -> None:
    run = leave_run(project.data_job, 0, "failed")
    ui = answering(project, said, True)

    def start(question: str) -> bool:
        state = {"attempt": 1, "phase": "running", "beat": time.time(), "process": process.identity()}
        process.write_json(run.folder / STATE, state)
        return True

    ui.ask = start  # type: ignore[method-assign]
    assert "baseline/0 stays: it runs" in str(jobs.rm("failed"))
    assert run.folder.exists()


def test_links_are_removed_and_not_followed(project: Project, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").write_text("keep")
    run = leave_run(project.data_job, 0)
    os.symlink(precious, run.folder / "link")
    (run.folder / "deep").mkdir()
    os.symlink(precious, run.folder / "deep" / "link")
    os.symlink(precious / "data", run.folder / "file")
    # a run's folder that is a link itself
    other = leave_run(tmp_path / "elsewhere", 1)
    os.symlink(other.folder, project.data_job / "sub_job_001")
    text = str(jobs.rm("baseline", yes=True))
    assert left(project.data_job) == ["sub_job_001"]
    assert "baseline/1 stays: its folder is a link" in text
    assert (precious / "data").read_text() == "keep"
    assert (other.folder / RECORD).exists()


def test_what_is_no_run_stays(project: Project) -> None:
    job = project.data_job
    leave_run(job, 0)
    for name in ("sub_job_009", "sub_job_x", "my_results"):
        (job / name).mkdir()
        (job / name / "result").touch()
    jobs.rm("baseline", yes=True)
    assert left(job) == ["my_results", "sub_job_009", "sub_job_x"]
    with pytest.raises((NotFound, InvalidInput)):
        jobs.rm("9", yes=True)
    with pytest.raises(InvalidInput):
        jobs.rm("../baseline", yes=True)


def test_superseded_goes_by_its_name_alone(project: Project) -> None:
    aside = [superseded(project.data_job, 0), superseded(project.data_job, 0, 2)]
    strange = aside[0].parent / "notes"
    strange.mkdir()
    leave_run(project.data_job, 0)
    jobs.rm("baseline", yes=True)
    assert all(folder.exists() for folder in aside)
    leave_run(project.data_job, 0)
    other = superseded(project.data_job.parent / "other", 0)
    text = str(jobs.rm("superseded", yes=True))
    assert "baseline/.superseded/sub_job_000.2" in text
    assert not any(folder.exists() for folder in aside)
    assert strange.exists()
    assert (project.data_job / "sub_job_000").exists()
    assert other.exists()
    jobs.rm("other/superseded", yes=True)
    assert not other.exists()


def test_copies_at_the_place_are_spoken_of(project: Project) -> None:
    project.place = "drive"
    leave_run(project.data_job, 0)
    assert "Copies at drive stay" in str(jobs.rm("0", yes=True))


def test_a_removal_that_is_cut_off_leaves_a_run_that_is_not_done(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = leave_run(project.data_job, 0)
    (run.folder / "big").mkdir()

    def fail(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", fail)
        with pytest.raises(ColabMagicsError, match=r"baseline/0 cannot be removed: Permission denied: .*big"):
            jobs.rm("0", yes=True)
    assert Run.load(run.folder).status().phase == "waiting"
    jobs.rm("0", yes=True)
    assert not run.folder.exists()


@pytest.mark.parametrize("name", HOSTILE_NAMES[:-1])
def test_hostile_names(project: Project, name: str) -> None:
    run = leave_run(project.data_job.parent / name, 3)
    (run.folder / name).mkdir()
    (run.folder / name / name).touch()
    (run.folder / "new\nline").touch()
    assert f"{name}/3" in str(jobs.du(name))
    jobs.rm(f"{name}/3", yes=True)
    assert left(run.folder.parent) == []
