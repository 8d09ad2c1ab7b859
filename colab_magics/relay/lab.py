"""JupyterLab on another machine: what it is started with there, and how it is reached from here.

It listens on a unix socket in a folder of its own, which other users of that machine cannot enter. Its token is made
there, goes to it by a file, and comes here into a file that is the user's alone: it stands in no argument, log or
notebook.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from .. import process
from ..errors import NotFound, Unavailable
from ..transport import ssh
from ..transport.forward import LOCAL
from .environment import Environment

_SAYS = "colab_magics-lab: "
# $1: the mark, $2: the server's name, $3: the project's folder from the home folder or from /, others: where a Python
# may be noted. The socket's path must be short and on no network file system: it is none of the home folder's.
_PREPARE = r"""
umask 077
m=$1; d=${XDG_CACHE_HOME:-$HOME/.cache}/colab_magics; l=$d/lab/$2-$(uname -n)
case "$3" in /*) f=$3 ;; *) f=$HOME/$3 ;; esac
say() { printf '\n%s%s\n' "$m" "$*"; }
shift 3
p=
for k in "$@"; do [ -r "$d/env/$k" ] && read -r p <"$d/env/$k" && [ -x "$p" ] && break; done
[ -x "$p" ] && "$p" -c 'import jupyterlab' >/dev/null 2>&1 || { say missing; exit; }
mkdir -p -- "$f" "$l" || exit
if [ ! -s "$l/token" ]; then
  head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$l/token.$$" && mv "$l/token.$$" "$l/token"
fi
s=; [ -r "$l/socket" ] && read -r s <"$l/socket"
if [ -z "$s" ] || [ -h "$s" ] || [ ! -d "$s" ] || [ ! -O "$s" ]; then
  s=$(mktemp -d /tmp/colab_magics-lab.XXXXXX) && echo "$s" >"$l/socket"
fi
say "python $p"; say "folder $f"; say "token_file $l/token"; say "socket $s/socket"; say "token $(cat "$l/token")"
"""


@dataclass(frozen=True)
class Prepared:
    """What is ready on the machine.

    Parameters
    ----------
    python : str
        The Python that has JupyterLab.
    folder : str
        The project's folder.
    socket, token_file : str
        Where it listens, and finds its token.
    token : str
        The token.
    """

    python: str
    folder: str
    socket: str
    token_file: str
    token: str

    @property
    def words(self) -> list[str]:
        """The command that is the server; the same whenever it is started anew."""
        # What hides GPUs from runs without any is none of a server's that starts kernels.
        without = ["-u", "JUPYTER_TOKEN", "-u", "CUDA_VISIBLE_DEVICES"]
        return [
            # What Jupyter itself writes there holds the token, too.
            *("sh", "-c", 'umask 077; exec "$@"', "sh"),
            *("env", *without, f"JUPYTER_TOKEN_FILE={self.token_file}", self.python, "-m", "jupyterlab"),
            *("--no-browser", "--allow-root", f"--ServerApp.sock={self.socket}", f"--ServerApp.root_dir={self.folder}"),
        ]


def prepare(host: str, project: str) -> Prepared:
    """Make a server's folders and its token on a machine, as far as they are not there.

    Parameters
    ----------
    host : str
        Its name for ssh.
    project : str
        The project's folder there, from the home folder or from ``/``.

    Raises
    ------
    NotFound
        When JupyterLab is not installed there.
    Unavailable
        When the machine cannot be reached, or its folders cannot be made.
    """
    environment = Environment(project=project)
    keys = dict.fromkeys((environment.project_key, environment.key))
    words = ["sh", "-c", _PREPARE, "sh", _SAYS, name_of(project), project, *keys]
    said = ssh.run(host, words, timeout=120, ok=range(256)).stdout
    lines = [line.removeprefix(_SAYS) for line in said.splitlines() if line.startswith(_SAYS)]
    if lines == ["missing"]:
        raise NotFound(
            f"JupyterLab is not installed on {host}, in the Python of this project's runs.",
            f"Install it: %host install jupyterlab host={host}",
        )
    told = dict(line.split(" ", 1) for line in lines if " " in line)
    try:
        return Prepared(**told)
    except TypeError:
        raise Unavailable(f"{host} could not be prepared for JupyterLab.", f"Is its disk full? ssh {host}") from None


def name_of(project: str) -> str:
    """Return the name of a project's server on a machine."""
    return hashlib.sha256(os.fsencode(project)).hexdigest()[:16]


def keep_here(folder: Path, port: int, token: str) -> Path:
    """Write the token, and a page that logs in with it, for the user alone; returns the page."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    page = folder / "open.html"
    url = f"http://{LOCAL}:{port}/lab?token={token}"
    link = f'<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={url}">'
    for path, text in ((folder / "token", f"{token}\n"), (folder / "port", f"{port}\n"), (page, f"{link}\n")):
        process.write_whole(path, text, durable=False)
        path.chmod(0o600)
    return page


def answers(port: int, token: str) -> bool:
    """Whether the server answers at a port of this machine.

    Raises
    ------
    Unavailable
        When it lets in who has no token, as its configuration may say.
    """
    if _status(port, token) != http.HTTPStatus.OK:
        return False
    if _status(port, "") == http.HTTPStatus.OK:
        raise Unavailable(
            "That JupyterLab lets in anybody who has no token, and every user of this machine reaches its port.",
            "Take the line about the token out of its configuration there (jupyter_server_config), and end it: "
            "%jobs kill",
        )
    return True


def _status(port: int, token: str) -> int:
    request = urllib.request.Request(f"http://{LOCAL}:{port}/api/kernels")
    if token:
        request.add_header("Authorization", f"token {token}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect())
    try:
        with opener.open(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, http.client.HTTPException):
        return 0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: the token would go along."""

    def redirect_request(self, *_: object, **__: object) -> None:
        return None
