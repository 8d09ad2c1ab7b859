"""The hosts that ssh's own configuration names, and where in it they stand. Nothing else remembers hosts."""

from __future__ import annotations

import difflib
import glob
import os
import pwd
import re
import shlex
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ..errors import InvalidInput
from . import ssh

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_DEEPEST = 16
"""ssh follows so many files that include each other."""
_AT_ONCE = 8


@dataclass(frozen=True)
class Named:
    """A name that stands in ssh's configuration.

    Parameters
    ----------
    name : str
        What users write.
    file : Path
        Where it stands.
    line : int
        The line of it.
    """

    name: str
    file: Path
    line: int

    @property
    def where(self) -> str:
        """File and line, as editors take them."""
        home = str(user_home())
        shown = str(self.file)
        return f"{'~' + shown.removeprefix(home) if shown.startswith(home + '/') else shown}:{self.line}"


@dataclass(frozen=True)
class Machine:
    """What a name means to ssh; two names of the same machine are equal in it.

    Parameters
    ----------
    user, hostname, port, jump : str
        The values that ``ssh -G`` shows; `jump` is empty without a host between.
    """

    user: str
    hostname: str
    port: str
    jump: str = ""

    @property
    def direct(self) -> str:
        """The address without the host between."""
        name = f"[{self.hostname}]" if ":" in self.hostname else self.hostname
        return f"{self.user}@{name}" + ("" if self.port == "22" else f":{self.port}")

    def __str__(self) -> str:
        return self.direct + (f" through {self.jump}" if self.jump else "")


def user_home() -> Path:
    """Return the home folder that ssh means: that of the password database, wherever ``$HOME`` is."""
    return Path(pwd.getpwuid(os.getuid()).pw_dir)


def config_file() -> Path:
    """Return the file of ssh's configuration that is the user's to write."""
    named = os.environ.get("COLAB_MAGICS_SSH_CONFIG")
    return Path(named).absolute() if named else user_home() / ".ssh" / "config"


def system_config() -> Path | None:
    """Return the configuration of all users of this machine; None where ssh does not read it."""
    return None if os.environ.get("COLAB_MAGICS_SSH_CONFIG") else Path("/etc/ssh/ssh_config")


def names() -> list[Named]:
    """Return the names in ssh's configuration, each where it comes first, without patterns such as ``*.org``."""
    found: dict[str, Named] = {}
    for file in (config_file(), system_config()):
        for one in _names_in(file, _DEEPEST) if file is not None else ():
            found.setdefault(one.name, one)
    return list(found.values())


def shell_line(host: str, folder: str, name: str) -> str:
    """Return the line for a terminal that opens a shell in a folder there: in tmux, where that is, to come back to.

    Parameters
    ----------
    host, folder : str
        Where; the folder is made.
    name : str
        What to call the session of tmux.
    """
    session = re.sub(r"[^\w-]+", "_", name, flags=re.ASCII).strip("_-") or "project"
    script = f"{{go}} && if command -v tmux >/dev/null; then exec tmux new -A -s {session}; else exec $SHELL -l; fi"
    ssh_words = shlex.join(["ssh", *ssh.config_option(), "-t", ssh.check_host(host)])
    if re.fullmatch(r"[\w./-]+", folder, re.ASCII) and not folder.startswith("-"):
        # Between quotation marks a login shell of any kind changes nothing but $SHELL, which all have.
        line = script.format(go=f"mkdir -p {folder} && cd {folder}")
        return f"{ssh_words} 'sh -c \"{line}\"'"
    words = ["sh", "-c", script.format(go='mkdir -p -- "$1" && cd -- "$1"'), "sh", folder]
    return f"{ssh_words} {shlex.quote(ssh.quoted(words))}"


def machine(host: str, *words: str) -> Machine:
    """Return what a name, or ``user@name``, means to ssh; `words` are further options of it."""
    values = ssh.resolved(host, *words)
    jump = values.get("proxyjump") or values.get("proxycommand") or ""
    return Machine(
        values.get("user", ""),
        values.get("hostname", host).lower(),
        values.get("port", "22"),
        "" if jump == "none" else jump,
    )


def machines(named: Sequence[Named]) -> list[Machine]:
    """Return what many names mean, several at a time: each is a program that has to start."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(lambda one: machine(one.name), named))


def unknown(host: str) -> ssh.UnknownName | None:
    """Build the error for a name that nobody knows; None for one that ssh's configuration holds."""
    known = [one.name for one in names()]
    if host in known:
        return None
    near = difflib.get_close_matches(host, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    listed = f"Known: {', '.join(known)}." if known else "It names none yet."
    return ssh.UnknownName(
        f"There is no host {host}: ssh's configuration does not name it, and its address cannot be found.",
        f"{hint}{listed} Add one: %host add NAME user@host",
    )


def check(host: str | None) -> str:
    """Return a host that a user has named, if it can be one.

    Raises
    ------
    InvalidInput
        When none was named.
    UnknownName
        When ssh's configuration does not hold it and its address cannot be found.
    """
    if host is None:
        known = ", ".join(one.name for one in names()) or "none yet; add one: %host add NAME user@host"
        raise InvalidInput("Which host?", f"Write host=NAME. Known: {known}")
    if host not in [one.name for one in names()]:
        found = machine(host)
        try:
            found.jump or socket.getaddrinfo(found.hostname, None)
        except OSError:
            if (error := unknown(host)) is not None:
                raise error from None
    return host


def tokens(line: str) -> list[str]:
    """Split a line of ssh's configuration: the keyword in lower case, then its words; none for a comment."""
    line = line.strip()
    match = re.match(r"([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*)", line)
    if match is None:
        return []
    words = []
    for quoted, plain in _WORD.findall(match[2]):
        if plain.startswith("#"):
            break
        words.append(plain or re.sub(r"\\(.)", r"\1", quoted))
    return [match[1].lower(), *words]


def included(pattern: str, *, of_system: bool) -> list[Path]:
    """Return the files that an ``Include`` means."""
    home = user_home()
    pattern = re.sub(r"\$\{(\w+)\}", lambda found: os.environ.get(found[1], ""), pattern)
    if pattern.startswith("~/"):
        pattern = f"{home}/{pattern[2:]}"
    base = Path("/etc/ssh") if of_system else home / ".ssh"
    return [Path(found) for found in sorted(glob.glob(str(base / pattern)))]


def _names_in(file: Path, deep: int) -> Iterator[Named]:
    try:
        text = file.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return  # ssh passes over what it cannot read
    of_system = file.is_relative_to("/etc/ssh")
    for number, line in enumerate(text.splitlines(), start=1):
        keyword, *words = tokens(line) or [""]
        if keyword == "host":
            for word in words:
                if not re.search(r"[*?!]", word) and word.isprintable() and not word.startswith("-"):
                    yield Named(word, file, number)
        elif keyword == "include" and deep:
            for pattern in words:
                for other in included(pattern, of_system=of_system):
                    yield from _names_in(other, deep - 1)
