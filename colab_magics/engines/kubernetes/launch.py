"""``config/launch.yaml``: models × datasets × hyper-parameters, a command each.

The file is read as it is::

    project_name: base
    model:
      modelA:
        command: python src/modelA.py <name> <hp1> <hp2>
        hparam: {hp1: [1, 2]}
        gpu_count: 1
    dataset:
      dataA:
        hparam: {name: A, hp2: [3, 4]}
    run:
      dataset: [dataA]
      model: [modelA]
      hparam: {hp2: [3]}

Each model is combined with each dataset, and with all values of the hyper-parameters of both; ``<key>`` in the command
is the value. A hyper-parameter that begins with ``_`` is left out of the job's name. ``run:`` says which of all that is
meant; a combination that has not got the hyper-parameter that it names is not. What else stands in a model or a
dataset, such as ``gpu_count``, is a setting of its pods (see `colab_magics.engines.kubernetes.settings`).
"""

from __future__ import annotations

import collections
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...checkout.trust import Warn, unheard
from ...errors import InvalidInput, NotFound, did_you_mean
from . import names, settings

FILE = Path("config/launch.yaml")
_OWN = frozenset({"command", "local_command", "hparam"})
_TOP = frozenset({"model", "dataset", "run"})
_KEY = re.compile(r"<([A-Za-z_]\w*)>")


@dataclass(frozen=True)
class Launch:
    """One combination.

    Parameters
    ----------
    model, dataset : str
        Their names.
    values : mapping
        The hyper-parameters by their names, without ``_``.
    command : str
        The line for the shell.
    name : str
        The job's name, made of the values.
    over : sequence of mapping
        Settings of its pods; what comes later wins.
    """

    model: str
    dataset: str
    values: Mapping[str, Any]
    command: str
    name: str
    over: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class _Part:
    """A model or a dataset, as the file says it."""

    kind: str
    name: str
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hparam(self) -> dict[str, list[Any]]:
        """The hyper-parameters and their values, one or many; what a command names counts where it stands."""
        found = _mapping(self.values.get("hparam"), f"{self.kind}.{self.name}.hparam")
        used = {one for word in ("command", "local_command") for one in _KEY.findall(str(self.values.get(word) or ""))}
        beside = {key: one for key, one in self.values.items() if key in used - _OWN and key not in settings.KEYS}
        return {key: _many(one, f"{self.kind}.{self.name}.{key}") for key, one in {**beside, **found}.items()}

    @property
    def over(self) -> dict[str, Any]:
        return {key: one for key, one in self.values.items() if key not in _OWN and key not in self.hparam}


def load(file: Path, *, local: bool = False, prefix: str = "", warn: Warn = unheard) -> list[Launch]:
    """Read a file of launches; see `read`.

    Raises
    ------
    NotFound
        When it is not there.
    InvalidInput
        When it cannot be read, or means nothing.
    """
    values = settings.read_file(file, warn)
    if not values:
        raise NotFound(
            f"There are no launches in {file}.",
            "Write model: and dataset: into it; the manual shows how (clusters.md).",
        )
    return read(values, local=local, prefix=prefix, warn=warn)


def read(values: Mapping[str, Any], *, local: bool = False, prefix: str = "", warn: Warn = unheard) -> list[Launch]:
    """Return the combinations that a file means, in its order.

    Parameters
    ----------
    values : mapping
        What stands in the file.
    local : bool, default False
        Take ``local_command`` where a model has one.
    prefix : str, default ""
        What names of jobs begin with.
    warn : callable, optional
        Told of what is left out without being named.

    Raises
    ------
    InvalidInput
        For names that are not there, hyper-parameters of two meanings, and where nothing is left.
    """
    models, datasets = _parts(values, "model"), _parts(values, "dataset")
    run = _mapping(values.get("run"), "run")
    if unknown := run.keys() - {"model", "dataset", "hparam"}:
        raise did_you_mean(sorted(unknown)[0], ["model", "dataset", "hparam"], kind="key of run")
    chosen = [_chosen(parts, run.get(kind), kind) for kind, parts in (("model", models), ("dataset", datasets))]
    meant = {key.lstrip("_"): _many(one, f"run.hparam.{key}") for key, one in _hparam(run).items()}
    pairs = [(model, dataset, _both(model, dataset)) for model, dataset in itertools.product(*chosen)]
    _check_meant(meant, pairs)
    found, left_out = list[tuple[_Part, _Part, dict[str, Any]]](), 0
    for model, dataset, hparam in pairs:
        if absent := meant.keys() - {key.lstrip("_") for key in hparam}:
            left_out += 1
            warn(f"{model.name} × {dataset.name} is left out: it has no {', '.join(sorted(absent))} (run.hparam).")
            continue
        points = (dict(zip(hparam, point, strict=True)) for point in itertools.product(*hparam.values()))
        found += [(model, dataset, point) for point in points if _is_meant(point, meant)]
    if not found:
        raise InvalidInput(
            "No combination is left.", "Look at run: in the file; without it all combinations are meant."
        )
    top = {key: one for key, one in values.items() if key not in _TOP}
    project = str(values.get("project_name") or "")
    return list(_launches(found, top, [prefix, project], local=local))


def _launches(
    found: Sequence[tuple[_Part, _Part, dict[str, Any]]], top: Mapping[str, Any], words: Sequence[str], *, local: bool
) -> Iterator[Launch]:
    said = [
        [*words, model.name, dataset.name, *(str(one) for key, one in point.items() if not key.startswith("_"))]
        for model, dataset, point in found
    ]
    often = collections.Counter(names.name(one) for one in said)
    for own, (model, dataset, point) in zip(said, found, strict=True):
        # Those that differ by what is left out of the name are told apart by a mark.
        unique = repr(sorted(point.items())) if often[names.name(own)] > 1 else ""
        values = {key.lstrip("_"): one for key, one in point.items()}
        command = _command(model, values, local=local)
        name = names.name(own, unique=unique)
        yield Launch(model.name, dataset.name, values, command, name, (top, model.over, dataset.over))


def _parts(values: Mapping[str, Any], kind: str) -> dict[str, _Part]:
    found = _mapping(values.get(kind), kind)
    if not found:
        raise InvalidInput(
            f"The file names no {kind}.", f"Write it below {kind}: — the manual shows how (clusters.md)."
        )
    return {name: _Part(kind, name, _mapping(one, f"{kind}.{name}")) for name, one in found.items()}


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{where}: {value!r} holds no keys.", "Write names, and below them keys with values.")
    return {str(key): one for key, one in value.items()}


def _hparam(run: Mapping[str, Any]) -> dict[str, Any]:
    return _mapping(run.get("hparam"), "run.hparam")


def _many(value: Any, where: str) -> list[Any]:
    """Return values as a list: text is one value, and not as many as it has letters."""
    found = list(value) if isinstance(value, list | tuple) else [value]
    if not found:
        raise InvalidInput(f"{where} has no values.", "Write one, or several in brackets: [1, 2]")
    for one in found:
        if isinstance(one, Mapping | list | tuple):
            raise InvalidInput(f"{where}: {one!r} is no value.", "Write numbers or texts: [1, 2]")
    return found


def _chosen(parts: Mapping[str, _Part], said: Any, kind: str) -> list[_Part]:
    if said is None:
        return list(parts.values())
    wanted = [str(one) for one in _many(said, f"run.{kind}")]
    for name in wanted:
        if name not in parts:
            raise did_you_mean(name, parts, kind=kind)
    return [parts[name] for name in dict.fromkeys(wanted)]


def _both(model: _Part, dataset: _Part) -> dict[str, list[Any]]:
    """Return the hyper-parameters of both."""
    mine, its = model.hparam, dataset.hparam
    taken = {key.lstrip("_") for key in mine}
    if doubled := sorted(key for key in its if key.lstrip("_") in taken):
        raise InvalidInput(
            f"{doubled[0]} is a hyper-parameter of {model.name} and of {dataset.name}.", "Rename one of both."
        )
    return {**mine, **its}


def _check_meant(meant: Mapping[str, list[Any]], pairs: Sequence[tuple[_Part, _Part, dict[str, list[Any]]]]) -> None:
    known: dict[str, list[Any]] = {}
    for _, _, hparam in pairs:
        for key, many in hparam.items():
            known.setdefault(key.lstrip("_"), []).extend(many)
    for key, many in meant.items():
        if key not in known:
            raise did_you_mean(key, known, kind="hyper-parameter")
        for one in many:
            if not any(_same(one, other) for other in known[key]):
                shown = ", ".join(dict.fromkeys(str(other) for other in known[key]))
                raise InvalidInput(f"run.hparam: {key} is never {one}.", f"Its values: {shown}.")


def _is_meant(point: Mapping[str, Any], meant: Mapping[str, list[Any]]) -> bool:
    plain = {key.lstrip("_"): one for key, one in point.items()}
    return all(any(_same(plain[key], one) for one in many) for key, many in meant.items())


def _same(first: Any, second: Any) -> bool:
    """Whether two values are the same, be they written as a number or as a text."""
    return bool(first == second and isinstance(first, bool) == isinstance(second, bool)) or str(first) == str(second)


def _command(model: _Part, values: Mapping[str, Any], *, local: bool) -> str:
    text = model.values.get("local_command") if local else None
    text = text or model.values.get("command")
    if not isinstance(text, str) or not text.strip():
        raise InvalidInput(f"{model.name} has no command.", "Write command: python train.py <lr>")

    def value(found: re.Match[str]) -> str:
        if found[1].lstrip("_") in values:
            return str(values[found[1].lstrip("_")])
        near = did_you_mean(found[1], values, kind="").mend
        raise InvalidInput(f"{model.name}: <{found[1]}> is no hyper-parameter of it, or of its dataset.", near)

    return _KEY.sub(value, text.strip())
