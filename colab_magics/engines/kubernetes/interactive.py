"""A pod that stays, to be entered: the project's code is in it, and its environment is that of runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from ...checkout.trust import Warn, unheard
from . import code, names, objects, submission
from .home import Way
from .objects import CODE, CONTAINER, Task
from .settings import Settings
from .submission import Made


def of(
    found: Settings, root: Path, project: Path, environment: Mapping[str, str], *, mark: str, warn: Warn = unheard
) -> Made:
    """Build the pod, and what it owns.

    Parameters
    ----------
    found : Settings
        What it is made of.
    root, project : Path
        The folder of the code, and of its project.
    environment : mapping
        Variables that hold secrets.
    mark : str
        What tells it from others of the project.
    warn : callable, optional
        Told of edits that a clone does not have.

    Raises
    ------
    InvalidInput
        When the code cannot go that way.
    """
    way = code.of(found, root, project, warn)
    name = names.name([found.prefix, found.project, "interactive"], unique=mark)
    maps = {folder: f"{name}-{folder}" for folder in way.maps}
    task = Task((), maps, way.clone, f"{name}-env" if environment else None)
    owned = [*submission.of_code(way, name), *submission.of_environment(found, name, environment)]
    made = objects.pod(found, name, task, labels={"colab-magics/interactive": "true"})
    return Made(found, made, owned, Way(found, project))


def how(found: Settings, name: str, namespace: str) -> list[str]:
    """Say how a pod is entered, looked at and deleted."""
    where = ["kubectl", *(["--context", found.context] if found.context else []), "--namespace", namespace]
    folder = found.workdir if found.code == "image" and found.workdir else CODE
    shell = f"cd {shlex.quote(folder)} && exec {shlex.join(objects.within(found, Task(['bash'])))}"
    lines = {
        "does it run yet": ["get", "pod", name],
        "enter it": ["exec", "-it", name, "-c", CONTAINER, "--", "sh", "-c", shell],
        "see what it prints": ["logs", "-f", name, "-c", CONTAINER],
        "delete it": ["delete", "pod", name],
    }
    if found.server_command:
        lines["see what it prints"] = ["attach", name, "-c", CONTAINER]
        lines["reach its port here"] = ["port-forward", f"pod/{name}", "8888:8888"]
    return [
        f"The pod {name} was made. It stays, and uses what it has asked for, until you delete it.",
        *(f"  {what + ':':22}{shlex.join([*where, *words])}" for what, words in lines.items()),
        "Where the image has no bash, write sh in its place.",
    ]
