"""Whether the nodes of a cluster see a folder, as far as that can be told before a run is there."""

from __future__ import annotations

import socket
from pathlib import Path

from ...queues.local_disk import NETWORK, file_system
from . import asking


def is_of_network(folder: Path) -> bool:
    """Whether other machines may see a folder: it is on a file system of a network, or of a program."""
    kind = (file_system(folder) or ("", ""))[0]
    return not kind or kind in NETWORK or kind.startswith("fuse")


def warning(folders: list[Path], partition: str | None) -> str:
    """Return what the user should know of folders that the nodes cannot see; empty when there is nothing.

    Raises
    ------
    Unavailable
        When the controller does not say which nodes there are.
    """
    hidden = [folder for folder in folders if not is_of_network(folder)]
    if not hidden:
        return ""
    here = socket.gethostname().partition(".")[0]
    others = [name for name in asking.nodes(partition) if name.partition(".")[0] != here]
    if not others:
        return ""
    kind = (file_system(hidden[0]) or ("", ""))[0]
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    return (
        f"{hidden[0]} is on a disk of this machine ({kind}), and the runs execute on {shown}, which may not see it. "
        "A run that cannot says so and ends; put the project on a disk that the nodes share."
    )
