"""Clone a project, and bring a checkout up to date without losing anything."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from ..errors import CommandFailed, InvalidInput, Unavailable
from . import git

_NO_ACCESS = re.compile(
    r"Authentication failed|could not read (Username|Password)|Permission denied|Host key verification failed"
    r"|error: 40[134]|returned error: 40[134]|not found|access denied|askpass",
    re.IGNORECASE,
)


def clone(source: git.Source, target: Path, *, branch: str | None = None, token: git.Token | None = None) -> None:
    """Clone a repository; `target` is there when the clone is whole, and not before.

    Parameters
    ----------
    source : Source
        The repository. With a token it is cloned over https.
    target : Path
        The folder that is made; it must be absent or empty.
    branch : str, optional
        The branch or tag to check out.
    token : Token, optional
        The login; without it the user's own credentials serve.

    Raises
    ------
    CommandFailed
        When the repository, the branch or the permission is missing; says what to use.
    """
    if branch is not None and (not branch.isprintable() or not branch or branch.startswith("-")):
        raise InvalidInput(f"branch={branch!r} is no branch.", "Write its name: branch=main")
    source = for_token(source, token)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name[:60]}.clone-", dir=target.parent) as folder:
        fresh = Path(folder) / "checkout"
        wanted = [f"--branch={branch}"] if branch else []
        try:
            git.run("clone", "--quiet", *wanted, "--", source.text, fresh, source=source, token=token)
        except CommandFailed as error:
            raise _explain(error, source, token, branch) from None
        try:
            os.rename(fresh, target)
        except OSError as error:
            if not git.same(git.origin(target), source):
                raise Unavailable(
                    f"The clone cannot become {target}: {error.strerror}.",
                    "Move what is there away, or name root=FOLDER.",
                ) from error
            # Another notebook cloned the same project in the meantime: its clone serves as well.
            shutil.rmtree(fresh)


def for_token(source: git.Source, token: git.Token | None) -> git.Source:
    """Return the address at which a token logs in.

    Raises
    ------
    InvalidInput
        When a token cannot be used there, or would be sent in clear text.
    """
    if token is None:
        return source
    if source.kind == "local":
        raise InvalidInput(f"token= has no use for {source.text}: it is a folder.", "Leave token= out.")
    source = source.over_https()
    host = re.sub(r"^\w+://|[:/].*", "", source.text)
    if source.text.lower().startswith("http:") and host not in ("127.0.0.1", "localhost"):
        raise InvalidInput(
            f"{source.text} would send the token unencrypted.", f"Write https: git=https{source.text[4:]}"
        )
    return source


def _explain(
    error: CommandFailed, source: git.Source, token: git.Token | None, branch: str | None = None
) -> CommandFailed:
    """Say why git could not reach a repository, and which login to use."""
    output = re.sub(r"^Cloning into .*\n?", "", error.output, flags=re.MULTILINE).strip()
    if branch and f"Remote branch {branch} not found" in output:
        mend = f"Leave branch= out, or write a branch that {source.text} has."
    elif source.kind == "local":
        mend = "Write the path of a git repository, in full or from this folder."
    elif not _NO_ACCESS.search(output):
        mend = f"Check the address {source.text} and the network, then run this again."
    elif token is not None:
        mend = (
            f"The token in the secret {token.name} was not accepted: check the address, and that the token has not "
            "expired and may read this repository."
        )
    elif source.kind == "http":
        mend = (
            "If the repository is private, write token=secret:NAME, with a token in Colab's secrets or in the "
            "environment variable NAME; or use your own credentials: a git credential helper, or your ssh key and "
            "git=git@HOST:PATH."
        )
    else:
        mend = (
            "Your own credentials are used here: an ssh key that the server knows, without a passphrase or in an "
            "agent, and the server in ~/.ssh/known_hosts. Or write token=secret:NAME: then it is cloned over https."
        )
    return CommandFailed(
        f"git could not read {source.text}.\n{output}".rstrip(), mend, returncode=error.returncode, output=error.output
    )


def is_dirty(top: Path) -> bool:
    """Whether files that git knows have edits that are not committed."""
    return bool(git.ask(*git.STATUS, cwd=top))


def update(top: Path, *, token: git.Token | None = None) -> str:
    """Fast-forward a checkout to its upstream branch; anything else than that is an error and changes no file.

    Parameters
    ----------
    top : Path
        The checkout.
    token : Token, optional
        The login.

    Returns
    -------
    str
        What happened, in a sentence.

    Raises
    ------
    InvalidInput
        When there is nothing to follow, edits are not committed, or both sides have commits of their own.
    CommandFailed
        When the server cannot be reached.
    """
    address = git.origin(top)
    upstream = git.ask("rev-parse", "--abbrev-ref", "@{upstream}", cwd=top)
    if not address or not upstream:
        raise InvalidInput(
            f"{top} follows no branch of a remote repository, so it cannot be updated.",
            "git switch BRANCH, and git branch --set-upstream-to=origin/BRANCH",
        )
    if is_dirty(top):
        raise InvalidInput(
            f"{top} has edits that are not committed; nothing was changed.",
            "Commit them (git commit -a) or put them aside (git stash), then update again.",
        )
    shown = git.hide_credentials(address)
    source = git.parse(shown)
    login = for_token(source, token)
    # With a token the same repository is asked over https, whatever the checkout's configuration says.
    instead = {f"url.{login.text}.insteadOf": address} if token else {}
    # Somebody may have put a password into the origin: then git's messages hold it too.
    hidden = [address.partition("://")[2].rpartition("@")[0]] if shown != address else []
    try:
        # Of several settings of this program git takes the first, but an option before them all.
        fetch = ("fetch", "--quiet", "--upload-pack=git-upload-pack", "origin")
        git.run(*fetch, cwd=top, source=login, token=token, config=instead, secrets=hidden)
    except CommandFailed as error:
        raise _explain(error, source, token) from None
    counts = (git.ask("rev-list", "--left-right", "--count", "HEAD...@{upstream}", cwd=top) or "0 0").split()
    ahead, behind = int(counts[0]), int(counts[1])
    if not behind:
        return f"up to date with {upstream}"
    if ahead:
        raise InvalidInput(
            f"{top} and {upstream} have gone apart ({ahead} commits here, {behind} there); nothing was changed.",
            "git rebase @{upstream}, or git merge @{upstream}; then update again.",
        )
    try:
        git.run("merge", "--ff-only", "--quiet", "@{upstream}", cwd=top)
    except CommandFailed as error:
        raise InvalidInput(
            f"{top} could not be brought to {upstream}; nothing was changed.\n{error.output}",
            "Move the files that git names out of the way, then update again.",
        ) from None
    return f"updated to {upstream} ({behind} new commit{'s' if behind > 1 else ''})"
