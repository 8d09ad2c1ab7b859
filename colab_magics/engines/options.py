"""Options of an engine's own: ``partition=gpu mem=16G`` in a line with ``on=slurm``.

An engine names them as the fields of a dataclass, `colab_magics.engines.base.Engine.Options`; its docstring is their
help. A field that is a mapping is a group: ``sbatch.qos=high`` is ``{"qos": "high"}`` in the field ``sbatch``.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, get_args, get_origin

import msgspec

from ..errors import InvalidInput, did_you_mean
from ..units import words


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """None: a line says all there is to say by ``on=``, ``workers=`` and ``gpus=``."""


def fields(kind: type[Any]) -> dict[str, Any]:
    """Return the options of a dataclass and their types, without None; the name of a group ends in a point."""
    hints = typing.get_type_hints(kind)
    found = {field.name: _plain(hints[field.name]) for field in dataclasses.fields(kind)}
    return {f"{name}." if _is_group(hint) else name: hint for name, hint in found.items()}


def _plain(hint: Any) -> Any:
    if get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = (member for member in get_args(hint) if member is not type(None))
    return hint


def _is_group(hint: Any) -> bool:
    return get_origin(hint) in (dict, Mapping)


def read(kind: type[Any], said: Mapping[str, Any], *, on: str) -> Any:
    """Build an engine's options from what a line or a call says.

    Parameters
    ----------
    kind : type
        The dataclass.
    said : mapping
        Texts or values by name; a group's as ``{"sbatch.qos": "high"}`` or ``{"sbatch": {"qos": "high"}}``.
    on : str
        What ``on=`` says, for errors.

    Returns
    -------
    kind
        An instance.

    Raises
    ------
    InvalidInput
        For an option that the engine has not, and for a value that cannot be read.
    """
    known = fields(kind)
    values: dict[str, Any] = {}
    for name, value in said.items():
        group, point, key = name.partition(".")
        if point and key and f"{group}." in known:
            values.setdefault(group, {})[key] = str(value)
        elif name in known:
            values[name] = _of_text(value, known[name])
        elif f"{name}." in known and isinstance(value, Mapping):
            values.setdefault(name, {}).update({str(key): str(one) for key, one in value.items()})
        else:
            raise did_you_mean(f"{name}=", [f"{one}=" for one in known], kind=f"option of on={on}")
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        found = re.search(r"`\$\.(\w+)", str(error))
        name = found[1] if found else ""
        raise InvalidInput(
            f"{name}={values.get(name)} cannot be read: {str(error).partition(' - ')[0].lower()}.",
            f"See the options of on={on} in the help: %fork?",
        ) from None


def _of_text(value: Any, hint: Any) -> Any:
    """Return a value as msgspec reads it: numbers as text are fine, and lists have commas."""
    if get_origin(hint) in (tuple, list):
        return words(value) if isinstance(value, str) else [str(one) for one in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value
