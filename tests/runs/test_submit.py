"""%submit: a command as a run."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import poll

from colab_magics import fork, jobs, process, session, submit
from colab_magics.checkout.project import Project
from colab_magics.errors import Busy, InvalidInput, RunsFailed
from colab_magics.payloads import command
from colab_magics.records.run import Run, runs_of
from colab_magics.runs import scheduler

from .notebooks import write_notebook

SHELL = [sys.executable, "-m", "colab_magics"]
UNTIL_GO = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.02)\n"


@pytest.fixture
def project(project: Project) -> Project:
    """The project, and this process in its folder, as who says a command is."""
    os.chdir(project.root)
    return project


def test_commands_start_where_the_code_is(project: Project, tmp_path: Path) -> None:
    (project.root / "below").mkdir()
    os.chdir(project.root / "below")
    submit("pwd", wait=True)
    os.chdir(tmp_path)
    submit("pwd", "-P", wait=True)
    (project.root / ".git").mkdir()
    submit("pwd", "-L", wait=True)
    assert [log(project, index).splitlines()[-1] for index in range(3)] == list(
        map(str, (project.root, tmp_path, project.root))
    )


def phases(project: Project) -> list[str]:
    return [run.status().phase for run in runs_of(project.data_job)]


def log(project: Project, index: int = 0) -> str:
    return (project.data_job / f"sub_job_{index:03d}" / "log.txt").read_text()


def script(project: Project, name: str, text: str) -> str:
    (project.root / name).write_text(text)
    return name


def test_a_command_runs_in_the_projects_folder_with_its_own_one_as_data_job(project: Project) -> None:
    name = script(project, "a.py", "import os, sys\nprint(os.getcwd(), os.environ['data_job'], *sys.argv[1:])")
    board = submit("python", name, "--out", "{data_job}/x", "two words", wait=True)
    (run,) = board.runs  # type: ignore[union-attr]
    assert f"{project.root} {run.folder} --out {run.folder}/x two words\n" in log(project)
    assert run.status().text == "done"
    assert (run.state() or {})["exit"] == 0


def test_a_line_goes_to_the_shell_and_values_in_it_are_quoted(project: Project) -> None:
    board = submit(
        "echo {name} | tr a-z A-Z > {data_job}/out; echo $i_sub_job", grid={"name": ["a b", "$(id)"]}, wait=True
    )
    assert [(run.folder / "out").read_text() for run in board.runs] == ["A B\n", "$(ID)\n"]  # type: ignore[union-attr]


def test_it_comes_back_at_once_and_the_next_one_waits_for_its_turn(project: Project) -> None:
    name = script(project, "a.py", "import sys\n" + UNTIL_GO + "print('end', sys.argv[1])")
    for word in "abc":
        submit("python", name, word, workers=1)
    poll(lambda: phases(project) == ["running", "waiting", "waiting"])
    assert [run.record["payload"]["words"][2] for run in runs_of(project.data_job)] == ["a", "b", "c"]
    (project.root / "go").touch()
    poll(lambda: phases(project) == ["done"] * 3)
    poll(lambda: not scheduler.is_running(project.data_job))
    submit("python", name, "d", wait=True)
    assert phases(project) == ["done"] * 4


def test_commands_that_come_while_the_last_one_ends_are_executed(project: Project) -> None:
    for number in range(12):
        submit("true", str(number))
    poll(lambda: phases(project) == ["done"] * 12)


def test_lines_said_at_once_take_folders_of_their_own(project: Project) -> None:
    words = [[*SHELL, "submit", "--", "echo", f"number {number}"] for number in range(6)]
    children = [subprocess.Popen(one, cwd=project.root, stdout=subprocess.DEVNULL) for one in words]
    assert [child.wait(60) for child in children] == [0] * 6
    poll(lambda: phases(project) == ["done"] * 6)
    printed = sorted(log(project, index).splitlines()[-1] for index in range(6))
    assert printed == [f"number {number}" for number in range(6)]


def test_a_command_that_has_done_its_work_is_kept_until_its_files_change(project: Project, said: io.StringIO) -> None:
    script(project, "helper.py", "VALUE = 1")
    name = script(project, "a.py", "import os\nimport helper\nopen('count', 'a').write('x')")
    submit("python", name, wait=True)
    submit("python", name, wait=True)
    assert "1 kept" in said.getvalue()
    script(project, "helper.py", "VALUE = 2")
    with pytest.raises(InvalidInput, match=r"1 run finished with other code \(helper.py\)"):
        submit("python", name)
    submit("python", name, force=True, wait=True)
    assert (project.root / "count").read_text() == "xx"
    submit("python", name, "other", wait=True)
    assert len(runs_of(project.data_job)) == 2


def test_a_command_that_fails_says_its_exit_code_and_its_last_words(project: Project) -> None:
    name = script(project, "a.py", "import sys\nprint('out')\nprint('no good', file=sys.stderr)\nsys.exit(7)")
    with pytest.raises(RunsFailed, match=r"baseline/0  failed: exit code 7: no good") as error:
        submit("python", name, wait=True)
    assert error.value.status == 7
    assert "%submit line again" in error.value.mend
    with pytest.raises(RunsFailed, match="ended by SIGKILL"):
        submit("kill -9 $$ ; true", wait=True)


def test_a_command_that_was_killed_while_memory_was_short_says_so() -> None:
    assert command._in_words(-9, short=True) == "ended by SIGKILL (probably out of memory)"
    assert command._in_words(137, short=True) == "exit code 137 (probably out of memory)"
    assert command._in_words(-15, short=True) == "ended by SIGTERM"
    assert command._in_words(137) == "exit code 137"


def test_what_it_prints_is_seen_while_it_lives_and_its_exit_status_is_the_shells(project: Project) -> None:
    name = script(project, "a.py", "print('first')\n" + UNTIL_GO + "raise SystemExit(5)")
    words = [*SHELL, "submit", "--wait", "--", "python", name]
    with subprocess.Popen(words, cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "first\n"
        (project.root / "go").touch()
        assert child.wait(60) == 5
        assert child.stdout.read() == ""


def test_a_kill_ends_the_whole_tree(project: Project) -> None:
    line = "nohup sleep 1001 & (setsid sleep 1002 & ) ; sleep 1003"
    submit(line)
    poll(lambda: len([pid for pid in process.all_with(session.RUN_VARIABLE, folder(project)) if sleeps(pid)]) == 3)
    jobs.kill("0")
    assert phases(project) == ["killed"]
    assert not [pid for pid in process.all_with(session.RUN_VARIABLE, folder(project)) if sleeps(pid)]


def folder(project: Project) -> str:
    return str(project.data_job / "sub_job_000")


def sleeps(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep")


def test_what_it_left_behind_ends_with_it(project: Project) -> None:
    submit("nohup sleep 1004 & echo over", wait=True)
    assert phases(project) == ["done"]
    assert not [pid for pid in process.all_with(session.RUN_VARIABLE, folder(project)) if sleeps(pid)]


def test_a_command_may_take_its_time_alone(project: Project) -> None:
    with pytest.raises(RunsFailed, match=r"failed: TimeLimit: the run took longer than time=1.0 s"):
        submit("sleep", "600", time="1s", wait=True)


def test_it_is_tried_again(project: Project) -> None:
    submit("echo x >> {data_job}/tries; test $(wc -l < {data_job}/tries) = 3", retries=2, wait=True)
    (run,) = runs_of(project.data_job)
    assert (run.attempt, run.status().phase) == (3, "done")


def test_runs_of_notebooks_and_commands_live_in_one_job(project: Project, said: io.StringIO) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", "1"))
    fork(n=1, notebook=notebook)
    submit("true", wait=True)
    fork(n=2, notebook=notebook)
    kinds = [(run.record.get("payload") or {}).get("kind") for run in runs_of(project.data_job)]
    assert kinds == ["notebook", "command", "notebook"]
    assert [run.attempt for run in runs_of(project.data_job)] == [1, 1, 1]
    assert "also holds runs of commands" in said.getvalue()
    shown = str(jobs())
    assert "true" in shown
    assert "sub_job_001" in str(jobs.open("1"))


def test_a_command_joins_the_queue_of_a_notebooks_runs(project: Project) -> None:
    notebook = str(write_notebook(project.root / "a.ipynb", UNTIL_GO.replace("'go'", f"{str(project.root)!r} + '/go'")))
    fork(n=1, workers=1, notebook=notebook, detach=True)
    poll(lambda: phases(project) == ["running"])
    submit("true")
    assert phases(project) == ["running", "waiting"]
    with pytest.raises(InvalidInput, match=r"retries=2 is not how"):
        submit("true", "again", retries=2)
    (project.root / "go").touch()
    poll(lambda: phases(project) == ["done", "done"])


def test_a_command_is_tried_again_by_jobs_retry(project: Project) -> None:
    name = script(project, "a.py", "import os\nassert os.path.exists('go')")
    with pytest.raises(RunsFailed):
        submit("python", name, wait=True)
    (project.root / "go").touch()
    jobs.retry("0")
    assert phases(project) == ["done"]
    assert "exit code 1" not in log(project)
    assert log(project).count("══") == 2


def test_it_goes_on_when_who_said_it_is_gone(project: Project) -> None:
    name = script(project, "a.py", UNTIL_GO)
    words = [*SHELL, "submit", "--wait", "--", "python", name]
    child = subprocess.Popen(words, cwd=project.root, stdout=subprocess.DEVNULL, start_new_session=True)
    poll(lambda: phases(project) == ["running"])
    os.killpg(child.pid, signal.SIGKILL)
    child.wait(30)
    (project.root / "go").touch()
    poll(lambda: phases(project) == ["done"])


def test_a_machine_that_restarted_shows_it_as_interrupted(project: Project) -> None:
    submit("true", wait=True)
    run = Run.load(project.data_job / "sub_job_000")
    state = run.state() or {}
    state |= {"phase": "running", "process": {**state["process"], "boot": "another"}}
    process.write_json(run.folder / "state.json", state)
    assert run.status().phase == "interrupted"
    assert "cell" not in run.status().text


def test_the_log_is_read_word_by_word(project: Project) -> None:
    submit("printf 'loss 1\\nother\\nloss 2\\nloss 3\\n'", wait=True)
    assert str(jobs.logs("0", grep="loss", lines=2)).splitlines()[1:] == ["loss 2", "loss 3"]
    assert str(jobs.logs("0", grep="nothing")).splitlines()[1:] == []


def test_logs_are_followed_as_often_as_is_said(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    submit("printf 'loss 1\\nother\\nloss 2\\n'")
    jobs.logs("0", follow=True, every="0.1s", grep="loss")
    assert capsys.readouterr().out.splitlines() == ["loss 1", "loss 2"]


@pytest.mark.parametrize(
    ("words", "options", "says"),
    [
        ([], {}, "Which command"),
        ([""], {}, "Which command"),
        (["python", "a.py", ">", "out"], {}, "> is a sign of the shell"),
        (["a", "&&", "b"], {}, "&& is a sign"),
        (["echo", "{lr}"], {"grid": {"lr": [1], "depth": [2]}}, r"\{depth\} stands nowhere"),
        (["true"], {"n": 0}, "n=0"),
        (["echo {lr}", {"lr": [1, 2]}], {}, r"A mapping is no word(?s:.*)grid="),
        ([["python", "a.py"]], {}, "A list is no word"),
        (["echo", None], {}, "A NoneType is no word"),
        (["true"], {"time": "soon"}, "time="),
        (["true"], {"on": "nowhere"}, "nowhere"),
        (["true"], {"resume": "keep", "force": True}, "opposite"),
    ],
)
def test_what_is_no_command(project: Project, words: list[Any], options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        submit(*words, **options)
    assert runs_of(project.data_job) == []


def test_braces_that_are_no_parameters_stay_and_it_is_said(project: Project, said: io.StringIO) -> None:
    submit("echo", '{"a": 1}', "{x}", "{i_sub_job}", wait=True)
    assert '{"a": 1} {x} 0' in log(project)
    assert "{x} is no parameter" in said.getvalue()


def test_a_program_that_is_not_there(project: Project) -> None:
    with pytest.raises(RunsFailed, match="There is no program 'no-such-program' here"):
        submit("no-such-program", wait=True)


def test_values_in_words_are_not_read_again() -> None:
    assert command.filled_in(["echo", "{a}"], {"a": "{b}", "b": "x"}) == ["echo", "{b}"]
    assert command.line_of(["echo", "{a}"], {"a": "x y"}) == "echo 'x y'"


def test_the_preview_starts_nothing(project: Project) -> None:
    shown = str(submit("echo", "{lr}", grid={"lr": [1, 2]}, dry_run=True))
    assert "lr=1 (int)" in shown
    assert runs_of(project.data_job) == []


def test_nothing_more_is_started_while_runs_are_to_be_executed_anew(project: Project) -> None:
    submit("true", wait=True)
    submit("python", script(project, "a.py", UNTIL_GO))
    poll(lambda: phases(project) == ["done", "running"])
    with pytest.raises(Busy, match="none can be executed anew now"):
        submit("true", force=True)
    (project.root / "go").touch()
    poll(lambda: phases(project) == ["done", "done"])
