"""Runs on a real Slurm of one node keep to what engines keep to, and to what clusters do."""

from __future__ import annotations

import itertools
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import poll
from runs.notebooks import write_notebook
from slurm_server import CPUS, SlurmServer

from colab_magics import fork, jobs, process, submit
from colab_magics.checkout.project import Project
from colab_magics.engines import open_engine
from colab_magics.engines.base import Submission
from colab_magics.errors import InvalidInput, RunsFailed, Unavailable
from colab_magics.faces import magics
from colab_magics.records import metrics
from colab_magics.records.names import SCHEDULER
from colab_magics.records.run import Run, runs_of

from .engine_suite import EngineSuite
from .waiting import BEGINS, WAITS, begun, over, phases, texts, waiting


@pytest.fixture
def on(slurm: SlurmServer) -> str:
    """The cluster."""
    return "slurm"


@pytest.fixture
def waits(on: str, project: Project, tmp_path: Path) -> str:
    """A notebook whose run tells that it was begun, by an x in the file ``count``, and waits for the file ``go``."""
    return waiting(project, tmp_path)


def task_of(run: Run) -> str:
    ref = poll(lambda: (run.reference() or {}).get("ref"))
    return f"{ref['job']}_{ref['task']}"


@pytest.mark.long
class TestSlurm(EngineSuite):
    """``on=slurm``."""

    @pytest.fixture
    def on(self, slurm: SlurmServer) -> str:
        return "slurm"


def test_runs_are_one_array_of_which_so_many_execute_at_once_as_workers_says(
    waits: str, project: Project, slurm: SlurmServer, tmp_path: Path
) -> None:
    fork(n=3, on="slurm", workers=2, notebook=waits, detach=True)
    begun(tmp_path, 2)
    poll(lambda: phases(project) == ["running", "running", "waiting"])
    assert slurm.ask("squeue", "-h", "-t", "PENDING", "-o", "%K %j").strip() == "2 baseline"
    assert len({(run.reference() or {})["ref"]["job"] for run in runs_of(project.data_job)}) == 1
    assert "queued on slurm" in str(jobs())
    poll(lambda: [f", node {slurm.node}" in text for text in texts(project)] == [True, True, False])
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"] * 3, timeout=60)
    over(project)
    assert not (project.data_job / SCHEDULER / "slurm").exists()


@pytest.mark.long
def test_another_number_of_workers_counts_for_what_slurm_has(
    waits: str, project: Project, slurm: SlurmServer, tmp_path: Path
) -> None:
    fork(n=4, on="slurm", workers=1, notebook=waits, detach=True)
    begun(tmp_path, 1)
    fork(n=4, on="slurm", workers=3, notebook=waits, detach=True)
    begun(tmp_path, 3)
    assert phases(project).count("running") == 3
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"] * 4, timeout=60)


@pytest.mark.long
def test_after_too_many_failures_what_slurm_has_is_not_started(
    on: str, project: Project, slurm: SlurmServer, tmp_path: Path
) -> None:
    cell = BEGINS.format(count=str(tmp_path / "count")) + "assert False"
    notebook = str(write_notebook(project.root / "a.ipynb", cell))
    with pytest.raises(RunsFailed):
        fork(n=9, on=on, workers=1, max_failures=1, then="stop", notebook=notebook)
    assert "not started: 1 failed (max_failures=1)" in texts(project)
    assert len((tmp_path / "count").read_text()) < 9
    poll(lambda: not slurm.ask("squeue", "-h"), timeout=60)
    assert len((tmp_path / "count").read_text()) < 9


def test_options_arrive_at_slurm(on: str, project: Project, slurm: SlurmServer, tmp_path: Path) -> None:
    notebook = write_notebook(project.root / "a.ipynb", WAITS.format(go=str(tmp_path / "go")))
    words = "partition=urgent cpus=2 mem=700MB time=2h setup='export GREETING=\"hello there\"' sbatch.nice=7"
    magics.run_line("fork", f"n=1 on=slurm {words} --detach notebook='{notebook}'", None, {})
    (run,) = runs_of(project.data_job)
    told = poll(lambda: slurm.ask("scontrol", "show", "job", task_of(run)))
    for word in ("Partition=urgent", "NumCPUs=2", "MinMemoryNode=700M", "TimeLimit=02:05:00", "Nice=7", "Requeue=1"):
        assert word in told
    state = poll(run.state, timeout=60)
    assert process.variable(state["process"]["pid"], "GREETING") == "hello there"
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"], timeout=60)


@pytest.mark.long
def test_a_run_has_gpus_that_no_other_has(own_slurm: SlurmServer, project: Project, tmp_path: Path) -> None:
    cells = [
        "import os\nopen(data_job + '/gpu', 'w').write(os.environ['CUDA_VISIBLE_DEVICES'])",
        WAITS.format(go=str(tmp_path / "go")),
    ]
    notebook = str(write_notebook(project.root / "a.ipynb", *cells))
    with pytest.raises(InvalidInput, match="Slurm would not take these runs"):
        fork(n=1, on="slurm", gpus=3, notebook=notebook)
    fork(n=3, on="slurm", gpus=1, notebook=notebook, detach=True)
    runs = runs_of(project.data_job)
    poll(lambda: sum((run.folder / "gpu").exists() for run in runs) == 2, timeout=60)
    assert {(run.folder / "gpu").read_text() for run in runs[:2]} == {"0", "1"}
    poll(lambda: "Resources" in texts(project)[2])
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"] * 3, timeout=60)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"partition": "nowhere"}, r"(?s)Invalid partition.*partitions harsh, main, short, urgent"),
        ({"cpus": 1000}, "Requested node configuration is not available"),
        ({"sbatch.gres": "fpga:1"}, "gres"),
        ({"sbatch.nothing": "1"}, "nothing"),
        ({"sbatch.array": "0-9"}, r"sbatch\.array= is not yours"),
        ({"sbatch.mem": "9G"}, r"sbatch\.mem= has an option of its own"),
        ({"sbatch.wrap=x --qos": "1"}, "is no option of sbatch"),
        ({"setup": "a\nb"}, "more than one line"),
        ({"mem": "much"}, "mem=much is no size"),
        ({"gpus": "0.5"}, "whole GPUs"),
        ({"gpus": 1}, "gres"),
    ],
)
def test_what_slurm_would_not_take_is_refused_before_anything_starts(
    words: dict[str, Any], why: str, on: str, project: Project
) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", "1"))
    with pytest.raises(InvalidInput, match=why):
        fork(n=1, on=on, notebook=notebook, **words)
    assert runs_of(project.data_job) == []


def test_a_machine_without_slurm_says_so(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    notebook = str(write_notebook(project.root / "a.ipynb", "1"))
    with pytest.raises(Unavailable, match="there is no sbatch on PATH"):
        fork(n=1, on="slurm", notebook=notebook)
    assert runs_of(project.data_job) == []


def test_a_task_that_is_cancelled_by_hand_was_killed(
    waits: str, project: Project, slurm: SlurmServer, tmp_path: Path
) -> None:
    fork(n=2, on="slurm", workers=1, retries=1, notebook=waits, detach=True)
    begun(tmp_path, 1)
    first, second = runs_of(project.data_job)
    slurm.ask("scancel", task_of(second))
    slurm.ask("scancel", task_of(first))
    poll(lambda: phases(project) == ["killed", "killed"], timeout=60)
    over(project)
    assert "cell 2 of 2: cancelled at Slurm" in texts(project)[0]
    assert texts(project)[1] == "killed before it started: cancelled at Slurm"
    assert (tmp_path / "count").read_text() == "x"


@pytest.mark.long
def test_a_run_over_its_memory_says_so(on: str, project: Project) -> None:
    cell = "import time\nhoard = bytearray(500_000_000)\ntime.sleep(60)"
    with pytest.raises(RunsFailed, match=r"over its memory at Slurm \(300M\); mem= gives it more"):
        fork(n=1, on=on, mem="300MB", notebook=str(write_notebook(project.root / "a.ipynb", cell)))


@pytest.mark.long
def test_a_run_that_is_preempted_is_started_again_in_its_folder(
    project: Project, slurm: SlurmServer, tmp_path: Path
) -> None:
    report = "import colab_magics\nfor step in range(3):\n    colab_magics.report(loss=1, step=step)\n"
    cells = [report + BEGINS.format(count=str(tmp_path / "count")), WAITS.format(go=str(tmp_path / "go"))]
    fork(n=1, on="slurm", notebook=str(write_notebook(project.root / "a.ipynb", *cells)), detach=True)
    begun(tmp_path, 1)
    (run,) = runs_of(project.data_job)
    words = ("--partition=urgent", f"--cpus-per-task={CPUS}", "--output=/dev/null", "--wrap=sleep 600")
    urgent = slurm.ask("sbatch", "--parsable", *words).strip()
    poll(lambda: "queued again on slurm" in texts(project)[0], timeout=60)
    assert phases(project) == ["waiting"]
    slurm.ask("scancel", urgent)
    slurm.hurry(task_of(run))
    begun(tmp_path, 2)
    poll(lambda: phases(project) == ["running"])
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"], timeout=60)
    assert Run.load(run.folder).attempt == 1
    log = (run.folder / "log.txt").read_text()
    assert "Slurm starts this run again (1)" in log
    reports = metrics.read(run.folder)
    assert ([line.step for line in reports], len({line.life for line in reports})) == ([0, 1, 2] * 2, 2)
    assert [x for x, _ in metrics.series(reports, "loss")] == [0, 1, 2]


@pytest.mark.long
def test_a_run_that_is_preempted_for_good_is_tried_again(
    waits: str, project: Project, slurm: SlurmServer, tmp_path: Path
) -> None:
    fork(n=1, on="slurm", partition="harsh", retries=1, notebook=waits, detach=True)
    begun(tmp_path, 1)
    words = ("--partition=urgent", f"--cpus-per-task={CPUS}", "--output=/dev/null", "--wrap=sleep 600")
    urgent = slurm.ask("sbatch", "--parsable", *words).strip()
    (run,) = runs_of(project.data_job)
    poll(lambda: Run.load(run.folder).attempt == 2, timeout=60)
    slurm.ask("scancel", urgent)
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"], timeout=60)
    (before,) = Run.load(run.folder).earlier
    assert "preempted by others" in before["text"]


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_node_that_fails_is_said_and_the_run_begins_again(
    own_slurm: SlurmServer, project: Project, tmp_path: Path
) -> None:
    notebook = waiting(project, tmp_path)
    fork(n=1, on="slurm", notebook=notebook, detach=True)
    begun(tmp_path, 1)
    (run,) = runs_of(project.data_job)
    own_slurm.lose_node()
    poll(lambda: "queued again on slurm" in texts(project)[0], timeout=90)
    own_slurm.start_node()
    own_slurm.hurry(task_of(run))
    begun(tmp_path, 2)
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"], timeout=60)


@pytest.mark.long
def test_nothing_is_decided_while_the_controller_is_away(
    waits: str, project: Project, slurm: SlurmServer, tmp_path: Path
) -> None:
    fork(n=2, on="slurm", workers=1, retries=3, notebook=waits, detach=True)
    begun(tmp_path, 1)
    slurm.end("slurmctld")
    try:
        poll(lambda: "not heard of since" in texts(project)[1], timeout=90)
        assert phases(project)[0] == "running"
        with pytest.raises(Unavailable, match="Slurm does not answer"):
            open_engine("slurm").settle(project.data_job, project.root)
    finally:
        slurm.start_controller()
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"] * 2, timeout=60)
    assert (tmp_path / "count").read_text() == "xx"


@pytest.fixture
def wrapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for programs that come before Slurm's own on PATH; each call of those is a line of ``calls`` in it."""
    folder = tmp_path / "wrapped"
    folder.mkdir()
    for name in ("sbatch", "squeue", "scontrol", "sinfo"):
        put(folder, name, "")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def put(folder: Path, name: str, after: str) -> None:
    program = folder / name
    lines = [
        "#!/bin/bash",
        f"echo $EPOCHREALTIME {name} $* >>{folder}/calls",
        f'PATH="${{PATH#*:}}" command {name} "$@"; status=$?',
        after,
        "exit $status",
    ]
    program.write_text("\n".join(lines) + "\n")
    program.chmod(0o755)


def calls(folder: Path, name: str) -> list[str]:
    return [line for line in (folder / "calls").read_text().splitlines() if line.split()[1] == name]


@pytest.mark.long
def test_a_submission_whose_answer_is_lost_is_not_made_again(
    waits: str, project: Project, wrapped: Path, tmp_path: Path
) -> None:
    said = "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
    put(wrapped, "sbatch", f"[[ $* == *--test-only* ]] || {{ echo '{said}' >&2; exit 1; }}")
    fork(n=2, on="slurm", notebook=waits, detach=True)
    begun(tmp_path, 2)
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"] * 2, timeout=60)
    over(project)
    assert len([call for call in calls(wrapped, "sbatch") if "--test-only" not in call]) == 1
    assert (tmp_path / "count").read_text() == "xx"


@pytest.mark.long
def test_a_scheduler_that_dies_while_it_submits_has_submitted_once(
    waits: str, project: Project, wrapped: Path, tmp_path: Path
) -> None:
    # sbatch goes on alone: who comes later waits for it.
    put(wrapped, "sbatch", f"[[ $* == *--test-only* ]] || {{ touch {tmp_path}/asked; sleep 3; }}")
    fork(n=2, on="slurm", notebook=waits, detach=True)
    state = poll(lambda: process.read_json(project.data_job / SCHEDULER / "state.json"))
    poll((tmp_path / "asked").exists, timeout=60)
    os.kill(state["process"]["pid"], signal.SIGKILL)
    over(project)
    put(wrapped, "sbatch", "")
    (tmp_path / "go").touch()
    fork(n=2, on="slurm", notebook=waits)
    assert phases(project) == ["done"] * 2
    assert (tmp_path / "count").read_text() == "xx"
    assert len([call for call in calls(wrapped, "sbatch") if "--test-only" not in call]) == 1


@pytest.mark.long
def test_what_slurm_refuses_waits_and_says_why(waits: str, project: Project, wrapped: Path, tmp_path: Path) -> None:
    said = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy"
    (tmp_path / "go").touch()
    put(wrapped, "sbatch", "")
    real = (wrapped / "sbatch").read_text()
    (wrapped / "sbatch").write_text(
        f"#!/bin/bash\n[[ $* == *--test-only* ]] && exit 0\necho x >>{wrapped}/refused\necho '{said}' >&2\nexit 1\n"
    )
    fork(n=2, on="slurm", notebook=waits, detach=True)
    poll(lambda: "accounting/QOS policy" in str(jobs()), timeout=60)
    assert phases(project) == ["waiting"] * 2
    (wrapped / "sbatch").write_text(real)
    poll(lambda: phases(project) == ["done"] * 2, timeout=60)
    assert len((wrapped / "refused").read_text()) <= 2 * 4


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_hundred_runs_are_one_submission_and_one_question_a_second(
    on: str, project: Project, wrapped: Path, tmp_path: Path
) -> None:
    os.chdir(project.root)
    submit("true", "{i}", grid={"i": list(range(200))}, on=on, mem="200MB", wait=True, yes=True)
    assert phases(project) == ["done"] * 200
    assert len([call for call in calls(wrapped, "sbatch") if "--test-only" not in call]) == 1
    asked = [float(call.split()[0]) for call in calls(wrapped, "squeue")]
    assert all(later - earlier > 0.9 for earlier, later in itertools.pairwise(asked))


@pytest.mark.long
@pytest.mark.timeout(400)
def test_a_run_over_its_time_says_so(waits: str, project: Project, slurm: SlurmServer, tmp_path: Path) -> None:
    with pytest.raises(RunsFailed, match=r"over its time at Slurm \(1:00\)"):
        magics.run_line("fork", f"n=1 on=slurm sbatch.time=1 notebook='{waits}'", None, {})


@pytest.mark.long
def test_a_reference_from_elsewhere_ends_no_job_of_the_user(
    waits: str, project: Project, slurm: SlurmServer, tmp_path: Path
) -> None:
    fork(n=1, on="slurm", notebook=waits, detach=True)
    begun(tmp_path, 1)
    (run,) = runs_of(project.data_job)
    poll(lambda: (run.reference() or {}).get("seen") == "running")
    other = slurm.ask("sbatch", "--parsable", "--array=0", "--output=/dev/null", "--wrap=sleep 600").strip()
    engine = open_engine("slurm")
    engine.cancel([Submission(run.folder, "k", {"job": other, "task": 0})])
    jobs.kill("0")
    poll(lambda: phases(project) == ["killed"], timeout=60)
    assert other in slurm.ask("squeue", "-h", "-o", "%F", "-t", "RUNNING")


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "why"),
    [
        ({"setup": "echo 'it is' $HOME; false"}, r"setup= failed on node \w+; log.txt has what it said"),
        ({"setup": "if ("}, r"setup= failed on node"),
        ({"setup": "exit 9"}, r"ended on node \w+ with exit status 9"),
        ({"python": "/nowhere/bin/python"}, r"the Python of the runs is not there on node"),
    ],
)
def test_a_run_that_cannot_begin_says_why(words: dict[str, str], why: str, on: str, project: Project) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", "1"))
    with pytest.raises(RunsFailed, match=f"lost before it started: {why}"):
        fork(n=1, on=on, notebook=notebook, **words)


@pytest.mark.long
def test_the_environment_is_kept_by_the_controller_alone(
    waits: str, project: Project, slurm: SlurmServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from colab_magics import session

    monkeypatch.setenv("THE_KEY", "s3cr3t-of-the-user")
    session.current().secrets.append("THE_KEY")
    fork(n=1, on="slurm", notebook=waits, detach=True)
    begun(tmp_path, 1)
    arguments = [" ".join(one.info["cmdline"] or ()) for one in psutil.process_iter(["cmdline"])]
    assert not [words for words in arguments if "s3cr3t-of" in words]
    holding = [path for path in slurm.folder.rglob("*") if path.is_file() and b"s3cr3t-of" in path.read_bytes()]
    assert {path.name for path in holding} == {"environment"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in holding)
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"], timeout=60)


@pytest.mark.long
def test_a_notebook_in_a_job_of_slurm_hands_its_own_settings_to_no_run(
    on: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_MEM_PER_GPU", "7")
    monkeypatch.setenv("SBATCH_WAIT", "1")
    monkeypatch.setenv("SQUEUE_STATES", "FAILED")
    cell = "import os\nopen(data_job + '/it', 'w').write(str('SLURM_MEM_PER_GPU' in os.environ))"
    fork(n=1, on=on, notebook=str(write_notebook(project.root / "a.ipynb", cell)))
    assert (project.data_job / "sub_job_000" / "it").read_text() == "False"
