"""``%remote`` in real kernels, over a real ssh: cells, output, questions, interrupts, variables, code, restarts."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import poll
from fronts import Front, Reply
from runs.notebooks import write_notebook
from sshd import Sshd, sshd

pytest_plugins = ("shells",)


@pytest.fixture
def box(tmp_path: Path, home: Path) -> Iterator[Sshd]:
    with sshd(tmp_path, session_home=home) as server:
        yield server


@pytest.fixture
def notebook(tmp_path: Path, box: Sshd, start_kernel: Callable[..., Front]) -> Callable[[], Front]:
    """Start the notebook's kernel, or start it again."""
    project = tmp_path / "net"
    project.mkdir()
    (project / "helper.py").write_text("def double(x):\n    return 2 * x\n")

    def start() -> Front:
        front = start_kernel(COLAB_MAGICS_SSH_CONFIG=str(box.config_file), JPY_SESSION_NAME=str(project / "a.ipynb"))
        ok(front.run(f"import os\nos.chdir({str(project)!r})\n%load_ext colab_magics\n%project name=net root=.."))
        return front

    return start


def ok(reply: Reply) -> Reply:
    assert reply.status == "ok", "\n".join(reply.traceback)
    return reply


def remote(words: str = "") -> str:
    return f"%remote box env={sys.executable} {words}"


def shown(reply: Reply) -> list[str]:
    return [data.get("text/plain", "") for data in reply.data]


def test_cells_run_there_until_off(notebook: Callable[[], Front], tmp_path: Path) -> None:
    front = notebook()
    assert "box: connected" in shown(ok(front.run(remote())))[-1]
    there = ok(front.run("import os, sys\nx = 20\nprint(os.getpid())\nprint('to stderr', file=sys.stderr)"))
    assert there.err == "to stderr\n"
    assert shown(there) == ["⇢ box"]
    pid = int(there.out.splitlines()[-1])
    assert pid != front.kernel_pid
    assert psutil.Process(pid).is_running()
    assert shown(ok(front.run("from helper import double\ndouble(x)")))[-1] == "40"
    assert ok(front.run("%%local\nprint(os.getpid())")).out == f"{front.kernel_pid}\n"
    assert ok(front.run("!echo from $((6 * 7))")).out.strip() == "from 42"
    assert ok(front.run("%%bash\necho bash")).out == "bash\n"
    failed = front.run("def f():\n    return 1 / 0\nf()")
    assert (failed.status, failed.ename) == ("error", "ZeroDivisionError")
    assert "return" in "\n".join(failed.traceback)
    assert "keeps" in ok(front.run("%remote off")).out
    assert ok(front.run("print(os.getpid())")).out == f"{front.kernel_pid}\n"
    assert ok(front.run("%%remote box\nprint(os.getpid())")).out == f"{pid}\n"
    assert "has ended" in ok(front.run("%remote end box")).out
    poll(lambda: not psutil.pid_exists(pid))


def test_rich_output_updates_and_questions(notebook: Callable[[], Front]) -> None:
    front = notebook()
    ok(front.run(remote()))
    cell = (
        "from IPython.display import HTML, clear_output, display\nhandle = display(HTML('<b>1</b>'), display_id=True)\n"
        "handle.update(HTML('<b>2</b>'))\nprint('gone')\nclear_output()\nprint('stays')"
    )
    reply = ok(front.run(cell))
    assert reply.data[-1]["text/html"] == "<b>1</b>"
    assert "<b>2</b>" in str(reply.updates)
    assert reply.out.endswith("stays\n")
    sent = front.send("answer = input('how many? ')\nprint('so', answer)", allow_stdin=True)
    question = front.client.get_stdin_msg(timeout=30)
    assert question["content"]["prompt"] == "how many? "
    front.client.input("seven")
    assert front.collect(sent)[0].out.endswith("so seven\n")
    many = ok(front.run("for i in range(20_000):\n    print('line', i)"))
    assert many.out == "".join(f"line {i}\n" for i in range(20_000))


def test_a_flood_of_displays_is_complete_for_a_front_end_that_is_slow(notebook: Callable[[], Front]) -> None:
    front = notebook()
    ok(front.run(remote()))
    front.run("from IPython.display import display")
    sent = front.send("for i in range(20_000):\n    display(i)\nopen('over', 'w').close()")
    # Nothing is read here until all of it was said.
    poll(lambda: front.client.get_shell_msg(timeout=100)["parent_header"]["msg_id"] == sent, timeout=120)
    seen = []
    while True:
        message = front.client.get_iopub_msg(timeout=30)
        if message["parent_header"].get("msg_id") != sent:
            continue
        if message["msg_type"] == "display_data":
            seen.append(message["content"]["data"]["text/plain"])
        elif message["content"].get("execution_state") == "idle":
            break
    assert seen == ["⇢ box", *map(str, range(20_000))]


def test_an_interrupt_reaches_the_cell_there(notebook: Callable[[], Front], tmp_path: Path) -> None:
    front = notebook()
    ok(front.run(remote()))
    begun = tmp_path / "begun"
    sent = front.send(f"import time\nopen({str(begun)!r}, 'w').close()\ntime.sleep(300)")
    poll(begun.exists)
    os.kill(front.kernel_pid, signal.SIGINT)
    reply = front.collect(sent)[0]
    assert reply.ename == "KeyboardInterrupt"
    assert ok(front.run("print('alive')")).out == "alive\n"


def test_a_cell_is_executed_though_another_client_fails_before_it(
    notebook: Callable[[], Front], tmp_path: Path
) -> None:
    front, gate = notebook(), tmp_path / "gate"
    ok(front.run(remote()))
    fails = f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.01)\ntime.sleep(0.5)\n1 / 0"
    lines = ["%%local", "from colab_magics.faces.remote_cells import routed"]
    ok(front.run("\n".join([*lines, f"request = routed(get_ipython()).kernel.execute({fails!r})"])))
    sent = front.send("done = 'executed'\nprint(done)")
    gate.touch()
    reply = front.collect(sent)[0]
    assert ok(reply).out.endswith("executed\n")
    assert ok(front.run("print(done)")).out == "executed\n"


def test_variables_go_and_come(notebook: Callable[[], Front]) -> None:
    front = notebook()
    ok(front.run(remote()))
    ok(front.run("%%local\nimport numpy\nimport pandas\nnames = ['a', 'b']\narray = numpy.arange(6.).reshape(2, 3)"))
    ok(front.run("%remote push names array"))
    ok(
        front.run(
            "import numpy\narray = array * 2\nnames.append('c')\nback = (array.sum(), 1)\nclass Own: pass\nown = Own()"
        )
    )
    ok(front.run("%remote pull names array"))
    assert (
        ok(front.run("%%local\nprint(names, array.tolist())")).out
        == "['a', 'b', 'c'] [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]\n"
    )
    for line, words in (
        ("%remote pull own", "own does not go over as it is: Own is neither JSON"),
        ("%remote pull nothing", "There is no variable nothing there"),
        ("%%local\nfile = open('/dev/null')\n%remote push file", "file does not go over as it is: TextIOWrapper"),
        ("%remote push no-name", "no variable's name"),
    ):
        reply = front.run(line)
        assert reply.status == "error"
        assert words in "\n".join(reply.traceback)
        assert "Traceback" not in "\n".join(reply.traceback)


def test_code_that_changed_goes_along(notebook: Callable[[], Front], tmp_path: Path) -> None:
    front = notebook()
    (tmp_path / "net" / ".venv").mkdir()
    (tmp_path / "net" / ".venv" / "big").write_text("x" * 100)
    ok(front.run(remote()))
    assert "1 file" in ok(front.run("import helper\nprint(helper.double(2))")).out
    (tmp_path / "net" / "helper.py").write_text("def double(x):\n    return 'changed'\n")
    (tmp_path / "net" / "more.py").write_text("y = 5\n")
    cell = (
        "import importlib, more, os\nimportlib.reload(helper)\nprint(helper.double(2), more.y, os.path.exists('.venv'))"
    )
    assert ok(front.run(cell)).out == "changed 5 False\n"
    (tmp_path / "net" / "more.py").unlink()
    assert ok(front.run("print(os.path.exists('more.py'))")).out == "False\n"


def test_files_that_the_project_lists_go_along(notebook: Callable[[], Front], tmp_path: Path) -> None:
    project, front = tmp_path / "net", notebook()
    for name in ("data_project/small.csv", "data_project/big.csv", ".recompute/include", ".recompute/exclude"):
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("1")
    (project / ".recompute" / "include").write_text("data_project/small.csv\n")
    (project / ".recompute" / "exclude").write_text("notes*\n")
    (project / "notes.txt").write_text("mine")
    ok(front.run(remote()))
    look = "import os; print(sorted(os.path.join(a, f) for a, _, fs in os.walk('.') for f in fs if f[0] != '.'))"
    there = ok(front.run(look)).out
    assert "./data_project/small.csv" in there
    assert "big.csv" not in there
    assert "notes" not in there
    # Changed on a connected host: the same line reads them again.
    (project / ".recompute" / "include").write_text("data_project\n")
    ok(front.run("%remote box"))
    assert "./data_project/big.csv" in ok(front.run(look)).out


def test_hosts_in_a_notebook(notebook: Callable[[], Front], tmp_path: Path) -> None:
    front = notebook()
    (tmp_path / "net" / "w.bin").write_text("weights")
    assert "box" in ok(front.run("%host")).data[-1]["text/plain"]
    shown = ok(front.run('found = %host probe need="1MB disk, 0.1 cpu"\nfound')).data[-1]
    assert "chosen" in shown["text/html"]
    assert "box has just enough" in shown["text/plain"]
    there = tmp_path / "there"
    assert "1 file, 7 B to box" in ok(front.run(f"%host put w.bin host=box folder={there}")).data[-1]["text/plain"]
    assert (there / "w.bin").read_text() == "weights"
    line = ok(front.run(f"%host shell box folder={there}")).data[-1]["text/plain"]
    assert line.startswith("ssh -F ")
    assert "tmux new -A -s net" in line
    failed = front.run("%host get w.bin host=bax")
    assert failed.status == "error"
    assert "did you mean box?" in "\n".join(failed.traceback)


def test_after_a_restart_here_the_same_line_shows_what_was_missed(
    notebook: Callable[[], Front], tmp_path: Path
) -> None:
    front = notebook()
    ok(front.run(remote()))
    go, begun = tmp_path / "go", tmp_path / "begun"
    front.send(
        f"import os, time\nstate = 'kept'\nprint('before', flush=True)\nopen({str(begun)!r}, 'w').close()\n"
        f"while not os.path.exists({str(go)!r}):\n    time.sleep(0.05)\nprint('missed this')"
    )
    poll(begun.exists)
    os.kill(front.kernel_pid, signal.SIGKILL)
    go.touch()
    again = notebook()
    reply = ok(again.run(remote()))
    assert "Attached to the kernel on box that has run for" in reply.out
    assert "missed this" in reply.out
    assert ok(again.run("print(state)")).out.endswith("kept\n")


def test_a_cut_connection_costs_nothing(notebook: Callable[[], Front], box: Sshd, tmp_path: Path) -> None:
    front = notebook()
    ok(front.run(remote()))
    begun = tmp_path / "begun"
    sent = front.send(
        f"import time\nopen({str(begun)!r}, 'w').close()\n"
        "for i in range(200):\n    print('line', i, flush=True)\n    time.sleep(0.01)"
    )
    poll(begun.exists)
    links = [child for child in psutil.Process(front.kernel_pid).children(recursive=True) if child.name() == "ssh"]
    assert links
    for link in links:
        link.kill()
    reply = front.collect(sent)[0]
    lines = [line for line in reply.out.splitlines() if line.startswith("line ")]
    assert lines == [f"line {i}" for i in range(200)]


def test_status_and_a_live_fork_of_a_notebook_whose_cells_run_elsewhere(
    notebook: Callable[[], Front], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = "open(data_job + '/result', 'w').write(f'{value} {os.getpid()}')"
    fork = "%fork n=1 start=live then=continue"
    write_notebook(tmp_path / "main.ipynb", fork, run)
    monkeypatch.setenv("COLAB_MAGICS_NOTEBOOK", str(tmp_path / "main.ipynb"))
    front = notebook()
    assert "no kernel on another machine" in "\n".join(front.run("%remote status").traceback)
    ok(front.run(remote()))
    there = int(ok(front.run("import os\nprint(os.getpid())")).out.splitlines()[-1])
    assert "connected" in shown(ok(front.run("%remote status")))[-1]
    ok(front.run("%%local\nvalue = 'of the notebook'"))
    ok(front.run(fork))
    # Its cells run in the fork itself: connections are the notebook's own.
    words = (tmp_path / "net" / "data_job" / "main" / "sub_job_000" / "result").read_text().split()
    assert words[:3] == ["of", "the", "notebook"]
    assert int(words[3]) not in (there, front.kernel_pid)
    assert ok(front.run("print(os.getpid())")).out == f"{there}\n"


def test_idle_and_spool_said_again_count_for_the_kernel_that_runs(notebook: Callable[[], Front]) -> None:
    front = notebook()
    ok(front.run(remote()))
    said = ok(front.run("%remote box idle=2h")).out
    assert "ends when idle for 2 h 00 min, and keeps up to 2.0 GB of output." in said
    assert "keeps up to 300 MB" in ok(front.run("%remote box spool=300MB")).out
    # What it has already needs no words, and what is not said stays.
    assert ok(front.run("%remote box idle=2h")).out == ""
    assert ok(front.run("%remote box")).out == ""
    assert "no duration" in "\n".join(front.run("%remote box idle=soon").traceback)
    # Another kernel of this notebook that attaches to the one there.
    again = notebook()
    out = ok(again.run(remote("idle=never"))).out
    assert "Attached to the kernel" in out
    assert "does not end by itself, and keeps up to 300 MB" in out
    ok(again.run("%remote end box"))


def test_tab_and_help_come_from_there(notebook: Callable[[], Front]) -> None:
    front = notebook()
    ok(front.run(remote()))
    ok(front.run("only_there_value = 3\ndef only_there(number):\n    'The doc there.'"))

    def matches(code: str) -> set[str]:
        return set(front.client.complete(code, len(code), reply=True, timeout=20)["content"]["matches"])

    # The first one loads what completes.
    poll(lambda: matches("only_th") >= {"only_there_value", "only_there"})
    reply = front.client.inspect("only_there", 5, reply=True, timeout=20)
    assert "The doc there." in reply["content"]["data"]["text/plain"]
    assert "The doc there." in "".join(shown(ok(front.run("only_there?"))))
    assert {"push", "pull"} <= matches("%remote pu")
    ok(front.run("%remote off"))
    assert not matches("only_th")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%remote", "Write %remote HOST"),
        ("%remote stauts", "status"),
        ("%remote nowhere.invalid", "nowhere.invalid"),
        ("%remote push x", "Write %remote HOST"),
        ("%remote -oProxyCommand=x", "option"),
    ],
)
def test_what_cannot_be_done_is_said(notebook: Callable[[], Front], line: str, words: str) -> None:
    reply = notebook().run(line)
    assert reply.status == "error"
    assert words in "\n".join(reply.traceback)
    assert "Traceback" not in "\n".join(reply.traceback)
