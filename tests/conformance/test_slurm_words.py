"""What is said to Slurm and what it says, without a cluster: the script of a task, its ends, its limits."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES
from slurm_server import slurm_server

from colab_magics import process
from colab_magics.checkout.project import Project
from colab_magics.engines import base, open_engine
from colab_magics.engines.base import Submission
from colab_magics.engines.slurm import arrays, asking, ends, engine, options
from colab_magics.engines.slurm.asking import Seen
from colab_magics.engines.slurm.engine import SlurmEngine
from colab_magics.engines.slurm.options import Options
from colab_magics.engines.slurm.throttle import Throttle
from colab_magics.errors import CommandFailed, InvalidInput, Unavailable
from colab_magics.records.names import RECORD, REFERENCE


class Program:
    """Writes which folder it was given."""

    def command(self, folder: Path) -> list[str]:
        return [sys.executable, "-c", "import sys; open('ran', 'w').write(sys.argv[1])", str(folder)]

    def load(self, records: object) -> None: ...

    def execute(self, folder: Path) -> int:
        return 0


def run_of(job_folder: Path, key: str = "ab12", name: str = "sub_job_000") -> Submission:
    folder = job_folder / name
    folder.mkdir(parents=True)
    process.write_json(folder / RECORD, {"index": 0})
    process.write_json(folder / REFERENCE, {"attempt": 1, "key": key, "engine": "slurm"})
    return Submission(folder, key)


def execute(script: Path, task: int = 0, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a script as a node does: a copy of it, elsewhere."""
    return subprocess.run(
        ["bash", "-c", script.read_text()],
        cwd="/",
        env={"PATH": os.environ["PATH"], "SLURM_ARRAY_TASK_ID": str(task), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_task_executes_the_run_of_its_line_whatever_folders_are_called(name: str, tmp_path: Path) -> None:
    job = tmp_path / name / "data_job" / "j"
    runs = [run_of(job, "k0", "sub_job_000"), run_of(job, "k1", "sub_job_lr-3")]
    array = arrays.write(job, runs, Program(), setup="true; X=$(true)", python="")
    assert execute(array.script, 1).returncode == 0
    assert (job / "sub_job_lr-3" / "ran").read_text() == str(job / "sub_job_lr-3")
    assert not (job / "sub_job_000" / "ran").exists()
    assert not list(tmp_path.rglob("gone"))
    assert array.attempts() == ["k0", "k1"]


@pytest.mark.parametrize("word", HOSTILE_NAMES[:-1])
def test_words_of_users_are_words_in_the_script(word: str, tmp_path: Path) -> None:
    job = tmp_path / "j"
    python = tmp_path / word
    python.write_text('#!/bin/sh\necho "$0" >ran\n')
    python.chmod(0o755)
    setup = f'export SAID={shlex.quote(word)}; echo "$SAID" >said'
    array = arrays.write(job, [run_of(job)], Program(), setup=setup, python=str(python))
    done = execute(array.script)
    assert done.returncode == 0, done.stderr
    assert (job / "sub_job_000" / "ran").read_text() == f"{python}\n"
    assert (job / "sub_job_000" / "said").read_text() == f"{word}\n"
    assert not list(tmp_path.rglob("gone"))


def test_a_node_that_does_not_see_the_project_says_so_at_once(tmp_path: Path) -> None:
    job = tmp_path / "j"
    array = arrays.write(job, [run_of(job)], Program(), setup="", python="")
    script = tmp_path / "copy"
    script.write_text(array.script.read_text())
    job.rename(tmp_path / "away")
    status = execute(script).returncode
    assert status == arrays.NOT_SEEN
    word, why = ends.verdict(Seen("FAILED", "NonZeroExitCode", status, "n3"), "", job / "sub_job_000", spoke=False)
    assert (word, why) == ("lost", f"node n3 does not see {job}: the project has to be on a disk that the nodes share")


def test_a_task_of_an_attempt_that_was_replaced_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_PATIENCE", 0)
    job = tmp_path / "j"
    run = run_of(job)
    array = arrays.write(job, [run], Program(), setup="", python="")
    process.write_json(run.folder / REFERENCE, {"attempt": 2, "key": "cd34", "engine": "slurm"})
    assert execute(array.script).returncode == arrays.OTHER_ATTEMPT
    process.write_json(run.folder / REFERENCE, {"attempt": 1, "key": "ab12", "engine": "slurm"})
    array.void()
    assert execute(array.script).returncode == arrays.NOT_SEEN
    assert not (run.folder / "ran").exists()


def test_how_slurms_numbers_are_read_and_written() -> None:
    assert [asking.exit_status(text) for text in ("0", "768", "3:0", "9", "0:15", "")] == [0, 3, 3, 0, 0, 0]
    assert asking.named([("12", 3), ("12", 0), ("12", 1), ("7", 2)]) == ["12_[0-1,3]", "7_2"]
    assert [asking.seconds_of(text) for text in ("1-00:00:00", "2:00", "infinite")] == [86400.0, 120.0, None]
    assert asking.last_line("sbatch: error: Batch job submission failed: No.\n\n") == "Batch job submission failed: No."
    sizes = ("16GB", "16g", "500MB", "512", "1.5GiB", "0")
    assert [options.megabytes(size) for size in sizes] == ["16384M", "16384M", "500M", "512M", "1536M", "0M"]


def test_options_as_sbatch_reads_them() -> None:
    said = Options(partition="gpu", cpus=4, mem="2GB", sbatch={"qos": "high", "exclusive": "yes", "hold": "no"})
    wanted = ["--partition=gpu", "--cpus-per-task=4", "--mem=2048M", "--qos=high", "--exclusive"]
    assert options.arguments(said) == wanted
    with pytest.raises(InvalidInput, match="more than one line"):
        options.arguments(Options(sbatch={"qos": "a\nb"}))
    with pytest.raises(InvalidInput, match="is no option of sbatch"):
        options.arguments(Options(sbatch={"p": "gpu"}))


@pytest.mark.parametrize(
    ("seen", "printed", "said"),
    [
        (Seen("TIMEOUT", limit="2:00:00"), "", ("lost", "over its time at Slurm (2:00:00)")),
        (Seen("OUT_OF_MEMORY", memory="8G"), "", ("lost", "over its memory at Slurm (8G); mem= gives it more")),
        (None, "Detected 1 oom_kill event in StepId=3", ("lost", "over its memory at Slurm; mem= gives it more")),
        (Seen("NODE_FAIL", node="n3"), "", ("lost", "node n3 failed")),
        (Seen("CANCELLED"), "", ("killed", "cancelled at Slurm")),
        (Seen("FAILED", "JobLaunchFailure", node="n3"), "", ("lost", "ended by Slurm on node n3 (JobLaunchFailure)")),
        (None, "", ("lost", "Slurm knows nothing of it any more")),
    ],
)
def test_ends_in_words(seen: Seen | None, printed: str, said: tuple[str, str], tmp_path: Path) -> None:
    assert ends.verdict(seen, printed, tmp_path, spoke=False) == said


def test_what_the_controller_has_forgotten_has_ended_unless_its_heart_beats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Submission((tmp_path / "data_job" / "j" / "sub_job_000"), "k", {"job": "5", "task": 0})
    run_of(run.folder.parent)
    monkeypatch.setattr(asking, "tasks", lambda: ({}, {}))
    assert SlurmEngine().poll([run]) == [base.ENDED]
    monkeypatch.setattr(engine, "_beats", lambda folder: True)
    assert SlurmEngine().poll([run]) == [base.UNKNOWN]
    for ref in ({}, {"job": "5; rm"}, {"job": 5, "task": 0}, {"job": "5", "task": "0"}):
        assert SlurmEngine().poll([Submission(run.folder, "k", ref)]) == [base.ENDED]


def test_several_arrays_execute_no_more_at_once_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(asking, "client", lambda *words: said.append(" ".join(words[2:])))
    throttle = Throttle(10)
    assert throttle.room() == 10
    throttle.submitted("1", 1000, 10)
    assert throttle.room() == 0
    throttle.look({("1", n): Seen("PENDING" if n < 4 else "COMPLETED") for n in range(1000)}, ["1"])
    assert throttle.room() == 6
    throttle.submitted("2", 500, 6)
    left = {("2", n): Seen("PENDING") for n in range(500)}
    throttle.look({("1", n): Seen("RUNNING" if n < 3 else "COMPLETED") for n in range(1000)} | left, ["1", "2"])
    assert said == ["JobId=2 ArrayTaskThrottle=7"]
    throttle.change(None)
    throttle.look(left, ["2"])
    assert said[1:] == ["JobId=2 ArrayTaskThrottle=0"]
    assert Throttle(None).room() is None
    later = Throttle(3)
    later.look(left, ["2"])
    assert said[2:] == ["JobId=2 ArrayTaskThrottle=3"], "an earlier scheduler was told another number"
    later.look(left, ["2"])
    assert len(said) == 3


def test_another_number_is_said_again_until_the_controller_hears_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def client(*words: str) -> None:
        said.append(words[3])
        if len(said) == 1:
            raise CommandFailed("no")

    monkeypatch.setattr(asking, "client", client)
    throttle, left = Throttle(3), {("1", n): Seen("PENDING") for n in range(5)}
    throttle.submitted("1", 5, 3)
    throttle.change(1)
    throttle.change(1)
    for _ in range(3):
        throttle.look(left, ["1"])
    assert said == ["ArrayTaskThrottle=1"] * 2


def test_runs_that_are_too_many_for_one_array_are_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[str] = []

    def submit(words: list[str], *_: object) -> str:
        submitted.append(words[0])
        return str(len(submitted))

    monkeypatch.setattr(asking, "submit", submit)
    monkeypatch.setattr(asking, "setting", lambda name, default: 4)
    job = tmp_path / "data_job" / "j"
    runs = [run_of(job, f"k{number}", f"sub_job_{number:03d}") for number in range(7)]
    one = SlurmEngine()
    one.prepare(base.Work(job, Program()))
    refs = one.submit(runs)
    assert submitted == ["--array=0-2", "--array=0-2", "--array=0-0"]
    assert [(ref or {})["task"] for ref in refs] == [0, 1, 2, 0, 1, 2, 0]
    few = SlurmEngine()
    few.prepare(base.Work(job, Program(), at_once=2))
    refs = few.submit(runs)
    assert submitted[3:] == ["--array=0-2%2"]
    assert refs[3:] == [None] * 4, "they wait for those"


def test_a_folder_that_other_nodes_may_not_see_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    far = "NodeName=far NodeAddr=127.0.0.1 Port=1 CPUs=1 RealMemory=100 State=DOWN"
    with slurm_server(more=f"{far}\nPartitionName=away Nodes=far") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("colab_magics.engines.slurm.shared.NETWORK", frozenset())
        found = open_engine("slurm", {"partition": "away"}).settle(project.data_job, project.root)
        down, warning = found.warnings
        assert "some are down: the runs wait" in down
        assert "and the runs execute on far, which may not see it" in warning
        assert open_engine("slurm").settle(project.data_job, project.root, 3).warnings == []
        assert found.workers == base.EVERY
        server.end("slurmctld")
        with pytest.raises(Unavailable, match="Slurm does not answer"):
            open_engine("slurm").settle(project.data_job, project.root)
