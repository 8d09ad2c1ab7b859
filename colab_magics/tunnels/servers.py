"""What a tunnel leads to: a server of ours on the loopback, with a secret that stands in a file of the user's alone.

``lab`` is JupyterLab, ``code`` is code-server; ``ssh`` has a module of its own. A port of the user's needs no server.
"""

from __future__ import annotations

import http.client
import importlib.util
import os
import re
import secrets
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import NotFound, Unavailable
from ..relay import lab
from ..session import RUN_VARIABLE
from ..transport.forward import LOCAL
from .folder import TOKEN, Folder

LAB, CODE, SSH = "lab", "code", "ssh"
TITLES = {LAB: "JupyterLab", CODE: "code-server", SSH: "sshd"}
COLAB_PAGES = r"https://[\w.-]+\.googleusercontent\.com"
"""Where Colab's port proxy shows what it leads to."""


@dataclass(frozen=True)
class Server:
    """How a server is started.

    Parameters
    ----------
    words : list of str
        The command, without secrets; empty where there is nothing to start.
    environment : mapping of str to str
        Variables that it gets besides ours.
    without : tuple of str
        Variables of ours that it must not see.
    """

    words: list[str] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    @property
    def command(self) -> list[str]:
        """The whole command."""
        # A run's own variable would make every shell and notebook in the server a part of that run.
        left_out = [word for name in (RUN_VARIABLE, *self.without) for word in ("-u", name)]
        given = [f"{name}={value}" for name, value in self.environment.items()]
        return ["env", *left_out, *given, *self.words] if self.words else []


def jupyterlab(folder: Folder, port: int, root: Path, *, through_colab: bool) -> Server:
    """Return JupyterLab, with a new token.

    Parameters
    ----------
    folder : Folder
        The tunnel's.
    port : int
        Where it listens.
    root : Path
        The folder that it shows.
    through_colab : bool
        Whether it is seen through Colab's own proxy.
    """
    folder.write(TOKEN, secrets.token_hex(24))  # without a line break: to Jupyter it is a part of the token
    origin = [f"--ServerApp.allow_origin_pat={COLAB_PAGES}"] if through_colab else []
    words = [
        # What Jupyter itself writes holds the token, too.
        *("sh", "-c", 'umask 077; exec "$@"', "sh", sys.executable, "-m", "jupyterlab"),
        *("--no-browser", "--allow-root", f"--ServerApp.ip={LOCAL}", f"--ServerApp.port={port}"),
        # It is reached by another name than that of the loopback; the token keeps everybody else out.
        *("--ServerApp.port_retries=0", "--ServerApp.allow_remote_access=True", *origin),
        f"--ServerApp.root_dir={root}",
    ]
    return Server(words, {"JUPYTER_TOKEN_FILE": str(folder.path / TOKEN), **_gpus()}, ("JUPYTER_TOKEN", *_no_gpus()))


def umask() -> str:
    """Return which rights files of this process do not get: those of a tunnel's own process are its user's alone."""
    found = re.search(r"^Umask:\s*([0-7]+)$", Path("/proc/self/status").read_text(), re.M)
    return found[1] if found else "022"


def code_server(folder: Folder, port: int, root: Path) -> Server:
    """Return code-server, with a new password."""
    password = secrets.token_hex(16)
    folder.write(TOKEN, f"{password}\n")
    settings = folder.write(
        "code-server.yaml", f"bind-addr: {LOCAL}:{port}\nauth: password\npassword: {password}\ncert: false\n"
    )
    usual = ["sh", "-c", 'umask "$1"; shift; exec "$@"', "sh", umask()]
    words = [*usual, need(CODE), "--config", str(settings), "--disable-telemetry", "--disable-update-check", str(root)]
    return Server(words, _gpus(), ("PASSWORD", "HASHED_PASSWORD", "PORT", "CODE_SERVER_CONFIG", *_no_gpus()))


def need(what: str) -> str:
    """Return the program of a server.

    Raises
    ------
    NotFound
        When it is not installed.
    """
    if what == LAB and importlib.util.find_spec("jupyterlab") is None:
        raise NotFound(f"JupyterLab is not installed in {sys.executable}.", "Install it: %pip install jupyterlab")
    if what != CODE:
        return sys.executable
    program = shutil.which("code-server")
    if program is None:
        raise NotFound(
            "code-server is not on the PATH.",
            "Install a release of it (https://coder.com/docs/code-server/install), or use JupyterLab: %tunnel lab",
        )
    return program


def _gpus() -> dict[str, str]:
    """Return what this process sees of GPUs: a run has none, and a server sees what the notebook does."""
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {} if value is None else {"CUDA_VISIBLE_DEVICES": value}


def _no_gpus() -> tuple[str, ...]:
    return () if "CUDA_VISIBLE_DEVICES" in os.environ else ("CUDA_VISIBLE_DEVICES",)


def is_ready(what: str, port: int, token: str) -> bool:
    """Whether a server answers; what the user serves counts as it is.

    Raises
    ------
    Unavailable
        When it lets in who has no secret.
    """
    if what == LAB:
        if _status(port, "/api/kernels", token) == http.HTTPStatus.FORBIDDEN:
            raise Unavailable(
                "That JupyterLab does not take the token that was made for it.",
                "Take the line about the token or a password out of its configuration (jupyter_server_config).",
            )
        return lab.answers(port, token)
    if what == CODE:
        if _status(port, "/healthz") != http.HTTPStatus.OK:
            return False
        if _status(port, "/") == http.HTTPStatus.OK:
            raise Unavailable(
                "That code-server lets in anybody who has no password.",
                "Look what is started by that name: code-server",
            )
        return True
    return what != SSH or _greeting(port).startswith(b"SSH-2.0")


def listens(port: int) -> bool:
    """Whether anybody listens at a port of the loopback."""
    try:
        with socket.create_connection((LOCAL, port), timeout=2):
            return True
    except OSError:
        return False


def _status(port: int, path: str, token: str = "") -> int:
    asked = http.client.HTTPConnection(LOCAL, port, timeout=5)
    try:
        asked.request("GET", path, headers={"Authorization": f"token {token}"} if token else {})
        return asked.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        asked.close()


def _greeting(port: int) -> bytes:
    try:
        with socket.create_connection((LOCAL, port), timeout=5) as one:
            return one.recv(64)
    except OSError:
        return b""
