"""A project's code on its way into pods: with the job, in a config map, or by a clone at the commit that is here."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from ...checkout import git
from ...checkout.trust import Warn, unheard
from ...errors import InvalidInput
from ..ssh.code import Checkout
from . import names, objects
from .built import BUILD, WRITTEN
from .objects import Clone, Object
from .settings import Settings

_TOO_MUCH = (
    "Commit and push it, and write code=git; or build it into the image: code=image workdir=FOLDER. "
    "What runs need not can be left out by .gitignore."
)


@dataclass(frozen=True)
class Code:
    """How pods get the code.

    Parameters
    ----------
    maps : mapping
        Config maps that tasks mount; see `objects.Task`.
    clone : Clone, optional
        What they clone.
    objects : list of Object
        What the cluster must have before.
    """

    maps: dict[str, str] = field(default_factory=dict)
    clone: Clone | None = None
    objects: list[Object] = field(default_factory=list)


def of(settings: Settings, root: Path, project: Path, warn: Warn = unheard) -> Code:
    """Say how pods get the code of a folder.

    Parameters
    ----------
    settings : Settings
        Say which way.
    root, project : Path
        Folder of the code, and of its project.
    warn : callable, optional
        Told of edits that a clone does not have.

    Raises
    ------
    InvalidInput
        When it cannot go that way; says which one can.
    """
    if settings.code == "image":
        return Code()
    if settings.code == "git":
        return Code(clone=clone_of(root, warn))
    data = packed(Checkout(root, project))
    # Named by what it holds: jobs of the same code share one.
    name = names.name([settings.prefix, settings.project, "code"], unique=hashlib.sha256(data).hexdigest())
    try:
        made = objects.config_map(settings, name, files={objects.PACKED: data})
    except objects.TooLarge as problem:
        raise objects.TooLarge(f"The code in {root}: {problem.what}", _TOO_MUCH) from None
    return Code({"code": name}, objects=[made])


def packed(checkout: Checkout) -> bytes:
    """Return the code as an archive: the same code gives the same bytes."""
    out = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, (_, mode) in sorted(checkout.look().files.items()):
            try:
                data = (checkout.root / path).read_bytes()
            except OSError:
                continue  # gone again
            if path.startswith(f"{BUILD}/") and data.startswith(WRITTEN):
                continue
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), mode & 0o755 | 0o600
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def clone_of(root: Path, warn: Warn = unheard) -> Clone:
    """Return the repository of a folder, at the commit that is checked out.

    Raises
    ------
    InvalidInput
        When there is none, no other machine can reach it, or the commit is not there yet.
    """
    mend = "Write code=configmap, which takes the code as it is here."
    top = git.toplevel(root)
    commit = git.ask("rev-parse", "HEAD", cwd=root) if top is not None else None
    address = git.origin(top) if top is not None else None
    if top is None or commit is None or not address:
        raise InvalidInput(f"code=git: {root} is no checkout with an origin and a commit.", mend)
    try:
        source = git.parse(git.hide_credentials(address))
    except InvalidInput as error:
        raise InvalidInput(f"code=git: {error.what}", mend) from None
    if source.kind == "local":
        raise InvalidInput(f"code=git: no other machine reaches {address}.", mend)
    if not git.ask("branch", "--remotes", "--contains", commit, cwd=top):
        raise InvalidInput(f"code=git: commit {commit[:8]} is on no branch of {source.key} yet.", f"git push. {mend}")
    if git.ask(*git.STATUS, cwd=top):
        warn(f"Runs get commit {commit[:8]}, without the edits that are not committed.")
    # A pod has no key of the user's: an address of ssh is cloned by https.
    return Clone(source.text if source.kind == "http" else f"https://{source.key}.git", commit)
