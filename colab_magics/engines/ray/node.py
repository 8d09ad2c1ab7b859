"""What executes on the nodes of a Ray cluster. Stands alone: Ray takes it there as it is, before our package is there.

An `Agent` serves a node for one scheduler, and ends with it. A `Place` is what Ray keeps for one run: it holds cores
and GPUs until the run has ended, also when whoever asked for it has died meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO, Any

_UNCLAIMED_SECONDS = 60.0
_LEAVE_SECONDS = 0.3
_BEGIN_SECONDS = 60.0
_EVERY = 0.1
LENGTH_BYTES = 8
"""Before each question and each answer stands its length, the highest byte first."""
_HELLO = struct.pack("!HI", 1, 16) + b'{"ask": "hello"}'
_NEEDED = (
    "import cyclopts, gdown, ipykernel, jupyter_client, msgspec, nbclient, papermill, psutil, ruamel.yaml, watchdog"
)


def scratch_of(said: str | None) -> Path:
    """Return the folder of a node where runs write; nobody else may look into it.

    Raises
    ------
    PermissionError
        When somebody else has made it.
    """
    folder = Path(said) if said else Path(tempfile.gettempdir(), f"colab_magics-ray-{os.getuid()}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.lstat(folder).st_uid != os.getuid() or folder.is_symlink():
        raise PermissionError(f"{folder} belongs to somebody else; say another one: scratch=FOLDER")
    return folder


class Agent:
    """Does on its node what it is asked; see `colab_magics.engines.ssh.there`.

    Parameters
    ----------
    scratch : str or None
        Where runs write.
    mark : str
        Names this version of our package.
    packed : bytes
        The package, as an archive.
    requirements : list of str
        What it needs.
    inputs : str or None
        Folder that runs see as ``data_project``.
    """

    def __init__(
        self, scratch: str | None, mark: str, packed: bytes, requirements: list[str], inputs: str | None
    ) -> None:
        home = scratch_of(scratch)
        paths = [str(_unpacked(home / "package", mark, packed))]
        if subprocess.run([sys.executable, "-c", _NEEDED], capture_output=True, check=False).returncode:
            paths.append(str(_installed(home / "needed", mark, requirements)))
        # Runs are no part of this worker: a ray.init() of theirs begins anew.
        env = {name: value for name, value in os.environ.items() if name == "RAY_ADDRESS" or name[:4] != "RAY_"}
        env["PYTHONPATH"] = os.pathsep.join([*paths, *filter(None, [env.get("PYTHONPATH")])])
        # A program of its own: the children of a worker end with it, and runs are to go on.
        words = [sys.executable, "-P", "-m", "colab_magics.engines.ray.there", str(home), *([inputs] if inputs else [])]
        self._there = subprocess.Popen(
            words, env=env, cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
        )

    def begin(self) -> None:
        """Be ready; remove what has come home long ago.

        Raises
        ------
        RuntimeError
            When packages of the node's Python are too old.
        """
        said = json.loads(self.answer(_HELLO)[6:])  # behind the number and the length of its frames, see `relay.wire`
        if unmet := said.get("unmet"):
            raise RuntimeError(f"the node's Python lacks {', '.join(unmet)}: say runtime_env=FILE with pip: {unmet}")

    def answer(self, payload: bytes) -> bytes:
        """Answer a question.

        Raises
        ------
        RuntimeError
            When the program that does so has ended.
        """
        source, target = self._there.stdout, self._there.stdin
        if source is not None and target is not None:
            with contextlib.suppress(BrokenPipeError):
                target.write(len(payload).to_bytes(LENGTH_BYTES) + payload)
                target.flush()
                head = source.read(LENGTH_BYTES)
                if len(head) == LENGTH_BYTES:
                    return source.read(int.from_bytes(head))
        raise RuntimeError(f"what serves runs has ended with status {self._there.wait()}")


def _unpacked(folder: Path, mark: str, packed: bytes) -> Path:
    """Unpack the package, once a node."""
    target = folder / mark
    if not target.is_dir():
        folder.mkdir(mode=0o700, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=folder, prefix=".new-"))
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(made, filter="data")
        with contextlib.suppress(OSError):  # somebody else was faster
            os.rename(made, target)
    return target


def _installed(folder: Path, mark: str, requirements: list[str]) -> Path:
    """Install what the package needs, once a node, beside the node's Python and not into it."""
    target = folder / f"{mark}-{sys.version_info[0]}.{sys.version_info[1]}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            made = tempfile.mkdtemp(dir=folder, prefix=".new-")
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", made]
            done = subprocess.run([*pip, *requirements], capture_output=True, text=True, check=False)
            if done.returncode:
                shutil.rmtree(made, ignore_errors=True)
                said = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
                raise RuntimeError(f"what runs need could not be installed there: {said}")
            os.rename(made, target)
    return target


class Place:
    """Room for one run; it ends with the run, or when nobody has claimed it for a minute."""

    def __init__(self, scratch: str | None) -> None:
        self._keys = scratch_of(scratch) / "colab_magics" / ".runs" / "keys"
        self._asked, self._claimed = time.monotonic(), False
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while self._claimed or time.monotonic() - self._asked < _UNCLAIMED_SECONDS:
            time.sleep(1.0)
        os._exit(0)

    def where(self) -> tuple[str, list[str]]:
        """Return the node's name, and the GPUs that Ray gives to whoever has this place."""
        import ray

        context = ray.get_runtime_context()
        devices = os.environ.get("CUDA_VISIBLE_DEVICES", "") if ray.get_gpu_ids() else ""
        return context.get_node_id(), [one for one in devices.split(",") if one]

    def keep(self) -> None:
        """Stay, though nobody has claimed it."""
        self._asked = time.monotonic()

    def hold(self, key: str) -> None:
        """Return when the run of a key has ended, or has not begun for a minute. It is told to end if this dies."""
        self._claimed = True
        try:
            self._hold(key)
        finally:
            threading.Timer(_LEAVE_SECONDS, os._exit, (0,)).start()  # when the answer is on its way

    def _hold(self, key: str) -> None:
        until, guard = time.monotonic() + _BEGIN_SECONDS, None
        while True:
            who = self._who(key)
            alive = who is not None and _started(who["pid"]) == who["started"]
            if alive and who is not None and guard is None:
                guard = _guard(who["pid"])
            if not alive and (who is not None or time.monotonic() > until):
                break
            time.sleep(_EVERY)
        if guard is not None:
            with contextlib.suppress(BrokenPipeError):
                guard.write(b"\n")
            guard.close()

    def _who(self, key: str) -> dict[str, Any] | None:
        try:
            who: dict[str, Any] = json.loads((self._keys / f"{key}.json").read_bytes())["who"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return who if who and "pid" in who else None


def _guard(pid: int) -> IO[bytes]:
    """Start what tells a run to end when this process dies without a word: the end of the pipe to it is seen then.

    It is nobody's child, for those of a worker are killed with it.
    """
    script = 'exec 3<&0; { read _ <&3 || kill -TERM "$0"; } &'
    shell = subprocess.Popen(
        ["/bin/sh", "-c", script, str(pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,
    )
    shell.wait()
    if shell.stdin is None:
        raise RuntimeError("a pipe is missing")
    return shell.stdin


def _started(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)); None for a process that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])
