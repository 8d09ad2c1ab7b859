"""What breaks between here and there costs nothing: no output is lost, nothing is executed twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import poll
from sshd import Sshd

from colab_magics.errors import Busy, InvalidInput, Unavailable
from colab_magics.relay import wire
from colab_magics.relay.remote_kernel import CAP, Message, RemoteKernel, attach
from colab_magics.relay.spool import Spool
from relay.conftest import printed, run, ssh_of, value

Connect = Callable[..., RemoteKernel]

LINES = "import time\nfor i in range({n}):\n    print(i, flush=True)\n    time.sleep({pause})"
FLOOD = "from IPython.display import display\nfor i in range({n}): display(i)"


def displayed(messages: list[Message]) -> list[int]:
    return [int(m.content["data"]["text/plain"]) for m in messages if m.header["msg_type"] == "display_data"]


@pytest.mark.long
def test_a_flood_is_complete_and_in_order(connect: Connect) -> None:
    assert displayed(run(connect(), FLOOD.format(n=20_000))) == list(range(20_000))


@pytest.mark.long
def test_ssh_is_killed_fifteen_times_in_a_cell(connect: Connect) -> None:
    kernel = connect()
    msg_id = kernel.execute("n = globals().get('n', 0) + 1\n" + LINES.format(n=2000, pause=0.004))
    killed, messages = 0, []
    for message in kernel.messages(msg_id, 60):
        messages.append(message)
        if killed < 15 and kernel.connection_pid and len(messages) > 5 * killed + 5:
            os.kill(kernel.connection_pid, signal.SIGKILL)
            killed += 1
            poll(lambda: kernel.state.kind == "connected", timeout=20)
    assert killed == 15
    assert printed(messages).split() == [str(i) for i in range(2000)]
    assert value(kernel, "n") == "1"


def test_requests_sent_around_breaks_are_executed_once(connect: Connect) -> None:
    kernel = connect()
    run(kernel, "done = []")
    sent: list[str] = []
    killed: list[int] = []
    for number in range(60):
        if number % 6 == 0:
            # Another connection than those that were killed: their process ids may be another's by now.
            poll(lambda: kernel.connection_pid not in (None, *killed), timeout=20)
        sent.append(kernel.execute(f"done.append({number}); print({number})"))
        if number % 6 == 0 and kernel.connection_pid:
            killed.append(kernel.connection_pid)
            os.kill(killed[-1], signal.SIGKILL)
    assert len(killed) == 10
    said = [printed(list(kernel.messages(msg_id, 60))).split() for msg_id in sent]
    assert said == [[str(number)] for number in range(60)]
    assert value(kernel, "done == list(range(60))") == "True"


@pytest.mark.parametrize("whom", ["ssh", pytest.param("sshd", marks=pytest.mark.long)])
def test_a_black_hole(connect: Connect, box: Sshd, whom: str) -> None:
    kernel = connect(ping=1.5)
    msg_id = kernel.execute(LINES.format(n=1500, pause=0.002))
    stream = kernel.messages(msg_id, 60)
    messages = [next(stream) for _ in range(5)]
    if whom == "ssh":
        stopped = [ssh_of(kernel)]
    else:
        stopped = [p.pid for p in psutil.Process(box.process.pid).children(recursive=True) if p.name() == "sshd"]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        messages += list(stream)
    finally:
        for pid in stopped:
            if psutil.pid_exists(pid):
                os.kill(pid, signal.SIGCONT)
    assert printed(messages).split() == [str(i) for i in range(1500)]
    assert value(kernel, "1 + 1") == "2"


def test_a_host_that_is_away_for_a_while(connect: Connect, box: Sshd) -> None:
    states: list[str] = []
    kernel = connect(ping=1.0, on_state=lambda state: states.append(str(state)))
    msg_id = kernel.execute(LINES.format(n=1000, pause=0.002))
    stream = kernel.messages(msg_id, 60)
    messages = [next(stream) for _ in range(5)]
    stopped = [box.process.pid, *(p.pid for p in psutil.Process(box.process.pid).children() if p.name() == "sshd")]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    poll(lambda: kernel.state.kind == "offline")
    assert kernel.interrupt() is False
    with pytest.raises(Unavailable, match="the kernel goes on"):
        kernel.shutdown()
    later = kernel.execute("print('sent while offline')")
    for pid in stopped:
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGCONT)
    messages += list(stream)
    assert printed(messages).split() == [str(i) for i in range(1000)]
    assert printed(list(kernel.messages(later, 60))) == "sent while offline\n"
    assert any("offline" in state for state in states)
    assert states[-1].startswith("connected")


CLIENT = """
import sys
from colab_magics.relay.remote_kernel import attach
kernel = attach({host!r}, env={env!r})
kernel.execute("print('one', flush=True)")
msg_id = kernel.execute({code!r})
for message in kernel.messages(msg_id):
    if message.header["msg_type"] == "stream":
        print(message.content["text"], end="", flush=True)
"""
PAUSED = """
import os, time
for i in range(400):
    print(i, flush=True)
    while i == 20 and not os.path.exists({gate!r}): time.sleep(0.01)
x = 'state'
"""


def test_a_client_that_was_killed_and_the_next_one(
    connect: Connect, box: Sshd, other_env: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    source = CLIENT.format(host=box.host, env=str(other_env), code=PAUSED.format(gate=str(gate)))
    first = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    seen = first.stdout.readline()
    while not seen.endswith("20\n"):
        line = first.stdout.readline()
        assert line, "the first client ended"
        seen += line
    time.sleep(0.5)  # what it took is told within a tenth of a second
    first.kill()
    first.wait()
    first.stdout.close()
    late: list[Message] = []
    gate.touch()
    kernel = connect(on_message=late.append)
    assert not kernel.started
    assert kernel.welcome["age"] > 0
    (cell,) = [cell for cell in kernel.missed if not cell.done or cell.code.startswith("\nimport os")]
    assert cell.code.startswith("\nimport os")
    missed = printed(list(kernel.messages(cell.msg_id, 30)))
    assert (seen + missed).split() == [str(i) for i in range(400)]
    assert value(kernel, "x") == "'state'"
    kernel.close()
    again = connect()
    assert again.missed == []


def test_a_cell_that_ended_while_nobody_was_there(connect: Connect, home: Path) -> None:
    kernel = connect()
    kernel.execute("import time; time.sleep(1); print('ended'); 1 / 0")
    kernel.close()
    _until_spooled(home, b"ZeroDivisionError")
    again = connect()
    assert again.welcome["pid"] == kernel.welcome["pid"]
    messages = list(again.messages(again.missed[0].msg_id, 30))
    assert printed(messages) == "ended\n"
    assert [m.content["ename"] for m in messages if m.channel == "shell"] == ["ZeroDivisionError"]


def _until_spooled(home: Path, text: bytes) -> list[Path]:
    """Wait until the relay holds a text; returns the files of its spool."""
    folder = home / ".cache/colab_magics/kernels"
    poll(lambda: any(text in file.read_bytes() for file in sorted(folder.glob("*/main/spool-*"))[-2:]))
    return list(folder.glob("*/main/spool-*"))


def test_a_new_client_takes_over_and_the_old_one_is_told(connect: Connect) -> None:
    old = connect()
    waiting = old.execute("import time; time.sleep(2)")
    new = connect()
    with pytest.raises(Busy, match=r"taken over by .*process"):
        list(old.messages(waiting, 30))
    with pytest.raises(Busy):
        old.execute("1")
    assert value(new, "1 + 1") == "2"
    assert old.state.kind == "gone"


def test_new_starts_afresh(connect: Connect) -> None:
    old = connect()
    run(old, "x = 1")
    pid = old.welcome["pid"]
    old.close()
    new = connect(new=True)
    assert new.started
    assert new.welcome["pid"] != pid
    assert value(new, "'x' in globals()") == "False"
    assert not psutil.pid_exists(pid)


def test_the_relay_is_killed(connect: Connect, home: Path) -> None:
    kernel = connect(ping=2.0)
    pid = kernel.welcome["pid"]
    relay = psutil.Process(pid).ppid()
    waiting = kernel.execute("import time; time.sleep(60)")
    os.kill(relay, signal.SIGKILL)
    with pytest.raises(Unavailable, match="relay of the kernel on box is gone") as caught:
        list(kernel.messages(waiting, 30))
    assert "%remote" in str(caught.value)
    poll(lambda: not psutil.pid_exists(pid))
    again = connect()
    assert again.started
    assert again.welcome["previous"] == "killed"
    assert value(again, "1 + 1") == "2"
    assert len(list((home / ".cache/colab_magics/kernels").glob("*/main/spool-*"))) == 1


def test_the_kernel_dies(connect: Connect) -> None:
    kernel = connect()
    with pytest.raises(Unavailable, match=r"kernel on box died \(killed by SIGKILL\)"):
        run(kernel, "import os, signal\nprint('last words', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(Unavailable, match="died"):
        kernel.execute("1")
    kernel.close()
    again = poll(lambda: _new_one(connect))
    assert value(again, "1 + 1") == "2"


def _new_one(connect: Connect) -> RemoteKernel | None:
    kernel = connect()
    if kernel.started:
        return kernel
    kernel.close()
    return None


def test_a_msg_id_is_executed_once_whoever_sends_it(connect: Connect) -> None:
    kernel = connect()
    run(kernel, "n = 0")
    header = {"msg_id": "the same", "session": "s", "username": "", "msg_type": "execute_request", "version": "5.3"}
    header["date"] = "2026-01-01T00:00:00Z"
    content = {"code": "n += 1", "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False}
    parts = [json.dumps(part).encode() for part in (header, {}, {}, content)]
    for _ in range(3):
        kernel._link.send(wire.SHELL, wire.frames(parts))
    assert value(kernel, "n") == "1"


def test_beyond_the_cap_the_oldest_goes_and_it_is_said(connect: Connect, home: Path) -> None:
    late: list[Message] = []
    kernel = connect(cap=1_000_000)
    run(kernel, "class Text(str):\n    def __repr__(self): return self + ' ' * 10_000")
    kernel.execute("import time; time.sleep(1)\nprint('early', flush=True)")
    kernel.execute("from IPython.display import display\nfor i in range(300): display(Text(f'{i}'))")
    kernel.execute("print('the', 'end')")
    kernel.close()
    files = _until_spooled(home, b"the end")
    assert sum(file.stat().st_size for file in files) <= 1_000_000
    again = connect(on_message=late.append)
    cells = {cell.code[:5]: list(again.messages(cell.msg_id, 30)) for cell in again.missed}
    assert [m.content["status"] for m in cells["impor"] if m.channel == "shell"] == ["ok"]
    assert printed(cells["impor"]) == ""
    left = displayed(cells["from "])
    assert left == list(range(300))[-len(left) :]
    assert 50 < len(left) < 110
    assert printed(cells["print"]) == "the end\n"
    (lost,) = [m.content for m in late if m.header["msg_type"] == "output_lost"]
    assert lost["bytes"] > 1_900_000
    assert lost["messages"] >= 300 - len(left)


def test_it_ends_by_itself_when_idle(connect: Connect, home: Path) -> None:
    kernel = connect(idle=1.0)
    pid = kernel.welcome["pid"]
    run(kernel, "1")
    kernel.execute("import time; time.sleep(3)")
    kernel.close()
    began = time.monotonic()
    poll(lambda: not psutil.pid_exists(pid))
    assert time.monotonic() - began > 2.5
    poll(lambda: not list((home / ".cache/colab_magics/kernels").glob("*/main/spool-*")))
    with pytest.raises(Unavailable, match="No kernel runs on box"):
        connect(start=False)


def test_settings_of_a_relay_that_runs(connect: Connect, home: Path) -> None:
    late: list[Message] = []
    kernel = connect(on_message=late.append)
    pid = kernel.welcome["pid"]
    assert (kernel.status()["idle"], kernel.status()["cap"]) == (0.0, CAP)
    kernel.change(cap=1 << 16)
    poll(lambda: kernel.status()["cap"] == 1 << 16)
    with pytest.raises(InvalidInput):
        kernel.change(cap=1)
    # What is said while there is no connection counts when it is back.
    os.kill(ssh_of(kernel), signal.SIGKILL)
    poll(lambda: kernel.state.kind == "offline")
    kernel.change(idle=1.0)
    poll(lambda: kernel.state.kind == "connected")
    poll(lambda: kernel.status()["idle"] == 1.0)
    kernel.execute("import time\ntime.sleep(1)\nfrom IPython.display import display\nfor i in range(3000): display(i)")
    kernel.close()
    poll(lambda: not psutil.pid_exists(pid))


def test_a_smaller_spool_drops_at_once_what_is_too_much(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path), 1 << 20)
    for _ in range(16):
        assert spool.append(b"x" * (1 << 16), 1)
    assert spool.end - spool.start == 1 << 20
    spool.limit(1 << 18)
    assert spool.end - spool.start <= 1 << 18
    assert spool.lost(0) == 12
    assert spool.append(b"x" * (1 << 16), 1)
    assert spool.end - spool.start <= 1 << 18
    spool.remove()


def test_another_users_folder_is_refused(connect: Connect, home: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to make another user's folder")
    connect().close()
    (there,) = (home / ".cache/colab_magics/kernels").glob("*/main")
    os.chown(there, 65534, 65534)
    with pytest.raises(Unavailable, match="another user's"):
        connect()
    os.chown(there, 0, 0)
    there.chmod(0o755)
    with pytest.raises(Unavailable, match="open to others"):
        connect()
    there.chmod(0o700)
    sockets = Path(json.loads((there / "relay.json").read_text())["sockets"])
    os.chown(sockets, 65534, 65534)
    with pytest.raises(Unavailable, match="another user's"):
        connect()
    os.chown(sockets, 0, 0)


def test_an_unknown_host_key_stops_with_its_fingerprint(connect: Connect, box: Sshd, tmp_path: Path) -> None:
    known = box.config_file.with_name("known_hosts")
    shown = subprocess.run(
        ["ssh-keygen", "-lf", str(box.config_file.with_name("host_key.pub"))],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()[1]
    before = known.read_text()
    known.write_text("")
    with pytest.raises(Unavailable) as caught:
        attach(box.host)
    assert shown in str(caught.value)
    assert f"ssh -F '{box.config_file}' box" in str(caught.value)
    assert known.read_text() == ""
    other = subprocess.run(
        ["ssh-keygen", "-yf", str(box.config_file.with_name("user_key"))], capture_output=True, text=True, check=True
    ).stdout
    known.write_text(before.rsplit(" ", 2)[0] + " " + " ".join(other.split()[:2]) + "\n")
    with pytest.raises(Unavailable, match="another key than before"):
        attach(box.host)


def test_a_host_that_does_not_let_us_in_or_does_not_answer(box: Sshd) -> None:
    box.config_file.with_name("user_key.pub").write_text("")
    with pytest.raises(Unavailable, match="does not let us in") as caught:
        attach(box.host)
    assert "ssh-add" in str(caught.value)
    assert "ControlPath=" in str(caught.value)
    box.process.terminate()
    box.process.wait(10)
    with pytest.raises(Unavailable, match="Connection refused"):
        attach(box.host)
