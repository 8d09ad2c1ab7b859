"""A host more in ssh's configuration, after a login that worked; and away again.

Blocks of ours stand in a file of their own beside the user's configuration, which gets one line that includes it. So
every program that uses ssh knows these hosts, and nothing else of what the user wrote is touched.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .. import process
from ..errors import CommandFailed, InvalidInput, NotFound, Unavailable
from . import hosts, ssh

FILE = "colab_magics_hosts"
_COMMENT = "# Hosts that colab_magics has added. This line must stand above the first Host."
_HEAD = "# Hosts that colab_magics has added; %host rm NAME takes one away.\n"
LOGIN_SECONDS = 40.0


@dataclass(frozen=True)
class Address:
    """What a user writes to add a host.

    Parameters
    ----------
    user, hostname, port : str
        Of ``user@host:port``; empty where nothing was written.
    key : str
        A file with a private key; empty for those that ssh tries by itself.
    jump : str
        The host, or several with commas, through which it is reached.
    """

    user: str
    hostname: str
    port: str = ""
    key: str = ""
    jump: str = ""

    @classmethod
    def from_text(cls, text: str, *, key: str | None = None, jump: str | None = None) -> Address:
        """Read ``user@host:port``, also with ``ssh://`` before it and with an IPv6 address in brackets.

        Raises
        ------
        InvalidInput
            When it is none, or the key's file is not there.
        """
        match = re.fullmatch(
            r"(?:ssh://)?(?:([\w.+-]+)@)?(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9_][\w.-]*))(?::(\d{1,5}))?/?",
            text,
            re.ASCII,
        )
        if match is None or (match[1] or "").startswith("-") or int(match[4] or 22) not in range(1, 65536):
            raise InvalidInput(f"{text!r} is no address of a host.", "Write user@host, or user@host:2222.")
        for one in (jump or "").split(",") if jump else ():
            if not re.fullmatch(r"[\w.@:\[\]+-]+", ssh.check_host(one), re.ASCII):
                raise InvalidInput(f"jump={jump} names no host.", "Write jump=HOST as you would say to ssh.")
        return cls(match[1] or "", match[2] or match[3], match[4] or "", _key_file(key), jump or "")

    def block(self, name: str) -> str:
        """Write it as a block of ssh's configuration."""
        lines = [f"Host {name}", f"  HostName {self.hostname}"]
        lines += [f"  User {self.user}"] if self.user else []
        lines += [f"  Port {self.port}"] if self.port else []
        # Agents offer all their keys, and servers refuse after a few: the one that was named is the one to try.
        lines += [f'  IdentityFile "{self.key.replace("%", "%%")}"', "  IdentitiesOnly yes"] if self.key else []
        lines += [f"  ProxyJump {self.jump}"] if self.jump else []
        return "\n".join(lines) + "\n"


def _key_file(key: str | None) -> str:
    if not key:
        return ""
    file = Path(key).expanduser().absolute()
    if not file.is_file():
        raise InvalidInput(f"There is no key {file}.", "Name the file of a private key: key=~/.ssh/id_ed25519")
    if file.suffix == ".pub":
        raise InvalidInput(f"{file} is the public half.", f"Name the private one: key={file.with_suffix('')}")
    if re.search(r'["\\\n\r]', str(file)) or not str(file).isprintable():
        raise InvalidInput(f"ssh's configuration cannot hold the name {str(file)!r}.", "Give the key a plain name.")
    return str(file)


@dataclass(frozen=True)
class Greeting:
    """What a host showed before anybody was let in.

    Parameters
    ----------
    fingerprint : str
        That of its key, as ``SHA256:…``.
    kind : str
        The kind of key, such as ``ED25519``.
    lines : str
        What known_hosts has to hold for it.
    """

    fingerprint: str
    kind: str
    lines: str


def add(
    name: str, address: Address, *, fingerprint: str | None = None, accept: Callable[[Greeting], bool]
) -> hosts.Machine:
    """Add a host to ssh's configuration after a login that worked.

    Parameters
    ----------
    name : str
        Its name from now on.
    address : Address
        Where it is.
    fingerprint : str, optional
        The fingerprint that its key has to have, where the key is not known here.
    accept : callable
        Is asked about a key that is not known here, when no fingerprint was named.

    Returns
    -------
    Machine
        What the name means to ssh now.

    Raises
    ------
    InvalidInput
        When there is such a name already, or such a machine under another one.
    Unavailable
        When the login does not work; the text says why. Nothing was written.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
        raise InvalidInput(f"{name!r} is no name for a host.", "Use letters, digits, dots and dashes.")
    known = hosts.names()
    for one in known:
        if one.name == name:
            raise InvalidInput(
                f"{name} is there already: {hosts.machine(name)} ({one.where}).", "Take another name, or use this one."
            )
    with _trial(address.block(name)) as config:
        wanted = hosts.machine(name, "-F", str(config))
        for one, other in zip(known, hosts.machines(known), strict=True):
            if other == wanted:
                raise InvalidInput(f"{wanted} is there already: {one.name} ({one.where}).", f"Use {one.name}.")
        _log_in(name, address, config, fingerprint, accept)
    _write_block(name, address.block(name))
    return hosts.machine(name)


@contextmanager
def _trial(block: str) -> Iterator[Path]:
    """Make a configuration in which a block stands where it will stand, above what there is."""
    with tempfile.TemporaryDirectory(prefix="colab_magics-") as folder:
        config = Path(folder, "config")
        others = [file for file in (hosts.config_file(), hosts.system_config()) if file is not None]
        config.write_text(block + "Host *\n" + "".join(f'Include "{file}"\n' for file in others if file.exists()))
        yield config


def _log_in(
    name: str,
    address: Address,
    config: Path,
    fingerprint: str | None,
    accept: Callable[[Greeting], bool],
) -> None:
    """Log in as the block says, and keep a host key that the user has accepted.

    The user compares a fingerprint; what is kept is the very key that has it, not one that is asked for again.
    """
    try:
        _try(name, config)
    except ssh.UnknownHost as error:
        if "another key" in error.what:
            raise
        seen = _greeting(name, config)
        if seen is None:
            raise ssh.UnknownHost(
                error.what, f"Add the host between first ({address.jump}), or accept its key: ssh {address.jump}"
            ) from error
        if fingerprint is not None and fingerprint.removeprefix("SHA256:") != seen.fingerprint.removeprefix("SHA256:"):
            raise ssh.UnknownHost(
                f"{address.hostname} shows the key {seen.kind} {seen.fingerprint}, not {fingerprint}: it is another "
                "machine, or somebody is in between.",
                "Ask who runs it.",
            ) from error
        if fingerprint is None and not accept(seen):
            raise ssh.UnknownHost(
                f"The key of {address.hostname} is not known here: {seen.kind} {seen.fingerprint}.",
                f"Compare it with what its owner says; if it is that, say it again with fingerprint={seen.fingerprint}",
            ) from error
        _keep_key(name, config, seen.lines)
        _try(name, config)


_QUICK = ("-o", "BatchMode=yes", "-o", f"ConnectTimeout={ssh.CONNECT_SECONDS}", "-o", "ControlPath=none")


def _try(name: str, config: Path) -> None:
    command = ["ssh", "-F", str(config), *_QUICK, "-T", "--", name, "true"]
    try:
        # A jump host is another ssh, which has heard nothing of BatchMode; without a terminal it could still ask.
        process.run(command, timeout=LOGIN_SECONDS, env={"SSH_ASKPASS_REQUIRE": "never"})
    except CommandFailed as error:
        raise _dead(name, error) from error


def _dead(name: str, error: CommandFailed) -> Unavailable:
    if error.returncode not in (124, 255):
        told = ssh.last_line(error.output) or f"status {error.returncode}"
        return ssh.Refused(f"{name} lets us in, and runs nothing for us: {told}.", "Is it a machine with a shell?")
    # The error says how to try it in a terminal, where the name is not known yet.
    if "Host key verification failed" in error.output and "HAS CHANGED" not in error.output:
        return ssh.UnknownHost(f"The key of {name} is not known here.")
    said = ssh.last_line(error.output).removeprefix("ssh: ")
    if "Could not resolve" in said:
        return Unavailable(f"{name} cannot be reached: {said}. It was not added.", "Mend the address.")
    dead = ssh.unreachable(name, error.output)
    mend = "Mend that, then say it again."
    if isinstance(dead, ssh.Refused):
        mend = "Name your key, key=FILE, or add it to the agent (ssh-add); then say it again."
    return type(dead)(f"{dead.what}\nIt was not added.", mend)


def _greeting(name: str, config: Path) -> Greeting | None:
    """Ask a host for its key without logging in; None when it does not come that far."""
    known = config.with_name("greeting")
    strict = ["-o", "StrictHostKeyChecking=accept-new", "-o", f"UserKnownHostsFile={known}", "-o", "HashKnownHosts=no"]
    nobody = ["-o", "PreferredAuthentications=none", "-o", "UpdateHostKeys=no"]
    command = ["ssh", "-F", str(config), *_QUICK, *strict, *nobody, "-T", "--", name, "true"]
    process.run(command, timeout=LOGIN_SECONDS, ok=range(256), env={"SSH_ASKPASS_REQUIRE": "never"})
    if not known.is_file():
        return None
    shown = process.run(["ssh-keygen", "-l", "-f", str(known)]).stdout.split()
    return Greeting(shown[1], shown[-1].strip("()"), known.read_text())


def _keep_key(name: str, config: Path, lines: str) -> None:
    values = ssh.resolved(name, "-F", str(config))
    file = Path(values.get("userknownhostsfile", "~/.ssh/known_hosts").split()[0])
    if "userknownhostsfile" in values and values["userknownhostsfile"].startswith('"'):
        file = Path(values["userknownhostsfile"].split('"')[1])
    if str(file).startswith("~/"):
        file = hosts.user_home() / str(file)[2:]
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    before = file.read_bytes()[-1:] if file.exists() else b""
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "w") as stream:
        stream.write(("\n" if before not in (b"", b"\n") else "") + lines)


def remove(name: str) -> None:
    """Take a host away that `add` has added.

    Raises
    ------
    NotFound, InvalidInput
        When there is none of that name, or the user wrote it elsewhere.
    """
    with _locked():
        blocks = _blocks()
        if name not in blocks:
            for one in hosts.names():
                if one.name == name:
                    raise InvalidInput(f"{name} was not added by us.", f"It is yours to edit: {one.where}")
            raise NotFound(f"There is no host {name}.", f"Added were: {', '.join(blocks) or 'none'}.")
        del blocks[name]
        _write_blocks(blocks)


def _write_block(name: str, block: str) -> None:
    with _locked():
        _write_blocks({**_blocks(), name: block})


def _file() -> Path:
    return hosts.config_file().with_name(FILE)


@contextmanager
def _locked() -> Iterator[None]:
    """Let one at a time change the files."""
    folder = hosts.config_file().parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _blocks() -> dict[str, str]:
    """Return our blocks by name, as they stand: what the user added to one of them stays with it."""
    try:
        text = _file().read_text(encoding="utf-8", errors="surrogateescape")
    except FileNotFoundError:
        return {}
    parts = re.split(r"(?m)^(?=Host\s)", text)[1:]
    return {hosts.tokens(part.splitlines()[0])[1]: part.rstrip() + "\n" for part in parts}


def _write_blocks(blocks: dict[str, str]) -> None:
    config = hosts.config_file()
    text = config.read_text(encoding="utf-8", errors="surrogateescape") if config.exists() else ""
    place = FILE if config == hosts.user_home() / ".ssh" / "config" else f'"{_file()}"'
    lines = f"{_COMMENT}\nInclude {place}\n\n"
    if blocks:
        _write(_file(), _HEAD + "".join(f"\n{block}" for block in blocks.values()))
        if lines not in text:
            _write(config, lines + text)
    else:
        if lines in text:
            _write(config, text.replace(lines, "", 1))
        _file().unlink(missing_ok=True)


def _write(file: Path, text: str) -> None:
    """Write a file by rename, with the rights that it has, and through a link: dotfiles often are some."""
    file = Path(os.path.realpath(file))
    mode = file.stat().st_mode & 0o777 if file.exists() else 0o600
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with open(handle, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
            os.fchmod(stream.fileno(), mode)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
