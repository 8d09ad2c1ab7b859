"""What a bundle does where it is started. It stands alone there, and is written for any Python from 3.8 on.

The environment is made once for each list of packages, in ``~/.cache/colab_magics/bundles``; the code is unpacked into
a working folder. Then this process becomes the command: its exit code, its signals and its output are its own.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import io
import json
import os
import platform
import re
import shlex
import shutil
import signal
import sys
import zipfile
import zlib
from typing import Any, NoReturn

MANIFEST = "manifest.json"
MARK = ".colab_magics.bundle.json"
"""In a working folder: which code has been unpacked into it."""
_LOCK = ".colab_magics.bundle.lock"
_FAILED = 125
"""The exit code when the command could not be started: none that programs use themselves."""
_HELP = """\
{file}: {line}

  sh {file} [WORD ...]          runs the command, with further WORDs behind its own
  sh {file} -- COMMAND ...      runs another command with the same code and packages
  sh {file} --work FOLDER ...   in this working folder; by default {work}, here
  sh {file} --list              says what it holds
  sh {file} --extract FOLDER    unpacks it, and runs nothing

It needs {needs}, and no network. The first start makes an environment (packages: {wheels}) in
{cache}; later ones use it. The command works in the working folder on a copy of the
code (files: {files}); what it writes to $data_job is in data_job there. Started again, it goes on in the same folder.
Made by colab_magics {version}{commit}.
"""


class Problem(Exception):
    """What a person has to know, and can mend."""


def main() -> int:
    """Do what the words say; returns only when no command is to be run."""
    mask = os.umask(0o077)
    file, words = sys.argv[0], sys.argv[1:]
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may be no text
    try:
        with zipfile.ZipFile(file) as archive:
            return _main(file, archive, words, mask)
    except Problem as problem:
        _say(f"{os.path.basename(file)}: {problem}")
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        _say(f"{file} is damaged ({error}): copy it anew.")
    except OSError as error:
        _say(f"{os.path.basename(file)}: {error}")
    except KeyboardInterrupt:
        return 130
    return _FAILED


def _main(file: str, archive: zipfile.ZipFile, words: list[str], mask: int) -> int:
    about = json.loads(archive.read(MANIFEST))
    work = re.sub(r"\.bundle$", "", os.path.basename(file)) + ".run"
    while words and words[0] in ("--help", "-h", "--list", "--extract", "--work"):
        word = words.pop(0)
        if word in ("--help", "-h"):
            sys.stdout.write(_help(file, about, work))
            return 0
        if word == "--list":
            sys.stdout.write(_listed(about))
            return 0
        if not words:
            raise Problem(f"{word} wants the name of a folder.")
        if word == "--extract":
            _extract(archive, about, words[0])
            return 0
        work = words.pop(0)
    _check(about)
    python = _environment(archive, about)
    work = os.path.abspath(work)
    os.makedirs(work, exist_ok=True)
    held = _lock(os.path.join(work, _LOCK), None)
    _unpack(archive, about["files"], work, os.path.join(work, MARK))
    os.makedirs(os.path.join(work, "data_job"), exist_ok=True)
    argv = _argv(about, words, work)
    # Who holds the folder is the command, and what it has started.
    os.set_inheritable(held, True)
    os.umask(mask)
    _become(argv, about, python, work)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _needs(about: dict[str, Any]) -> str:
    python = f"Python {about['python'] or '3.8 or newer'}"
    if not about["machine"]:
        return python
    return f"{python}, Linux on {about['machine']} with glibc {about['glibc'][0]}.{about['glibc'][1]} or newer"


def _check(about: dict[str, Any]) -> None:
    """See whether the packages serve this Python and this machine."""
    kind, short = sys.implementation.name, f"{sys.version_info[0]}.{sys.version_info[1]}"
    if about["python"] and (kind, short) != ("cpython", about["python"]):
        raise Problem(
            f"it needs {_needs(about)}. This is {kind} {platform.python_version()} ({sys.executable}). "
            f"Started by sh, it looks for python{about['python']}."
        )
    libc, version = platform.libc_ver()
    found = re.match(r"(\d+)\.(\d+)", version) if libc == "glibc" else None
    has = [int(found[1]), int(found[2])] if found else [0, 0]
    if about["machine"] and (platform.machine() != about["machine"] or has < about["glibc"]):
        other = f"manylinux_{has[0]}_{has[1]}_{platform.machine()}" if found else platform.machine()
        raise Problem(
            f"it needs {_needs(about)}. This is {platform.machine()} with {libc} {version or '(another C library)'}. "
            f"One for it is made with platform={other}"
        )


def _line(about: dict[str, Any]) -> str:
    words = about["command"]
    return str(words[0]) if about["shell"] else " ".join(map(shlex.quote, words))


def _help(file: str, about: dict[str, Any], work: str) -> str:
    return _HELP.format(
        file=shlex.quote(os.path.basename(file)), line=_line(about), work=shlex.quote(work), needs=_needs(about),
        wheels=len(about["wheels"]), files=len(about["files"]), version=about["version"], cache=_cache(),
        commit=f", commit {about['commit'][:12]}" if about["commit"] else "",
    )  # fmt: skip


def _listed(about: dict[str, Any]) -> str:
    lines = ["command   " + _line(about), "needs     " + _needs(about)]
    lines += [f"package   {name}  sha256:{digest}" for name, digest in about["wheels"].items()]
    # A name is shown so that no terminal obeys it.
    lines += [
        f"file      {json.dumps(path)}  {size} bytes  sha256:{one}" for path, (one, _, size) in about["files"].items()
    ]
    return "\n".join(lines) + "\n"


def _cache() -> str:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "colab_magics", "bundles")


def _lock(path: str, waiting: str | None) -> int:
    """Hold a file until this process, and whoever inherits it, has ended."""
    held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if waiting is None:
            raise Problem(
                f"it is running in {os.path.dirname(path)} already. --work FOLDER runs it beside that."
            ) from None
        _say(waiting)
        fcntl.flock(held, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise  # else the file system has no locks
    return held


def _environment(archive: zipfile.ZipFile, about: dict[str, Any]) -> str:
    """Return the Python of an environment with the packages, and make it where it is not there."""
    # One of another Python, or for another machine that shares this home folder, is another one.
    which = json.dumps([about["lock"], sys.version, sys.base_prefix, platform.machine()])
    folder = os.path.join(_cache(), hashlib.sha256(which.encode()).hexdigest()[:24])
    python, ready = os.path.join(folder, "bin", "python"), os.path.join(folder, "ready")
    os.makedirs(_cache(), mode=0o700, exist_ok=True)
    held = _lock(folder + ".lock", "Another start prepares the environment: waiting for it")
    try:
        if os.path.exists(ready) and os.access(python, os.X_OK):
            return python
        _say(f"Preparing an environment, once (packages: {len(about['wheels'])}): {folder}")
        if os.path.lexists(folder):
            shutil.rmtree(folder)  # it was cut
        try:
            import venv
        except ImportError:
            raise Problem(f"{sys.executable} has no module venv: apt-get install python3-venv") from None
        venv.EnvBuilder(symlinks=True).create(folder)
        if about["wheels"]:
            _install(archive, about, folder, held)
        os.close(os.open(ready, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    finally:
        os.close(held)
    return python


def _install(archive: zipfile.ZipFile, about: dict[str, Any], folder: str, held: int) -> None:
    wheels = os.path.join(folder, "wheels")
    os.mkdir(wheels)
    for name, digest in {**about["wheels"], **about["pip"]}.items():
        _write(archive, "wheels/" + name, digest, os.path.join(wheels, _inside(name)), executable=False)
    lock = os.path.join(folder, "requirements.txt")
    with open(lock, "w") as stream:
        stream.write(about["lock"])
    pip = os.path.join(wheels, next(iter(about["pip"])), "pip")
    argv = [os.path.join(folder, "bin", "python"), pip, "install", "--quiet", "--no-index", "--no-deps"]
    argv += ["--no-cache-dir", "--disable-pip-version-check", "--no-input", "--no-warn-script-location"]
    argv += ["--require-hashes", "--find-links", wheels, "--requirement", lock]
    # The settings of pip and of Python there are for other installations.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    # While pip lives nobody begins anew, also when this process has been killed.
    os.set_inheritable(held, True)
    pid = os.posix_spawn(
        argv[0], argv, {**env, "PIP_CONFIG_FILE": os.devnull}, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)]
    )
    status = os.waitpid(pid, 0)[1]
    os.set_inheritable(held, False)
    if status:
        raise Problem(f"its packages could not be installed in {folder}; see above.")
    shutil.rmtree(wheels)


def _inside(path: str) -> str:
    """Return a path of the bundle, unless it leads out of the folder that it goes to."""
    if not path or "\0" in path or path.startswith("/") or ".." in path.split("/"):
        raise Problem(f"{path!r} leads out of the folder: nothing of it is unpacked.")
    return path


def _write(archive: zipfile.ZipFile, entry: str, digest: str, to: str, *, executable: bool) -> None:
    """Write a file that is whole, and what was packed, or none."""
    new = f"{to}.{os.getpid()}.new"
    found = hashlib.sha256()
    out = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o700 if executable else 0o600)
    try:
        with open(out, "wb") as stream, archive.open(entry) as packed:
            for block in iter(lambda: packed.read(1 << 20), b""):
                found.update(block)
                stream.write(block)
        if found.hexdigest() != digest:
            raise Problem(f"{entry} in it is damaged: copy the bundle anew.")
        os.replace(new, to)
    except BaseException:
        os.unlink(new)
        raise


def _digest(path: str) -> str:
    """Return a file's hash; empty when there is none."""
    found = hashlib.sha256()
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                found.update(block)
    except FileNotFoundError:
        return ""
    except OSError:
        return "no file"
    return found.hexdigest()


def _unpack(archive: zipfile.ZipFile, files: dict[str, list[Any]], work: str, mark: str) -> None:
    """Bring the code into a working folder; what a run has written there stays."""
    try:
        with open(mark, encoding="utf-8") as stream:
            before = dict(json.load(stream))
    except (OSError, ValueError, TypeError):
        before = {}
    real = os.path.realpath(work)
    todo = {}
    for path, (digest, executable, _) in files.items():
        to = os.path.join(real, _inside(path))
        if before == files and os.path.lexists(to):
            continue  # a run may write over its own code
        now = _digest(to)
        if now != digest:
            if now not in ("", before.get(path, ("",))[0]):
                raise Problem(f"{path!r} in {work} is not as a bundle has left it. --work FOLDER uses another folder.")
            todo[path] = digest, executable, to
    for digest, executable, to in todo.values():
        folder = os.path.dirname(to)
        os.makedirs(folder, exist_ok=True)
        if os.path.realpath(folder) != folder:
            raise Problem(f"{folder!r} is reached by a link: nothing is written through it.")
        _write(archive, "files/" + digest, digest, to, executable=executable)
    for path in set(before) - set(files):
        if _digest(os.path.join(real, _inside(path))) == before[path][0]:
            os.unlink(os.path.join(real, path))
    with open(mark + ".new", "w", encoding="utf-8") as stream:
        json.dump(files, stream)
    os.replace(mark + ".new", mark)


def _extract(archive: zipfile.ZipFile, about: dict[str, Any], folder: str) -> None:
    os.makedirs(folder, exist_ok=True)
    if os.listdir(folder):
        raise Problem(f"{folder} is not empty.")
    for name in ("code", "wheels"):
        os.mkdir(os.path.join(folder, name))
    _unpack(archive, about["files"], os.path.join(folder, "code"), os.path.join(folder, "files.json"))
    for name, digest in {**about["wheels"], **about["pip"]}.items():
        _write(archive, "wheels/" + name, digest, os.path.join(folder, "wheels", _inside(name)), executable=False)
    for name, text in ((MANIFEST, json.dumps(about, indent=1) + "\n"), ("requirements.txt", about["lock"])):
        with open(os.path.join(folder, name), "w") as stream:
            stream.write(text)
    _say(f"{folder} has its code, its wheels, and requirements.txt, which names them.")


def _argv(about: dict[str, Any], words: list[str], work: str) -> list[str]:
    """Return the command with the words of this start, and the values of the run in it."""
    values = {"i_sub_job": "0", "data_job": os.path.join(work, "data_job")}
    is_line = about["shell"] and words[:1] != ["--"]

    def value(found: re.Match[str]) -> str:
        return shlex.quote(values[found[1]]) if is_line else values[found[1]]

    def filled(word: str) -> str:
        return re.sub(r"\{(i_sub_job|data_job)\}", value, word)

    if words[:1] == ["--"]:
        if not words[1:]:
            raise Problem("which command? It stands behind --.")
        return [filled(word) for word in words[1:]]
    if not is_line:
        return [filled(word) for word in about["command"]] + words
    if words and not re.search(r"\$[@*1-9{]", about["command"][0]):
        raise Problem(f"its command is a line for the shell that takes no further words: {about['command'][0]}")
    return [shutil.which("bash") or "/bin/sh", "-c", filled(about["command"][0]), "bundle", *words]


def _become(argv: list[str], about: dict[str, Any], python: str, work: str) -> NoReturn:
    programs = os.path.dirname(python)
    path = os.pathsep.join([programs, os.environ.get("PATH", os.defpath)])
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    env.update(PATH=path, VIRTUAL_ENV=os.path.dirname(programs), PYTHONUNBUFFERED="1")
    env.update(i_sub_job="0", data_job=os.path.join(work, "data_job"))
    if about["path"]:
        env["PYTHONPATH"] = os.pathsep.join(os.path.join(work, part) for part in about["path"])
    os.chdir(work)
    program = argv[0] if "/" in argv[0] else shutil.which(argv[0], path=path)
    if program is None:
        raise Problem(f"there is no program {argv[0]!r} here.")
    _say(f"In {work}: {' '.join(map(shlex.quote, argv))}")
    for name in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(name, signal.SIG_DFL)  # which Python ignores, and a command would, too
    os.execve(program, argv, env)
