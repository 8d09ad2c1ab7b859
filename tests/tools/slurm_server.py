"""A real Slurm of one node on the loopback: munged, slurmctld and slurmd with settings of their own, about two seconds.

with slurm_server() as server:
    subprocess.run(["sinfo"], env={**os.environ, **server.environment})
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from buckets_server import LOCAL, free_port
from conftest import poll

from colab_magics import process

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")
CPUS = 4
"""What the node is said to have, whatever this machine has."""


@dataclass
class SlurmServer:
    """A running cluster.

    Parameters
    ----------
    folder : Path
        What it keeps, the controller's spool among it.
    node : str
        Name of its one node.
    running : dict
        Its processes, by the names of their programs.
    """

    folder: Path
    node: str
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What clients need to find it."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self, name: str, *words: str) -> None:
        """Start one of its programs."""
        with (self.folder / f"{name}.out").open("ab") as out:
            self.running[name] = subprocess.Popen(
                [str(program(name)), *words],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": "/root", **self.environment},
                cwd=self.folder,
                start_new_session=True,
            )

    def start_controller(self) -> None:
        """Start slurmctld, and wait until it answers."""
        self.start("slurmctld", "-D")
        poll(lambda: "UP" in self.ask("scontrol", "ping"), timeout=60, what="slurmctld answers")

    def start_node(self) -> None:
        """Start slurmd, and wait until runs can go there."""
        self.start("slurmd", "-D", "-N", self.node)
        poll(
            lambda: self.ask("sinfo", "-h", "-o%T", "-n", self.node).split()[:1] == ["idle"],
            timeout=60,
            what="the node is idle",
        )

    def end(self, name: str, sig: int = signal.SIGTERM) -> None:
        """End one of its programs, by its id; what runs on the node goes on."""
        running = self.running.pop(name)
        running.send_signal(sig)
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait(10)

    def ask(self, name: str, *words: str) -> str:
        """Run one of its clients; return what it printed."""
        done = subprocess.run(
            [name, *words],
            env={"PATH": os.environ["PATH"], **self.environment},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout

    def hurry(self, task: str) -> None:
        """Have a task that was queued again begin now: Slurm waits two minutes with those."""
        poll(lambda: " PD " in f" {self.ask('squeue', '-h', '-o%t', '-j', task).strip()} ", timeout=60)
        # What the controller has yet to tell the node of the task's first life would end the second: same number.
        poll(self._has_told_all, timeout=60, what="the controller has told the node all")
        self.ask("scontrol", "update", f"JobId={task}", "StartTime=now")

    def _has_told_all(self) -> bool:
        left = re.findall(r"(?m)^Agent (?:queue size|count):\s*(\d+)", self.ask("sdiag"))
        return len(left) == 2 and set(left) == {"0"}

    def lose_node(self) -> None:
        """End the node with all that runs on it, as a loss of power does."""
        steps = [one for one in psutil.process_iter() if _is_of(one, self.folder)]
        self.end("slurmd", signal.SIGKILL)
        for one in steps:
            with suppress(psutil.Error):
                children = one.children(recursive=True)
                one.kill()
                for child in children:
                    child.kill()

    def end_jobs(self) -> None:
        """End all that runs or waits in it, and wait until nothing does."""
        self.ask("scancel", "--full", "--signal=KILL", "--user", str(os.getuid()))
        self.ask("scancel", "--user", str(os.getuid()))
        poll(lambda: not self.ask("squeue", "-h"), timeout=60, what="the queue is empty")


def program(name: str) -> str | None:
    """Return the path of one of Slurm's programs; Debian keeps the servers away from $PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextmanager
def slurm_server(settings: Mapping[str, str] | None = None, *, gpus: int = 0, more: str = "") -> Iterator[SlurmServer]:
    """Run a cluster until the block ends; skips the test where Slurm is not installed.

    Parameters
    ----------
    settings : mapping, optional
        Lines of slurm.conf in place of those below.
    gpus : int, default 0
        How many GPUs the node is said to have; Slurm gives them out as it does real ones, by files that stand for them.
    more : str, default ""
        Lines to add.
    """
    missing = [name for name in PROGRAMS if program(name) is None]
    if missing or os.getuid() != 0:
        why = "needs to be root" if not missing else f"needs {', '.join(missing)}"
        pytest.skip(f"{why}: apt-get install slurm-wlm slurm-wlm-basic-plugins munge, and run it as root")
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    folder.chmod(0o755)
    server = SlurmServer(folder, socket.gethostname().partition(".")[0])
    try:
        for name in ("state", "spool", "munge"):
            (folder / name).mkdir(mode=0o755)
        (folder / "munge" / "key").write_bytes(os.urandom(1024))
        (folder / "munge" / "key").chmod(0o400)
        _write_settings(server, settings or {}, gpus, more)
        words = [f"--{name}={folder}/munge/{name}" for name in ("socket", "pid-file", "log-file", "seed-file")]
        server.start("munged", *words, f"--key-file={folder}/munge/key", "--force", "--foreground")
        poll(lambda: (folder / "munge" / "socket").exists(), timeout=30, what="munged listens")
        server.start_controller()
        server.start_node()
        yield server
    finally:
        _end(server)
        shutil.rmtree(folder, ignore_errors=True)


def _write_settings(server: SlurmServer, settings: Mapping[str, str], gpus: int, more: str) -> None:
    folder, node = server.folder, server.node
    if gpus:
        settings = {"GresTypes": "gpu", **settings}
        files = [folder / f"gpu{number}" for number in range(gpus)]
        for file in files:
            file.symlink_to(os.devnull)  # Slurm wants devices
        (folder / "gres.conf").write_text("".join(f"Name=gpu File={file}\n" for file in files))
    known = {
        "ClusterName": "tests",
        "SlurmctldHost": f"{socket.gethostname()}({LOCAL})",
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder}/munge/socket",
        "CredType": "cred/munge",
        "SlurmctldPort": str(free_port()),
        "SlurmdPort": str(free_port()),
        "SlurmctldPidFile": f"{folder}/slurmctld.pid",
        "SlurmdPidFile": f"{folder}/slurmd.pid",
        "StateSaveLocation": f"{folder}/state",
        "SlurmdSpoolDir": f"{folder}/spool",
        "SlurmctldLogFile": f"{folder}/slurmctld.log",
        "SlurmdLogFile": f"{folder}/slurmd.log",
        "ProctrackType": "proctrack/linuxproc",
        "TaskPlugin": "task/none",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_Core_Memory",
        "JobAcctGatherType": "jobacct_gather/linux",
        "JobAcctGatherFrequency": "1",
        "JobAcctGatherParams": "OverMemoryKill",
        "PreemptType": "preempt/partition_prio",
        "PreemptMode": "REQUEUE",
        "SchedulerParameters": "sched_interval=1,bf_interval=1,batch_sched_delay=0,sched_min_interval=0",
        # Loopback only: by default it listens on every interface.
        "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",
        "SlurmdParameters": "config_overrides",
        "ReturnToService": "2",
        "SlurmdTimeout": "5",
        "MessageTimeout": "5",
        "KillWait": "5",
        "MinJobAge": "3600",
    }
    lines = [f"{name}={value}" for name, value in {**known, **settings}.items()]
    lines += [
        more,
        f"NodeName={node} NodeAddr={LOCAL} CPUs={CPUS} RealMemory=4000" + (f" Gres=gpu:{gpus}" if gpus else ""),
        f"PartitionName=main Nodes={node} Default=YES DefMemPerCPU=600 PriorityTier=1",
        f"PartitionName=urgent Nodes={node} DefMemPerCPU=600 PriorityTier=10 PreemptMode=OFF",
        f"PartitionName=short Nodes={node} DefMemPerCPU=600 MaxTime=2",
        f"PartitionName=harsh Nodes={node} DefMemPerCPU=600 PriorityTier=1 PreemptMode=CANCEL",
    ]
    (folder / "slurm.conf").write_text("\n".join(lines) + "\n")


def _end(server: SlurmServer) -> None:
    """End all of it by its ids: what its node has started last, which are no children of the node's daemon."""
    left = [one for one in psutil.process_iter(["pid", "cmdline"]) if _is_of(one, server.folder)]
    for name in ("slurmctld", "slurmd", "munged"):
        with suppress(KeyError):
            server.end(name)
    for one in left:
        with suppress(psutil.Error):
            process.end_tree(one.pid, grace=0.5)


def _is_of(one: psutil.Process, folder: Path) -> bool:
    """Whether a process is a step of a job: by its settings, which stand in its environment."""
    with suppress(psutil.Error, OSError):
        # All of it: its title stands where the first variables did, and there psutil stops.
        known = Path(f"/proc/{one.pid}/environ").read_bytes() if one.name() == "slurmstepd" else b""
        return f"SLURM_CONF={folder}/".encode() in known
    return False
