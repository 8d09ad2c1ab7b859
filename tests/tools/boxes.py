"""Machines of the tests: each a real sshd on the loopback with a home folder of its own, and this Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

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


@contextmanager
def boxes(
    tmp: Path, home: Path, names: Sequence[str] = ("alpha", "beta"), paths: Mapping[str, str] | None = None
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
    """
    with ExitStack() as stack:
        made = []
        for name in names:
            folder, own = tmp / name, home / f"home of {name}"
            folder.mkdir()
            environments = own / ".cache" / "colab_magics" / "env"
            environments.mkdir(mode=0o700, parents=True)
            (environments / Environment().key).write_text(f"{sys.executable}\n")
            of_machine = {"session_path": (paths or {}).get(name), "COLAB_MAGICS_LEASES": str(own / "leases")}
            made.append(Box(name, stack.enter_context(sshd(folder, host=name, session_home=own, **of_machine)), own))
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
