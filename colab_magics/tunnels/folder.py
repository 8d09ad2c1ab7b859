"""The folder of one tunnel: the user's alone, outside of the project, where nothing copies it elsewhere.

What it is to do, its secret, how it stands, and for which sessions it works. Each file has one writer: the verb writes
what is to be done, the tunnel's process how it stands, each session that it is there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import process
from ..errors import Unavailable

TOKEN = "token"
_SETTINGS, _STATE, _OWNERS = "settings.json", "tunnel.json", "owners"
_STAYS = ("host_key", "host_key.pub", "identity", "identity.pub")
"""Files that the next tunnel of this name uses again: who has seen its key knows it."""


class Folder:
    """The folder of a tunnel.

    Parameters
    ----------
    path : Path
        Where it is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, root: Path, project: Path, name: str) -> Folder:
        """Return the folder of a project's tunnel; `root` holds those of all."""
        # The host counts too: homes are shared between the machines of a cluster.
        key = "\0".join((process.host(), str(project), name))
        return cls(root / hashlib.sha256(os.fsencode(key)).hexdigest()[:16])

    def prepare(self) -> None:
        """Make it, or empty it of what an earlier tunnel has left.

        Raises
        ------
        Unavailable
            When it is not the user's alone.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        seen = os.lstat(self.path)
        if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
            raise Unavailable(f"{self.path} is no folder of yours.", "Remove it.")
        self.path.chmod(0o700)
        self.clean()

    def clean(self) -> None:
        """Remove what no other tunnel of this name needs."""
        for one in self.path.iterdir():
            if one.is_dir() and not one.is_symlink():
                shutil.rmtree(one)
            elif one.name not in _STAYS:
                one.unlink()

    def write(self, name: str, text: str) -> Path:
        """Write a file for the user alone."""
        path = self.path / name
        process.write_whole(path, text, durable=False)
        path.chmod(0o600)
        return path

    def keep(self, settings: Mapping[str, Any]) -> None:
        """Write what the tunnel is to do; without secrets."""
        self.write(_SETTINGS, json.dumps(settings))

    def settings(self) -> dict[str, Any]:
        """Return what it is to do; empty when there is none."""
        return process.read_json(self.path / _SETTINGS) or {}

    def say(self, state: Mapping[str, Any]) -> None:
        """Write how it stands."""
        self.write(_STATE, json.dumps(state))

    def state(self) -> dict[str, Any]:
        """Return how it stands; empty when nothing is known."""
        return process.read_json(self.path / _STATE) or {}

    def is_alive(self) -> bool:
        """Whether its process lives."""
        who = self.state().get("process")
        return isinstance(who, dict) and process.is_alive(who) is True

    def secret(self, name: str = TOKEN) -> str:
        """Return a secret; empty when there is none."""
        try:
            return (self.path / name).read_text().strip()
        except FileNotFoundError:
            return ""

    def join(self) -> None:
        """Have it work for this process, too."""
        (self.path / _OWNERS).mkdir(mode=0o700, exist_ok=True)
        me = process.identity()
        process.write_json(self.path / _OWNERS / f"{me['pid']}-{me['started']}.json", me, durable=False)

    def is_wanted(self) -> bool:
        """Whether one of the processes for which it works may live."""
        owners = [process.read_json(path) for path in (self.path / _OWNERS).glob("*.json")]
        return any(process.is_alive(one) is not False for one in owners if one)


def every(root: Path) -> list[Folder]:
    """Return the folders of tunnels whose processes live."""
    found = [Folder(path) for path in sorted(root.glob("*")) if path.is_dir()]
    return [one for one in found if one.is_alive()]
