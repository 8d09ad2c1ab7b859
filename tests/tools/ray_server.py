"""A real Ray cluster of two nodes on the loopback of this machine: some fifteen seconds, 700 MB.

with ray_server() as server:
    subprocess.run([...], env={**os.environ, **server.environment})
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
"""Elsewhere than on Linux Ray stays on the loopback: so it does here, its clients, too."""
NODES = ({"num_cpus": 2, "num_gpus": 0}, {"num_cpus": 1, "num_gpus": 2, "resources": {"second": 1}})


@dataclass
class RayServer:
    """A running cluster.

    Parameters
    ----------
    folder : Path
        What it keeps, and the ``/tmp`` of its nodes.
    address : str
        What ``address=`` says.
    head : subprocess.Popen
        The program that has started it; it takes orders, a line each.
    """

    folder: Path
    address: str
    head: subprocess.Popen[str]

    @property
    def environment(self) -> dict[str, str]:
        """What clients need to find it."""
        return {"RAY_ADDRESS": self.address, **LOOPBACK}

    def order(self, word: str) -> None:
        """Have the second node die (``remove``), or join (``add``)."""
        if self.head.stdin is None or self.head.stdout is None:
            raise TypeError("pipes are missing")
        self.head.stdin.write(f"{word}\n")
        self.head.stdin.flush()
        if self.head.stdout.readline().strip() != word:
            raise RuntimeError(f"{word} failed; see {self.folder}/out")

    def workers(self, name: str) -> list[psutil.Process]:
        """Return processes of the cluster that execute actors of a class."""
        found = []
        for one in psutil.process_iter(["cmdline"]):
            if (one.info["cmdline"] or [""])[0].startswith(f"ray::{name}"):
                with contextlib.suppress(psutil.Error):
                    if one.environ().get("TMPDIR") == str(self.folder):
                        found.append(one)
        return found


@contextmanager
def ray_server() -> Iterator[RayServer]:
    """Start a cluster; it ends with the context."""
    from conftest import poll  # not where this file is a program of its own

    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # the names of its sockets have little room
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {**LOOPBACK, "TMPDIR": str(folder)}
    with open(folder / "out", "w") as out:
        head = subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=out,
            text=True,
            start_new_session=True,
        )
    try:
        if head.stdout is None:
            raise TypeError("a pipe is missing")
        address = head.stdout.readline().strip()
        if ":" not in address:
            raise RuntimeError((folder / "out").read_text())
        yield RayServer(folder, address, head)
    finally:
        family = psutil.Process(head.pid).children(recursive=True) if head.poll() is None else []
        if head.stdin is not None:
            head.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            head.wait(20)
        for one in [*family, *_left(folder)]:
            with contextlib.suppress(psutil.Error):
                one.kill()
        head.kill()
        head.wait()
        if head.stdout is not None:
            head.stdout.close()
        poll(lambda: not _left(folder), timeout=20)
        shutil.rmtree(folder, ignore_errors=True)


def _left(folder: Path) -> list[psutil.Process]:
    """Return processes that the cluster has started, by their environment."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if one.environ().get("TMPDIR") == str(folder) and one.pid != os.getpid():
                found.append(one)
    return found


def main() -> None:
    """Be the head: start the nodes, say where, take orders."""
    from ray.cluster_utils import Cluster

    same = {"node_ip_address": "127.0.0.1", "include_dashboard": False, "object_store_memory": 80_000_000}
    (Path(tempfile.gettempdir()) / "ray").mkdir()  # where it notes the cluster that was started last
    cluster = Cluster(initialize_head=True, head_node_args={**same, "temp_dir": sys.argv[1], **NODES[0]})
    second = cluster.add_node(**same, **NODES[1])
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line.strip() == "remove":
            cluster.remove_node(second, allow_graceful=False)
        else:
            second = cluster.add_node(**same, **NODES[1])
        print(line.strip(), flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
