"""What a cell on another machine costs, beside a local kernel, five forwarded ports and plain ssh, in one run.

    python tests/bench/remote_cells.py [--rtt=MS] [SSH_CONFIG HOST]

Without a host it is an sshd on the loopback, started for it; as root, with ``/dev/net/tun``, once more behind a link of
50 ms (`--rtt`) in a network of its own. With a configuration for ``ssh -F`` and a name of it, that host, whose
interpreter must be this one. What is compared takes turns, so that a busy machine slows all of it.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "tools")]

from jupyter_client.blocking.client import BlockingKernelClient  # noqa: E402 (the paths come first)
from jupyter_client.manager import start_new_kernel  # noqa: E402
from slow_link import FAR, NEAR, in_own_network, slow_link, unavailable  # noqa: E402
from sshd import sshd  # noqa: E402

from colab_magics.relay.code import Code  # noqa: E402
from colab_magics.relay.remote_kernel import RemoteKernel, attach  # noqa: E402
from colab_magics.transport import ssh  # noqa: E402

PNG_BYTES = 5_000_000
PNG = "import os; from IPython.display import display, Image\n" + (
    f"display(Image(data=b'\\x89PNG\\r\\n\\x1a\\n' + os.urandom({PNG_BYTES}), format='png', width=10, height=10))"
)
LINES, FLUSHED = "for i in range(10_000): print(i)", "for i in range(10_000): print(i, flush=True)"
CODES = {"1+1": ("1+1", 80), "10,000 lines": (LINES, 8), "10,000 flushed": (FLUSHED, 3), "5 MB PNG": (PNG, 8)}
GOALS = {"1+1": 1.2, "10,000 lines": 1.2, "10,000 flushed": 1.2, "5 MB PNG": 2.0}
"""Times a local kernel, on the loopback."""
SEEN_GOALS = {"1+1": 2.5}
MASTER_RTTS, FRESH_RTTS, CELL_RTTS = 3.0, 11.0, 1.1
INTERRUPT_MS, SYNC_MS = 100.0, 5.0


def medians(works: dict[str, Callable[[], Any]], times: int) -> dict[str, float]:
    """Return median times in ms of works that take turns, after one round that does not count."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(times + 1):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            took[name].append((time.perf_counter() - began) * 1000)
    return {name: statistics.median(all_[1:]) for name, all_ in took.items()}


def judge(value: float, goal: float, unit: str) -> str:
    """Say whether a goal is met."""
    return f"goal {goal:.4g}{unit}: {'met' if value <= goal else 'MISSED'}"


def local(client: Any, code: str) -> None:
    """Execute code by jupyter_client and fetch all that it brings."""
    msg_id = client.execute(code)
    idle = False
    while not idle:
        message = client.get_iopub_msg(timeout=60)
        mine = message["parent_header"].get("msg_id") == msg_id
        idle = mine and message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
    client.get_shell_msg(timeout=60)


def remote(kernel: RemoteKernel, code: str) -> None:
    """Execute code there and fetch all that it brings."""
    for _ in kernel.messages(kernel.execute(code), 60):
        pass


@contextmanager
def local_kernel() -> Iterator[Any]:
    """Run a kernel here."""
    manager, client = start_new_kernel(kernel_name="python3", stderr=subprocess.DEVNULL)
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


@contextmanager
def forwarded(host: str) -> Iterator[Any]:
    """Run a kernel and reach its five ports through ssh, as is usual without a relay."""
    manager, direct = start_new_kernel(kernel_name="python3", stderr=subprocess.DEVNULL)
    info = manager.get_connection_info()
    words = []
    for channel in ("shell", "iopub", "stdin", "hb", "control"):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words += ["-L", f"127.0.0.1:{port}:127.0.0.1:{info[f'{channel}_port']}"]
        info[f"{channel}_port"] = port
    # A session beside the forwards: without one they stall for a delayed acknowledgement in each cell.
    command = ["ssh", "-S", "none", *ssh.options(), *words, host, "echo ready; exec cat"]
    tunnel = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if tunnel.stdout is None or not tunnel.stdout.readline():
            raise RuntimeError("no forwards")
        client = BlockingKernelClient()
        client.load_connection_info(info)
        client.start_channels()
        client.wait_for_ready(timeout=60)
        yield client
        client.stop_channels()
    finally:
        tunnel.kill()
        tunnel.communicate()
        direct.stop_channels()
        manager.shutdown_kernel(now=True)


def interrupt_ms(kernel: RemoteKernel) -> float:
    """Return the time from an interrupt to the end of the cell."""
    msg_id = kernel.execute("import time\nprint('on', flush=True)\ntime.sleep(60)")
    stream = kernel.messages(msg_id, 60)
    next(m for m in stream if m.header["msg_type"] == "stream")
    time.sleep(0.2)  # in the sleep, not in the print, where ipykernel may swallow it
    began = time.perf_counter()
    kernel.interrupt(msg_id)
    for _ in stream:
        pass
    return (time.perf_counter() - began) * 1000


def leave_master(host: str) -> None:
    """End the shared connection."""
    subprocess.run(["ssh", *ssh.options(), "-O", "exit", host], capture_output=True)


def over_ssh(host: str, command: str) -> None:
    """Run a command there and take what it prints."""
    subprocess.run(["ssh", *ssh.options(), host, command], check=True, stdout=subprocess.PIPE)


def compare_cells(host: str, rtt: float) -> None:
    """Print what cells cost, beside their peers."""
    with tempfile.NamedTemporaryFile() as file, local_kernel() as client, forwarded(host) as forwards:
        file.write(os.urandom(PNG_BYTES * 4 // 3))
        file.flush()
        kernel = attach(host, env=sys.prefix, new=True)
        ssh_peers = {
            "1+1": ("ssh python -c 1+1", f"{sys.executable} -c 1+1"),
            "5 MB PNG": ("ssh cat of its bytes", f"cat {file.name}"),
        }
        try:
            for what, (code, times) in CODES.items():
                works: dict[str, Callable[[], Any]] = {
                    "local": lambda code=code: local(client, code),
                    "relay": lambda code=code: remote(kernel, code),
                    "5 -L": lambda code=code: local(forwards, code),
                }
                took = medians(works, times)
                shown = "   ".join(f"{name} {ms:7.1f} ms" for name, ms in took.items())
                ratio, more = took["relay"] / took["local"], took["relay"] - took["local"]
                verdict = judge(ratio, GOALS[what], " x")
                if rtt:
                    verdict = judge(more / rtt, CELL_RTTS, " RTT more") if what == "1+1" else ""
                print(f"{what:15} {shown}   {ratio:.2f} x  {more:+.1f} ms   {verdict}")
                if what in ssh_peers:
                    label, command = ssh_peers[what]
                    ms = medians({"ssh": lambda command=command: over_ssh(host, command)}, 5)["ssh"]
                    print(f"{'':15} {label} {ms:.1f} ms over a master")
            took_ms = statistics.median(interrupt_ms(kernel) for _ in range(5))
            print(f"{'interrupt':15} {took_ms:7.1f} ms   {judge(took_ms, INTERRUPT_MS + rtt, ' ms')}")
        finally:
            kernel.shutdown()


def compare_attaching(host: str, rtt: float) -> None:
    """Print what attaching to a running kernel costs, beside ssh alone."""
    attach(host, env=sys.prefix, new=True).close()
    try:
        for fresh, goal in ((False, MASTER_RTTS), (True, FRESH_RTTS)):
            took: dict[str, list[float]] = {"attach": [], "ssh true": []}
            for _ in range(6):
                for name, times in took.items():
                    if fresh:
                        leave_master(host)
                    began = time.perf_counter()
                    if name == "attach":
                        kernel = attach(host, env=sys.prefix, start=False)
                    else:
                        over_ssh(host, "true")
                    times.append((time.perf_counter() - began) * 1000)
                    if name == "attach":
                        kernel.close()
            ours, peer = (statistics.median(times[1:]) for times in took.values())
            verdict = f"{ours / rtt:.1f} RTT (ssh {peer / rtt:.1f})   {judge(ours / rtt, goal, ' RTT')}" if rtt else ""
            what = "attach fresh" if fresh else "attach, master"
            print(f"{what:15} {ours:7.1f} ms   ssh true {peer:7.1f} ms   {ours - peer:+.1f} ms   {verdict}")
    finally:
        attach(host, env=sys.prefix).shutdown()


class Nobody:
    """Takes files and keeps none."""

    def write_file(self, path: str, data: bytes, mode: int) -> None:
        """Do nothing."""

    def remove_file(self, path: str) -> None:
        """Do nothing."""


def as_seen_by_users(host: str, rtt: float) -> None:
    """Print what a cell of a notebook costs that runs on the host, and an unchanged project."""
    with local_kernel() as client, local_kernel() as routed, tempfile.TemporaryDirectory() as folder:
        for line in (
            f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\nos.chdir({folder!r})",
            "%load_ext colab_magics",
            f"%remote {host} env={sys.prefix} name=bench",
        ):
            routed.execute_interactive(line, timeout=60, output_hook=lambda message: None)
        for what, (code, times) in CODES.items():
            works: dict[str, Callable[[], Any]] = {
                "local": lambda code=code: local(client, code),
                "%remote": lambda code=code: local(routed, code),
            }
            took = medians(works, times)
            shown = "   ".join(f"{name} {ms:7.1f} ms" for name, ms in took.items())
            ratio = took["%remote"] / took["local"]
            verdict = judge(ratio, SEEN_GOALS.get(what, GOALS[what]), " x") if not rtt else ""
            print(f"{what:15} {shown}   {ratio:.2f} x   {verdict}")
        routed.execute_interactive("%remote end", timeout=60, output_hook=lambda message: None)
    code = Code(ROOT)
    code.send(Nobody())
    ms = medians({"scan": lambda: code.send(Nobody())}, 20)["scan"]
    print(f"{'code sync':15} {ms:7.1f} ms for {len(code.sent)} files, unchanged, 0 RTT   {judge(ms, SYNC_MS, ' ms')}")


def measure(host: str, rtt: float) -> None:
    """Print all tables for a host."""
    compare_cells(host, rtt)
    compare_attaching(host, rtt)
    print("as seen by users:")
    as_seen_by_users(host, rtt)


def on_a_link(rtt: float) -> None:
    """Measure an sshd of our own: on the loopback, or behind a link."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["XDG_CACHE_HOME"] = folder
        if not rtt:
            with sshd(home, session_home=home) as server:
                os.environ["COLAB_MAGICS_SSH_CONFIG"] = str(server.config_file)
                measure(server.host, rtt)
            return
        with slow_link(rtt), sshd(home, session_home=home, listen=NEAR, address=FAR) as server:
            os.environ["COLAB_MAGICS_SSH_CONFIG"] = str(server.config_file)
            measure(server.host, rtt)


def main() -> None:
    """Compare on the host that the arguments name, or on our own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?")
    parser.add_argument("host", nargs="?")
    parser.add_argument("--rtt", type=float, default=50.0, help="round trip of the link in ms; 0: the loopback alone")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.host:
        os.environ["COLAB_MAGICS_SSH_CONFIG"] = given.config
        measure(given.host, given.rtt)
    elif given.inside:
        on_a_link(given.rtt)
    else:
        print("loopback:", flush=True)
        on_a_link(0.0)
        if not given.rtt:
            return
        if missing := unavailable():
            print(f"no link of {given.rtt:g} ms: {missing}")
            return
        print(f"\nlink of {given.rtt:g} ms:", flush=True)
        sys.exit(in_own_network([sys.executable, __file__, "--inside", f"--rtt={given.rtt}"]))


if __name__ == "__main__":
    main()
