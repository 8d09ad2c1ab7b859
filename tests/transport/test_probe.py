"""What hosts have to give: asked by one command each, whatever they print, and chosen from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from conftest import HOSTILE_NAMES, poll
from fake_gpus import FakeGpus, gpus
from sshd import Sshd, sshd
from test_login_shells import SHELLS, by_login

import colab_magics
from colab_magics import __main__ as face
from colab_magics.errors import InvalidInput
from colab_magics.transport import probe as room
from colab_magics.transport import ssh
from colab_magics.transport.choose import choose, missing
from colab_magics.transport.need import Need
from colab_magics.transport.probe import Gpu, Report, probe, read

__all__ = ["gpus"]  # a fixture
GB = 10**9
Start = Callable[..., Sshd]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Return what starts one more host, with a home of its own; all stand in one configuration."""
    config = tmp_path / "ssh_config"
    config.touch()
    monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(config))
    with ExitStack() as stack:

        def one(name: str, *aliases: str, rc: str = "", **options: str) -> Sshd:
            folder = tmp_path / name
            (folder / "home").mkdir(parents=True)
            (folder / "home" / ".bashrc").write_text(rc)
            server = stack.enter_context(sshd(folder, host=name, session_home=folder / "home", **options))
            text = server.config_file.read_text()
            config.write_text(config.read_text() + text.replace(f"Host {name}", " ".join(["Host", name, *aliases])))
            return server

        yield one


def test_a_host_tells_what_it_has(start: Start, gpus: FakeGpus, capsys: pytest.CaptureFixture[str]) -> None:
    uuids = gpus.say(2, free=[1000, 15000], percent=[97, 0], apps=[(77, "GPU-000f-dead-beef", 14000)])
    start("gpu1", session_path=os.environ["PATH"])
    (report,) = probe(["gpu1"])
    assert report.alive
    assert report.rtt is not None
    assert 0 < report.rtt < 5
    assert report.cores == len(os.sched_getaffinity(0))
    assert report.load is not None
    assert abs((report.memory or 0) - psutil.virtual_memory().total) < GB
    assert 0 < (report.memory_free or 0) < (report.memory or 0)
    assert 0 < (report.disk_free or 0) < (report.disk or 0)
    assert [(gpu.uuid, gpu.free >> 20, gpu.idle) for gpu in report.gpus] == [
        (uuids[0], 1000, False),
        (uuids[1], 15000, True),
    ]
    assert face.main(["host", "probe", "need=1.5GB gpu"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "gpu1, GPU 1 has just enough: a GPU with 1.5 GB free."
    assert "1.0 GB of 16.1 GB (97 % used) · 15.7 GB of 16.1 GB" in shown[2]
    assert shown[2].split()[:2] == ["gpu1", "chosen"]


@pytest.mark.parametrize(("mode", "note"), [("fail", "nvidia-smi fails there: NVIDIA-SMI has failed"), ("ok", "")])
def test_gpus_that_are_not_there(start: Start, gpus: FakeGpus, mode: str, note: str) -> None:
    gpus.say(0, mode=mode)
    start("gpu1", session_path=os.environ["PATH"])
    (report,) = probe(["gpu1"])
    assert report.alive
    assert report.gpus == ()
    assert report.note.startswith(note)
    assert bool(report.note) == bool(note)


def test_what_a_login_shell_prints_is_passed_over(start: Start) -> None:
    greeting = (
        "printf 'Welcome!\\ncolab_magics-0123 ready\\nend\\ncores 999\\n'\n"
        f"for w in ready pong pong 'cores 999' end; do echo \"{'x' * 30}$w\"; done; printf 'no line break'\n"
        "printf '\\033]0;title\\007' >&2; head -c 100000 /dev/zero\n"
    )
    start("loud", rc=greeting)
    (report,) = probe(["loud"])
    assert report.alive, report.why
    assert report.cores == len(os.sched_getaffinity(0))


def test_slow_and_dead_and_vanished(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    start("slow", rc="sleep 2\n")
    start("closed", rc="echo no service today >&2; exit 3\n")
    start("silent", rc="sleep 300\n")
    gone, away = start("gone"), start("away")
    assert probe(["away"])[0].alive  # over a connection that stays open
    assert Path(ssh.resolved("away", *ssh.options())["controlpath"]).exists()
    gone.process.terminate()
    gone.process.wait(10)
    held = [away.process.pid, *(child.pid for child in psutil.Process(away.process.pid).children(recursive=True))]
    for pid in held:
        os.kill(pid, signal.SIGSTOP)
    try:
        reports = {report.host: report for report in probe(["slow", "closed", "gone", "away", "silent"], seconds=8)}
        shared = Path(ssh.resolved("away", *ssh.options())["controlpath"])
        assert not shared.exists(), "who comes next does not wait for a dead connection"
    finally:
        for pid in held:
            os.kill(pid, signal.SIGCONT)
    assert reports["slow"].alive
    assert reports["closed"].why == "it lets us in and runs nothing for us: no service today"
    assert "Connection refused" in reports["gone"].why
    assert reports["away"].why == reports["silent"].why == "it did not let us in within 8 s"
    assert probe(["away"])[0].alive


def test_the_dead_say_why(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    server = start("gpu1", "stranger")
    config = Path(os.environ["COLAB_MAGICS_SSH_CONFIG"])
    nobody = config.read_text().replace("Host gpu1 stranger", "Host locked").replace("user_key", "host_key")
    (server.config_file.parent / "none").touch()
    other = server.config_file.read_text().replace("Host gpu1", "Host new").replace("known_hosts", "none")
    config.write_text(f"{config.read_text()}{nobody}{other}")
    assert face.main(["host", "probe", "locked", "new", "gpu2", "-oProxyCommand=x"]) == 2
    assert "-oProxyCommand" in capsys.readouterr().err
    assert face.main(["host", "probe", "locked", "new", "gpu2"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "dead" in rows["locked"]
    assert "does not let us in" in rows["locked"]
    assert "SHA256:" in rows["new"]
    assert "did you mean gpu1? Known: gpu1, stranger, locked, new" in rows["gpu2"]


def test_twenty_hosts_at_once(start: Start) -> None:
    names = []
    for number in range(5):
        names += (four := [f"h{number}-{other}" for other in range(4)])
        start(*four, rc="sleep 1\n")
    began = time.monotonic()
    reports = probe(names)
    took = time.monotonic() - began
    assert [report.host for report in reports] == names
    assert all(report.alive for report in reports), [report.why for report in reports]
    assert took < 10, "one after the other they would take twenty seconds"
    assert isinstance(colab_magics.host.probe(*names[:2]).reports, list)  # type: ignore[attr-defined]


def test_an_interrupt_ends_all_that_are_asked(start: Start) -> None:
    start("silent", rc="sleep 300\n")
    code = "from colab_magics.transport.probe import probe; probe(['silent'] * 5, seconds=300)"
    asking = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, start_new_session=True)
    me = psutil.Process(asking.pid)
    poll(lambda: len([child for child in me.children() if child.name() == "ssh"]) == 5)
    children = me.children(recursive=True)
    asking.send_signal(signal.SIGINT)
    assert asking.wait(20) != 0
    assert b"KeyboardInterrupt" in asking.communicate()[1]
    poll(lambda: not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE])


@pytest.mark.parametrize("shell", SHELLS)
def test_every_login_shell_tells_the_same(shell: str, home: Path) -> None:
    for folder in HOSTILE_NAMES:
        (home / folder).mkdir()
        said = by_login(shell, ["sh", "-c", room._SCRIPT, "sh", "mark", folder], home=home, input=b"\n\n")
        lines = [line.removeprefix("mark ") for line in said.decode().splitlines() if line.startswith("mark ")]
        assert lines[:3] == ["ready", "pong", "pong"]
        assert lines[-1] == "end"
        report = read("box", lines, 0.1)
        assert report.cores
        assert report.disk_free


@pytest.mark.parametrize(
    "lines",
    [
        ["cores", "load", "memory", "disk", "gpus", "gpu", "app"],
        ["cores x", "load nan", "memory MemTotal: lots", "disk / / /", "gpus -1", "gpu 0, a, [N/A], [N/A], [N/A], x"],
        [
            f"gpu 0, GPU-1, {'9' * 5000}, 1, 1, x",
            f"memory MemTotal: {'9' * 5000}",
            "cores ²",
            "load ٣",
            "\x1b[2J",
            "",
            " ",
            "end of it",
        ],
    ],
)
def test_nonsense_is_as_if_nothing_was_said(lines: list[str]) -> None:
    report = read("box", lines, None)
    assert (report.cores, report.load, report.memory, report.disk, report.gpus) == (0, None, None, None, ())


def test_a_disk_of_any_name() -> None:
    for text in ("/dev/a b 100 40 60 40% /mnt/c d", "//srv/x y 100 40 60 - /", "tmpfs 100 40 60 40% /a 1 2 3 4% /"):
        report = read("box", [f"disk {text}"], None)
        assert (report.disk, report.disk_free) == (102400, 61440), text


def one(
    host: str,
    *cards: float,
    memory: float = 64,
    disk: float = 100,
    cores: int = 8,
    load: float = 0.0,
    rtt: float = 0.01,
) -> Report:
    made = tuple(Gpu(n, f"GPU-{host}-{n}", "T4", 16 * GB, int(free * GB)) for n, free in enumerate(cards))
    return Report(host, "", rtt, cores, load, 128 * GB, int(memory * GB), 500 * GB, int(disk * GB), made)


def test_the_host_with_just_enough() -> None:
    reports = [one("big", 80, 80), one("small", 2, 6), one("tiny", 1), one("none"), Report("dead", why="no answer")]
    found = choose(reports, Need.from_text("3GB disk, 1.5GB gpu, 2 cpu"))
    assert found.report is reports[1]
    assert [gpu.index for gpu in found.gpus] == [0]
    assert found.lost == {
        "big": "has more than is needed: 78.5 GB of GPU memory would be left over, 500 MB there",
        "tiny": "1.0 GB of GPU memory free, 1.5 GB + 10 % needed",
        "none": "it has no GPU",
        "dead": "no answer",
    }
    found = choose(reports, Need.from_text("2 gpu, 5GB gpu"))
    assert found.report is reports[0]
    assert found.lost["small"] == "2.0 GB of GPU memory free, 5.0 GB + 10 % needed"
    assert found.lost["tiny"] == "it has 1 of 2 GPUs"
    assert choose(reports, Need.from_text("900GB disk")).report is None
    assert choose([], Need.from_text("1 cpu")).report is None


def test_a_gpu_in_use_comes_after_an_idle_one() -> None:
    used = Gpu(0, "GPU-a", "T4", 16 * GB, 4 * GB, percent=50)
    reports = [Report("used", "", 0.01, 8, 0.0, gpus=(used,)), one("idle", 12)]
    found = choose(reports, Need.from_text("3GB gpu"))
    assert found.report is reports[1]
    assert found.lost == {"used": "its GPU is in use"}
    assert missing(reports[0], Need.from_text("1 gpu")) == "its GPU is in use"


@pytest.mark.parametrize(
    ("need", "reports", "chosen", "lost"),
    [
        ("8GB ram", [one("a", memory=60), one("b", memory=9), one("c", memory=7)], "b",
         "7.0 GB of RAM free, 8.0 GB + 10 % needed"),
        ("4 cpu", [one("a", cores=64), one("b", load=3.0), one("c", load=6.0)], "b", "2.0 of 8 cores idle, 4 needed"),
        ("9 cpu", [one("a", cores=64), one("c")], "a", "it has 8 cores, 9 needed"),
        ("1GB disk", [one("a", 16), one("b"), one("c", disk=0.5)], "b", "500 MB of disk free, 1.0 GB + 10 % needed"),
        ("1GB disk", [one("a", rtt=0.2), one("b"), one("c", rtt=0.3)], "b", "is farther away"),
        ("1GB disk", [one("b"), one("c", load=5.0)], "b", "is busier: load 0.6 per core, 0.0 there"),
    ],
)  # fmt: skip
def test_what_hosts_are_compared_by(need: str, reports: list[Report], chosen: str, lost: str) -> None:
    found = choose(reports, Need.from_text(need))
    assert found.report is not None
    assert found.report.host == chosen
    assert found.lost["c"] == lost


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("3GB disk, 1.5GB gpu, 2 cpu", Need(disk=3 * GB, gpu=GB * 3 // 2, gpus=1, cpu=2)),
        ("1 GPU", Need(gpus=1)),
        ("2gpus,10 GB gpu", Need(gpu=10 * GB, gpus=2)),
        (" 8GiB RAM , 0.5 cores", Need(memory=8 << 30, cpu=0.5)),
    ],
)
def test_needs_that_people_write(text: str, need: Need) -> None:
    assert Need.from_text(text) == need


@pytest.mark.parametrize(
    "text",
    [
        *("", ",", "3GB", "3GB tape", "2GB cpu", "0 cpu", "1.5 gpu", "x gpu", "5 disk", "1..2 cpu", "1 cpu 2 cpu"),
        *("1 cpu, 2 cpu", "1XB disk", "3 GB disk gpu"),
    ],
)
def test_needs_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput):
        Need.from_text(text)


@pytest.mark.parametrize(
    ("lines", "files"),
    [
        ("0::/a b/c", {"a b/memory.max": "max", "a b/c/memory.max": 9 * GB, "a b/c/memory.current": 8 * GB}),
        ("4:cpu,cpuacct:/x\n3:memory:/not/seen/here\n0::/", {"memory/memory.limit_in_bytes": 9 * GB,
                                                              "memory/memory.usage_in_bytes": 8 * GB}),
    ],
)  # fmt: skip
def test_a_container_has_the_memory_that_it_is_given(lines: str, files: dict[str, object], tmp_path: Path) -> None:
    for name, value in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
        (path.parent / "memory.stat").write_text(f"active_file 5\ninactive_file {GB}\ntotal_inactive_file {GB}\n")
    (tmp_path / "cgroup").write_text(f"{lines}\n")
    script = room._SCRIPT.replace("/sys/fs/cgroup", f"'{tmp_path}/groups'")
    script = script.replace("/proc/self/cgroup", f"'{tmp_path}/cgroup'")
    done = subprocess.run(["sh", "-c", script, "sh", "mark", "x"], input=b"\n\n", capture_output=True, check=True)
    told = [line.removeprefix("mark ") for line in done.stdout.decode().splitlines()]
    report = read("box", [*told, "memory MemTotal: 64000000 kB", "memory MemAvailable: 32000000 kB"], None)
    assert (report.memory, report.memory_free) == (9 * GB, 2 * GB)
    roomy = ["limit max 1 1", "limit 9223372036854771712 2533822464 238055424", "limit x", "limit 5 5 5 5"]
    roomy += ["memory MemTotal: 64000000 kB", "memory MemAvailable: 32000000 kB"]
    assert read("box", roomy, None).memory_free == 32_000_000 * 1024


def test_a_tenth_more_than_is_needed_has_to_be_free() -> None:
    hosts = [one("a", 11, memory=11, disk=11), one("b", 10.9, memory=10.9, disk=10.9)]
    for need in ("10GB gpu", "10GB ram", "10GB disk"):
        found = choose(hosts, Need.from_text(need))
        assert found.report is hosts[0]
        assert found.lost["b"].endswith("free, 10.0 GB + 10 % needed")
