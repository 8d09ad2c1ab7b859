"""How soon a fork of the running notebook executes its first cell, and what eight of them hold.

    python tests/bench/live_start.py [MEGABYTES]

A notebook's kernel holds so much state (400 MB by default: arrays and Python objects) and is frozen. Then kernels are
forked from the frozen copy: one after another for the time, eight at once for the memory. Goals: the first cell within
150 ms of asking for the kernel, and a proportional memory (PSS) of at most 0.3 of what the eight seem to have (RSS).
Beside it: the same kernel started cold by jupyter_client's own manager, before it holds anything.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from jupyter_client.manager import AsyncKernelManager, start_new_kernel

from colab_magics.engines.zygotes import Attendance
from colab_magics.kernels.manager import manager_class
from colab_magics.kernels.warm import provisioners
from colab_magics.records.names import SCHEDULER

ROOT = Path(__file__).resolve().parents[2]
FILL = """
import sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
megabytes = {megabytes}
state = [bytes([i % 256]) * (1 << 20) for i in range(megabytes * 3 // 4)]
objects = [str(i) * 3 for i in range(megabytes // 4 * 13_000)]
"""
FREEZE = (
    "from colab_magics import session\nfrom colab_magics.kernels import live\n"
    "print(live.freeze(Path({folder!r}), session.current()))"
)


async def forked(path: str, number: int) -> tuple[Any, Any, float]:
    """Fork a kernel; return it, its client, and the seconds until its first cell ran."""
    began = time.time()
    manager = manager_class(None)(kernel_name="python3")
    manager.make_provisioner = provisioners("live", path)
    await manager.start_kernel(env={**os.environ, "COLAB_MAGICS_RUN": f"/tmp/sub_job_{number:03d}"}, cwd="/tmp")
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=60)
    ran = await first_cell(client)
    return manager, client, ran - began


async def cold(number: int) -> float:
    """Start a kernel as jupyter_client does; return the seconds until its first cell ran."""
    began = time.time()
    manager = AsyncKernelManager(kernel_name="python3")
    await manager.start_kernel(stderr=subprocess.DEVNULL)
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready(timeout=60)
    ran = await first_cell(client)
    client.stop_channels()
    await manager.shutdown_kernel(now=True)
    return ran - began


async def first_cell(client: Any) -> float:
    """Execute a cell; return when it ran."""
    client.execute("import time\nprint(time.time(), len(globals().get('state', ())))", store_history=True)
    while True:
        message = await client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "stream":
            return float(message["content"]["text"].split()[0])


def memory(pid: int) -> tuple[int, int]:
    """Return RSS and PSS of a process, in kB; see proc(5)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return values["Rss"], values["Pss"]


async def measure(path: str) -> None:
    """Fork kernels and print what they cost."""
    colds = [await cold(i) for i in range(3)]
    times = []
    for number in range(10):
        manager, client, seconds = await forked(path, number)
        times.append(seconds)
        await manager.shutdown_kernel()
        client.stop_channels()
    print(f"first cell, cold by jupyter_client   median {1000 * statistics.median(colds):6.0f} ms")
    print(
        f"first cell, forked live              median {1000 * statistics.median(times):6.0f} ms, "
        f"most {1000 * max(times):.0f} ms   goal 150 ms"
    )
    eight = [await forked(path, i) for i in range(8)]
    held = [memory(manager.provisioner.pid) for manager, _, _ in eight]
    rss, pss = (sum(column) / 1000 for column in zip(*held, strict=True))
    print(f"eight forks: RSS {rss:,.0f} MB, PSS {pss:,.0f} MB, ratio {pss / rss:.2f}   goal 0.30")
    for manager, client, _ in eight:
        await manager.shutdown_kernel()
        client.stop_channels()


def main() -> None:
    """Run as a program."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    manager, client = start_new_kernel(kernel_name="python3", stderr=subprocess.DEVNULL)
    try:
        with tempfile.TemporaryDirectory() as folder:
            client.execute_interactive(FILL.format(root=str(ROOT), megabytes=megabytes), timeout=120)
            (made := Path(folder, SCHEDULER)).mkdir()
            client.execute_interactive(FREEZE.format(folder=str(made)), timeout=60, output_hook=lambda _: None)
            copy = Attendance(Path(folder))
            try:
                asyncio.run(measure(copy.path))
            finally:
                copy.end(over=True)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


if __name__ == "__main__":
    main()
