"""What work needs of a machine."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .. import units
from ..errors import InvalidInput
from ..units import show_size

_KINDS = {
    **dict.fromkeys(("disk", "disc"), "disk"),
    **dict.fromkeys(("gpu", "gpus", "vram"), "gpu"),
    **dict.fromkeys(("ram", "memory", "mem"), "memory"),
    **dict.fromkeys(("cpu", "cpus", "core", "cores"), "cpu"),
}


@dataclass(frozen=True)
class Need:
    """What work needs of a host.

    Parameters
    ----------
    disk, gpu, memory : int
        Bytes of disk, of memory on one GPU (on each, of several), and of RAM.
    gpus : int
        How many GPUs.
    cpu : float
        Processors that are idle.
    """

    disk: int = 0
    gpu: int = 0
    memory: int = 0
    gpus: int = 0
    cpu: float = 0.0

    @classmethod
    def from_text(cls, text: str) -> Need:
        """Read ``3GB disk, 1.5GB gpu, 2 cpu``; also ``8GB ram``, and ``2 gpu`` for how many.

        Raises
        ------
        InvalidInput
            When a part of it is no need.
        """
        values: dict[str, float] = {}
        for part in units.words(text):
            match = re.fullmatch(r"([\d.]+)\s*(?:([A-Za-z]+)\s+)?([A-Za-z]+)", part)
            kind = _KINDS.get(match[3].lower()) if match else None
            if match is None or kind is None:
                raise _wrong(part)
            if kind == "cpu" or (kind == "gpu" and not match[2]):
                kind = "gpus" if kind == "gpu" else kind
                amount = _number(match[1], part) if not match[2] else -1.0
                if amount <= 0 or (kind == "gpus" and amount != int(amount)):
                    raise _wrong(part)
            else:
                if not match[2]:
                    raise _wrong(part)
                amount = units.size(f"{match[1]}{match[2]}", name="need")
            if kind in values:
                raise InvalidInput(f"need= says twice how much {match[3]}.", "Say each once.")
            values[kind] = amount
        if not values:
            raise _wrong(text)
        count = int(values.get("gpus", 0)) or int("gpu" in values)
        sizes = {key: int(values.get(key, 0)) for key in ("disk", "gpu", "memory")}
        return cls(**sizes, gpus=count, cpu=values.get("cpu", 0.0))

    def times(self, number: int) -> Need:
        """Return what so many of it need at once: each has GPUs of its own."""
        return Need(self.disk * number, self.gpu, self.memory * number, self.gpus * number, self.cpu * number)

    def __str__(self) -> str:
        parts = [f"{show_size(self.disk)} of disk"] if self.disk else []
        if self.gpus:
            number = f"{self.gpus} GPUs" if self.gpus > 1 else "a GPU"
            parts.append(f"{number} with {show_size(self.gpu)} free" if self.gpu else number)
        parts += [f"{show_size(self.memory)} of RAM"] if self.memory else []
        parts += [f"{self.cpu:g} idle core{'s' if self.cpu != 1 else ''}"] if self.cpu else []
        return ", ".join(parts)


def _number(text: str, part: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _wrong(part) from None


def _wrong(part: str) -> InvalidInput:
    return InvalidInput(f"{part!r} is no need.", 'Write need="3GB disk, 1.5GB gpu, 8GB ram, 2 cpu", or a part of it.')
