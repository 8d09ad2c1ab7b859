"""What a line says to Ray alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InvalidInput
from ...units import size

_OURS = frozenset({"num_cpus", "num_gpus", "memory", "resources", "CPU", "GPU"})


@dataclass(frozen=True)
class Options:
    """What each run gets of the cluster; it waits until Ray has a place with all of that.

    ``workers=`` is how many places are asked for at once: by default as many as the cluster has now. More than it has
    make a cluster that scales by itself grow. ``gpus=0.5`` asks for GPUs, or a part of one.

    Parameters
    ----------
    address : str, optional
        The cluster: ``HOST:6379``, or ``ray://HOST:10001`` from outside of it. By default what RAY_ADDRESS says, else
        the one that this machine belongs to.
    num_cpus : float, optional
        Cores of each run; 1 by default.
    num_gpus : float, optional
        What Ray calls ``gpus=``.
    memory : str, optional
        Memory of each run: ``16GB``. It decides where a run goes, and limits nothing.
    resources.NAME : float
        Other resources of the cluster: ``resources.tpu_host=1``, ``resources.big_disk=0.1``.
    scratch : str, optional
        Folder on the nodes for what runs write before it comes home; by default one in their ``/tmp``.
    inputs : str, optional
        Folder on the nodes that runs see as ``data_project``, such as one on a disk that all of them share.
    env.NAME : str
        Environment variables that anybody may read.
    runtime_env : str, optional
        A YAML file with Ray's ``runtime_env``: what runs have installed (``pip``, ``uv``, ``conda``).
    """

    address: str | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    memory: str | None = None
    resources: Mapping[str, str] = field(default_factory=dict)
    scratch: str | None = None
    inputs: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    runtime_env: str | None = None


def shape(options: Options, gpus: float | None) -> dict[str, Any]:
    """Return what Ray keeps for a run, as it names that.

    Parameters
    ----------
    options : Options
        What the line says.
    gpus : float or None
        GPUs of each run.

    Raises
    ------
    InvalidInput
        For what is no amount.
    """
    cpus = 1.0 if options.num_cpus is None else options.num_cpus
    if cpus < 0:
        raise InvalidInput(f"num_cpus={cpus:g} is no number of cores.", "Write num_cpus=2")
    found: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus or 0.0}
    if options.memory:
        found["memory"] = size(options.memory, name="memory")
    if options.resources:
        found["resources"] = {name: _amount(name, value) for name, value in options.resources.items()}
    return found


def _amount(name: str, value: str) -> float:
    if name in _OURS:
        raise InvalidInput(f"resources.{name}= has an option of its own.", "Write num_cpus=, num_gpus= or memory=")
    try:
        amount = float(value)
    except ValueError:
        amount = -1.0
    if not 0 < amount < float("inf"):
        raise InvalidInput(f"resources.{name}={value} is no amount.", f"Write resources.{name}=1")
    return amount


def fits(wanted: Mapping[str, Any], has: Mapping[str, float]) -> int:
    """Return how many runs of a shape a node has room for, with the resources that Ray says it has."""
    needs = {"CPU": wanted["num_cpus"], "GPU": wanted["num_gpus"], "memory": wanted.get("memory", 0)}
    needs |= wanted.get("resources") or {}
    rooms = [has.get(name, 0.0) / amount for name, amount in needs.items() if amount]
    return int(min(rooms, default=has.get("CPU", 1.0)) + 1e-9)


def in_words(wanted: Mapping[str, Any]) -> str:
    """Return a shape for people."""
    amounts = {**wanted, **wanted.get("resources", {})}
    return ", ".join(f"{name}={value:g}" for name, value in amounts.items() if name != "resources" and value)


def runtime_env(said: Options) -> dict[str, Any]:
    """Read what runs have installed.

    Raises
    ------
    InvalidInput
        For a file that cannot be read, or says nothing of the kind.
    """
    if not said.runtime_env:
        return {}
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        found = YAML(typ="safe").load(Path(said.runtime_env).expanduser())
    except (OSError, YAMLError) as problem:
        raise InvalidInput(
            f"runtime_env={said.runtime_env} cannot be read: {problem}.", "Name a file of YAML."
        ) from None
    if not isinstance(found, dict):
        raise InvalidInput(f"runtime_env={said.runtime_env} holds no mapping.", "Write in it: pip: [torch]")
    return {str(name): value for name, value in found.items()}
