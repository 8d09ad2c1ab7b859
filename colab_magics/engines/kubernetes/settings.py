"""What pods are made of: the words of a line, and below them the project's ``config/kube.yaml``.

That file is read as it is; see `KEYS`. Where the line says something it wins; of a white and a black list the one that
the line says counts alone. A file that came with a clone may name any image and any secret, so it counts after the
user's yes, as all does that sends or runs something (`colab_magics.checkout.trust`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ...checkout.trust import Request, Warn, unheard
from ...errors import InvalidInput, did_you_mean
from ...transport.buckets.access import Address
from ...transport.buckets.settings import came_with_a_clone, is_secret
from ...units import count, seconds, words
from . import names, quantities
from .options import Options

FILE = Path("config/kube.yaml")
KEYS: Mapping[str, str] = {
    "project_name": "project",
    "cpu_count": "cpus",
    "startup_script": "setup",
    **{one.name: one.name for one in fields(Options)},
    "gpu_count": "gpus",
    "registry_host": "registry_host",
    "registry_port": "registry_port",
}
"""What may stand in the file, and how it is called here; all options of a line may, too."""
UNUSED = frozenset({"ssh_host", "ssh_port"})
"""Keys that say nothing here: code comes with the job, or from the address that the checkout has."""
PAIRS = (("gpu_whitelist", "gpu_blacklist"), ("hostname_whitelist", "hostname_blacklist"))
LOG = "log"
"""What ``results=`` says for the container's log."""
_DAY = 86_400
_LISTS = frozenset({"tolerations", "image_pull_secrets", *(name for pair in PAIRS for name in pair)})
_GROUPS = frozenset({"volumes", "env", "secrets"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOLERATION = re.compile(
    r"(?P<key>[^=:]+)(?:=(?P<value>[^:]*))?(?::(?P<effect>NoSchedule|PreferNoSchedule|NoExecute))?"
)


@dataclass(frozen=True)
class Settings:
    """What pods are made of; see `Options` for those that are not explained here.

    Parameters
    ----------
    project : str
        The project's name.
    image : str
        The image.
    gpus : int
        GPUs of each run.
    ttl : int
        Seconds that an ended job is kept.
    conda : str
        Name of the conda environment; empty for another kind.
    """

    project: str
    image: str
    namespace: str | None = None
    context: str | None = None
    gpus: int = 0
    cpus: str | None = None
    memory: str | None = None
    shm: str | None = None
    gpu_whitelist: Sequence[str] | None = None
    gpu_blacklist: Sequence[str] | None = None
    hostname_whitelist: Sequence[str] | None = None
    hostname_blacklist: Sequence[str] | None = None
    gpu_resource: str = "nvidia.com/gpu"
    tolerations: Sequence[Mapping[str, str]] = ()
    volumes: Mapping[str, str] = field(default_factory=dict)
    results: str = ""
    results_here: str = ""
    image_pull_secrets: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    queue: str | None = None
    restarts: int = 0
    ttl: int = _DAY
    code: str = "configmap"
    git_secret: tuple[str, str] | None = None
    environment: str = "image"
    conda: str = ""
    conda_home: str = "/opt/conda"
    workdir: str | None = None
    setup: str = ""
    server_command: str = ""
    user: str = ""
    prefix: str = ""


def request(root: Path, warn: Warn = unheard) -> Request | None:
    """Return what the project's file sets where it needs a yes; None where it does not.

    Raises
    ------
    InvalidInput
        When it cannot be read.
    """
    file = root / FILE
    if not os.path.lexists(file) or not came_with_a_clone(file):
        return None
    return Request(file, read_file(file, warn))


def read(
    root: Path,
    options: Options | None = None,
    *,
    project: str,
    gpus: str | float | None = None,
    over: Sequence[Mapping[str, Any]] = (),
    warn: Warn = unheard,
) -> Settings:
    """Put together what a line and the project's file say.

    Parameters
    ----------
    root : Path
        The project's folder.
    options : Options, optional
        What the line says.
    project : str
        The project's name, where the file does not say it.
    gpus : str or float, optional
        ``gpus=`` of the line.
    over : sequence of mapping
        What stands between both: keys as in the file, such as those of a model in ``config/launch.yaml``; what comes
        later wins.
    warn : callable, optional
        Told of what does not count.

    Raises
    ------
    InvalidInput
        For what is not allowed, or contradicts itself; says which.
    """
    found = _of_file(root, warn)
    for one in over:
        found = _over(found, _renamed(one, "config/launch.yaml", warn))
    said = {
        one.name: value
        for one in fields(Options)
        if (value := getattr(options or Options(), one.name)) not in (None, {})
    }
    found = _over(found, said)
    if gpus is not None:
        found["gpus"] = gpus
    return _settings(found, project)


def read_file(file: Path, warn: Warn = unheard) -> dict[str, Any]:
    """Read a file of settings, in YAML; empty when it is not there.

    Raises
    ------
    InvalidInput
        When it is no YAML, or holds no keys.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    from ...checkout import trust

    data = trust.read(file, warn)
    if data is None:
        return {}
    try:
        values = YAML(typ="safe", pure=True).load(data)
    except (YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{file} cannot be read: {error}", "Mend the file, or move it away.") from None
    if not isinstance(values, dict | None):
        raise InvalidInput(f"{file} holds no keys.", "Write one a line, such as namespace: my-namespace")
    return {str(key): value for key, value in (values or {}).items()}


def _of_file(root: Path, warn: Warn) -> dict[str, Any]:
    values = read_file(root / FILE, warn)
    if values and came_with_a_clone(root / FILE) and not Request(root / FILE, values).allowed:
        warn(
            f"{root / FILE} is tracked by git, so it is the repository's word, and is left out: that is yours to say. "
            "If you trust it: %trust"
        )
        return {}
    for white, black in PAIRS:
        if {white, black} & values.keys() and all(values.get(name) is None for name in (white, black)):
            raise InvalidInput(
                f"{root / FILE}: {white} and {black} are both empty: exactly one of them counts.",
                f"Fill one of them; where any will do write {black}: [], or neither.",
            )
    return _over({}, _renamed(values, str(root / FILE), warn))


def _renamed(values: Mapping[str, Any], where: str, warn: Warn) -> dict[str, Any]:
    known: dict[str, Any] = {}
    for key, value in values.items():
        if key in KEYS:
            if value is not None:
                known[KEYS[key]] = value
        elif key not in UNUSED:
            near = did_you_mean(key, KEYS, kind="key").mend.partition("Known:")[0]
            warn(f"{where}: nothing here is called {key}: it does not count. {near}".rstrip())
    return known


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay settings over others: groups are put together, and one list of a pair replaces the other."""
    for pair in PAIRS:
        if all(above.get(name) is not None for name in pair):
            raise InvalidInput(
                f"{pair[0]} and {pair[1]} contradict each other: exactly one of them counts.",
                "Say those that may, or those that may not; without either any will do.",
            )
        if any(above.get(name) is not None for name in pair):
            below = {name: value for name, value in below.items() if name not in pair}
    found = {**below, **above}
    for name in _GROUPS & below.keys() & above.keys():
        found[name] = {**_group(name, below[name]), **_group(name, above[name])}
    return found


def _settings(found: Mapping[str, Any], project: str) -> Settings:
    values: dict[str, Any] = {name: value for name, value in found.items() if name in _OF_SETTINGS}
    for name in _LISTS & values.keys():
        values[name] = _list(name, values[name])
    for white, black in PAIRS:
        if values.get(white) == []:
            raise InvalidInput(
                f"{white} is empty: none would be allowed.", f"Name some, or say that none is forbidden: {black}: []"
            )
    for name in _GROUPS & values.keys():
        values[name] = _group(name, values[name])
    for name, read_one in (("cpus", quantities.cpus), ("memory", quantities.memory)):
        if name in values:
            values[name] = read_one(values[name])
    if "shm" in values:
        values["shm"] = quantities.memory(values["shm"], name="shm")
    values["project"] = str(values.get("project") or project)
    values["gpus"] = quantities.gpus(values.get("gpus", 0))
    values["restarts"] = count(values.get("restarts", 0), name="restarts", least=0)
    values["ttl"] = round(seconds(values["ttl"], name="ttl")) if "ttl" in values else _DAY
    values["tolerations"] = [_toleration(one) for one in values.get("tolerations", ())]
    values["env"] = _environment(values.get("env", {}))
    values["secrets"] = {name: _secret(f"secrets.{name}", ref) for name, ref in values.get("secrets", {}).items()}
    if "git_secret" in values:
        values["git_secret"] = _secret("git_secret", values["git_secret"])
    values["volumes"] = _volumes(values.get("volumes", {}))
    for name in _TEXTS & values.keys():
        values[name] = str(values[name])
    _results(values)
    _names(values)
    _image(values, found)
    _how(values)
    return Settings(**values)


_OF_SETTINGS = frozenset(one.name for one in fields(Settings))
_TEXTS = frozenset({"user", "prefix", "image", "namespace", "context", "queue", "conda_home", "workdir", "setup"}) | {
    "server_command",
    "gpu_resource",
    "results",
    "results_here",
}


def _list(name: str, value: Any) -> list[str]:
    if isinstance(value, str | Sequence):
        return words(value)
    raise InvalidInput(f"{name}: {value!r} is no list.", f"Write {name}: [a, b]")


def _group(name: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{name}: {value!r} is no group of names and values.", f"Write {name}.NAME=VALUE.")
    return {str(key): str(one) for key, one in value.items()}


def _toleration(text: str) -> dict[str, str]:
    found = _TOLERATION.fullmatch(text)
    if found is None:
        raise InvalidInput(f"tolerations={text} names no taint.", "Write KEY, KEY=VALUE or KEY=VALUE:NoExecute.")
    how = {"operator": "Exists"} if found["value"] is None else {"operator": "Equal", "value": found["value"]}
    return {"key": found["key"], **how, "effect": found["effect"] or "NoSchedule"}


def _environment(values: Mapping[str, str]) -> dict[str, str]:
    for name in values:
        _check_variable("env", name)
        if is_secret(name) or name.upper().endswith("_KEY"):
            raise InvalidInput(
                f"env.{name} would stand in the job's YAML, where all who see the job can read it.",
                f"Put it into a secret of the cluster and write secrets.{name}=SECRET/KEY, or into your session: "
                "%project secrets=.",
            )
    return dict(values)


def _check_variable(group: str, name: str) -> None:
    if not _VARIABLE.fullmatch(name):
        raise InvalidInput(f"{group}.{name}: {name!r} is no name of a variable.", "Write letters, digits and _.")


def _secret(name: str, text: str) -> tuple[str, str]:
    secret, _, key = str(text).partition("/")
    if name.startswith("secrets."):
        _check_variable("secrets", name.removeprefix("secrets."))
    if not names.is_name(secret, dots=True) or not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", key):
        # The text is not shown: it may be the secret itself.
        raise InvalidInput(f"{name}= names no key of a secret of the cluster.", f"Write {name}=SECRET/KEY.")
    return secret, key


def _volumes(values: Mapping[str, str]) -> dict[str, str]:
    for claim, path in values.items():
        if not names.is_name(claim, dots=True):
            raise InvalidInput(f"volumes.{claim}: no claim is called that.", "See: kubectl get pvc")
        if not path.startswith("/") or ":" in path or ".." in path.split("/"):
            raise InvalidInput(f"volumes.{claim}={path} is no folder in a pod.", f"Write volumes.{claim}=/data.")
    used = [path.rstrip("/") for path in values.values()]
    if len(set(used)) < len(used):
        raise InvalidInput("Two volumes have the same folder.", "Give each of them its own: volumes.CLAIM=/data")
    return dict(values)


def _results(values: dict[str, Any]) -> None:
    """Check how results come home."""
    said = values.get("results", "")
    if said.startswith("s3://"):
        Address.parse(said)
    elif said and said != LOG:
        mounted = [path.rstrip("/") for path in values["volumes"].values()]
        if not any(f"{said}/".startswith(f"{path}/") for path in mounted) or ".." in said.split("/"):
            mend = "Mount one there, volumes.CLAIM=/data; or write results=s3://BUCKET/FOLDER or results=log."
            raise InvalidInput(f"results={said} is no folder on a volume of the pods, and no bucket.", mend)


def _names(values: Mapping[str, Any]) -> None:
    """Check what names things of the cluster, which are called that or are not there."""
    for name in ("namespace", "queue"):
        if name in values and not names.is_name(values[name], dots=name == "queue"):
            raise InvalidInput(
                f"{name}={values[name]} is no name in Kubernetes.", "Small letters, digits and hyphens, 63 at most."
            )
    for one in values.get("image_pull_secrets", ()):
        if not names.is_name(one, dots=True):
            raise InvalidInput(f"image_pull_secrets={one}: no secret is called that.", "See: kubectl get secrets")


def _image(values: dict[str, Any], found: Mapping[str, Any]) -> None:
    """Find the image: the one that is named, or the project's own in the registry."""
    if not values.get("image"):
        host = str(found.get("registry_host") or "")
        if not host:
            raise InvalidInput(
                "on=kubernetes: which image?",
                f"Name it: image=python:3.12, or for all lines in {FILE}: image: python:3.12",
            )
        port = f":{found['registry_port']}" if found.get("registry_port") else ""
        path = "/".join(filter(None, [values.get("user"), values["project"]])).lower()
        values["image"] = f"{host}{port}/{path}:latest"
        if names.is_name(pull := f"{values['project']}-read-registry"):
            values.setdefault("image_pull_secrets", [pull])
    if re.search(r"\s|^-", values["image"]):
        raise InvalidInput(f"image={values['image']!r} is no image.", "Write image=python:3.12.")


def _how(values: dict[str, Any]) -> None:
    """Decide what runs are executed with."""
    said = str(values.get("environment") or ("conda" if values.get("conda_home") else "image"))
    kind, _, name = said.partition(":")
    if kind not in ("image", "uv", "conda") or (name and kind != "conda"):
        raise InvalidInput(f"environment={said} is none.", "Write environment=image, uv or conda:NAME.")
    values["environment"] = kind
    values["conda"] = (name or values["project"]) if kind == "conda" else ""
    if values["conda"].startswith("-"):
        raise InvalidInput(f"environment={said}: no environment is called that.", "See: conda env list")
    values["code"] = values.get("code") or "configmap"
    if values["code"] not in ("configmap", "git", "image"):
        raise InvalidInput(f"code={values['code']} is none.", "Write code=configmap, git or image.")
    workdir = values.get("workdir")
    if values["code"] == "image" and not (workdir or "").startswith("/"):
        raise InvalidInput("code=image: in which folder of the image?", "Name it: workdir=/app")
