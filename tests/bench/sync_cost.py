"""What ``%sync`` costs on a big tree beside full passes of rsync: CPU of a few changes, of doing nothing, memory.

    python tests/bench/sync_cost.py [--files 100000] [--changed 10] [--rounds 10] [--idle 20]

Also how much later a writer opens a file that is being copied. Everything in one run on this machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from measuring import (
    arrival,
    change,
    daemon,
    kept,
    make_tree,
    median,
    own_state,
    rested,
    rsync,
    show,
    until,
)

EVERY = 300.0
"""What the verb's default interval between two full looks is."""


def changes(source: Path, top: Path, options: argparse.Namespace) -> None:
    """A few changes of many files: CPU; then nothing at all: CPU and memory."""
    mirror, ours = top / "by rsync", top / "ours"
    rsync(source, mirror)
    began = time.monotonic()
    with kept(source, ours, every=EVERY) as sync:
        rested(sync)
        process = daemon(sync)
        show(f"first copy of {options.files} files", f"{time.monotonic() - began:.1f} s, {process.cpu():.1f} s CPU")
        full, events = [], 0.0
        step = max(1, options.files // options.changed)
        for i in range(options.rounds):
            which = range(i, options.files, step)[: options.changed]
            before = process.cpu()
            names = change(source, which, f"round {i}\n")
            arrival(ours, names, f"round {i}\n")
            until(lambda: sync.status()["pending"]["files"] == 0, pause=0.02)
            events += process.cpu() - before
            full.append(rsync(source, mirror)[1])
        changed = f"{options.changed} of {options.files} changed"
        peer, mean = median(full), events / options.rounds
        show(f"{changed}: full pass of rsync", f"{peer * 1000:.1f} ms CPU")
        show(f"{changed}: by events", f"{mean * 1000:.2f} ms CPU", mean / peer, "≤ 1/50 = 0.02")
        before = process.cpu()
        sync.wait(120)  # asks for a full look
        look = process.cpu() - before
        show("a full look (every 5 min)", f"{look * 1000:.0f} ms CPU", look / peer)
        time.sleep(2)
        before = process.cpu()
        time.sleep(options.idle)
        idle = (process.cpu() - before) / options.idle
        show(f"idle for {options.idle:g} s", f"{idle * 100:.3f} % of a core")
        show("idle with the full look every 5 min", f"{(idle + look / EVERY) * 100:.3f} % of a core", None, "≤ 0.5 %")
        show("memory", f"{process.megabytes():.0f} MB", None, "≤ 80 MB")


def opening(top: Path, megabytes: int, rounds: int) -> None:
    """How long a writer waits for a file that is copied in this moment, and for one that is not."""
    source, ours = top / "big", top / "big ours"
    source.mkdir()
    big = source / "last.pt"
    big.write_bytes(os.urandom(megabytes << 20))

    def open_for_writing() -> float:
        began = time.perf_counter()
        handle = os.open(big, os.O_RDWR)
        took = time.perf_counter() - began
        os.pwrite(handle, os.urandom(8), 0)
        os.close(handle)
        return took

    alone = [open_for_writing() for _ in range(rounds)]
    with kept(source, ours) as sync:
        rested(sync)
        there = ours

        def copying() -> bool:
            return any(name.startswith(".~") for name in os.listdir(there))

        during = []
        for _ in range(rounds):
            open_for_writing()
            until(copying, timeout=60, pause=0.0005)
            during.append(open_for_writing())
            rested(sync)
    later = median(during) - median(alone)
    show(
        f"opening {megabytes} MB for writing while it is copied",
        f"{1000 * median(during):.2f} ms (most {1000 * max(during):.2f})",
    )
    show(
        "later than without a sync",
        f"{1000 * later:.2f} ms (most {1000 * (max(during) - median(alone)):.2f})",
        None,
        "≤ 10 ms",
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--changed", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--idle", type=float, default=20.0)
    parser.add_argument("--megabytes", type=int, default=256)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        own_state(top / "state")
        print(f"%sync on {options.files} files, beside rsync")
        changes(make_tree(top / "tree", options.files), top, options)
        opening(top, options.megabytes, options.rounds)


if __name__ == "__main__":
    main()
