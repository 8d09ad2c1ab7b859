"""Where runs execute. An engine is one file plus one line here, or an entry point of group ``colab_magics.engine``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from ..errors import InvalidInput, Unavailable
from ..records.run import LOCAL
from ..registry import Registry

if TYPE_CHECKING:
    from .base import Engine

ENGINES = Registry(
    "engine",
    {
        LOCAL: "colab_magics.engines.local:LocalEngine",
        "slurm": "colab_magics.engines.slurm.engine:SlurmEngine",
        "ssh": "colab_magics.engines.ssh.engine:SshEngine",
        "kubernetes": "colab_magics.engines.kubernetes.engine:KubernetesEngine",
        "ray": "colab_magics.engines.ray.engine:RayEngine",
    },
    {"kubernetes": "kubernetes", "ray": "ray"},
)


def open_engine(on: str, options: Mapping[str, Any] | None = None) -> Engine:
    """Return the engine that ``on=`` names: a name, and after a colon or ``@`` where.

    Parameters
    ----------
    on : str
        What the line says.
    options : mapping, optional
        What it says to this engine alone; see `colab_magics.engines.options`.

    Raises
    ------
    InvalidInput
        For an unknown name, words behind it that the engine cannot read, or options that it has not.
    Unavailable
        When a package is missing.
    """
    from .options import read

    kind = engine_class(on)
    where = re.sub(r"^[^:@]*[:@]?", "", on)
    return kind.at(where, read(kind.Options, options, on=on) if options else None)


def name_of(on: str) -> str:
    """Return the name in what ``on=`` says: ``slurm`` of ``slurm@login``."""
    return re.split("[:@]", on, maxsplit=1)[0]


def engine_class(on: str) -> type[Engine]:
    """Return the class of the engine that ``on=`` names.

    Raises
    ------
    InvalidInput
        For an unknown name; says which there are, and why those that are of no use here are not.
    Unavailable
        When a package is missing.
    """
    name = name_of(on)
    try:
        return cast("type[Engine]", ENGINES.load(name))
    except InvalidInput as error:
        hint = error.mend.partition("? ")[0] + "? " if "did you mean" in error.mend else ""
        lines = [f"  {one}: {why}" if (why := _why_not(one)) else f"  {one}" for one in ENGINES.names()]
        raise InvalidInput(f"on={on} names no engine.", "\n".join([f"{hint}There are:", *lines])) from None


def _why_not(name: str) -> str:
    try:
        why: str = ENGINES.load(name).why_not()
    except Unavailable as missing:
        return f"not here: {missing.what.rstrip('.')} ({missing.mend})"
    except Exception as error:  # noqa: BLE001 - somebody else's package may raise anything
        return f"not here: {error}"
    return f"not here: {why}" if why else ""
