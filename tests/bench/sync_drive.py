"""Operations on a stand-in for Google Drive: ``%sync`` beside a full pass of rsync, after the same few changes.

python tests/bench/sync_drive.py [--files 2000] [--changed 10] [--latency 0.003]
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from faults.drive import Drive
from measuring import arrival, change, kept, make_tree, own_state, rested, rsync, show, until

from colab_magics.transport.places import parse

FLAGS = ("-rt", "--modify-window=1", "--no-perms", "--no-owner", "--no-group", "--omit-dir-times", "--whole-file")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--changed", type=int, default=10)
    parser.add_argument("--latency", type=float, default=0.003)
    options = parser.parse_args()
    if os.getuid() != 0 or not os.path.exists("/dev/fuse"):
        print("Operations on Drive: not measured, mounting the stand-in needs root and /dev/fuse")
        return
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        own_state(top / "state")
        os.environ["COLAB_MAGICS_DRIVE"] = str(top / "drive")
        (top / "google" / "MyDrive").mkdir(parents=True)
        source = make_tree(top / "tree", options.files)
        with Drive.mounted(top / "google", top / "drive") as drive:
            print(f"A stand-in for Drive, {options.latency * 1000:g} ms an operation,", end=" ")
            print(f"{options.changed} of {options.files} files changed")
            mirror = top / "drive" / "MyDrive" / "by rsync"
            rsync(source, mirror, *FLAGS)
            there = top / "google" / "MyDrive" / "colab_data" / "bench" / "job"
            with kept(source, parse("drive", project="bench").below("job")) as sync:
                rested(sync)
                drive.set(latency=options.latency)
                time.sleep(12)  # files that were handed over a moment ago would wait
                step = max(1, options.files // options.changed)
                which = range(0, options.files, step)[: options.changed]
                drive.reset()
                began = time.monotonic()
                arrival(there, change(source, which, "changed\n"), "changed\n")
                until(lambda: sync.status()["pending"]["files"] == 0, pause=0.02)
                took, ours = time.monotonic() - began, drive.counts()
                drive.reset()
                wall, _ = rsync(source, mirror, *FLAGS)
                full = drive.counts()
                drive.reset()
                time.sleep(20)
                idle = drive.counts().total()
                drive.set(latency=0.0)
        show("full pass of rsync", f"{full.total()} operations, {wall:.2f} s")
        show("%sync", f"{ours.total()} operations, {took:.2f} s", ours.total() / full.total(), "≤ 1/20 = 0.05")
        show("%sync, idle for a minute", f"{3 * idle} operations")
        print(f"  %sync: {dict(ours.most_common())}")


if __name__ == "__main__":
    main()
