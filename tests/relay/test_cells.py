"""What a kernel on another machine does when all goes well: output, input, interrupts, files."""

from __future__ import annotations

import json
import os
import random
import stat
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import HOSTILE_NAMES, poll
from sshd import Sshd

from colab_magics.errors import InvalidInput, Unavailable
from colab_magics.relay.remote_kernel import Message, RemoteKernel
from relay.conftest import kinds, printed, run, value

Connect = Callable[..., RemoteKernel]

RICH = """
import sys, os
from IPython.display import display, update_display, clear_output, HTML
print("out"); print("err", file=sys.stderr)
handle = display(HTML("<b>1</b>"), display_id="one")
update_display(HTML("<b>2</b>"), display_id="one")
clear_output(wait=True)
{"a": sys.version_info[:2]}
"""


def test_rich_messages_arrive_in_their_order(connect: Connect, other_env: Path) -> None:
    kernel = connect()
    messages = run(kernel, RICH)
    said = [kind for kind in kinds(messages) if kind != "stream"]
    wanted = ["execute_input", "display_data", "update_display_data", "clear_output", "execute_result"]
    assert [kind for kind in said if kind != "execute_reply"] == wanted
    assert kinds(messages)[-1] == "execute_reply" or "execute_reply" in kinds(messages)
    assert printed(messages) == "out\nerr\n"
    assert messages[-1].content.get("execution_state") == "idle" or messages[-1].channel == "shell"
    assert value(kernel, "sys.executable").strip("'\"").endswith("bin/python")
    assert os.path.samefile(value(kernel, "sys.prefix").strip("'\""), other_env)
    failed = run(kernel, "1/0")
    assert "ZeroDivisionError" in "".join(
        next(m for m in failed if m.header["msg_type"] == "error").content["traceback"]
    )
    assert next(m for m in failed if m.channel == "shell").content["status"] == "error"


def test_other_requests_are_answered(connect: Connect) -> None:
    kernel = connect()
    run(kernel, "abc_def = 1")

    def reply(msg_id: str) -> dict[str, object]:
        return next(m.content for m in kernel.messages(msg_id, 30) if m.channel == "shell")

    assert "abc_def" in str(reply(kernel.complete("abc_"))["matches"])
    assert reply(kernel.inspect("abc_def"))["found"] is True
    assert reply(kernel.is_complete("for i in x:"))["status"] == "incomplete"
    assert reply(kernel.kernel_info())["implementation"] == "ipython"
    assert reply(kernel.comm_info()) == {"comms": {}, "status": "ok"}
    assert "abc_def = 1" in str(reply(kernel.history(hist_access_type="tail", n=5))["history"])


def test_input_is_asked_and_answered(connect: Connect) -> None:
    kernel = connect()
    messages = []
    for message in kernel.messages(kernel.execute("print('hello', input('who? '))"), 30):
        messages.append(message)
        if message.header["msg_type"] == "input_request":
            assert message.content["prompt"] == "who? "
            kernel.input("Ada")
    assert printed(messages) == "hello Ada\n"


def test_comm_messages_pass_with_buffers(connect: Connect) -> None:
    late: list[Message] = []
    kernel = connect(on_message=late.append)
    run(
        kernel,
        "got = []\ndef opened(comm, message):\n"
        "    comm.on_msg(lambda m: (got.append(bytes(m['buffers'][0])), comm.send({'n': 2}, buffers=[b'back\\0'])))\n"
        "get_ipython().kernel.comm_manager.register_target('t', opened)",
    )
    kernel.send("comm_open", {"comm_id": "c1", "target_name": "t", "data": {}})
    kernel.send("comm_msg", {"comm_id": "c1", "data": {}}, buffers=[b"\0raw"])
    back = poll(lambda: [m for m in late if m.header["msg_type"] == "comm_msg"])[0]
    assert back.buffers == [b"back\0"]
    assert back.content["data"] == {"n": 2}
    assert value(kernel, "got") == r"[b'\x00raw']"


def test_an_interrupt_ends_the_cell_and_its_programs(connect: Connect) -> None:
    kernel = connect()
    msg_id = kernel.execute("import time, subprocess\nprint('on', flush=True)\nsubprocess.run(['sleep', '600'])")
    stream = kernel.messages(msg_id, 30)
    messages = [next(m for m in stream if m.header["msg_type"] == "stream")]
    pid = kernel.welcome["pid"]
    poll(lambda: psutil.Process(pid).children(recursive=True))
    assert kernel.interrupt(msg_id)
    messages += list(stream)
    assert next(m.content for m in messages if m.channel == "shell")["ename"] == "KeyboardInterrupt"
    poll(lambda: not [c for c in psutil.Process(pid).children(recursive=True) if c.status() != psutil.STATUS_ZOMBIE])
    assert value(kernel, "1 + 1") == "2"


def test_an_interrupt_ends_a_cell_however_soon_it_comes(connect: Connect) -> None:
    """ipykernel ignores one that comes before the cell begins, and sends no reply when it is hit in its own code."""
    kernel = connect()
    wait = random.Random(1)
    for number in range(60):
        # What was sent before one knew of the error is not aborted.
        msg_id = kernel.execute("import time\ntime.sleep(100)", stop_on_error=False)
        time.sleep(wait.uniform(0, 0.003))
        assert kernel.interrupt(msg_id)
        reply = next(m.content for m in kernel.messages(msg_id, 20) if m.channel == "shell")
        assert (number, reply.get("ename")) == (number, "KeyboardInterrupt")
    poll(lambda: kernel.status()["running"] is None)
    assert value(kernel, "1 + 1") == "2"


def test_a_cell_that_takes_its_interrupt_is_left_alone(connect: Connect) -> None:
    kernel = connect()
    code = "import time\ntry:\n    print('on', flush=True); time.sleep(100)\n"
    code += "except KeyboardInterrupt:\n    time.sleep(2.5)"
    msg_id = kernel.execute(f"{code}\n'saved'")
    stream = kernel.messages(msg_id, 30)
    next(m for m in stream if m.header["msg_type"] == "stream")
    kernel.interrupt(msg_id)
    assert [m.content["data"]["text/plain"] for m in stream if m.header["msg_type"] == "execute_result"] == ["'saved'"]


def test_an_interrupt_for_a_request_that_is_over_hits_no_other(connect: Connect) -> None:
    kernel = connect()
    over = kernel.execute("1")
    list(kernel.messages(over, 30))
    msg_id = kernel.execute("import time\nprint('on', flush=True)\ntime.sleep(0.5); 'whole'")
    stream = kernel.messages(msg_id, 30)
    next(m for m in stream if m.header["msg_type"] == "stream")
    assert kernel.interrupt(over)
    assert [m.content["data"]["text/plain"] for m in stream if m.header["msg_type"] == "execute_result"] == ["'whole'"]


def test_files_are_there_before_the_cell(connect: Connect, tmp_path: Path) -> None:
    kernel = connect(folder=str(tmp_path / "work"))
    names = [name for name in HOSTILE_NAMES if "/" not in name]
    for name in names:
        kernel.write_file(f"pkg/{name}", name.encode(), 0o755)
    kernel.write_file("mod.py", b"answer = 42\n")
    assert value(kernel, "import mod; mod.answer") == "42"
    assert printed(run(kernel, "import os; print(sorted(os.listdir('pkg')))")) == f"{sorted(names)}\n"
    assert {p.read_text() for p in (tmp_path / "work" / "pkg").iterdir()} == set(names)
    assert stat.S_IMODE((tmp_path / "work" / "pkg" / "-rf").stat().st_mode) == 0o755
    kernel.remove_file("pkg/-rf")
    kernel.remove_file("not there/at all")
    assert value(kernel, "os.path.exists('pkg/-rf')") == "False"


@pytest.mark.parametrize("path", ["../out", "/abs", "a/../../out", "link/out", "", "a//b", "."])
def test_a_file_outside_of_the_folder_is_refused(connect: Connect, tmp_path: Path, path: str) -> None:
    late: list[Message] = []
    (tmp_path / "work").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "work" / "link").symlink_to(tmp_path / "elsewhere")
    kernel = connect(folder=str(tmp_path / "work"), on_message=late.append)
    kernel.write_file(path, b"x")
    run(kernel, "1")
    assert [m.content["path"] for m in late if m.header["msg_type"] == "file_error"] == [path]
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_no_file_is_written_into_the_home_folder(connect: Connect, home: Path) -> None:
    late: list[Message] = []
    kernel = connect(on_message=late.append)
    kernel.write_file(".bashrc", b"x")
    run(kernel, "1")
    assert "home folder" in late[-1].content["error"]
    assert not (home / ".bashrc").exists()


def test_nothing_listens_on_a_port_and_the_spool_is_ours_and_goes(connect: Connect, box: Sshd, home: Path) -> None:
    late: list[Message] = []
    kernel = connect(name="a b/c", on_message=late.append)
    forked = "import os\nif not os.fork():\n    print('forked', flush=True)\n    os._exit(0)\nos.wait()"
    messages = run(kernel, f"print('secret')\n{forked}")
    poll(lambda: "forked" in printed(messages) or "forked" in printed(late))
    there = next((home / ".cache" / "colab_magics" / "kernels").glob("*/*"))
    files = [there, *there.iterdir(), *there.parents[:3]]
    assert any(file.name.startswith("spool-") for file in files)
    assert all(stat.S_IMODE(file.stat().st_mode) & 0o077 == 0 for file in files)
    about = kernel.status()
    relay = psutil.Process(about["pid"]).parent()
    assert relay is not None
    listening = [c.pid for c in psutil.net_connections(kind="inet") if c.status == psutil.CONN_LISTEN]
    assert box.process.pid in listening  # what listens is seen
    assert not {relay.pid, about["pid"]} & set(listening)
    sockets = Path(json.loads((there / "relay.json").read_text())["sockets"])
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    kernel.shutdown()
    poll(lambda: not relay.is_running() or relay.status() == psutil.STATUS_ZOMBIE)
    assert not list(there.glob("spool-*"))
    assert not (there / "relay.json").exists()
    assert not sockets.exists()
    assert not psutil.pid_exists(about["pid"])
    with pytest.raises(Unavailable, match="was ended"):
        kernel.execute("1")


def test_status_says_how_it_stands(connect: Connect) -> None:
    kernel = connect()
    run(kernel, "x = bytearray(200_000_000)")
    status = kernel.status()
    assert status["state"] == "connected"
    assert status["memory"] > 200_000_000
    assert 0 < status["rtt"] < 5
    assert status["age"] > 0
    assert status["running"] is None
    assert kernel.started


def test_a_request_is_fetched_once_and_unknown_ones_are_refused(connect: Connect) -> None:
    kernel = connect()
    msg_id = kernel.execute("1")
    assert list(kernel.messages(msg_id, 30))
    with pytest.raises(InvalidInput, match="no request"):
        next(kernel.messages(msg_id))
    waiting = kernel.execute("import time; time.sleep(1)")
    with pytest.raises(TimeoutError):
        list(kernel.messages(waiting, 0.2))
    assert "execute_reply" in kinds(list(kernel.messages(waiting, 30)))


def test_output_of_late_threads_goes_to_on_message(connect: Connect) -> None:
    late: list[Message] = []
    kernel = connect(on_message=late.append)
    run(
        kernel,
        "import threading, time\nfrom IPython.display import display\n"
        "go = threading.Event()\n"
        "threading.Thread(target=lambda: (go.wait(), time.sleep(0.3), print('late', flush=True))).start()",
    )
    run(kernel, "go.set()")
    poll(lambda: "late" in printed(late), what=str(late))


def test_the_end_takes_the_code_along_and_builds_nothing(
    connect: Connect, box: Sshd, home: Path, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match="No kernel"):
        connect(start=False, env="")
    assert not list(home.rglob("*.py")), "no environment is made to end what is not there"
    folder = tmp_path / "there"
    first, second = connect(folder=str(folder)), connect("another", folder=str(folder))
    for kernel in (first, second):
        kernel.write_file("lib/a.py", b"x = 1")
        kernel.write_file(f"of {kernel.name}.py", b"x = 1")
        assert value(kernel, "__import__('sys').path.insert(0, '.') or __import__('lib.a').a.x") == "1"
    assert value(first, "open('result.txt', 'w').write('4') and 0") == "0"
    first.shutdown()
    assert (folder / "lib" / "a.py").exists(), "the other kernel works with it"
    second.close()
    again = connect("another", start=False, env="")  # under a Python that this call did not name
    again.shutdown()
    left = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    # What one had sent when another came stays: to that one it was there before.
    assert left == {"result.txt", "of main.py", "lib/a.py"}
