"""Calling git so that it never waits for an answer and never keeps a token."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .. import foreign, process
from ..errors import InvalidInput, Unavailable

STATUS = ("status", "--porcelain", "--untracked-files=no", "--ignore-submodules=dirty")
"""Says which files that git knows have edits; what runs in a submodule would obey that one's configuration."""

_ASKPASS = """#!/bin/sh
# Answers for the one server that the token is for: a server that another one redirects to gets nothing.
case "$1" in
  "Username for '$COLAB_MAGICS_GIT_SERVER'"* | "Username for '$COLAB_MAGICS_GIT_SERVER/"*)
    printf '%s\\n' "$COLAB_MAGICS_GIT_USER" ;;
  "Password for '$COLAB_MAGICS_GIT_LOGIN'"* | "Password for '$COLAB_MAGICS_GIT_LOGIN/"*)
    printf '%s\\n' "$COLAB_MAGICS_GIT_TOKEN" ;;
  *) exit 1 ;;
esac
"""


@dataclass(frozen=True)
class Source:
    """Where a repository is.

    Parameters
    ----------
    text : str
        What git is given.
    kind : str
        ``http``, ``ssh`` or ``local``.
    key : str
        The same text for all spellings of one repository: ``host/path`` or an absolute path.
    name : str
        The project's name: the last part of the path without ``.git``.
    """

    text: str
    kind: str
    key: str
    name: str

    def over_https(self) -> Source:
        """Return the same repository over https, which is where tokens work."""
        return self if self.kind == "http" else parse(f"https://{self.key}")


def parse(text: str) -> Source:
    """Read the address of a repository.

    Parameters
    ----------
    text : str
        ``https://host/path.git``, ``git@host:path.git``, ``host:path``, ``ssh://host/path``, ``file://…`` or a folder.

    Raises
    ------
    InvalidInput
        When it is no address, or holds a user name or password that git would write to ``.git/config``.
    """
    text = str(text).strip()
    if not text or text.startswith("-") or not text.isprintable() or "::" in text.split("/")[0]:
        raise InvalidInput(
            f"git={text!r} is no address of a repository.", "Write git=https://HOST/PATH, git@HOST:PATH or a folder."
        )
    url = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*)://(?:([^/]*)@)?([^/@]*)(/.*)?", text)
    scp = re.fullmatch(r"(?:([^/@:]+)@)?(\[[^]]+\]|[^/:@]+):(?!//)(.*)", text)
    if url:
        return _parse_url(text, scheme=url[1].lower(), user=url[2] or "", host=url[3].lower(), path=url[4] or "")
    if scp and not Path(text).expanduser().exists():
        return Source(text, "ssh", f"{scp[2].lower()}/{_plain(scp[3])}", _name(scp[3], text))
    return _local(text, Path(text).expanduser())


def _parse_url(text: str, *, scheme: str, user: str, host: str, path: str) -> Source:
    if scheme == "file":
        from urllib.parse import unquote

        return _local(text, Path(unquote(path)))
    if user and (scheme in ("http", "https") or ":" in user):
        raise InvalidInput(
            f"The address {scheme}://***@{host}{path} holds credentials, and git would keep them in .git/config.",
            f"Write git={scheme}://{host}{path} and token=secret:NAME, with the token in Colab's secrets or the "
            "environment.",
        )
    if scheme not in ("http", "https", "ssh", "git") or not re.fullmatch(r"[^:]+(:\d+)?|\[[^]]+\](:\d+)?", host):
        raise InvalidInput(
            f"git={hide_credentials(text)!r} is no address that can be cloned.",
            "Known: https://, http://, ssh://, file://, git@HOST:PATH.",
        )
    kind = "ssh" if scheme == "ssh" else "http"
    # The port of ssh says nothing about which repository it is, and https has another one.
    server = re.sub(r":\d+$" if kind == "ssh" else r":(?:443|80)$", "", host)
    return Source(text, kind, f"{server}/{_plain(path)}", _name(path, text))


def hide_credentials(text: str) -> str:
    """Take a user name and password out of an address, as in one that somebody else wrote to .git/config."""
    scheme, mark, rest = text.partition("://")
    if not mark or scheme.lower() not in ("http", "https"):
        return text
    return f"{scheme}://{rest.rpartition('@')[2]}"


def same(first: str | None, second: Source) -> bool:
    """Whether the address `first` (an origin) means the repository `second`, however either is written."""
    if not first:
        return False
    try:
        return parse(hide_credentials(first)).key == second.key
    except InvalidInput:
        return False


def _local(text: str, folder: Path) -> Source:
    absolute = os.path.abspath(folder)
    shown = text if text.startswith("file:") else absolute
    name = Path(absolute).parent.name if Path(absolute).name == ".git" else _name(absolute, text)
    return Source(shown, "local", os.path.realpath(absolute).removesuffix("/.git").removesuffix(".git"), name)


def _plain(path: str) -> str:
    return path.strip("/").removeprefix("~/").removesuffix(".git").rstrip("/")


def _name(path: str, text: str) -> str:
    name = path.rstrip("/").rpartition("/")[2].removesuffix(".git")
    if not name or name in (".", "..", "~"):
        raise InvalidInput(f"git={text!r} names no repository.", "Write its whole address: git=https://HOST/OWNER/NAME")
    return name


@dataclass(frozen=True)
class Token:
    """A token for one server.

    Parameters
    ----------
    name : str
        The secret's name.
    value : str
        The token; it is never part of this object's text.
    """

    name: str
    value: str

    def __repr__(self) -> str:
        return f"Token({self.name!r})"

    @contextmanager
    def environment(self, source: Source) -> Iterator[dict[str, str]]:
        """Give the variables with which git asks us, and nobody else, for the password of `source`."""
        scheme, _, rest = source.text.partition("://")
        server = f"{scheme}://{rest.partition('/')[0]}"
        user = "x-token-auth" if "bitbucket" in server else "x-access-token"
        with tempfile.TemporaryDirectory(prefix="colab_magics-") as folder:
            script = Path(folder) / "askpass"
            script.touch(mode=0o700)
            script.write_text(_ASKPASS)
            yield {
                "GIT_ASKPASS": str(script),
                "COLAB_MAGICS_GIT_SERVER": server,
                "COLAB_MAGICS_GIT_LOGIN": f"{scheme}://{user}@{rest.partition('/')[0]}",
                "COLAB_MAGICS_GIT_USER": user,
                "COLAB_MAGICS_GIT_TOKEN": self.value,
            }


def quiet_environment() -> dict[str, str]:
    """Variables with which git and ssh fail where they would ask."""
    # C: the answers are read by program. GIT_ASKPASS: a helper of an editor would open a window and wait.
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GCM_INTERACTIVE": "never", "GIT_ASKPASS": "false", "LC_ALL": "C"}
    quiet["SSH_ASKPASS_REQUIRE"] = "never"
    own = {"GIT_SSH_COMMAND", "GIT_SSH"} & os.environ.keys()
    if not own and not _config("core.sshCommand"):
        quiet["GIT_SSH_COMMAND"] = "ssh -o BatchMode=yes"
    return quiet


def run(
    *args: process.Arg,
    cwd: Path | None = None,
    source: Source | None = None,
    token: Token | None = None,
    config: Mapping[str, str] | None = None,
    secrets: Sequence[str] = (),
) -> str:
    """Run git and return what it printed; with `token` it logs in to the server of `source` and stores nothing.

    Parameters
    ----------
    *args : str or path
        The command and its arguments.
    cwd : Path, optional
        The folder to run in.
    source, token : optional
        The repository that is reached, and the login there.
    config : mapping, optional
        Settings for this call. They are no arguments, which every user of the machine can see.
    secrets : sequence of str
        Texts that git must not show.

    Raises
    ------
    CommandFailed
        When git fails.
    """
    env = {**quiet_environment(), **foreign.git_environment(cwd, (config or {}).items())}
    if token is None or source is None:
        return process.run(foreign.git(*args), cwd=cwd, env=env, secrets=secrets).stdout
    # The empty helper clears the list: no helper of the user's sees the token, so none can store it.
    command = foreign.git("-c", "credential.helper=", *args)
    with token.environment(source) as login:
        return process.run(command, cwd=cwd, env={**env, **login}, secrets=[token.value, *secrets]).stdout


def ask(*args: process.Arg, cwd: Path) -> str | None:
    """Ask git something about a checkout; None when it has no answer, or is not installed."""
    if not cwd.is_dir() or shutil.which("git") is None:
        return None
    # No optional locks: a question must not write the index beside a git that the user runs.
    env = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", **foreign.git_environment(cwd)}
    done = process.run(foreign.git(*args), cwd=cwd, env=env, ok=range(-64, 256))
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def commit(root: Path) -> str | None:
    """Return the commit of a checkout, with ``+edits`` when files differ from it; None outside of git."""
    head, edits = ask("rev-parse", "HEAD", cwd=root), ask(*STATUS, cwd=root)
    if head is None or edits is None:
        return None
    return f"{head}+edits" if edits else head


def toplevel(folder: Path) -> Path | None:
    """Return the checkout that a folder stands in.

    Raises
    ------
    Unavailable
        When git does not trust it, because it belongs to another user.
    """
    if not folder.is_dir() or shutil.which("git") is None:
        return None
    asked = foreign.git("rev-parse", "--show-toplevel")
    done = process.run(asked, cwd=folder, env={"LC_ALL": "C"}, ok=range(-64, 256))
    if "dubious ownership" in done.stderr:
        trust = re.search(r"git config --global --add safe\.directory .*", done.stderr)
        raise Unavailable(
            f"git does not use {folder}: it belongs to another user.",
            trust[0] if trust else "git config --global --add safe.directory FOLDER",
        )
    top = done.stdout.rstrip("\n")
    if done.returncode or not top:
        return None
    if not Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(top)):
        raise Unavailable(
            f"git does not use {folder}: its configuration says that its files lie in {top}.",
            "If that is not meant: git config --unset core.worktree",
        )
    return Path(top)


def origin(top: Path) -> str | None:
    """Return the address that a checkout came from."""
    return ask("config", "--get", "remote.origin.url", cwd=top)


def _config(name: str) -> str | None:
    return ask("config", "--get", name, cwd=Path("/"))
