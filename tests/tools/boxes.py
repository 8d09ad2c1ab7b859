"""Machines of the tests: each a real sshd on the loopback with a home folder of its own, and this Python."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sshd import Sshd, sshd

from colab_magics.relay.environment import Environment


@dataclass(frozen=True)
class Box:
    """A machine.

    Parameters
    ----------
    name : str
        Its name for ssh.
    server : Sshd
        How it is reached.
    home : Path
        The home folder there.
    """

    name: str
    server: Sshd
    home: Path


@dataclass(frozen=True)
class Link:
    """A network cable to a machine that is a name space of this one.

    Parameters
    ----------
    name : str
        Of the name space, and of the cable's end here.
    far : str
        The address there.
    """

    name: str
    far: str

    @property
    def inside(self) -> list[str]:
        """What runs a program there."""
        return ["ip", "netns", "exec", self.name]

    def set(self, state: str) -> None:
        """Cut the cable (``down``), or mend it (``up``)."""
        subprocess.run(["ip", "link", "set", self.name, state], check=True)


@contextmanager
def cable(number: int) -> Iterator[Link]:
    """Lay a cable to a new network name space until the block ends; skips the test where that is not allowed."""
    name, near, far = f"cm{os.getpid() % 100_000}n{number}", f"10.199.{number}.1", f"10.199.{number}.2"
    steps = [
        ["ip", "netns", "add", name],
        ["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}f", "netns", name],
        ["ip", "addr", "add", f"{near}/24", "dev", name],
        ["ip", "link", "set", name, "up"],
        ["ip", "-n", name, "addr", "add", f"{far}/24", "dev", f"{name}f"],
        ["ip", "-n", name, "link", "set", f"{name}f", "up"],
        ["ip", "-n", name, "link", "set", "lo", "up"],
    ]
    try:
        for step in steps:
            try:
                subprocess.run(step, check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"needs network name spaces: {getattr(error, 'stderr', '') or error}")
        yield Link(name, far)
    finally:
        for step in (["ip", "link", "del", name], ["ip", "netns", "del", name]):
            with suppress(OSError):
                subprocess.run(step, check=False, capture_output=True)


@contextmanager
def boxes(
    tmp: Path,
    home: Path,
    names: Sequence[str] = ("alpha", "beta"),
    paths: Mapping[str, str] | None = None,
    links: Mapping[str, Link] | None = None,
    variables: Mapping[str, str] | None = None,
) -> Iterator[list[Box]]:
    """Run machines until the block ends; ``COLAB_MAGICS_SSH_CONFIG`` names them meanwhile.

    Parameters
    ----------
    tmp : Path
        A folder for their keys and settings.
    home : Path
        What lives below it is the test's: it is ended with it.
    names : sequence of str
        Their names.
    paths : mapping, optional
        ``PATH`` of those who log in, by the machine's name.
    links : mapping, optional
        What lies between here and a machine, by its name.
    variables : mapping, optional
        Environment variables of those who log in.
    """
    with ExitStack() as stack:
        made = []
        for name in names:
            folder, own = tmp / name, home / f"home of {name}"
            folder.mkdir()
            environments = own / ".cache" / "colab_magics" / "env"
            environments.mkdir(mode=0o700, parents=True)
            (environments / Environment().key).write_text(f"{sys.executable}\n")
            link = (links or {}).get(name)
            where: dict[str, Any] = (
                {} if link is None else {"inside": link.inside, "listen": link.far, "address": link.far}
            )
            of_machine = {"session_path": (paths or {}).get(name), "COLAB_MAGICS_LEASES": str(own / "leases")}
            of_machine |= variables or {}
            made.append(
                Box(name, stack.enter_context(sshd(folder, host=name, session_home=own, **where, **of_machine)), own)
            )
        config = tmp / "ssh config of all"
        config.write_text("".join(box.server.config_file.read_text() for box in made))
        before = os.environ.get("COLAB_MAGICS_SSH_CONFIG")
        os.environ["COLAB_MAGICS_SSH_CONFIG"] = str(config)
        try:
            yield made
        finally:
            if before is None:
                del os.environ["COLAB_MAGICS_SSH_CONFIG"]
            else:
                os.environ["COLAB_MAGICS_SSH_CONFIG"] = before
