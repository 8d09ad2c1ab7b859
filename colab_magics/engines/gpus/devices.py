"""The GPUs of this machine: which there are, which may be given out, who uses them now.

All of it is what ``nvidia-smi`` says. That program takes up to seconds, and when a driver is stuck it never ends and
cannot be killed either: so nobody waits for its process, and what it prints goes to a file.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ... import process
from ...errors import InvalidInput, Unavailable
from ...session import RUN_VARIABLE
from ...units import show_size

PROGRAM = "nvidia-smi"
PATIENCE = 15.0
"""Seconds in which nvidia-smi has to answer."""
EVERY = 5.0
"""Seconds between two looks at who uses GPUs."""
VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"

_FORMAT = "--format=csv,noheader,nounits"
_DEVICES = "--query-gpu=index,uuid,memory.total,memory.used,name"
_USES = "--query-compute-apps=pid,gpu_uuid,used_memory"
_DEVICE = re.compile(r"(\d+), (GPU-[^\s,]+), ([^,]+), ([^,]+), (.+)")
_USE = re.compile(r"(\d+), ([^\s,]+), (.+)")
# "GPU 0: NVIDIA A100 (UUID: GPU-…)", and indented below it "MIG 1g.5gb  Device 0: (UUID: MIG-…)"
_LISTED = re.compile(r"\s*(?:GPU (\d+):|MIG (\S+)\s+Device\s+(\d+):).*\(UUID: ([^)\s]+)\)")
_MEND = "Make nvidia-smi work in a terminal (a restart of the machine often helps); gpus=0 goes on without GPUs."


@dataclass(frozen=True)
class Device:
    """A GPU, or a part of one that MIG has cut off.

    Parameters
    ----------
    uuid : str
        Its name for CUDA: ``GPU-…`` or ``MIG-…``.
    index : str
        Its name for people: ``0``; ``0:1`` is the second part of GPU 0.
    name : str
        The model.
    memory : int
        Bytes; 0 when it is not known.
    gpu : str
        UUID of the GPU that it is, or is a part of.
    """

    uuid: str
    index: str
    name: str
    memory: int = 0
    gpu: str = ""

    def __str__(self) -> str:
        return f"{self.index} {self.name}" + (f", {show_size(self.memory)}" if self.memory else "")


class Use(NamedTuple):
    """A process that uses a GPU: its number, the GPU's UUID, and how much of its memory (bytes)."""

    pid: int
    uuid: str
    memory: int


class Question:
    """What nvidia-smi was asked."""

    def __init__(self, *words: str) -> None:
        fd, path = tempfile.mkstemp(prefix="colab_magics-gpus-")
        os.close(fd)
        self._path = Path(path)
        self._until = time.monotonic() + PATIENCE
        try:
            self._who = process.identity(process.start_detached([PROGRAM, *words], log_file=self._path))
        except OSError as error:
            self._path.unlink()
            raise Unavailable(f"{PROGRAM} cannot be started: {error.strerror}.", _MEND) from error

    def answer(self) -> str | None:
        """Return what it printed; None while it works.

        Raises
        ------
        Unavailable
            When it takes too long.
        """
        process.reap()
        if not process.is_alive(self._who):
            text = self._path.read_text(encoding="utf-8", errors="replace")
            self._path.unlink()
            return text
        if time.monotonic() < self._until:
            return None
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._who["pid"], signal.SIGKILL)
        self._path.unlink()
        raise Unavailable(f"{PROGRAM} has not answered in {PATIENCE:g} s.", _MEND)


def _wait(question: Question) -> str:
    while (text := question.answer()) is None:
        time.sleep(0.01)
    return text


def there() -> bool:
    """Whether this machine can have GPUs at all."""
    return shutil.which(PROGRAM) is not None


def find() -> list[Device]:
    """Return the devices that runs of this process may use, in the order of ``CUDA_VISIBLE_DEVICES`` where it is set.

    Raises
    ------
    Unavailable
        When nvidia-smi fails or does not answer.
    """
    if not there():
        return []
    asked = [Question(_DEVICES, _FORMAT), Question("-L")]
    table, listing = [_wait(question) for question in asked]
    return visible(read_devices(table, listing), os.environ.get(VISIBLE))


def uses() -> list[Use]:
    """Return who uses GPUs now.

    Raises
    ------
    Unavailable
        When nvidia-smi fails or does not answer.
    """
    return read_uses(_wait(Question(_USES, _FORMAT))) if there() else []


def read_devices(table: str, listing: str) -> list[Device]:
    """Read the devices from the table of GPUs, and their parts from the listing."""
    gpus = []
    for line in _lines(table, none="No devices were found"):
        match = _DEVICE.fullmatch(line)
        if match is None:
            raise _failed(table)
        gpus.append(Device(match[2], match[1], match[5].strip(), _bytes(match[3]), match[2]))
    parts: dict[str, list[Device]] = {}
    parent = None
    for line in listing.splitlines():
        listed = _LISTED.match(line)
        if listed is not None and listed[1]:
            parent = next((gpu for gpu in gpus if gpu.uuid == listed[4]), None)
        elif listed is not None and parent is not None:
            part = Device(listed[4], f"{parent.index}:{listed[3]}", f"{parent.name} MIG {listed[2]}", 0, parent.uuid)
            parts.setdefault(parent.uuid, []).append(part)
    # A GPU that was cut into parts cannot be used as a whole.
    return [device for gpu in gpus for device in parts.get(gpu.uuid, [gpu])]


def read_uses(table: str) -> list[Use]:
    """Read who uses GPUs."""
    found = []
    for line in _lines(table, none="No running processes found"):
        match = _USE.fullmatch(line)
        if match is None:
            raise _failed(table)
        found.append(Use(int(match[1]), match[2], _bytes(match[3])))
    return found


def _lines(table: str, *, none: str) -> list[str]:
    lines = [line.strip() for line in table.splitlines() if line.strip()]
    return [] if lines and lines[0].startswith(none) else lines


def _failed(printed: str) -> Unavailable:
    return Unavailable(f"{PROGRAM} failed: {' '.join(printed.split())[:300]}", _MEND)


def _bytes(mebibytes: str) -> int:
    """Read a number of MiB; 0 for ``[N/A]`` and the like."""
    return int(mebibytes) << 20 if mebibytes.strip().isdecimal() else 0


def visible(devices: Sequence[Device], setting: str | None) -> list[Device]:
    """Return the devices that a value of ``CUDA_VISIBLE_DEVICES`` names, as CUDA reads it.

    Numbers are those of nvidia-smi: by the bus. A UUID may be abbreviated. The first word that names nothing ends the
    list. None means all.
    """
    if setting is None:
        return list(devices)
    chosen: list[Device] = []
    for word in (word.strip() for word in setting.split(",")):
        by_index = [device for device in devices if device.index.partition(":")[0] == word]
        by_uuid = [device for device in devices if word and word in (device.uuid[: len(word)], device.gpu[: len(word)])]
        hits = by_index or by_uuid
        if not hits or len({device.gpu for device in hits}) > 1:
            break
        chosen += [device for device in hits if device not in chosen]
    return chosen


def share(value: str | float) -> float:
    """Read how many GPUs a run needs: ``0``, ``1``, ``2``, or a part of one, ``0.5``.

    Raises
    ------
    InvalidInput
        When `value` is none of these.
    """
    text = str(value).strip()
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text) or isinstance(value, bool):
        raise InvalidInput(f"gpus={value} is no number.", "Write gpus=1, gpus=2, or gpus=0.5: two runs share a GPU.")
    number = float(text)
    if number > 1 and number != int(number):
        raise InvalidInput(f"gpus={value}: whole GPUs, or a part of one.", "Write gpus=2, or gpus=0.5.")
    return number


def suited(need: float, devices: Sequence[Device]) -> list[Device]:
    """Return the devices that serve a run of such a need: CUDA shows a process one part made by MIG, and no second."""
    return [device for device in devices if need <= 1 or device.uuid == device.gpu]


def slots(need: float, devices: Sequence[Device]) -> int:
    """Return how many runs that need so many GPUs each `devices` can hold at once."""
    devices = suited(need, devices)
    # 0.1 + 0.2 is a little more than 0.3.
    return len(devices) * int(1 / need + 1e-9) if need < 1 else len(devices) // int(need)


def check(need: float, devices: Sequence[Device]) -> None:
    """Check that `devices` are enough for one run.

    Raises
    ------
    Unavailable
        When this machine has none at all.
    InvalidInput
        When a run needs more than there are; names them.
    """
    if not need or slots(need, devices):
        return
    what = f"gpus={need:g}: "
    limited = f" that {VISIBLE}={os.environ[VISIBLE]} lets be used" if VISIBLE in os.environ else ""
    if not devices:
        missing = "" if there() else f" (there is no {PROGRAM})"
        raise Unavailable(f"{what}this machine has no NVIDIA GPU{limited}{missing}.", "Leave gpus= out, or say gpus=0.")
    count = "1 GPU" if len(devices) == 1 else f"{len(devices)} GPUs"
    parts = " (a run can use one part made by MIG alone)" if len(suited(need, devices)) < len(devices) else ""
    names = "; ".join(map(str, devices))
    most = max(1, len(suited(need, devices)))
    raise InvalidInput(f"{what}this machine has {count}{limited}: {names}{parts}.", f"Write gpus={most} or less.")


def environment(uuids: Sequence[str]) -> dict[str, str]:
    """Return the variables that make a process see these devices alone, in this order; none at all without any."""
    return {VISIBLE: ",".join(uuids), ORDER: "PCI_BUS_ID"}


def is_strange(use: Use) -> bool:
    """Whether a process is none of a run; one that cannot be seen here is of another container, and nobody knows."""
    return Path(f"/proc/{use.pid}").exists() and process.variable(use.pid, RUN_VARIABLE) is None


class Watch:
    """Looks every few seconds at who uses GPUs, and never waits for it."""

    def __init__(self) -> None:
        self.uses: list[Use] = []
        self.problem = ""
        """Why there are no looks any more; empty while there are."""
        self.looked = False
        self._question: Question | None = None
        self._next = 0.0

    def look(self) -> bool:
        """Go on looking; return whether `uses` or `problem` are new."""
        if self.problem:
            return False
        try:
            if self._question is None:
                if time.monotonic() >= self._next:
                    self._question = Question(_USES, _FORMAT)
                return False
            text = self._question.answer()
            if text is None:
                return False
            self._question, self._next = None, time.monotonic() + EVERY
            self.uses, self.looked = read_uses(text), True
        except (Unavailable, OSError) as problem:
            self._question, self.uses = None, []
            self.problem = str(problem)
        return True
