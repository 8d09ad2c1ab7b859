"""An sshd of the user's own on the loopback: keys only, a host key of its own, shells that see what the notebook sees.

Nothing outside of the tunnel's folder is written: no line in ``~/.ssh`` or ``/etc``, so there is none to be left or to
stand there twice. A login shell reads ``/etc/profile``, which sets ``PATH`` anew; so what the notebook's environment
says of programs and GPU libraries is set behind that, by a script that is each login's command.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .. import process
from ..errors import CommandFailed, InvalidInput, NotFound, Unavailable
from ..transport.forward import LOCAL
from .folder import Folder
from .servers import Server, umask

_KEYS, _HOST_KEY = "authorized_keys", "host_key"
_KEY = re.compile(
    r"((?:sk-)?(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp\d+)(?:@openssh\.com)?) ([A-Za-z0-9+/]+={0,2})(?: [^\n]*)?"
)
_NAMES = (
    *(
        "HOME",
        "PATH",
        "LD_LIBRARY_PATH",
        "LIBRARY_PATH",
        "PYTHONPATH",
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "CONDA_DEFAULT_ENV",
    ),
    *("LANG", "LC_ALL", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "COLAB_RELEASE_TAG", "COLAB_GPU"),
    *("GIT_CONFIG_GLOBAL", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"),
)
_PREFIXES = ("CUDA_", "TPU_", "XLA_")
# "again" comes when the login shell has read its profile. Shells that take no -c beside -l go on without it.
_LOGIN = r"""
SHELL=${SHELL:-/bin/sh}
. %(environment)s
if [ -n "$SSH_ORIGINAL_COMMAND" ]; then
  case $SSH_ORIGINAL_COMMAND in internal-sftp*) exec %(sftp)s ;; esac
  exec "$SHELL" -c "$SSH_ORIGINAL_COMMAND"
fi
if [ "$1" != again ]; then
  case ${SHELL##*/} in bash|zsh|fish|dash|sh|ksh) exec "$SHELL" -l -c %(again)s ;; esac
fi
cd %(folder)s 2>/dev/null
if [ -t 0 ]; then exec "$SHELL" -i; fi
exec "$SHELL"
"""


def need() -> str:
    """Return the program.

    Raises
    ------
    Unavailable
        When it is not installed.
    """
    found = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_PLACES]))
    return found or process.need("sshd")


_PLACES = ("/usr/sbin", "/usr/local/sbin", "/sbin")
_SFTP = ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server", "/usr/lib/ssh/sftp-server")


def user() -> str:
    """Return the name of whoever logs in."""
    return pwd.getpwuid(os.geteuid()).pw_name


def keys(text: str) -> list[str]:
    """Read public keys: a line as it stands in a ``.pub`` file, or such a file.

    Raises
    ------
    NotFound
        When there is no such file.
    InvalidInput
        For what is no public key.
    """
    lines = [text.strip()]
    if not _KEY.fullmatch(lines[0]):
        path = Path(text).expanduser()
        try:
            content = path.read_text(errors="replace")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise NotFound(
                f"key={text[:60]} is no public key, and no file that can be read ({reason}).",
                'Show it where you log in from (cat ~/.ssh/id_ed25519.pub), and write key="ssh-ed25519 …"',
            ) from None
        if "PRIVATE KEY" in content:
            raise InvalidInput(
                f"{path} is a private key, which stays where it is.", f"Name the public one: key={path}.pub"
            )
        lines = [line.strip() for line in content.splitlines() if line.strip() and not line.startswith("#")]
    wrong = [line for line in lines if not _KEY.fullmatch(line)]
    if wrong or not lines:
        raise InvalidInput(
            f"This is no public key: {wrong[0][:60] if wrong else text}",
            "It is one line, such as: ssh-ed25519 AAAA… name (cat ~/.ssh/id_ed25519.pub)",
        )
    try:
        process.run(["ssh-keygen", "-l", "-f", "-"], input="".join(f"{line}\n" for line in lines).encode())
    except CommandFailed:
        raise InvalidInput(
            "ssh-keygen says that this is no public key.", "Copy the whole line: cat ~/.ssh/id_ed25519.pub"
        ) from None
    return lines


def authorize(folder: Folder, more: Sequence[str]) -> None:
    """Let these keys in, besides those that are let in; none stands there twice."""
    known = {words(line): line for line in folder.secret(_KEYS).splitlines()}
    known |= {words(line): line for line in more if words(line) not in known}
    folder.write(_KEYS, "".join(f"{line}\n" for line in known.values()))


def words(line: str) -> str:
    """Return what makes a key itself: its kind and its number, without the name behind it."""
    return " ".join(line.split()[:2])


def prepare(folder: Folder, port: int, start_in: Path, environment: Mapping[str, str]) -> Server:
    """Write its settings; the keys that are let in stand there.

    Parameters
    ----------
    folder : Folder
        The tunnel's.
    port : int
        Where it listens.
    start_in : Path
        Where shells stand.
    environment : mapping
        That of the notebook; what is about programs, libraries and git goes to the shells.
    """
    key = folder.path / _HOST_KEY
    make_key(key)
    wanted = {name: value for name, value in environment.items() if name in _NAMES or name.startswith(_PREFIXES)}
    own = os.path.dirname(sys.executable)
    path = wanted.get("PATH", os.defpath).split(os.pathsep)
    wanted["PATH"] = os.pathsep.join(path if own in path else [own, *path])
    # What a profile adds to the PATH stays, behind ours.
    lines = [f"export {name}={shlex.quote(value)}{':$PATH' * (name == 'PATH')}\n" for name, value in wanted.items()]
    exports = folder.write("environment", "".join([f"umask {umask()}\n", *lines]))
    sftp = next((one for one in _SFTP if os.path.exists(one)), "sftp-server")
    login = folder.path / "login"
    parts = {
        "environment": shlex.quote(str(exports)),
        "sftp": shlex.quote(sftp),
        "again": shlex.quote(shlex.join(["exec", "sh", str(login), "again"])),
        "folder": shlex.quote(str(start_in)),
    }
    folder.write(login.name, _LOGIN % parts)
    settings = folder.write("sshd_config", _settings(folder, port))
    program = need()
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it wants an empty folder for its unprivileged half
    try:
        process.run([program, "-t", "-f", settings])
    except CommandFailed as error:
        raise Unavailable(f"This sshd cannot be used: {error.output}", "Update openssh-server.") from error
    return Server([program, "-D", "-e", "-f", str(settings)])


def _settings(folder: Folder, port: int) -> str:
    at = str(folder.path)
    tokens = at.replace("%", "%%")
    return f"""ListenAddress {LOCAL}
Port {port}
HostKey "{at}/{_HOST_KEY}"
AuthorizedKeysFile "{tokens}/{_KEYS}"
# The folder is the user's alone; the folders above it are those of all that he has.
StrictModes no
PubkeyAuthentication yes
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
AllowUsers {user()}
UsePAM no
X11Forwarding no
GatewayPorts no
PermitTunnel no
ClientAliveInterval 30
ClientAliveCountMax 4
PidFile none
Subsystem sftp internal-sftp
ForceCommand sh {shlex.quote(f"{at}/login")}
"""


def make_key(path: Path) -> None:
    """Make a key, if it is not there."""
    if not path.exists() or not path.with_name(f"{path.name}.pub").exists():
        path.unlink(missing_ok=True)
        process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "colab_magics", "-f", path])


def fingerprint(folder: Folder) -> str:
    """Return that of its host key: ``SHA256:…``."""
    return process.run(["ssh-keygen", "-l", "-f", folder.path / f"{_HOST_KEY}.pub"]).stdout.split()[1]
