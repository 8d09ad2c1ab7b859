"""What a cell on another machine costs, beside a local kernel and ``ssh HOST python -c``.

    python tests/bench/remote_cells.py [SSH_CONFIG HOST]

Without arguments the host is an sshd on the loopback, started for it; with a configuration for ``ssh -F`` and a name of
it, that host (over a link with a delay, say), whose interpreter must be this one. Goals: a proxied ``1+1`` at most 1.2
times a local one, 10,000 lines 1.2 times, a PNG of 5 MB twice; at a round-trip time RTT the local time + 1.1 RTT;
attaching over a running master at most 3 RTT, fresh 11; an interrupt at most 100 ms + RTT; what a user sees of ``1+1``
in a notebook 2.5 times a local cell; an unchanged project 5 ms and no round trip.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "tools")]

from jupyter_client.manager import start_new_kernel  # noqa: E402 (the paths come first)
from sshd import sshd  # noqa: E402

from colab_magics.relay.code import Code  # noqa: E402
from colab_magics.relay.remote_kernel import RemoteKernel, attach  # noqa: E402
from colab_magics.transport import ssh  # noqa: E402

PNG = "import os; from IPython.display import display, Image\n" + (
    "display(Image(data=b'\\x89PNG\\r\\n\\x1a\\n' + os.urandom(5_000_000), format='png', width=10, height=10))"
)
CODES = {"1+1": ("1+1", 40), "10,000 lines": ("for i in range(10_000): print(i, flush=True)", 5), "5 MB PNG": (PNG, 8)}


def median_ms(work: Callable[[], Any], times: int) -> float:
    """Return the median time of some calls, after one that does not count."""
    work()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1000


def local(client: Any, code: str) -> None:
    """Execute code in a local kernel and fetch all that it brings."""
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


def attach_ms(host: str, *, fresh: bool) -> float:
    """Return the time of attaching to a running kernel."""
    if fresh:
        subprocess.run(["ssh", *ssh.options(), "-O", "exit", host], capture_output=True)
    else:
        ssh.connect(host)
    began = time.perf_counter()
    kernel = attach(host, env=sys.prefix, start=False)
    took = (time.perf_counter() - began) * 1000
    kernel.close()
    return took


def compare(host: str) -> None:
    """Print the table for a host."""
    manager, client = start_new_kernel(kernel_name="python3")
    kernel = attach(host, env=sys.prefix, new=True)
    try:
        rtt = min(kernel.status()["rtt"] for _ in range(5)) * 1000
        print(f"round trip to the relay {rtt:.1f} ms")
        for what, (code, times) in CODES.items():
            here = median_ms(lambda code=code: local(client, code), times)
            there = median_ms(lambda code=code: remote(kernel, code), times)
            ratio = f"{there / here:.2f} x   +{there - here:.1f} ms"
            print(f"{what:14} local {here:7.1f} ms   relay {there:7.1f} ms   {ratio}")
        one = ["ssh", *(o for o in ssh.options() if o), host, f"{sys.executable} -c 1+1"]
        print(f"{'ssh python -c':14} {median_ms(lambda: subprocess.run(one, check=True), 5):7.1f} ms over a master")
        print(f"{'interrupt':14} {statistics.median(interrupt_ms(kernel) for _ in range(5)):7.1f} ms")
        kernel.close()
        for fresh in (False, True):
            took = statistics.median(attach_ms(host, fresh=fresh) for _ in range(5))
            print(f"{'attach':14} {took:7.1f} ms {'fresh' if fresh else 'over a master'}")
    finally:
        attach(host, env=sys.prefix).shutdown()
        client.stop_channels()
        manager.shutdown_kernel(now=True)


class Nobody:
    """Takes files and keeps none."""

    def write_file(self, path: str, data: bytes, mode: int) -> None:
        """Do nothing."""

    def remove_file(self, path: str) -> None:
        """Do nothing."""


def as_seen_by_users(host: str) -> None:
    """Print what a cell of a notebook costs that runs on the host, and an unchanged project."""
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        here = {what: median_ms(lambda code=code: local(client, code), times) for what, (code, times) in CODES.items()}
        with tempfile.TemporaryDirectory() as folder:
            for line in (
                f"import os, sys\nsys.path.insert(0, {str(ROOT)!r})\nos.chdir({folder!r})",
                "%load_ext colab_magics",
                f"%remote {host} env={sys.prefix} name=bench",
            ):
                client.execute_interactive(line, timeout=60, output_hook=lambda message: None)
            for what, (code, times) in CODES.items():
                there = median_ms(lambda code=code: local(client, code), times)
                print(f"{what:14} local {here[what]:7.1f} ms   %remote {there:7.1f} ms   {there / here[what]:.2f} x")
            client.execute_interactive("%remote end", timeout=60, output_hook=lambda message: None)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    code = Code(ROOT)
    code.send(Nobody())
    print(
        f"{'code sync':14} {median_ms(lambda: code.send(Nobody()), 20):7.1f} ms for {len(code.sent)} files, unchanged"
    )


def main() -> None:
    """Compare on the host that the arguments name, or on the loopback."""
    if len(sys.argv) == 3:
        os.environ["COLAB_MAGICS_SSH_CONFIG"] = sys.argv[1]
        compare(sys.argv[2])
        as_seen_by_users(sys.argv[2])
        return
    with tempfile.TemporaryDirectory() as folder, sshd(Path(folder), session_home=Path(folder)) as server:
        os.environ["COLAB_MAGICS_SSH_CONFIG"] = str(server.config_file)
        compare(server.host)
        as_seen_by_users(server.host)


if __name__ == "__main__":
    main()
