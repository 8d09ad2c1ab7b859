"""Files that another machine fetches for itself.

There is one way: the very modules that fetch here (`downloads` and what it needs, standard library alone) go to the
host's ``python3`` (3.8 or later) through ssh's input and are imported from memory. Nothing is installed or left there,
what is told here is told there too, and no address or token stands in an argument. The host's own curl or wget would
know neither checksums nor archives, and our package there may be another version. It ends when this end does, keeps
what has come, and goes on with it when the line is said again.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import select
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ... import units
from ...errors import Unavailable
from ...pipes import Pipes
from .. import ssh
from .program import MARK
from .several import Outcome, Progress

_PACKAGE = Path(__file__).resolve().parents[2]
_MODULES = (
    *("errors", "files", "archives", "archives.entries", "archives.unpacking", "transport"),
    *("transport.downloads", "transport.downloads.file_names", "transport.downloads.part", "transport.downloads.fetch"),
    *("transport.downloads.web", "transport.downloads.several", "transport.downloads.program"),
)
_PYTHON = (
    'for p in python3 python "$HOME"/.local/share/uv/python/cpython-3*/bin/python3 '
    '"$HOME"/.pyenv/versions/3.*/bin/python /usr/bin/python3.*[0-9] /opt/*conda*/bin/python; do '
    "\"$p\" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && "
    'exec "$p" -I -c "$1"; done; echo "$2"none; exit 0'
)
_IMPORT = """
import json, os, sys, types
def taken(n):
    data = b""
    while len(data) < n:
        more = os.read(0, n - len(data))
        if not more: sys.exit(1)
        data += more
    return data
order = json.loads(taken(int(taken(12))).decode())
for name, text, folder in order["modules"]:
    module = types.ModuleType(name)
    if folder: module.__path__ = []
    module.__package__ = name if folder else name.rpartition(".")[0]
    sys.modules[name] = module
    exec(compile(text, name, "exec"), module.__dict__)
    above, _, last = name.rpartition(".")
    if above: setattr(sys.modules[above], last, module)
module.main(order)
"""


class There(NamedTuple):
    """A file that a host is to fetch; see `downloads.Job` and `fetch.Wanted`."""

    shown: str
    url: str
    key: str
    name: str = ""
    check: str = ""
    below: str = ""
    token: str = ""


def fetch_there(
    host: str,
    folder: str,
    files: Sequence[There],
    *,
    unpack: bool,
    big: bool,
    force: bool,
    workers: int,
    agent: str,
    tell: Callable[[Progress], None],
) -> list[Outcome]:
    """Have a host fetch files; see `downloads.fetch_all`.

    Parameters
    ----------
    host : str
        Its name for ssh.
    folder : str
        Where to there, from the home folder or from ``/``; it is made.
    files : sequence of There
        The files.
    unpack, big, force : bool
        See `downloads`.
    workers : int
        How many at once.
    agent : str
        What it calls itself to servers.
    tell : callable
        Is told how far it is.

    Raises
    ------
    Unavailable
        When the host does not answer, has no Python, or the connection was cut.
    KeyboardInterrupt
        When it was stopped here; what has come waits there, and it says so.
    """
    order: dict[str, Any] = {"modules": _modules(), "folder": folder, "files": [one._asdict() for one in files]}
    order |= {"unpack": unpack, "big": big, "force": force, "workers": workers, "agent": agent}
    data = json.dumps(order).encode()
    pipes = Pipes(ssh.command(ssh.check_host(host), ["sh", "-c", _PYTHON, "sh", _IMPORT, MARK]))
    try:
        _send(pipes, f"{len(data):012d}".encode() + data)
        for line in _lines(pipes):
            if line == "none":
                raise Unavailable(
                    f"{host} has no Python of 3.8 or later, which fetches there.",
                    f"Install it there (apt-get install python3), or fetch here and: %host put FILE host={host}",
                )
            kind, value = json.loads(line)
            if kind == "done":
                return [Outcome(*one)._replace(error=tuple(one[-1]) if one[-1] else None) for one in value]
            tell(Progress(*value))
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"Stopped. Say the line again: the parts wait on {host}, and go on.") from None
    finally:
        pipes.end_input()
        pipes.wait(3.0)
        status, said = pipes.close()
    if status == 255:
        error = ssh.unreachable(host, said)
        if type(error) is not Unavailable:
            raise error
    cause = re.sub(r"^ssh: ", "", ssh.last_line(said)) or "the connection is gone"
    raise Unavailable(f"The download on {host} was cut: {cause}.", "Say it again: it goes on where it stopped.")


def _modules() -> list[tuple[str, str, bool]]:
    """Return what is imported there: names, texts, and which of them hold others."""
    shown = [inspect.getsource(one) for one in (units.show_size, units.show_seconds)]
    found = [("colab_magics", "", True), ("colab_magics.units", "\n".join(shown), False)]
    for name in _MODULES:
        path = _PACKAGE.joinpath(*name.split("."))
        package = path.is_dir()
        text = (path / "__init__.py" if package else path.with_suffix(".py")).read_text(encoding="utf-8")
        found.append((f"colab_magics.{name}", text, package))
    return found


def _send(pipes: Pipes, data: bytes) -> None:
    view = memoryview(data)
    while view:
        select.select([], [pipes.stdin], [])
        try:
            view = view[pipes.write(view) :]
        except BrokenPipeError:
            return  # what it said tells why


def _lines(pipes: Pipes) -> Iterator[str]:
    """Yield the lines of ours that come."""
    rest = b""
    while True:
        select.select([pipes.stdout], [], [])
        data = os.read(pipes.stdout, 1 << 16)
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            if line.startswith(MARK.encode()):
                yield line[len(MARK) :].decode()
        if not data:
            return
