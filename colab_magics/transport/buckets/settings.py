"""Where a bucket is and with whose keys: the environment, the project's ``.env``, and the usual files of AWS.

The environment wins over ``.env``, which wins over ``~/.aws``; a key, its secret and its token always come from one of
them. A ``.env`` that git tracks came with a clone: it is other people's words, and could send the user's data, or
requests that the user's keys sign, anywhere. Nothing in it counts without a yes, which the floors above bring.
"""

from __future__ import annotations

import configparser
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ... import foreign, process
from ...errors import CommandFailed, InvalidInput, Unavailable, did_you_mean
from ...files import plain

DOTENV = ".env"
Consent = Callable[[Path, Mapping[str, str]], bool]
"""Whether the user has said yes to these values of this file, which came with a repository."""
Warn = Callable[[str], None]

BUCKET, ENDPOINT, REGION = "S3_BUCKET_NAME", "S3_ENDPOINT_URL", "AWS_REGION"
KEY, SECRET, TOKEN = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
PROFILE, UNSIGNED = "AWS_PROFILE", "AWS_SKIP_SIGNATURE"
GOOGLE_FILE, GOOGLE_UNSIGNED, GOOGLE_ENDPOINT = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SKIP_SIGNATURE",
    "STORAGE_EMULATOR_HOST",
)
_ALSO = {
    ENDPOINT: (ENDPOINT, "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    REGION: (REGION, "AWS_DEFAULT_REGION"),
    BUCKET: (BUCKET,),
    UNSIGNED: (UNSIGNED,),
    "AWS_SHARED_CREDENTIALS_FILE": ("AWS_SHARED_CREDENTIALS_FILE",),
    "AWS_CONFIG_FILE": ("AWS_CONFIG_FILE",),
    "AWS_CA_BUNDLE": ("AWS_CA_BUNDLE",),
    GOOGLE_FILE: (GOOGLE_FILE,),
    GOOGLE_UNSIGNED: (GOOGLE_UNSIGNED,),
    GOOGLE_ENDPOINT: (GOOGLE_ENDPOINT,),
}
KNOWN = frozenset({*(name for names in _ALSO.values() for name in names), KEY, SECRET, TOKEN, PROFILE})
"""The variables that are read; everything else in a ``.env`` is not ours."""
_ELSEWHERE = ("sso_session", "sso_start_url", "role_arn", "credential_process", "login_session")
"""What a profile holds whose keys are asked for elsewhere."""


class Settings(dict[str, str]):
    """Settings by the first of their names, such as ``S3_ENDPOINT_URL``; shows itself without what is secret."""

    def __repr__(self) -> str:
        return repr({name: "…" if is_secret(name) else value for name, value in self.items()})

    __str__ = __repr__


def is_secret(name: str) -> bool:
    """Whether a variable's value is for nobody's eyes."""
    return any(word in name.upper() for word in ("SECRET", "TOKEN", "PASSWORD"))


def refuse(file: Path, values: Mapping[str, str]) -> bool:
    """Say no: nobody was asked."""
    return False


def settings(folder: Path | None = None, *, consent: Consent = refuse, warn: Warn = process.log.debug) -> Settings:
    """Find where a bucket is and with whose keys.

    Parameters
    ----------
    folder : Path, optional
        Where the user stands: the nearest ``.env`` from there up to the checkout's top counts. None reads no ``.env``.
    consent : callable
        Whether the user has said yes to a ``.env`` that git tracks; nobody has, by default.
    warn : callable
        Is told what was left out.

    Returns
    -------
    Settings
        ``S3_BUCKET_NAME``, ``S3_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
        ``AWS_SESSION_TOKEN``, ``AWS_SKIP_SIGNATURE``, and those of Google, as far as they are set; ``AWS_PROFILE``
        alone when its keys have to be asked for elsewhere (single sign-on, roles).

    Raises
    ------
    InvalidInput
        For a profile that is not there, a key without its secret, or a file that cannot be read.
    """
    environment = {name: value for name in KNOWN if (value := os.environ.get(name, "").strip())}
    sources: list[tuple[str, Mapping[str, str]]] = [("the environment", environment)]
    if folder is not None and (own := of_dotenv(folder, consent, warn)) is not None:
        sources.append((str(own[0]), own[1]))
    found = Settings()
    for name, names in _ALSO.items():
        values = (source[one] for _, source in sources for one in names if source.get(one))
        if value := next(values, ""):
            found[name] = value
    _add_keys(found, sources)
    return found


def _add_keys(found: Settings, sources: list[tuple[str, Mapping[str, str]]]) -> None:
    """Add key, secret and token of the first source that has them, or that names a profile which does."""
    for where, source in sources:
        if source.get(KEY) or source.get(SECRET):
            if missing := [name for name in (KEY, SECRET) if not source.get(name)]:
                raise InvalidInput(
                    f"{where} sets {SECRET if missing == [KEY] else KEY} without {missing[0]}.",
                    f"Set both in the same place: {missing[0]} is missing.",
                )
            found.update({name: source[name] for name in (KEY, SECRET, TOKEN) if source.get(name)})
        if found.get(KEY) or source.get(PROFILE):
            _add_profile(found, source.get(PROFILE) or "", needed=not found.get(KEY))
            return
    _add_profile(found, "", needed=not found.get(UNSIGNED))


def _add_profile(found: Settings, named: str, *, needed: bool) -> None:
    """Add what a profile of the usual files says and nobody else has said."""
    profiles = _profiles(found)
    if named and named not in profiles:
        raise did_you_mean(named, profiles, kind=f"profile of {' and '.join(map(str, _files(found)))}")
    profile = profiles.get(named or "default", {})
    for name, key in ((REGION, "region"), (ENDPOINT, "endpoint_url"), ("AWS_CA_BUNDLE", "ca_bundle")):
        if profile.get(key) and name not in found:
            found[name] = profile[key]
    if not needed:
        return
    if profile.get("aws_access_key_id") and profile.get("aws_secret_access_key"):
        found[KEY], found[SECRET] = profile["aws_access_key_id"], profile["aws_secret_access_key"]
        if profile.get("aws_session_token"):
            found[TOKEN] = profile["aws_session_token"]
    elif any(profile.get(key) for key in _ELSEWHERE):
        found[PROFILE] = named or "default"


def _files(found: Mapping[str, str]) -> list[Path]:
    names = (("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"), ("AWS_CONFIG_FILE", "~/.aws/config"))
    return [Path(found.get(name) or usual).expanduser() for name, usual in names]


def _profiles(found: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Read the profiles of the usual files; what stands in the first of them wins."""
    profiles: dict[str, dict[str, str]] = {}
    for file in _files(found):
        parser = configparser.RawConfigParser(
            default_section="\0", strict=False, allow_no_value=True, inline_comment_prefixes=("#", ";")
        )
        try:
            parser.read_string(file.read_text(), str(file))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, configparser.Error) as error:
            # Their own text would show lines of the file, and so perhaps a secret.
            why = error.strerror if isinstance(error, OSError) else f"it is no such file ({type(error).__name__})"
            raise InvalidInput(f"{file} cannot be read: {why}.", "Mend the file, or move it away.") from None
        for section in parser.sections():
            kind, _, rest = section.partition(" ")
            name = rest.strip() if kind == "profile" and rest else section
            if kind not in ("sso-session", "services"):
                values = {key: value.strip() for key, value in parser.items(section) if value}
                profiles[name] = values | profiles.get(name, {})
    return profiles


# The project's .env


def of_dotenv(folder: Path, consent: Consent = refuse, warn: Warn = process.log.debug) -> tuple[Path, Settings] | None:
    """Return the nearest ``.env`` from a folder upward and what in it counts; None without one."""
    if (file := find_dotenv(folder)) is None:
        return None
    values = read_dotenv(file, warn)
    if values and came_with_a_clone(file) and not consent(file, values):
        warn(
            f"{file} is tracked by git, so it is the repository's word, and {', '.join(sorted(values))} in it are left "
            "out: that is yours to say. If you trust it: %trust"
        )
        return file, Settings()
    return file, values


def find_dotenv(folder: Path) -> Path | None:
    """Return the nearest ``.env`` from a folder up to the top of its checkout, or to the home."""
    home = os.path.realpath(os.path.expanduser("~"))
    start = Path(folder).absolute()
    for one in (start, *start.parents):
        if os.path.lexists(one / DOTENV):
            return one / DOTENV
        if os.path.lexists(one / ".git") or os.path.realpath(one) == home:
            return None
        if one == start and not _within_checkout(start):
            return None  # above it stand folders of others, such as /tmp
    return None


def _within_checkout(folder: Path) -> bool:
    return any(os.path.lexists(one / ".git") for one in (folder, *folder.parents))


def read_dotenv(file: Path, warn: Warn = process.log.debug) -> Settings:
    """Read the settings of a ``.env`` that are ours; one that is a link or another user's is not read.

    Comments, quotes, ``export`` and spaces around ``=`` are understood. Nothing in it is replaced: ``$`` is a dollar.
    """
    try:
        with open(file, "rb", opener=plain) as stream:
            if os.fstat(stream.fileno()).st_uid not in (os.geteuid(), 0):
                warn(f"{file} is not read: it belongs to another user.")
                return Settings()
            text = stream.read().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput(f"{file} cannot be read: it is no text.", "Write it as text (UTF-8).") from None
    except OSError as error:
        warn(f"{file} is not read: {error.strerror}.")
        return Settings()
    return Settings((name, value) for name, value in parse_dotenv(text) if name in KNOWN and value)


_ASSIGNED = re.compile(
    r"[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=[ \t]*"
    r"""(?:'([^']*)'|"((?:[^"\\]|\\.)*)"|([^\r\n]*))[^\r\n]*(?:\r?\n|\Z)""",
    re.DOTALL,
)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def parse_dotenv(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and values of a ``.env``; the last one of a name wins, as in a shell."""
    at = 0
    while at < len(text):
        if (found := _ASSIGNED.match(text, at)) is None:
            at = text.find("\n", at) + 1 or len(text)  # a comment, an empty line, or nothing that assigns
            continue
        name, single, double, bare = found.groups()
        if double is not None:
            yield name, re.sub(r"\\(.)", lambda one: _ESCAPES.get(one[1], one[1]), double, flags=re.DOTALL)
        else:
            yield name, single if single is not None else re.sub(r"(^|\s)#.*", "", bare).strip()
        at = found.end()


def came_with_a_clone(file: Path) -> bool:
    """Whether git tracks a file; also when that cannot be found out although it stands in a checkout."""
    tops = [folder for folder in file.absolute().parents if os.path.lexists(folder / ".git")]
    for top in tops:
        # The checkout is named: a folder that only looks like a repository could answer in its place.
        asked = foreign.git(f"--git-dir={top / '.git'}", f"--work-tree={top}", "ls-files", "-z", "--", str(file))
        try:
            if process.run_raw(asked, cwd=top, env=foreign.git_environment(None)):
                return True
        except (CommandFailed, Unavailable) as error:
            process.log.debug("%s: %s", file, error)
            return True
    return False
