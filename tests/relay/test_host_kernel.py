"""A kernel of another machine as any client of Jupyter's knows it: jupyter_client, papermill, its engine, a restart."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from conftest import poll
from fronts import Front, Reply, notebook
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from sshd import Sshd

import colab_magics
from colab_magics.errors import Busy, ColabMagicsError, InvalidInput, NotFound, Unavailable

Start = Callable[..., Front]


@pytest.fixture
def spec(box: Sshd) -> str:
    """Have Jupyter know the host's kernel; returns its name."""
    return str(colab_magics.host.kernel(box.host, env=sys.executable).name)


@pytest.fixture
def start(tmp_path: Path, spec: str) -> Iterator[Start]:
    """Start kernels as Jupyter's programs do; they are shut down afterwards."""
    # jupyter_client 7 (Colab's) takes the thread's loop, and Python 3.13 wants somebody to have made one.
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    running: list[Front] = []

    def start_one(name: str = spec, **options: Any) -> Front:
        project = tmp_path / "net"
        project.mkdir(exist_ok=True)
        manager = KernelManager(kernel_name=name)
        manager.start_kernel(**{"cwd": str(project), **options})
        client = manager.client()
        running.append(Front(client))
        client.start_channels()
        client.wait_for_ready(timeout=60)
        client.parent = manager
        return running[-1]

    yield start_one
    for front in running:
        front.client.stop_channels()
        if front.client.parent.has_kernel:
            front.client.parent.shutdown_kernel(now=True)
        front.client.parent.cleanup_resources()
    asyncio.set_event_loop(None)
    loop.close()


def ok(reply: Reply) -> Reply:
    assert reply.status == "ok", "\n".join(reply.traceback)
    return reply


def pid_of(front: Front) -> int:
    """Return the process of the kernel there."""
    return int(ok(front.run("import os\nprint(os.getpid())")).out.split()[-1])


def ssh_below(pid: int) -> list[psutil.Process]:
    return [one for one in psutil.Process(pid).children(recursive=True) if one.name() == "ssh"]


def refuse(box: Sshd) -> str:
    """Cut the connection, and let nobody in; returns the key for `let_in`."""
    key = box.config_file.with_name("user_key.pub")
    text = key.read_text()
    key.write_text("")
    end_all_logins(box)
    return text


def end_all_logins(box: Sshd) -> None:
    for one in psutil.Process(box.process.pid).children(recursive=True):
        # What a relay started lives in a session of its own, and is no child of the server's. Others end by themselves.
        with suppress(psutil.NoSuchProcess):
            if one.name() == "sshd":
                one.kill()


def let_in(box: Sshd, key: str) -> None:
    box.config_file.with_name("user_key.pub").write_text(key)


def left_there(home: Path) -> list[str]:
    return [path.name for path in (home / ".cache/colab_magics/kernels").glob("*/*")]


def test_a_kernel_there_is_a_kernel_like_any_other(start: Start, tmp_path: Path, home: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "helper.py").write_text("x = 20\n")
    front = start()
    pid = pid_of(front)
    assert ok(front.run("import helper\nprint(helper.x)")).out == "20\n"
    (tmp_path / "net" / "helper.py").write_text("x = 2000\n")
    assert ok(front.run("import importlib\nprint(importlib.reload(helper).x)")).out == "2000\n"
    assert ok(front.run("import os\nprint(os.getcwd())")).out.strip().startswith(str(home / "colab_magics"))
    many = ok(front.run("for i in range(20_000):\n    print('line', i)"))
    assert many.out == "".join(f"line {i}\n" for i in range(20_000))
    big = ok(front.run("from IPython.display import HTML\nHTML('x' * 8_000_000)"))
    assert len(big.data[0]["text/html"]) == 8_000_000
    failed = front.run("1 / 0")
    assert (failed.status, failed.ename) == ("error", "ZeroDivisionError")
    sent = front.send("print('so', input('how many? '))", allow_stdin=True)
    assert front.client.get_stdin_msg(timeout=30)["content"]["prompt"] == "how many? "
    front.client.input("seven")
    assert front.collect(sent)[0].out == "so seven\n"
    assert "is_integer" in front.client.complete("(1.5).is_i", reply=True, timeout=30)["content"]["matches"][0]
    manager = front.client.parent
    manager.shutdown_kernel()
    assert not manager.is_alive()
    assert not psutil.pid_exists(pid)
    assert left_there(home) == []
    assert not (home / "colab_magics" / str(tmp_path / "net")[1:] / "helper.py").exists()


def test_widgets_speak_by_comms(start: Start) -> None:
    front = start()
    ok(
        front.run(
            "seen = []\n"
            "def target(comm, message):\n"
            "    def answer(message):\n        seen.append(message)\n"
            "        comm.send({'got': message['content']['data']}, buffers=[b'bytes'])\n"
            "    comm.on_msg(answer)\n"
            "get_ipython().kernel.comm_manager.register_target('t', target)"
        )
    )
    client = front.client
    opened = client.session.msg("comm_open", {"comm_id": "c1", "target_name": "t", "data": {}})
    client.shell_channel.send(opened)
    message = client.session.msg("comm_msg", {"comm_id": "c1", "data": {"value": 3}})
    client.session.send(client.shell_channel.socket, message, buffers=[b"x" * 1000])

    def answer() -> Any:
        got = client.get_iopub_msg(timeout=30)
        return got if got["msg_type"] == "comm_msg" else None

    got = poll(answer)
    assert got["content"]["data"] == {"got": {"value": 3}}
    assert [bytes(buffer) for buffer in got["buffers"]] == [b"bytes"]
    assert got["parent_header"]["msg_id"] == message["header"]["msg_id"]
    assert "1000" in ok(front.run("print(len(seen[0]['buffers'][0]))")).out


def test_stop_and_restart(start: Start) -> None:
    front = start()
    pid = pid_of(front)
    manager = front.client.parent
    sent = front.send("import time\nprint('in it', flush=True)\ntime.sleep(300)")
    poll(lambda: "in it" in str(front.client.get_iopub_msg(timeout=30)["content"]))
    manager.interrupt_kernel()
    assert front.collect(sent)[0].ename == "KeyboardInterrupt"
    ok(front.run("x = 1"))
    for now in (False, True):
        manager.restart_kernel(now=now)
        front.client.wait_for_ready(timeout=60)
        again = pid_of(front)
        assert again != pid
        assert not psutil.pid_exists(pid)
        pid = again
        assert front.run("x").ename == "NameError"
        ok(front.run("x = 1"))


def test_a_cut_connection_is_survived_and_stop_waits_for_it(start: Start, box: Sshd) -> None:
    front = start()
    here = front.client.parent.provisioner.pid
    sent = front.send("import time\nfor i in range(60):\n    print('line', i, flush=True)\n    time.sleep(0.05)")
    for _ in range(3):
        poll(lambda: "line" in str(front.client.get_iopub_msg(timeout=30)["content"]))
        end_all_logins(box)
    # What was read above is not in the reply.
    lines = front.collect(sent)[0].out.splitlines()
    assert lines == [f"line {i}" for i in range(60)][-len(lines) :]
    assert len(lines) > 30
    sent = front.send("print('in it', flush=True)\ntime.sleep(300)")
    poll(lambda: "in it" in str(front.client.get_iopub_msg(timeout=30)["content"]))
    key = refuse(box)
    poll(lambda: not ssh_below(here))
    front.client.parent.interrupt_kernel()
    let_in(box, key)
    assert front.collect(sent)[0].ename == "KeyboardInterrupt"


def test_the_death_of_the_kernel_is_told(start: Start) -> None:
    front = start()
    manager = front.client.parent
    sent = front.send("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")

    def words() -> Any:
        message = front.client.get_iopub_msg(timeout=30)
        return message if message["msg_type"] == "stream" else None

    told = poll(words)
    assert "The kernel died (killed by SIGKILL)." in told["content"]["text"]
    assert told["parent_header"]["msg_id"] == sent
    poll(lambda: not manager.is_alive())
    # As the restarter of Jupyter's server does it.
    manager.restart_kernel(now=True)
    front.client.wait_for_ready(timeout=60)
    assert ok(front.run("print(6 * 7)")).out == "42\n"


@pytest.mark.long
def test_nothing_is_left_there_whatever_happens_here(
    start: Start, box: Sshd, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Jupyter shuts it down while there is no connection.
    front = start()
    pid = pid_of(front)
    key = refuse(box)
    front.client.parent.shutdown_kernel()
    assert psutil.pid_exists(pid)
    let_in(box, key)
    poll(lambda: not psutil.pid_exists(pid), timeout=60)
    # Its process here is killed, under a Jupyter that knows the host by the kernelspec alone.
    monkeypatch.delenv("COLAB_MAGICS_SSH_CONFIG")
    front = start()
    pid = pid_of(front)
    os.kill(front.client.parent.provisioner.pid, signal.SIGKILL)
    poll(lambda: not front.client.parent.is_alive())
    front.client.parent.shutdown_kernel(now=True)
    poll(lambda: not psutil.pid_exists(pid), timeout=60)
    # It hangs.
    front = start()
    pid = pid_of(front)
    os.kill(front.client.parent.provisioner.pid, signal.SIGSTOP)
    front.client.parent.shutdown_kernel(now=True)
    poll(lambda: not psutil.pid_exists(pid), timeout=60)
    poll(lambda: left_there(home) == [])


def test_a_message_without_the_key_is_dropped(start: Start) -> None:
    front = start()
    key, front.client.session.key = front.client.session.key, b"another"
    front.send("x = 1")
    front.client.session.key = key
    assert front.run("x").ename == "NameError"


def test_a_jupyter_that_knows_no_provisioner_starts_it_too(start: Start, spec: str) -> None:
    folder = Path(KernelSpecManager().find_kernel_specs()[spec])
    plain = json.loads((folder / "kernel.json").read_text())
    del plain["metadata"]["kernel_provisioner"], plain["interrupt_mode"]
    (folder.parent / "plain").mkdir()
    (folder.parent / "plain" / "kernel.json").write_text(json.dumps(plain))
    front = start("plain")
    pid = pid_of(front)
    sent = front.send("import time\nprint('in it', flush=True)\ntime.sleep(300)")
    poll(lambda: "in it" in str(front.client.get_iopub_msg(timeout=30)["content"]))
    front.client.parent.interrupt_kernel()
    assert front.collect(sent)[0].ename == "KeyboardInterrupt"
    front.client.parent.shutdown_kernel()
    poll(lambda: not psutil.pid_exists(pid))


def test_what_of_a_folder_goes_along(start: Start, tmp_path: Path, home: Path) -> None:
    net = tmp_path / "net"
    (net / "many").mkdir(parents=True)
    (net / ".env").write_text("TOKEN=1")
    (net / "helper.py").touch()
    list_there = "import os\nprint(os.path.basename(os.getcwd()), sorted(os.listdir()))"
    front = start()
    first = ok(front.run(list_there))
    assert first.out == "net ['helper.py']\n"
    assert first.err == (
        "⚠ .env stayed here, as secrets do by their names. "
        "If box may have it: colab-magics host kernel box include=.env\n"
    )
    assert ok(front.run("1")).err == ""
    for i in range(5001):
        (net / "many" / f"{i}.txt").touch()
    refused = ok(front.run("1"))
    assert "holds 5,001 files" in refused.err
    assert "Nothing of it goes to box." in refused.err
    assert ok(front.run("1")).err == ""
    # The folder of a project is its root's; a home folder is nobody's code.
    (net / "many" / "0.txt").unlink()
    colab_magics.project(name="p", root=str(tmp_path))
    (tmp_path / "p" / "notebooks").mkdir(exist_ok=True)
    (tmp_path / "p" / "of_p.py").touch()
    front = start(cwd=str(tmp_path / "p" / "notebooks"))
    assert ok(front.run(list_there)).out == "p ['of_p.py']\n"
    (home / "x.py").touch()
    front = start(cwd=str(home))
    assert ok(front.run(list_there)).out == "project []\n"


def papermill(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "papermill", *words, "in.ipynb", "out.ipynb"]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False)


@pytest.mark.parametrize("engine", [(), ("--engine", "colab_magics")])
def test_papermill(spec: str, tmp_path: Path, home: Path, engine: tuple[str, ...]) -> None:
    made = notebook("n = 1", "import os\nprint('n is', n, os.getcwd())")
    made.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(made, tmp_path / "in.ipynb")
    done = papermill(tmp_path, "-k", spec, "-p", "n", "7", *engine)
    assert done.returncode == 0, done.stderr
    text = nbformat.read(tmp_path / "out.ipynb", 4).cells[-1].outputs[0].text
    assert re.fullmatch(f"n is 7 {home}/colab_magics/.*\n", text)
    assert left_there(home) == []
    nbformat.write(notebook("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"), tmp_path / "in.ipynb")
    done = papermill(tmp_path, "-k", spec, *engine)
    assert done.returncode != 0
    assert "DeadKernelError" in done.stderr
    assert "The kernel died (killed by SIGKILL)" in str(nbformat.read(tmp_path / "out.ipynb", 4).cells)
    poll(lambda: left_there(home) == [])


def test_papermill_is_killed(spec: str, tmp_path: Path, home: Path) -> None:
    pid_file = tmp_path / "pid"
    code = f"import os, time\nopen({str(pid_file)!r}, 'w').write(str(os.getpid()) + ' ')\ntime.sleep(300)"
    nbformat.write(notebook(code), tmp_path / "in.ipynb")
    command = [sys.executable, "-m", "papermill", "-k", spec, "in.ipynb", "out.ipynb"]
    runs = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    poll(lambda: pid_file.read_text().endswith(" "), timeout=60)
    runs.kill()
    runs.wait(20)
    poll(lambda: not psutil.pid_exists(int(pid_file.read_text())))
    poll(lambda: left_there(home) == [])


def test_a_host_that_cannot_be_reached_is_said(start: Start, spec: str, box: Sshd, tmp_path: Path) -> None:
    nbformat.write(notebook("1"), tmp_path / "in.ipynb")
    end_all_logins(box)
    box.process.terminate()
    box.process.wait(10)
    done = papermill(tmp_path, "-k", spec)
    assert done.returncode != 0
    assert "Connection refused" in done.stderr.splitlines()[-2]
    assert "→ Try it in a terminal: ssh" in done.stderr.splitlines()[-1]
    with pytest.raises(Unavailable, match="box cannot be reached"):
        start()
    with pytest.raises(Unavailable, match="box cannot be reached"):
        colab_magics.host.kernel("box", name="other")
    assert "other" not in KernelSpecManager().find_kernel_specs()


def test_what_is_not_ours_stays(box: Sshd, home: Path) -> None:
    specs = home / ".local" / "share" / "jupyter" / "kernels"
    (specs / "box").mkdir(parents=True)
    (specs / "box" / "kernel.json").write_text('{"argv": ["true"], "display_name": "X", "language": "x"}')
    wrong: list[tuple[type[ColabMagicsError], str, dict[str, Any]]] = [
        (Busy, "Choose another name", {}),
        (InvalidInput, "small letters", {"name": "with space"}),
        (InvalidInput, "is no duration", {"name": "b", "idle": "soon"}),
        (NotFound, "none of ours", {"remove": True}),
        (NotFound, "Ours: none", {"name": "b", "remove": True}),
    ]
    for kind, words, options in wrong:
        with pytest.raises(kind, match=words):
            colab_magics.host.kernel("box", **options)
    made = colab_magics.host.kernel("box", name="mine", env=sys.executable)
    assert "papermill -k mine" in str(made)
    assert "mine (colab_magics)" in (specs / "mine" / "kernel.json").read_text()
    # Said again, it is written anew; what somebody put beside it stays when it is removed.
    colab_magics.host.kernel("box", name="mine", env=sys.executable, idle="1h")
    assert "--idle=3600.0" in (specs / "mine" / "kernel.json").read_text()
    (specs / "mine" / "logo-64x64.png").touch()
    colab_magics.host.kernel("box", name="mine", remove=True)
    assert [path.name for path in (specs / "mine").iterdir()] == ["logo-64x64.png"]
    assert "mine" not in KernelSpecManager().find_kernel_specs()
    assert "box" in KernelSpecManager().find_kernel_specs()
