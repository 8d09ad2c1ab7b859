"""Packages into an environment on a host: by uv where that is, else by pip, with the project's own requirements.

A host that reaches no index gets them as wheels from here.
"""

from __future__ import annotations

import io
import logging
import re
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from ..errors import CommandFailed, Unavailable
from ..transport import ssh
from . import environment, wheels

log = logging.getLogger("colab_magics")
INSTALL_SECONDS = 3600.0
_SHOWN_LINES = 12
# What pip and uv say where there is no network, or no index is known, and what we say where there is neither of them;
# what no index has is told in the same words.
_NO_INDEX = re.compile(
    r"neither pip nor uv|from versions: none|connection broken|Failed to establish a new connection|name resolution|"
    r"timed out|dns error|Network is unreachable|error sending request|Failed to fetch|Connection refused|"
    r"Max retries exceeded",
    re.IGNORECASE,
)
_ENTER = """
umask 077
w=$(mktemp -d) && cd -- "$w" || { echo "no folder can be made there" >&2; exit 3; }
trap 'cd /; rm -rf "$w"' EXIT
trap 'exit 4' HUP INT TERM
tar -xf - || exit 3
"""
# uv takes one index for each package, and some requirements count on pip's looking at all: then pip has its turn.
_BY_INDEX = """
uv=$(command -v uv || true)
for one in "$HOME/.local/bin/uv" "$HOME/.cargo/bin/uv"; do [ -z "$uv" ] && [ -x "$one" ] && uv=$one; done
pip=; "$python" -m pip --version >/dev/null 2>&1 && pip=1
if [ -n "$uv" ]; then
  if [ -z "$pip" ]; then "$uv" pip install --quiet --python "$python" "$@"; exit; fi
  "$uv" pip install --quiet --python "$python" "$@" 2>/dev/null && exit
fi
[ -n "$pip" ] || { echo "there is neither pip nor uv" >&2; exit 3; }
"$python" -m pip install --quiet --disable-pip-version-check --no-input "$@" || exit 5
"""
_BY_WHEELS = """
wheels="${XDG_CACHE_HOME:-$HOME/.cache}/colab_magics/wheels/$1"; shift
for pip in "$wheels"/pip-*.whl; do :; done
"$python" "$pip/pip" install --quiet --disable-pip-version-check --no-input --no-index --find-links "$wheels" "$@"
"""


def install(
    host: str,
    python: str,
    words: Sequence[str],
    files: Mapping[str, bytes],
    *,
    tell: Callable[[str], None] = lambda text: None,
) -> None:
    """Install packages on a host.

    Parameters
    ----------
    host : str
        Its name for ssh.
    python : str
        The interpreter there whose environment gets them.
    words : sequence of str
        What pip is given.
    files : mapping of str to bytes
        Requirements files by the names that `words` uses; they are there for this call alone.
    tell : callable, optional
        Is told what is being done, for whoever waits.

    Raises
    ------
    CommandFailed
        When they cannot be installed; holds the last lines of what was said.
    """
    try:
        try:
            _run(host, _BY_INDEX, python, words, files)
        except CommandFailed as error:
            if not _NO_INDEX.search(error.output) or (mark := _brought(host, python, words, files, tell)) is None:
                raise
            _run(host, _BY_WHEELS, python, [mark, *map(_name, words)], {name: _names(files[name]) for name in files})
    except CommandFailed as error:
        lines = [line for line in error.output.splitlines() if line.strip()]
        raise CommandFailed(
            f"{host} could not install {' '.join(words)}.\n" + "\n".join(lines[-_SHOWN_LINES:]),
            "Mend what it says, then say it again; what was installed before is there.",
            returncode=error.returncode,
            output=error.output,
        ) from None


def _run(host: str, script: str, python: str, words: Sequence[str], files: Mapping[str, bytes]) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600
            archive.addfile(entry, io.BytesIO(data))
    command = ["sh", "-c", f"python=$1; shift\n{_ENTER}{script}", "sh", python, *words]
    ssh.run(host, command, input=packed.getvalue(), timeout=INSTALL_SECONDS)


def _brought(
    host: str, python: str, words: Sequence[str], files: Mapping[str, bytes], tell: Callable[[str], None]
) -> str | None:
    """Copy wheels there; None when they cannot be had here either: then what the host has said is the reason."""
    try:
        target = wheels.Target.said(ssh.run(host, [python, "-c", wheels.ASK]).stdout)
        tell(f"{host} reaches no package index, or has no pip: packages are copied there")
        return wheels.bring(partial(environment.run_on, host), target, words, files)
    except (CommandFailed, Unavailable) as problem:
        log.info("no wheels for %s: %s", host, problem)
        return None


def _name(requirement: str) -> str:
    """Return a requirement without the address from which its wheel was made."""
    return re.sub(r"^(\s*[\w.-]+\s*(?:\[[\w\s,.-]*\])?)\s*@\s.*", r"\1", requirement)


def _names(data: bytes) -> bytes:
    lines = data.decode(errors="surrogateescape").splitlines()
    return "".join(f"{_name(line)}\n" for line in lines).encode(errors="surrogateescape")
