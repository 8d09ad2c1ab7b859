"""Operations on a stand-in for Google Drive: ``%sync`` beside a full pass of rsync, after the same few changes.

python tests/bench/sync_drive.py [--files 2000] [--changed 10] [--latency 0.003] [--per-folder 10,100]

Per changed file the kernel and libfuse ask 12 times: folder, old file, temporary name, create and its look, write,
flush, release, time and its look, the name that is replaced, rename. None of them can go without risking a torn file,
a lost time, or the edit of another hand. So the ratio tells how big the tree is beside its change; it is shown for
folders of 10 files, as the targets were measured, and of 100.
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


def measure(top: Path, drive: Drive, options: argparse.Namespace, per_folder: int) -> None:
    """Change some files, and count who asks Drive how often."""
    name = f"{per_folder} to a folder"
    source = make_tree(top / name, options.files, per_folder=per_folder)
    print(f" {options.changed} of {options.files} files changed, {name}")
    mirror = top / "drive" / "MyDrive" / "by rsync" / name
    mirror.parent.mkdir(exist_ok=True)
    rsync(source, mirror, *FLAGS)
    there = top.joinpath("google", "MyDrive", "colab_data", "bench", name)
    step = max(1, options.files // options.changed)
    which = range(0, options.files, step)[: options.changed]
    with kept(source, parse("drive", project="bench").below(name)) as sync:
        rested(sync)
        drive.set(latency=options.latency)
        time.sleep(12)  # files that were handed over a moment ago would wait
        # The first batch of a process also reads the sentinel and asks for free space.
        arrival(there, change(source, range(1, 2), "first\n", per_folder=per_folder), "first\n")
        time.sleep(1.5)  # what the kernel remembers of a look is forgotten
        drive.reset()
        began = time.monotonic()
        names = change(source, which, "changed\n", per_folder=per_folder)
        arrival(there, names, "changed\n")
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--changed", type=int, default=10)
    parser.add_argument("--latency", type=float, default=0.003)
    parser.add_argument("--per-folder", default="10,100")
    options = parser.parse_args()
    if os.getuid() != 0 or not os.path.exists("/dev/fuse"):
        print("Operations on Drive: not measured, mounting the stand-in needs root and /dev/fuse")
        return
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        own_state(top / "state")
        os.environ["COLAB_MAGICS_DRIVE"] = str(top / "drive")
        (top / "google" / "MyDrive").mkdir(parents=True)
        with Drive.mounted(top / "google", top / "drive") as drive:
            print(f"A stand-in for Drive, {options.latency * 1000:g} ms an operation")
            for per_folder in map(int, options.per_folder.split(",")):
                measure(top, drive, options, per_folder)


if __name__ == "__main__":
    main()
