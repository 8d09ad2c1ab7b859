"""Amounts as Kubernetes writes them: ``500m`` cores, ``16Gi`` of memory."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from ...errors import InvalidInput

_CPUS = re.compile(r"(\d+|\d*\.\d{1,3})(m?)")
_MEMORY = re.compile(r"(\d+(?:\.\d{1,3})?) *(?:([KMGTkmgt])(i?)[Bb]?)?")


def cpus(value: str | float) -> str:
    """Read a number of cores.

    Raises
    ------
    InvalidInput
        For what is none, or nothing.
    """
    found = _CPUS.fullmatch(str(value).strip())
    if not found or not Decimal(found[1]):
        raise InvalidInput(f"cpus={value} is no number of cores.", "Write cpus=4, or cpus=500m for half a core.")
    return _text(Decimal(found[1])) + found[2]


def memory(value: str | float, *, name: str = "memory") -> str:
    """Read an amount of memory; a bare number counts GiB.

    Raises
    ------
    InvalidInput
        For what is none, or nothing.
    """
    found = _MEMORY.fullmatch(str(value).strip())
    if not found or not Decimal(found[1]):
        raise InvalidInput(f"{name}={value} is no amount of memory.", f"Write {name}=16Gi.")
    number, unit = Decimal(found[1]), (found[2] or "G").upper()
    small = "i" if found[2] is None or found[3] else ""
    # Kubernetes writes a thousand bytes with a small k.
    return f"{_text(number)}{'k' if unit == 'K' and not small else unit}{small}"


def twice(amount: str) -> str:
    """Return twice an amount."""
    number = re.match(r"[\d.]+", amount)
    if number is None:
        raise ValueError(amount)
    return _text(2 * Decimal(number[0])) + amount[number.end() :]


def _text(number: Decimal) -> str:
    return f"{number.normalize():f}"


def gpus(value: Any) -> int:
    """Read a number of GPUs.

    Raises
    ------
    InvalidInput
        When pods do not get that.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if number < 0 or number != int(number):
        raise InvalidInput(f"gpus={value}: a pod gets whole GPUs.", "Write gpus=1, or gpus=0 for none.")
    return int(number)
