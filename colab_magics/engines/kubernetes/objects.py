"""The objects that a cluster gets, as plain mappings: jobs, pods, config maps. Nothing here asks or changes anything.

No secret stands in them: variables that hold one are references to secrets of the cluster.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...errors import InvalidInput
from ...units import show_size
from . import names, quantities
from .settings import Settings

Object = dict[str, Any]

CONTAINER = "run"
CODE, MOUNTED = "/work/code", "/colab_magics"
"""In a pod: where the code is, and below which folder config maps are."""
PACKED = "code.tgz"
MOST_BYTES = 1 << 20
"""What a config map holds at most."""
GIT_IMAGE = "alpine/git:2.45.2"
EXITS = (1, 2)
"""A run's own exit statuses: it failed, or was killed; see `colab_magics.engines.kubernetes.there`."""
MANAGED = {"app.kubernetes.io/managed-by": "colab-magics"}
QUEUE = "kueue.x-k8s.io/queue-name"
_PRODUCT, _HOST = "gpu.product", "kubernetes.io/hostname"
_CLONE = """set -e
if [ -n "${GIT_TOKEN:-}" ]; then
  git config --global credential.helper '!f() { echo username=oauth2; echo "password=$GIT_TOKEN"; }; f'
fi
git clone --quiet --no-checkout -- "$1" "$3"
git -C "$3" -c advice.detachedHead=false checkout --quiet --detach "$2"
git -C "$3" submodule --quiet update --init --recursive
"""


class TooLarge(InvalidInput):
    """It is more than what a config map holds."""


@dataclass(frozen=True)
class Clone:
    """Code that a pod takes from a repository.

    Parameters
    ----------
    url, commit : str
        The repository's address, without a password in it, and what is checked out.
    """

    url: str
    commit: str


@dataclass(frozen=True)
class Task:
    """What a container executes.

    Parameters
    ----------
    words : sequence of str
        The program and its words; it starts in the project's folder, in the environment of the settings.
    maps : mapping
        Config maps by the names of their folders below `MOUNTED`; that of the code is ``code``.
    clone : Clone, optional
        Where the code comes from, in place of a config map.
    env_secret : str, optional
        A secret of the cluster, all of whose keys are variables.
    env : mapping
        Variables that anybody may read.
    packages : sequence of str
        Requirements that ``uv`` adds to those of the project.
    """

    words: Sequence[str]
    maps: Mapping[str, str] = field(default_factory=dict)
    clone: Clone | None = None
    env_secret: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    packages: Sequence[str] = ()


def job(
    settings: Settings,
    name: str,
    task: Task,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    runs: int = 1,
    at_once: int | None = None,
) -> Object:
    """Build the Indexed Job of some runs, one pod each.

    Parameters
    ----------
    settings : Settings
        What pods are made of.
    name : str
        The job's name; see `names.name`.
    task : Task
        What each of them executes; the variable JOB_COMPLETION_INDEX says which it is.
    labels, annotations : mapping, optional
        Of the job; its pods have the labels, too.
    runs : int, default 1
        How many.
    at_once : int, optional
        How many at once; by default all for which there is room.
    """
    every = labels_of(settings, labels)
    about: Object = {"name": name, **namespace_of(settings), "labels": dict(every)}
    if settings.queue:
        about["labels"][QUEUE] = names.label(settings.queue)
    if annotations:
        about["annotations"] = dict(annotations)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": about,
        "spec": {
            "completions": runs,
            "parallelism": min(at_once or runs, runs),
            "completionMode": "Indexed",
            "backoffLimitPerIndex": settings.restarts,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    # A run that has ended by itself is not started again by the cluster.
                    {
                        "action": "FailIndex",
                        "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": list(EXITS)},
                    },
                    # One that had to give way, or whose node was drained, is; and that is no failure of its own.
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                ]
            },
            "ttlSecondsAfterFinished": settings.ttl,
            **({"suspend": True} if settings.queue else {}),  # Kueue starts it
            "template": {"metadata": {"labels": dict(every)}, "spec": pod_spec(settings, task)},
        },
    }


def pod(settings: Settings, name: str, task: Task | None = None, *, labels: Mapping[str, str] | None = None) -> Object:
    """Build a pod that stays, to be entered; `task` says where its code comes from."""
    shell = settings.server_command or "trap 'exit 0' TERM INT; sleep infinity & wait"
    given = task or Task(())
    stays = Task(["sh", "-c", shell], given.maps, given.clone, given.env_secret, given.env, given.packages)
    every = labels_of(settings, labels)
    if settings.queue:
        every[QUEUE] = names.label(settings.queue)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **namespace_of(settings), "labels": every},
        "spec": pod_spec(settings, stays, plain=not settings.server_command),
    }


def pod_spec(settings: Settings, task: Task, *, plain: bool = False) -> Object:
    """Build what a pod is made of; with `plain` its program starts outside of the environment."""
    volumes: list[Object] = [
        {"name": "work", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", **({"sizeLimit": settings.shm} if settings.shm else {})}},
    ]
    mounts: list[Object] = [{"name": "work", "mountPath": "/work"}, {"name": "shm", "mountPath": "/dev/shm"}]
    for folder, config in task.maps.items():
        volumes.append({"name": f"map-{folder}", "configMap": {"name": config}})
        mounts.append({"name": f"map-{folder}", "mountPath": f"{MOUNTED}/{folder}", "readOnly": True})
    for claim, path in settings.volumes.items():
        own = names.name(["volume", claim])
        volumes.append({"name": own, "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": own, "mountPath": path})
    container: Object = {
        "name": CONTAINER,
        "image": settings.image,
        "command": ["sh", "-c", literal(_script(settings, task)), "sh"],
        "args": [literal(word) for word in (task.words if plain else within(settings, task))],
        "env": _env(settings, task),
        **({"envFrom": [{"secretRef": {"name": task.env_secret}}]} if task.env_secret else {}),
        "resources": _resources(settings),
        "volumeMounts": mounts,
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 60,
        **(
            {"imagePullSecrets": [{"name": one} for one in settings.image_pull_secrets]}
            if settings.image_pull_secrets
            else {}
        ),
        **({"tolerations": [dict(one) for one in settings.tolerations]} if settings.tolerations else {}),
        **_affinity(settings),
        **({"initContainers": [_clone(settings, task.clone)]} if task.clone is not None else {}),
        "containers": [container],
        "volumes": volumes,
    }


def config_map(
    settings: Settings,
    name: str,
    *,
    texts: Mapping[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
    labels: Mapping[str, str] | None = None,
    mend: str = "Send less.",
) -> Object:
    """Build a config map.

    Raises
    ------
    TooLarge
        When it is more than one holds; says `mend`.
    """
    size = sum(len(key) + len(text.encode()) for key, text in (texts or {}).items())
    size += sum(len(key) + len(data) for key, data in (files or {}).items())
    if size > MOST_BYTES:
        raise TooLarge(f"{show_size(size)} are more than what goes with a job ({show_size(MOST_BYTES)}).", mend)
    packed = {key: base64.b64encode(data).decode() for key, data in (files or {}).items()}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, **namespace_of(settings), "labels": labels_of(settings, labels)},
        **({"data": dict(texts)} if texts else {}),
        **({"binaryData": packed} if packed else {}),
    }


def labels_of(settings: Settings, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the labels of all objects of a project."""
    found = {**MANAGED, "colab-magics/project": names.label(settings.project)}
    if settings.user:
        found["user"] = names.label(settings.user)
    return {**found, **{key: names.label(value) for key, value in (more or {}).items()}}


def within(settings: Settings, task: Task) -> list[str]:
    """Return the words that execute a task in the environment of the settings."""
    if settings.environment == "conda":
        conda = f"{settings.conda_home.rstrip('/')}/bin/conda"
        return [conda, "run", "--no-capture-output", "-n", settings.conda, *task.words]
    if settings.environment == "uv":
        return ["uv", "run", *(word for one in task.packages for word in ("--with", one)), *task.words]
    return list(task.words)


def literal(text: str) -> str:
    """Write a text so that Kubernetes leaves it as it is: ``$(NAME)`` means a variable to it, and ``$$`` one ``$``."""
    return re.sub(r"\$(?=[$(])", "$$", text)


def as_yaml(objects: Sequence[Object], *comments: str) -> str:
    """Write objects to be read by people, and by ``kubectl apply -f``."""
    from ruamel.yaml import YAML
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString, LiteralScalarString

    def readable(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: readable(one) for key, one in value.items()}
        if isinstance(value, list):
            return [readable(one) for one in value]
        if not isinstance(value, str) or value.isprintable():
            return value
        is_block = re.fullmatch(r"(?:[\t\x20-\x7e]*[\x21-\x7e]\n)+", value)
        return LiteralScalarString(value) if is_block else DoubleQuotedScalarString(value)

    yaml, out = YAML(), io.StringIO()
    yaml.width, yaml.allow_unicode = 1 << 20, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    for line in comments:
        shown = "".join(letter if letter.isprintable() else "?" for letter in " ".join(line.split()))
        out.write(f"# {shown}\n")
    for number, one in enumerate(objects):
        out.write("---\n" if number else "")
        yaml.dump(readable(one), out)
    return out.getvalue()


def _script(settings: Settings, task: Task) -> str:
    lines = ["set -e"]
    if "code" in task.maps:
        lines += [f"mkdir -p {CODE}", f"tar -xzf {MOUNTED}/code/{PACKED} -C {CODE}"]
    lines.append('cd "$COLAB_MAGICS_CODE"')
    if settings.setup:
        lines.append(settings.setup.rstrip("\n"))
    return "\n".join([*lines, 'exec "$@"', ""])


def _env(settings: Settings, task: Task) -> list[Object]:
    code = settings.workdir if settings.code == "image" and settings.workdir else CODE
    plain = {"PYTHONUNBUFFERED": "1", **settings.env, **task.env, "COLAB_MAGICS_CODE": code}
    found: list[Object] = [
        {"name": name, "value": literal(value)} for name, value in plain.items() if name not in settings.secrets
    ]
    return found + [_of_secret(name, secret) for name, secret in settings.secrets.items()]


def _of_secret(name: str, secret: tuple[str, str]) -> Object:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret[0], "key": secret[1]}}}


def _clone(settings: Settings, clone: Clone) -> Object:
    env = {"env": [_of_secret("GIT_TOKEN", settings.git_secret)]} if settings.git_secret else {}
    return {
        "name": "clone",
        "image": GIT_IMAGE,
        "command": ["sh", "-c", literal(_CLONE), "sh"],
        "args": [literal(clone.url), clone.commit, CODE],
        "terminationMessagePolicy": "FallbackToLogsOnError",  # what git says is why there is no run
        **env,
        "volumeMounts": [{"name": "work", "mountPath": "/work"}],
    }


def _resources(settings: Settings) -> Object:
    requests, limits = dict[str, str](), dict[str, str]()
    for name, amount in (("cpu", settings.cpus), ("memory", settings.memory)):
        if amount:
            requests[name], limits[name] = amount, quantities.twice(amount)
    if settings.gpus:
        requests[settings.gpu_resource] = limits[settings.gpu_resource] = str(settings.gpus)
    return {"requests": requests, "limits": limits} if requests else {}


def _affinity(settings: Settings) -> Object:
    product = f"{settings.gpu_resource.partition('/')[0]}/{_PRODUCT}"
    rules = []
    # A run without GPUs is not held away from nodes that have none.
    lists = [(product, settings.gpu_whitelist, settings.gpu_blacklist)] if settings.gpus else []
    for key, white, black in (*lists, (_HOST, settings.hostname_whitelist, settings.hostname_blacklist)):
        if white:
            rules.append({"key": key, "operator": "In", "values": list(white)})
        if black:
            rules.append({"key": key, "operator": "NotIn", "values": list(black)})
    if not rules:
        return {}
    terms = [{"matchExpressions": rules}]
    return {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    }


def namespace_of(settings: Settings) -> Object:
    """Return the namespace as objects name it, where one is said."""
    return {"namespace": settings.namespace} if settings.namespace else {}
