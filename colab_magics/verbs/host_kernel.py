"""The word of ``%host`` that is about Jupyter: a kernel on another machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import session
from ..units import seconds, words
from . import call_only, subcommand
from .host import host as verb


@dataclass(frozen=True)
class JupyterKernel:
    """A kernel that Jupyter knows by name; the handle of ``%host kernel``.

    Parameters
    ----------
    name : str
        Its name: ``papermill -k NAME``.
    host : str
        The machine that it is on.
    folder : Path
        Where Jupyter finds it.
    python : str
        What is there: version and machine.
    """

    name: str
    host: str
    folder: Path
    python: str

    def __str__(self) -> str:
        return (
            f"The kernel {self.name!r} is on {self.host} ({self.python}).\n"
            f"In JupyterLab's launcher it is “{self.name} (colab_magics)” (reload the page); or use\n"
            f"  papermill -k {self.name} in.ipynb out.ipynb\n"
            f"  jupyter console --kernel {self.name}\n"
            f"It is described in {self.folder}."
        )

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))


@subcommand(verb)
@call_only("remove")
def kernel(
    host: str,
    /,
    *,
    name: str | None = None,
    python: str = "",
    env: str = "",
    folder: str = "",
    include: str | None = None,
    exclude: str | None = None,
    idle: str = "8h",
    remove: bool = False,
) -> JupyterKernel | None:
    """Give Jupyter a kernel that is on another machine: in JupyterLab's launcher, and for ``papermill -k``.

    The whole notebook runs there. It is a kernel like any other: it can be interrupted and restarted, asks questions,
    shows widgets, and ends with the notebook; a cut connection costs nothing. The code of the project that the notebook
    stands in, or of its folder, goes along before each cell, as with ``%remote``.

    Parameters
    ----------
    host : str
        As ``ssh`` knows it. It is tried at once, and prepared for kernels.
    name : str, optional
        What Jupyter knows the kernel by; the host's name by default.
    python, env : str
        The Python there: ``python=3.12`` for an environment of ours with that version, ``env=conda:NAME`` or
        ``env=PATH`` for one of yours that has ipykernel.
    folder : str
        Where it works there; by default the project's path, below ``colab_magics`` in the home folder.
    include, exclude : str, optional
        Patterns of files that are sent although git ignores them, or by their very name although they look like
        secrets, and that are not sent.
    idle : str, default "8h"
        It ends by itself when nothing runs and Jupyter has not been connected for so long; ``0`` for never.
    remove : bool, default False
        Take it away from Jupyter again. Kernels that run go on.

    Returns
    -------
    JupyterKernel
        How to use it; nothing with ``--remove``.

    Raises
    ------
    Unavailable
        When the host cannot be reached, or has no Python to use; the text says what to do.
    Busy
        When Jupyter has another kernel of that name.
    """
    from ..kernels import host_spec

    here = session.current()
    name = name or host_spec.spelled(host)
    if remove:
        here.ui.say(f"The kernel {name!r} was removed: {host_spec.remove(name)}")
        return None
    ends = 0.0 if idle in ("0", "never") else seconds(idle, name="idle")
    patterns = {"include": words(include or ""), "exclude": words(exclude or "")}
    host_spec.check(name)
    there = host_spec.HostKernel(host, python, env, folder, idle=ends, **patterns)
    with here.ui.progress(f"connecting to {host}"):
        found = host_spec.try_there(there, here.ui.say)
    return JupyterKernel(name, host, host_spec.install(name, there), f"Python {found['version']}, {found['hostname']}")
