"""Ask the running Jupyter servers which notebook belongs to this kernel.

The environment's JPY_SESSION_NAME keeps the notebook's first name for ever; the servers know it after a rename too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..process import read_json

log = logging.getLogger("colab_magics")

_TIMEOUT = 3.0
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Server:
    """A running server, as its file in Jupyter's runtime folder describes it."""

    url: str
    tokens: tuple[str, ...]
    root: Path | None
    pid: int | None

    def get(self, path: str) -> Any:
        """Ask the server's API; None when it does not answer, or not to us, or is not the one that its file names."""
        if not _is_there(self.url, self.pid):
            return None
        for token in self.tokens:
            request = urllib.request.Request(self.url.rstrip("/") + path)
            if token:
                request.add_header("Authorization", f"token {token}")
            try:
                # No proxy: the server is on this machine.
                with _opener(self.url).open(request, timeout=_TIMEOUT) as answer:
                    return json.load(answer)
            except (urllib.error.URLError, OSError, ValueError) as error:
                log.debug("%s%s: %s", self.url, path, error)
        return None


@dataclass(frozen=True)
class Found:
    """A kernel's notebook at a server.

    Parameters
    ----------
    server : Server
        Where it is open.
    path : str
        Its path as the server's contents API names it.
    """

    server: Server
    path: str

    @property
    def file(self) -> Path | None:
        """The file on this machine; None when the server keeps its notebooks elsewhere."""
        file = self.server.root / self.path if self.server.root is not None else None
        return file if file is not None and file.is_file() else None

    def content(self) -> dict[str, Any] | None:
        """Fetch the notebook from the server."""
        model = self.server.get(f"/api/contents/{urllib.parse.quote(self.path)}?content=1&type=notebook")
        content = model.get("content") if isinstance(model, dict) else None
        return content if isinstance(content, dict) else None


def _is_there(url: str, pid: int | None) -> bool:
    """Whether what listens at an address is this process, of our own user: a token goes nowhere else.

    A server that was killed leaves its file behind, and its port to whoever takes it.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if not isinstance(pid, int) or os.stat(f"/proc/{pid}").st_uid != os.getuid():
            return False
        if not all(map(_is_of_this_machine, {one[4][0] for one in socket.getaddrinfo(parts.hostname, port)})):
            return False
        listening, held = _listeners(port), set()
        for name in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                held.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    except (OSError, ValueError) as error:
        log.debug("%s of process %s: %s", url, pid, error)
        return False
    return bool(listening) and listening <= held


def _is_of_this_machine(address: str | int) -> bool:
    family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


def _listeners(port: int) -> set[str]:
    """Return the sockets that listen on a port, at any address, by the names that open files have."""
    found = set()
    for table in (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6")):
        for row in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = row.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: the token would go along."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _opener(url: str) -> urllib.request.OpenerDirector:
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirect()]
    if urllib.parse.urlsplit(url).hostname in _LOCAL:
        # A server on this machine often has a certificate for another name, or its own.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


def servers(folder: Path) -> list[Server]:
    """Read the files of running servers; our own parent comes first, then the newest.

    Parameters
    ----------
    folder : Path
        Jupyter's runtime folder.
    """
    files = [*folder.glob("jpserver-*.json"), *folder.glob("nbserver-*.json")]
    found = []
    for file in sorted(files, key=_mtime, reverse=True):
        info = read_json(file) or {}
        url = str(info.get("url") or "")
        if not url.startswith("http"):
            continue  # a Unix socket, or a file that is just being written
        root = info.get("root_dir") or info.get("notebook_dir")
        # Under JupyterHub the file has no token: the server takes the one that Hub gave it, which kernels inherit.
        tokens = [info.get("token"), os.environ.get("JUPYTERHUB_API_TOKEN"), os.environ.get("JPY_API_TOKEN")]
        given = tuple(dict.fromkeys(str(token) for token in tokens if token)) or ("",)
        pid = info.get("pid")
        found.append(Server(url, given, Path(str(root)) if root else None, pid if isinstance(pid, int) else None))
    parent = os.environ.get("JPY_PARENT_PID")
    return sorted(found, key=lambda server: str(server.pid) != parent)


def _mtime(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # the server has just ended
        return 0.0


def find_session(kernel_id: str, folder: Path) -> Found | None:
    """Find the notebook that a kernel belongs to.

    Parameters
    ----------
    kernel_id : str
        The kernel's id at its server.
    folder : Path
        Jupyter's runtime folder.
    """
    for server in servers(folder):
        sessions = server.get("/api/sessions")
        mine = [one for one in sessions or () if isinstance(one, dict) and _kernel_of(one) == kernel_id]
        # A console may share the kernel.
        for session in sorted(mine, key=lambda one: one.get("type") != "notebook"):
            path = str(session.get("path") or (session.get("notebook") or {}).get("path") or "")
            # Collaboration servers put "RTC:" in front.
            path = path.removeprefix("RTC:")
            if path.endswith(".ipynb"):
                return Found(server, path)
    return None


def _kernel_of(session: dict[str, Any]) -> str:
    return str((session.get("kernel") or {}).get("id") or "")


def kernel_id(connection_file: str) -> str:
    """Read a kernel's id from the name of its connection file."""
    match = re.search(r"kernel-(.+)\.json$", os.path.basename(connection_file))
    return match[1] if match else ""
