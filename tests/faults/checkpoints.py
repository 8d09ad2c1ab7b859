"""A program that makes checkpoints for ever, and a way to tell a whole one: ``checkpoints.py FOLDER [REST]``.

Each step it writes the same state three ways, as trainings do: a new file of its own and ``renamed.ckpt`` beside the
old one and by rename, ``inplace.ckpt`` over the old one, piece by piece; then it rests for so many seconds. It resumes
from the newest whole one there.
Only ``inplace.ckpt`` can be torn in this folder, if the program is killed while it writes.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
import sys
import time
from pathlib import Path

HEAD = struct.Struct("<8sQQ")
MAGIC = b"CKPT\r\n\0\1"


def make(step: int, size: int) -> bytes:
    """Return a checkpoint: a header with step and length, what was learnt, and a checksum of all that."""
    content = HEAD.pack(MAGIC, step, size) + random.Random(step).randbytes(size)
    return content + hashlib.sha256(content).digest()


def step_of(content: bytes) -> int | None:
    """Return the step of a whole checkpoint; None for a torn one."""
    if len(content) < HEAD.size + 32:
        return None
    magic, step, size = HEAD.unpack_from(content)
    if magic != MAGIC or len(content) != HEAD.size + size + 32:
        return None
    return step if hashlib.sha256(content[:-32]).digest() == content[-32:] else None


def newest(folder: Path) -> int:
    """Return the step of the newest whole checkpoint; 0 when there is none."""
    return max((step_of(path.read_bytes()) or 0 for path in folder.rglob("*.ckpt")), default=0)


def train(folder: Path, rest: float) -> None:
    """Write checkpoints until killed."""
    (folder / "steps").mkdir(parents=True, exist_ok=True)
    step, chance = newest(folder), random.Random()
    with open(folder / "log.txt", "a", buffering=1) as log:
        while True:
            step += 1
            content = make(step, chance.choice((100, 20_000, 300_000)))
            for path in (folder / "steps" / f"{step:06d}.ckpt", folder / "renamed.ckpt"):
                beside = path.with_suffix(".tmp")
                beside.write_bytes(content)
                os.replace(beside, path)
            with open(folder / "inplace.ckpt", "wb", buffering=0) as stream:
                piece = len(content) // 5 + 1
                for start in range(0, len(content), piece):
                    stream.write(content[start : start + piece])
                    time.sleep(chance.random() * 0.004)
            log.write(f"step {step} done\n")
            time.sleep(rest + chance.random() * 0.06)


if __name__ == "__main__":
    train(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
