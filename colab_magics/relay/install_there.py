"""Packages into an environment on a host: by uv where that is, else by pip, with the project's own requirements."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence

from ..errors import CommandFailed
from ..transport import ssh

INSTALL_SECONDS = 3600.0
_SHOWN_LINES = 12
# uv takes one index for each package, and some requirements count on pip's looking at all: then pip has its turn.
_SCRIPT = """
python=$1; shift
umask 077
w=$(mktemp -d) && cd -- "$w" || { echo "no folder can be made there" >&2; exit 3; }
trap 'cd /; rm -rf "$w"' EXIT
trap 'exit 4' HUP INT TERM
tar -xf - || exit 3
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


def install(host: str, python: str, words: Sequence[str], files: Mapping[str, bytes]) -> None:
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

    Raises
    ------
    CommandFailed
        When they cannot be installed; holds the last lines of what was said.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o600
            archive.addfile(entry, io.BytesIO(data))
    command = ["sh", "-c", _SCRIPT, "sh", python, *words]
    try:
        ssh.run(host, command, input=packed.getvalue(), timeout=INSTALL_SECONDS)
    except CommandFailed as error:
        lines = [line for line in error.output.splitlines() if line.strip()]
        raise CommandFailed(
            f"{host} could not install {' '.join(words)}.\n" + "\n".join(lines[-_SHOWN_LINES:]),
            "Mend what it says, then say it again; what was installed before is there.",
            returncode=error.returncode,
            output=error.output,
        ) from None
