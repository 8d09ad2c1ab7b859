"""Other people's words: names that look like secrets, and checkouts that others have filled.

A checkout's own configuration may name programs: hooks, a monitor, filters, helpers. None of them runs for us; the
user's own configuration counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from . import process

_SECRETS = re.compile(
    r"(^|/)(\.env(\.[^/]*)?|\.netrc|\.git-credentials|\.pgpass|\.pypirc|\.npmrc|\.htpasswd|id_(rsa|dsa|ecdsa|ed25519)|"
    r"kubeconfig|credentials(\.json)?|secrets?(\.[^/.]*)?|[^/]*service[_-]account[^/]*\.json|"
    r"[^/]*\.(pem|p12|pfx|kdbx|keystore|ppk))$|(^|/)\.(ssh|aws|gnupg|kube)/",
    re.IGNORECASE,
)
_NO_SECRETS = re.compile(r"\.(example|sample|template|dist|py|ipynb|md|rst)$", re.IGNORECASE)

ALWAYS = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "submodule.recurse=false")
_PROTOCOLS = "file:git:http:https:ssh"
# What replaces a program that a checkout names, where the user's own configuration names none.
_INSTEAD = {"required": "false", "sslverify": "true"}
_PROGRAMS = (
    r"^(core\.(sshcommand|gitproxy|askpass|editor|pager|alternaterefscommand)|"
    r"filter\..*\.(clean|smudge|process|required)|"
    r"diff\.external|diff\..*\.(command|textconv)|merge\..*\.driver|credential\.(.*\.)?helper|"
    r"remote\..*\.vcs|gpg\.(.*\.)?program|http\.(.*\.)?ssl(verify|cainfo|capath))$"
)


def looks_secret(name: str) -> bool:
    """Whether a file is a key, a token or the like, by its name; an example of one is none."""
    return _SECRETS.search(name) is not None and _NO_SECRETS.search(name) is None


def git(*words: process.Arg) -> list[process.Arg]:
    """Return the command line of git that runs no hook and no monitor."""
    return ["git", *ALWAYS, *words]


def git_environment(cwd: Path | None, config: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return the variables with which git starts no program that a checkout's own configuration names.

    Parameters
    ----------
    cwd : Path or None
        Where git is to run.
    config : iterable of (str, str)
        Further settings for the call. They are no arguments, which every user of the machine can see.
    """
    settings = [*(_harmless(cwd) if cwd is not None else ()), *config]
    first = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    found = {"GIT_ALLOW_PROTOCOL": os.environ.get("GIT_ALLOW_PROTOCOL", _PROTOCOLS), "GIT_NO_LAZY_FETCH": "1"}
    if settings:
        found["GIT_CONFIG_COUNT"] = str(first + len(settings))
    for number, (key, value) in enumerate(settings, start=first):
        found |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return found


def _harmless(cwd: Path) -> list[tuple[str, str]]:
    """Return the user's own settings, or none, for those that name programs in a checkout's configuration."""
    asked = ["config", "--includes", "--show-scope", "--null", "--get-regexp", _PROGRAMS]
    raw = process.run_raw(git(*asked), cwd=cwd, env={"LC_ALL": "C"}, ok=range(-64, 256))
    words = iter(os.fsdecode(raw).split("\0"))
    own: dict[str, list[str]] = {}
    theirs: dict[str, None] = {}
    for scope, setting in zip(words, words, strict=False):
        key, _, value = setting.partition("\n")
        if scope in ("local", "worktree"):
            theirs[key] = None
        else:
            own.setdefault(key, []).append(value)
    settings = []
    for key in theirs:
        last = key.rpartition(".")[2]
        # An empty helper clears the list of helpers.
        values = ["", *own.get(key, ())] if last == "helper" else own.get(key, [_INSTEAD.get(last, "")])[-1:]
        settings += [(key, value) for value in values]
    return settings
