"""Kernelspecs whose kernel is on another machine: what Jupyter's launcher and ``papermill -k`` know it by."""

from __future__ import annotations

import json
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpecManager

from .. import process
from ..errors import Busy, InvalidInput, NotFound
from ..relay.remote_kernel import attach
from .host_kernel import MODULE
from .host_provisioner import NAME, SETTINGS


@dataclass(frozen=True)
class HostKernel:
    """What a kernelspec says of its kernel.

    Parameters
    ----------
    host : str
        Its name for ssh.
    python, env, folder : str
        As `%remote` takes them; empty for its defaults.
    include, exclude : sequence of str
        Patterns of files.
    idle : float
        Seconds after which it ends when nobody is connected.
    """

    host: str
    python: str = ""
    env: str = ""
    folder: str = ""
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    idle: float = 0.0

    @property
    def command(self) -> list[str]:
        """The kernelspec's command: any Jupyter can start it, also one that knows nothing of provisioners."""
        words = [f"--{word}={value}" for word in ("python", "env", "folder") if (value := getattr(self, word))]
        words += [f"--include={pattern}" for pattern in self.include]
        words += [f"--exclude={pattern}" for pattern in self.exclude]
        options = [f"--host={self.host}", *words, f"--idle={self.idle}"]
        return [*process.python(MODULE, "-f", "{connection_file}"), *options]

    def as_spec(self, name: str) -> dict[str, Any]:
        """Return the content of ``kernel.json``."""
        # Jupyter may be started elsewhere; the host is known by this file alone.
        config = os.environ.get("COLAB_MAGICS_SSH_CONFIG")
        return {
            "argv": self.command,
            "display_name": f"{name} (colab_magics)",
            "language": "python",
            "interrupt_mode": "message",
            "env": {"COLAB_MAGICS_SSH_CONFIG": os.path.abspath(config)} if config else {},
            "metadata": {
                "debugger": True,
                "kernel_provisioner": {"provisioner_name": NAME},
                SETTINGS: {"host": self.host, "idle": self.idle},
            },
        }


def spelled(host: str) -> str:
    """Return a kernel's name for a host: Jupyter allows few characters."""
    return re.sub(r"[^a-z0-9._-]+", "-", host.lower()).strip("-.") or "host"


def check(name: str) -> None:
    """Refuse a name that Jupyter would not take, or that is another kernel's.

    Raises
    ------
    InvalidInput, Busy
        With the one thing to do.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name):
        raise InvalidInput(f"{name!r} is no name of a kernel.", "Use small letters, digits, dots, dashes: name=gpu1")
    found = _installed(name)
    if found is not None and _ours(found) is None:
        raise Busy(f"There is another kernel {name!r} already: {found}.", "Choose another name: name=NAME")


def try_there(kernel: HostKernel, tell: Callable[[str], None]) -> dict[str, Any]:
    """Start a kernel there and end it: the host is prepared then, and what is wrong is said here.

    Returns
    -------
    dict
        What the relay said of it: ``version``, ``hostname``, ….

    Raises
    ------
    Unavailable
        When there is no connection, or no kernel.
    """
    name = f"try-{uuid.uuid4().hex[:16]}"
    found = attach(kernel.host, name, once=True, python=kernel.python, env=kernel.env, idle=60.0, tell=tell)
    try:
        return found.welcome
    finally:
        found.shutdown()


def install(name: str, kernel: HostKernel) -> Path:
    """Write a kernelspec where Jupyter looks for those of this user; returns its folder."""
    check(name)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        (Path(folder) / "kernel.json").write_text(json.dumps(kernel.as_spec(name), indent=1) + "\n")
        return Path(KernelSpecManager().install_kernel_spec(folder, name, user=True))


def remove(name: str) -> Path:
    """Remove a kernelspec that `install` wrote; returns where it was.

    Raises
    ------
    NotFound
        When there is none of that name, or it is none of ours.
    """
    found = _installed(name)
    if found is None or _ours(found) is None:
        ours = [one for one, path in KernelSpecManager().find_kernel_specs().items() if _ours(Path(path)) is not None]
        what = f"There is no kernel {name!r}." if found is None else f"The kernel {name!r} is none of ours: {found}."
        raise NotFound(what, f"Ours: {', '.join(sorted(ours)) or 'none'}.")
    (found / "kernel.json").unlink()
    if not any(found.iterdir()):
        found.rmdir()
    return found


def _installed(name: str) -> Path | None:
    folder = KernelSpecManager().find_kernel_specs().get(name)
    return Path(folder) if folder is not None else None


def _ours(folder: Path) -> dict[str, Any] | None:
    """Return what we wrote into a kernelspec; None when another program made it."""
    spec = process.read_json(folder / "kernel.json") or {}
    metadata = spec.get("metadata")
    settings = metadata.get(SETTINGS) if isinstance(metadata, dict) else None
    return settings if isinstance(settings, dict) else None
