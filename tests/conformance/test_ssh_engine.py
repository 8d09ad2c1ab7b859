"""Runs on two machines behind real servers of ssh keep to what engines keep to, and to what machines do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from boxes import Box, boxes
from conftest import poll
from mirror.tools import tmpfs
from runs.folders import leave_run
from runs.notebooks import write_notebook

from colab_magics import fork, jobs, process, submit
from colab_magics.checkout.project import Project
from colab_magics.errors import ColabMagicsError, InvalidInput, RunsFailed, Unavailable
from colab_magics.records.run import Run, runs_of
from colab_magics.relay.code import folder_there

from .engine_suite import EngineSuite

WAIT = """
import os, time
while not os.path.exists({go!r}):
    time.sleep(0.02)
"""


@pytest.fixture
def two(tmp_path: Path, home: Path) -> Iterator[list[Box]]:
    """Two machines, alpha and beta."""
    with boxes(tmp_path, home) as made:
        yield made


@pytest.fixture
def on(two: list[Box]) -> str:
    """Both of them."""
    return "ssh:alpha,beta"


def host_of(run: Run) -> str:
    """The machine that executes a run, or did."""
    return str(((run.reference() or {}).get("ref") or {}).get("host"))


def phases(project: Project) -> list[str]:
    return [run.status().phase for run in runs_of(project.data_job)]


def cut_off(box: Box) -> None:
    """End the server of a machine and all connections to it; what runs there goes on."""
    children = psutil.Process(box.server.process.pid).children(recursive=True)
    for pid in [box.server.process.pid, *(one.pid for one in children if one.name().startswith("sshd"))]:
        os.kill(pid, signal.SIGKILL)


class TestSsh(EngineSuite):
    """``on=ssh:alpha,beta``."""

    @pytest.fixture
    def on(self, two: list[Box]) -> str:
        return "ssh:alpha,beta"


def test_runs_are_spread_over_the_hosts_and_jobs_says_which(on: str, project: Project, tmp_path: Path) -> None:
    notebook = write_notebook(project.root / "a.ipynb", WAIT.format(go=str(tmp_path / "go")))
    fork(n=4, on=on, workers=4, notebook=str(notebook), detach=True)
    poll(lambda: phases(project) == ["running"] * 4, timeout=60)
    assert sorted(map(host_of, runs_of(project.data_job))) == ["alpha", "alpha", "beta", "beta"]
    shown = str(jobs())
    assert "on alpha" in shown
    assert "on beta" in shown
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"] * 4, timeout=60)
    assert f"start cold, on {host_of(runs_of(project.data_job)[0])} = " in str(jobs.show("0"))


def test_a_run_there_has_the_projects_code_and_inputs(on: str, project: Project, two: list[Box]) -> None:
    (project.root / "net.py").write_text("answer = 42\n")
    (project.root / ".env").write_text("KEY=secret\n")
    # Where %host put brings it; the home folder of these machines is not where a login begins.
    inputs = two[0].home / folder_there(project.root) / "data_project"
    inputs.mkdir(parents=True)
    (inputs / "a b.csv").write_text("1,2\n")
    cells = [
        "%load_ext colab_magics",
        "%project",
        "%fork n=1 on=ssh:alpha",
        "import net, os\nfile = '/a b.csv'\nseen = [net.answer, open(data_project + file).read()]\n"
        "seen += [open('data_project' + file).read(), os.path.exists('.env'), os.getcwd()]\n"
        "open(data_job + '/seen', 'w').write('|'.join(map(str, seen)))",
    ]
    fork(n=1, on="ssh:alpha", notebook=str(write_notebook(project.root / "a.ipynb", *cells)))
    seen = (project.data_job / "sub_job_000" / "seen").read_text()
    assert seen.startswith("42|1,2\n|1,2\n|False|")
    assert str(two[0].home) in seen


def test_the_code_beside_a_notebook_goes_there_when_the_project_holds_data_alone(
    on: str, project: Project, tmp_path: Path
) -> None:
    beside = tmp_path / "note books"
    notebook = write_notebook(beside / "a.ipynb", "import mine\nprint(mine.answer)\nassert mine.answer == 43")
    (beside / "mine.py").write_text("answer = 43\n")
    fork(n=1, on="ssh:alpha", notebook=str(notebook))
    assert phases(project) == ["done"]


def test_code_goes_there_once_and_a_change_of_it_again(on: str, project: Project, two: list[Box]) -> None:
    os.chdir(project.root)
    states = two[0].home / "colab_magics" / ".code"
    for number in (1, 2, 2):
        Path("train.py").write_text(f"print('this is', {number})\n")
        Path("lib.py").write_text("x = 1\n")
        submit("python", "train.py", on="ssh:alpha", wait=True, force=True)
        run = runs_of(project.data_job)[-1]
        assert f"this is {number}\n" in run.log.read_text()
    assert len(list(states.glob("*.json"))) == 2


def test_kernels_are_forked_there_with_a_warm_start(on: str, project: Project) -> None:
    cells = ["import json, numpy", "open(data_job + '/who', 'w').write(str(json))"]
    fork(n=3, on=on, start="warm", workers=2, notebook=str(write_notebook(project.root / "a.ipynb", *cells)))
    assert phases(project) == ["done"] * 3
    for run in runs_of(project.data_job):
        assert "cold" not in str((run.state() or {}).get("note"))
        assert (run.folder / "who").exists()


def test_results_of_all_kinds_come_home(on: str, project: Project, tmp_path: Path) -> None:
    cell = (
        "import os\n"
        "for name in ['a b', \"it's\", '$(touch gone)', 'ünï-日本', '-rf', 'new\\nline', 'sub/deep/x']:\n"
        "    os.makedirs(os.path.dirname(os.path.join(data_job, name)), exist_ok=True)\n"
        "    open(os.path.join(data_job, name), 'w').write(name)\n"
        "open(data_job + '/large', 'wb').write(os.urandom(6_000_000))\n"
        "os.symlink('large', data_job + '/last'); os.symlink('/etc/passwd', data_job + '/out')\n"
        "print('x' * 9_000_000)"
    )
    command = ["python", "-c", cell.replace("data_job", "os.environ['data_job']")]
    os.chdir(project.root)
    submit(*command, on="ssh:alpha", wait=True)
    folder = project.data_job / "sub_job_000"
    for name in ["a b", "it's", "$(touch gone)", "ünï-日本", "-rf", "new\nline", "sub/deep/x"]:
        assert (folder / name).read_text() == name
    assert (folder / "large").stat().st_size == 6_000_000
    assert os.readlink(folder / "last") == "large"
    assert not os.path.lexists(folder / "out"), "a link that leads out stays there"
    assert "x" * 9_000_000 in (folder / "log.txt").read_text()
    assert not list(tmp_path.rglob("gone"))


def test_what_is_written_beside_the_code_comes_home_or_is_named(on: str, project: Project) -> None:
    os.chdir(project.root)
    Path("newer.csv").write_text("mine")
    Path("train.py").write_text(
        "import os\nos.makedirs('plots/a b', exist_ok=True)\n"
        "open('plots/a b/loss.png', 'wb').write(b'p' * 5_000_000)\n"
        "open('result.csv', 'w').write('1')\nopen('other.txt', 'w').write('2')\n"
        "open('newer.csv', 'w').write('theirs'); os.utime('newer.csv', (1, 1))\n"
    )
    submit("python", "train.py", on="ssh:alpha", outputs="plots,*.csv", wait=True)
    assert Path("plots/a b/loss.png").stat().st_size == 5_000_000
    assert Path("result.csv").read_text() == "1"
    assert Path("newer.csv").read_text() == "mine"
    assert not Path("other.txt").exists()
    log = runs_of(project.data_job)[0].log.read_text()
    assert "written beside the code, and still on alpha: other.txt (outputs=" in log
    with pytest.raises(InvalidInput, match="outside of the project"):
        submit("python", "train.py", on="ssh:alpha", outputs="../x")


def test_a_second_attempt_has_the_checkpoints_of_the_first(on: str, project: Project) -> None:
    os.chdir(project.root)
    Path("train.py").write_text(
        "import os\n"
        "there = os.environ['data_job'] + '/checkpoint'\n"
        "if os.path.exists(there):\n"
        "    print('goes on with', os.path.getsize(there)); raise SystemExit(0)\n"
        "open(there, 'wb').write(b'x' * 7_000_000)\n"
        "raise SystemExit(5)\n"
    )
    with pytest.raises(RunsFailed):
        submit("python", "train.py", on="ssh:alpha", wait=True)
    # On the other machine, by a line that says so.
    submit("python", "train.py", on="ssh:beta", wait=True)
    (run,) = runs_of(project.data_job)
    assert (run.attempt, run.status().phase, host_of(run)) == (2, "done", "beta")
    assert "goes on with 7000000" in run.log.read_text()
    assert run.log.read_text().count("attempt 1") == 1, "the first attempt's log is there once"


def test_runs_that_wait_go_to_the_other_host_when_one_vanishes(
    on: str, project: Project, two: list[Box], tmp_path: Path
) -> None:
    cells = [f"open({str(tmp_path / 'count')!r}, 'a').write(f'{{i_sub_job}} ')", WAIT.format(go=str(tmp_path / "go"))]
    fork(n=6, on=on, workers=2, notebook=str(write_notebook(project.root / "a.ipynb", *cells)), detach=True)
    poll(lambda: phases(project)[:2] == ["running"] * 2, timeout=60)
    poll(lambda: (tmp_path / "count").exists() and len((tmp_path / "count").read_text().split()) == 2)
    (lost,) = [run for run in runs_of(project.data_job) if host_of(run) == "alpha"]
    cut_off(two[0])
    poll(lambda: "not heard of since" in lost.status().text, timeout=60)
    (tmp_path / "go").touch()
    others = [run for run in runs_of(project.data_job) if run.index != lost.index]
    poll(lambda: [run.status().phase for run in others] == ["done"] * 5, timeout=90)
    assert {host_of(run) for run in others} == {"beta"}
    assert lost.status().phase == "running", "nobody can tell, and it is not tried again"
    with two[0].server.again():
        poll(lambda: phases(project) == ["done"] * 6, timeout=90)
    assert sorted((tmp_path / "count").read_text().split()) == list("012345"), "each was executed once"


def test_a_run_on_a_host_that_is_gone_is_given_up_and_ended_there_when_it_is_back(
    on: str, project: Project, two: list[Box], tmp_path: Path
) -> None:
    os.chdir(project.root)
    Path("train.sh").write_text(f"echo $$ >>{tmp_path}/begun\nwhile [ ! -e {tmp_path}/go ]; do sleep 0.05; done\n")
    submit("sh", "train.sh", on="ssh:alpha")
    poll(lambda: (tmp_path / "begun").exists(), timeout=60)
    cut_off(two[0])
    two[0].server.process.wait()
    poll(lambda: "not heard of since" in str(jobs()), timeout=60)
    jobs.kill("0")
    poll(lambda: not runs_of(project.data_job)[0].is_out(), timeout=60)
    assert phases(project) == ["killed"]
    first = int((tmp_path / "begun").read_text())
    assert psutil.pid_exists(first), "nobody could end it yet"
    with two[0].server.again():
        submit("sh", "train.sh", on="ssh:alpha,beta")
        poll(lambda: not psutil.pid_exists(first), timeout=60, what="the first attempt is ended")
        (tmp_path / "go").touch()
        poll(lambda: phases(project) == ["done"], timeout=60)
    assert len((tmp_path / "begun").read_text().split()) == 2


def test_a_command_that_is_said_again_right_after_its_kill_is_executed(
    on: str, project: Project, tmp_path: Path
) -> None:
    os.chdir(project.root)
    Path("train.sh").write_text(f"echo x >>{tmp_path}/begun\nwhile [ ! -e {tmp_path}/go ]; do sleep 0.05; done\n")
    submit("sh", "train.sh", on="ssh:alpha")
    poll(lambda: (tmp_path / "begun").exists(), timeout=60)
    jobs.kill("0")
    submit("sh", "train.sh", on="ssh:alpha")
    poll(lambda: (tmp_path / "begun").read_text() == "x\nx\n", timeout=60)
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"], timeout=60)


def test_inputs_that_are_not_there_are_named(on: str, project: Project, two: list[Box], said: Any) -> None:
    project.data_project.mkdir()
    (project.data_project / "a.csv").write_text("1")
    (two[1].home / folder_there(project.root) / "data_project").mkdir(parents=True)
    (two[1].home / folder_there(project.root) / "data_project" / "a.csv").write_text("1")
    fork(n=1, on=on, notebook=str(write_notebook(project.root / "a.ipynb", "1")), detach=True)
    assert "alpha has none of your inputs: %host put data_project host=alpha" in said.getvalue()
    assert "beta has none" not in said.getvalue()
    poll(lambda: phases(project) == ["done"], timeout=60)


def test_a_host_that_is_away_is_left_out_by_name(on: str, project: Project, two: list[Box], said: Any) -> None:
    cut_off(two[1])
    two[1].server.process.wait()
    fork(n=2, on=on, notebook=str(write_notebook(project.root / "a.ipynb", "1")))
    assert phases(project) == ["done", "done"]
    assert {host_of(run) for run in runs_of(project.data_job)} == {"alpha"}
    assert "beta cannot be reached by ssh" in said.getvalue()
    assert "The runs go to the others" in said.getvalue()
    cut_off(two[0])
    two[0].server.process.wait()
    with pytest.raises(Unavailable, match="cannot be reached by ssh"):
        fork(n=3, on=on, notebook=str(project.root / "a.ipynb"))
    assert len(runs_of(project.data_job)) == 2


def test_a_runner_that_is_killed_there_is_tried_again_and_leaves_nothing(
    on: str, project: Project, tmp_path: Path
) -> None:
    os.chdir(project.root)
    Path("train.sh").write_text(
        f"echo x >>{tmp_path}/count\nsleep 600 &\nwhile [ ! -e {tmp_path}/go ]; do sleep 0.05; done\n"
    )
    submit("sh", "train.sh", on="ssh:alpha", retries=1)
    poll(lambda: (tmp_path / "count").exists(), timeout=60)
    (run,) = runs_of(project.data_job)
    state = poll(run.state)
    os.kill(state["process"]["pid"], signal.SIGKILL)
    poll(lambda: (tmp_path / "count").read_text() == "x\nx\n", timeout=60)
    (tmp_path / "go").touch()
    poll(lambda: phases(project) == ["done"], timeout=60)
    assert [one["phase"] for one in Run.load(run.folder).earlier] == ["interrupted"]
    assert not [one for one in psutil.process_iter() if _cmdline(one) == ["sleep", "600"]]


def _cmdline(one: psutil.Process) -> list[str]:
    try:
        return one.cmdline()
    except psutil.Error:
        return []


def test_a_host_whose_disk_is_full_gets_no_runs(on: str, project: Project, two: list[Box], home: Path) -> None:
    runs = two[0].home / "colab_magics"
    runs.mkdir(mode=0o700)
    with tmpfs(runs, size="1m"):
        runs.chmod(0o700)
        with open(runs / "filler", "wb", buffering=0) as stream:
            while os.statvfs(runs).f_bavail:
                stream.write(b"x" * 4096)
        fork(n=3, on=on, workers=2, notebook=str(write_notebook(project.root / "a.ipynb", "1")))
        assert phases(project) == ["done"] * 3
        assert {host_of(run) for run in runs_of(project.data_job)} == {"beta"}


def test_a_login_shell_that_talks_and_takes_its_time(on: str, project: Project, two: list[Box]) -> None:
    (two[0].home / ".bashrc").write_text("echo colab_magics-runs; echo '{\"ask\"' ; sleep 1\n")
    fork(n=1, on="ssh:alpha", notebook=str(write_notebook(project.root / "a.ipynb", "print(1)")))
    assert phases(project) == ["done"]


def test_what_was_sent_is_removed_there_when_it_is_home(on: str, project: Project, two: list[Box]) -> None:
    fork(n=2, on=on, workers=2, notebook=str(write_notebook(project.root / "a.ipynb", "1")))
    for box in two:
        left = box.home / "colab_magics" / ".runs"
        poll(lambda left=left: not [path for path in left.iterdir() if path.name != "keys"])
        assert not list((left / "keys").iterdir())


def test_no_host_is_spoken_to_because_a_folder_names_it(project: Project, two: list[Box], tmp_path: Path) -> None:
    config = Path(os.environ["COLAB_MAGICS_SSH_CONFIG"])
    config.write_text(config.read_text() + f"Host evil\n  ProxyCommand touch '{tmp_path}/asked'\n")
    stranger = leave_run(project.data_job, 7, None, parameters={"lr": 7}, engine="ssh:evil")
    process.write_json(
        stranger.folder / "ref.json",
        {"attempt": 1, "key": "ab" * 16, "engine": "ssh:evil", "ref": {"host": "evil", "base": {}}},
    )
    with pytest.raises(ColabMagicsError, match=r"Nobody could see the end of baseline/7 \(ssh:evil\)"):
        jobs.kill("7")
    assert "baseline/7" in str(jobs())
    with pytest.raises(ColabMagicsError, match=r"is being executed|no line of yours"):
        jobs.retry("7")
    with pytest.raises(ColabMagicsError, match="no line of yours"):
        jobs.watch("baseline")
    assert not (tmp_path / "asked").exists()


def test_a_reference_to_another_host_than_the_users_is_nowhere(
    on: str, project: Project, two: list[Box], tmp_path: Path
) -> None:
    config = Path(os.environ["COLAB_MAGICS_SSH_CONFIG"])
    config.write_text(config.read_text() + f"Host evil\n  ProxyCommand touch '{tmp_path}/asked'\n")
    notebook = write_notebook(project.root / "a.ipynb", "1")
    fork(n=1, on=on, notebook=str(notebook))
    (run,) = runs_of(project.data_job)
    (run.folder / "state.json").unlink()
    said = {**(run.reference() or {}), "seen": "running", "ref": {"host": "evil", "base": {}}}
    process.write_json(run.folder / "ref.json", said)
    (project.data_job / ".scheduler" / "state.json").unlink()
    fork(n=1, on=on, notebook=str(notebook))
    assert phases(project) == ["done"]
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("text", ["ssh", "ssh:", "ssh:,"])
def test_a_machine_must_be_named(text: str, project: Project) -> None:
    with pytest.raises(InvalidInput, match="on which machine"):
        fork(n=1, on=text, notebook=str(write_notebook(project.root / "a.ipynb", "1")))


def test_a_machine_cannot_be_an_option_of_ssh(project: Project, tmp_path: Path) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", "1"))
    with pytest.raises(InvalidInput, match="no host's name"):
        fork(n=1, on=f"ssh:-oProxyCommand=touch {tmp_path}/asked", notebook=notebook)
    assert not (tmp_path / "asked").exists()


def test_a_project_that_is_more_than_code_is_refused_before_anything_starts(on: str, project: Project) -> None:
    with open(project.root / "weights.txt", "wb") as stream:
        stream.truncate(1)
    for number in range(6):
        with open(project.root / f"big{number}.txt", "wb") as stream:
            stream.truncate(19_000_000)
    with pytest.raises(InvalidInput, match="that is more than code"):
        fork(n=1, on=on, notebook=str(write_notebook(project.root / "a.ipynb", "1")))
    assert runs_of(project.data_job) == []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_machine_that_has_nothing_is_prepared_by_the_first_line(
    on: str, project: Project, two: list[Box], said: Any
) -> None:
    for file in (two[0].home / ".cache" / "colab_magics" / "env").iterdir():
        file.unlink()
    cell = "import sys, papermill\nopen(data_job + '/python', 'w').write(sys.executable)"
    fork(n=1, on="ssh:alpha", notebook=str(write_notebook(project.root / "a.ipynb", cell)))
    assert phases(project) == ["done"]
    assert (project.data_job / "sub_job_000" / "python").read_text().startswith(str(two[0].home))
    assert "preparing alpha for runs" in said.getvalue()


def test_a_second_fork_builds_on_the_results_of_the_first_also_there(on: str, tmp_path: Path) -> None:
    cells = [
        "%load_ext colab_magics\n%project name=net root=. job=j",
        "from colab_magics import report",
        "%%fork on=ssh:alpha\nlr: [0.1, 0.2]",
        "import os\nreport(loss=lr)\nos.makedirs(data_job + '/sub/deep')\n"
        "open(data_job + '/sub/deep/m.txt', 'w').write(str(lr))",
        "runs = %join",
        "best = runs.best('loss')\nseen = f\"{best.lr} {(best.folder / 'sub/deep/m.txt').read_text()} {len(runs)}\"",
        "%fork n=2 on=ssh:alpha,beta",
        "open(data_job + '/seen', 'w').write(seen)",
        "again = %join",
    ]
    notebook = write_notebook(tmp_path / "nb" / "main.ipynb", *cells)
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--cwd", notebook.parent, notebook]
    done = subprocess.run([*command, tmp_path / "out.ipynb"], capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    job = notebook.parent / "net" / "data_job" / "j"
    for run in runs_of(job)[2:]:
        assert (run.folder / "seen").read_text() == "0.1 0.1 2"
