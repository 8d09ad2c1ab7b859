"""A stand-in for Google Drive: a FUSE file system over a plain folder, in its own process, whose faults are switched.

It shows in the table of mounts as ``fuse.drive``, knows neither links nor modes nor owners, keeps whole seconds, and
does to whoever uses it what `Drive.set` says. Its process ends with the one that mounted it, and takes the mount along.

    with Drive.mounted(backing, mountpoint) as drive:
        drive.set(fail={"*": "EIO"})
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

WRITES = ("create", "write", "truncate", "unlink", "rename", "mkdir", "rmdir", "utimens")
READS = ("getattr", "open", "opendir", "read", "readdir", "statfs")
OTHERS = ("chmod", "chown", "flush", "fsync", "link", "mknod", "release", "releasedir", "symlink")
BLOCK = 4096
STARTS_WITHIN = 20.0
HANGS_MOST = 90.0
"""What hangs goes on after this many seconds by itself: nobody in a hung mount can be killed, not even the test."""
MNT_DETACH, UMOUNT_NOFOLLOW = 2, 8


class Drive:
    """A mounted stand-in, seen from the process that mounted it.

    Parameters
    ----------
    backing : Path
        What "Google" holds: tests look here for what arrived, past the mount and its faults.
    mountpoint : Path
        Where it is mounted.
    """

    def __init__(self, backing: Path, mountpoint: Path) -> None:
        self.backing, self.mountpoint = backing, mountpoint
        self._process: subprocess.Popen[str] | None = None

    @classmethod
    @contextlib.contextmanager
    def mounted(cls, backing: Path, mountpoint: Path, **settings: Any) -> Iterator[Drive]:
        """Mount it while the block runs; the block may kill, unmount and mount it."""
        drive = cls(backing, mountpoint)
        try:
            drive.mount(**settings)
            yield drive
        finally:
            drive.end()

    def mount(self, **settings: Any) -> None:
        """Mount it, with the settings of `set`."""
        self.backing.mkdir(parents=True, exist_ok=True)
        self.mountpoint.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, __file__, self.backing, self.mountpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd="/",
        )
        end = time.monotonic() + STARTS_WITHIN
        while not self.is_mounted():
            if self._process.poll() is not None or time.monotonic() > end:
                self.end()
                raise RuntimeError("the stand-in for Drive did not mount; what it said stands above")
            time.sleep(0.01)
        self.set(**settings)

    def is_mounted(self) -> bool:
        """Whether the table of mounts lists it, alive or dead."""
        table = Path("/proc/self/mounts").read_text(errors="surrogateescape").splitlines()
        # Spaces stand in octal there; no other character of a test's folder needs it.
        return str(self.mountpoint).replace(" ", r"\040") in (row.split(" ")[1] for row in table)

    def set(self, **settings: Any) -> None:
        """Change how it behaves; what is not named stays.

        Parameters
        ----------
        **settings : Any
            Those below.
        latency : float
            Seconds that every operation takes.
        fail : dict of str to str
            Operations that fail and how, such as ``{"write": "EIO"}``; ``*`` stands for all of them.
        where : str
            Only paths that hold this text fail; all by default.
        hang : list of str
            Operations that do not return until they are taken out of this list; ``*`` stands for all.
        quota : int or None
            Bytes that fit in; beyond, writing fails as Drive's does (ENOSPC).
        lag : float
            Seconds until what was written here is uploaded; see `lose`.
        late : float
            Seconds for which files that another session wrote stay unseen here.
        """
        self._ask({"set": settings})

    def counts(self) -> Counter[str]:
        """How often each operation was done since it was mounted, or since `reset`."""
        return Counter(self._ask({})["counts"])

    def reset(self) -> None:
        """Count from 0 again."""
        self._ask({"reset": True})

    def hanging(self) -> int:
        """How many operations hang now."""
        return int(self._ask({})["hanging"])

    def kill(self) -> None:
        """Kill its process: the mount stays in the table and answers nothing but ENOTCONN, as on Colab."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                assert stream is not None
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
            self._process = None

    def lose(self) -> list[str]:
        """Kill it, and with it what was written here but not uploaded: it is gone; returns these paths."""
        waiting: list[str] = self._ask({})["waiting"]
        self.kill()
        for path in waiting:
            Path(str(self.backing) + path).unlink(missing_ok=True)
        return waiting

    def unmount(self) -> None:
        """Unmount it, also while something uses it; what is left is an empty folder."""
        detach(self.mountpoint)
        self.kill()

    def end(self) -> None:
        """End whatever there is; never hangs, as nothing here looks into the mount."""
        self.kill()
        for _ in range(3):  # it may have been mounted twice
            if self.is_mounted():
                detach(self.mountpoint)

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


class Faulty:
    """The operations: those of a plain folder behind a gate that counts, delays, hangs and fails them."""

    use_ns = True

    def __init__(self, backing: str) -> None:
        self.backing = backing
        self.counts: Counter[str] = Counter()
        self.latency, self.late, self.lag = 0.0, 0.0, 0.0
        self.changes: dict[str, float] = {}
        self.fail: dict[str, str] = {}
        self.where = ""
        self.hang: list[str] = []
        self.quota: int | None = None
        self.used = 0
        self.hanging = 0
        self.written: set[str] = set()
        self.changed = threading.Condition()
        for name in (*WRITES, *READS, *OTHERS):
            setattr(self, name, self._gate(name, getattr(self, name)))

    def set(self, settings: dict[str, Any]) -> None:
        with self.changed:
            for name, value in settings.items():
                setattr(self, name, value)
            if "lag" in settings:
                self.changes.clear()  # what was written until now is uploaded
            if self.quota is not None:
                files = [os.path.join(top, name) for top, _, names in os.walk(self.backing) for name in names]
                self.used = sum(os.lstat(file).st_size for file in files)
            self.changed.notify_all()

    def _gate(self, name: str, act: Callable[..., Any]) -> Callable[..., Any]:
        def gated(*args: Any, **options: Any) -> Any:
            with self.changed:
                self.counts[name] += 1
                self.hanging += 1
                self.changed.wait_for(lambda: name not in self.hang and "*" not in self.hang, timeout=HANGS_MOST)
                self.hanging -= 1
                fault = (self.fail.get(name) or self.fail.get("*")) if self.where in args[0] else None
            if self.latency:
                time.sleep(self.latency)
            # What is open can be closed even in a broken Drive: the kernel does not ask.
            if fault and name not in ("release", "releasedir"):
                raise OSError(getattr(errno, fault), os.strerror(getattr(errno, fault)))
            return act(*args, **options)

        return gated

    def _at(self, path: str) -> str:
        return self.backing + path

    def _seen(self, path: str) -> str:
        """Return where a path lies, unless another session wrote it just now."""
        there = self._at(path)
        if self.late and path not in self.written:
            found = os.lstat(there)
            if not stat.S_ISDIR(found.st_mode) and time.time() - found.st_ctime < self.late:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return there

    def waiting(self) -> list[str]:
        """Paths that are not uploaded yet."""
        return [path for path, at in self.changes.items() if time.time() - at < self.lag]

    def _grow(self, by: int) -> None:
        if self.quota is not None and by > 0 and self.used + by > self.quota:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.used += by

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        found = os.lstat(self._seen(path))
        folder = stat.S_ISDIR(found.st_mode)
        return {
            "st_mode": (stat.S_IFDIR | 0o700) if folder else (stat.S_IFREG | 0o600),
            "st_nlink": found.st_nlink,
            "st_uid": 0,
            "st_gid": 0,
            "st_size": found.st_size,
            "st_blocks": found.st_blocks,
            **{f"st_{which}": getattr(found, f"st_{which}_ns") for which in ("atime", "mtime", "ctime")},
        }

    def opendir(self, path: str) -> int:
        self._seen(path)
        return 0

    def releasedir(self, path: str, fh: int) -> None:
        """Do nothing: nothing is kept of an open folder."""

    def readdir(self, path: str, fh: int) -> list[str]:
        names = []
        for name in os.listdir(self._at(path)):
            with contextlib.suppress(FileNotFoundError):
                self._seen(os.path.join(path, name))
                names.append(name)
        return [".", "..", *names]

    def statfs(self, path: str) -> dict[str, int]:
        total = 15 * 2**30 if self.quota is None else self.quota
        free = max(0, total - self.used) // BLOCK
        return {
            "f_bsize": BLOCK,
            "f_frsize": BLOCK,
            "f_blocks": total // BLOCK,
            "f_bfree": free,
            "f_bavail": free,
            "f_namemax": 255,
        }

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        self._grow(0)
        self.written.add(path)
        return os.open(self._at(path), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)

    def open(self, path: str, flags: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR):
            self.written.add(path)
        return os.open(self._seen(path), flags & ~(os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW))

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._grow(max(0, offset + len(data) - os.fstat(fh).st_size))
        return os.pwrite(fh, data, offset)

    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        there = self._at(path)
        self._grow(length - os.lstat(there).st_size)
        os.truncate(there, length)

    def unlink(self, path: str) -> None:
        size = os.lstat(self._at(path)).st_size
        os.unlink(self._at(path))
        self._grow(-size)

    def rename(self, old: str, new: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._grow(-os.lstat(self._at(new)).st_size)
        os.rename(self._at(old), self._at(new))
        self.written.add(new)
        self.changes.pop(old, None)
        self.changes[new] = time.time()

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._at(path), 0o700)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        second = 10**9
        now = time.time_ns()
        accessed, modified = times or (now, now)
        os.utime(self._at(path), ns=(accessed // second * second, modified // second * second))

    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    def flush(self, path: str, fh: int) -> None:
        """Do nothing: it is uploaded later, and nobody can ask whether it was."""

    def fsync(self, path: str, datasync: int, fh: int) -> None:
        """Do nothing, like `flush`."""

    def chmod(self, path: str, mode: int) -> None:
        """Do nothing: Drive has no modes."""

    def chown(self, path: str, uid: int, gid: int) -> None:
        """Do nothing: Drive has no owners."""

    def link(self, target: str, source: str) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def symlink(self, target: str, source: str) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    def mknod(self, path: str, mode: int, dev: int) -> None:
        if not stat.S_ISREG(mode):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        os.close(self.create(path, mode))


def serve(faulty: Faulty, mountpoint: str) -> None:
    """Answer the one who mounted it; when that process is gone, unmount and end."""
    for line in sys.stdin:
        question = json.loads(line)
        if question.get("reset"):
            faulty.counts.clear()
        faulty.set(question.get("set", {}))
        answer = {"counts": dict(faulty.counts), "hanging": faulty.hanging, "waiting": faulty.waiting()}
        print(json.dumps(answer), flush=True)
    with contextlib.suppress(OSError):
        detach(mountpoint)
    os._exit(0)


def detach(mountpoint: str | os.PathLike[str]) -> None:
    """Unmount, also what is in use, hangs or is dead: unlike ``umount``, this looks at nothing in the mount."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(os.fsencode(mountpoint), MNT_DETACH | UMOUNT_NOFOLLOW):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(mountpoint))


def main(backing: str, mountpoint: str) -> None:
    """Mount and serve until unmounted."""
    # Where libfuse 2 is there too it would be taken, which writes in pieces of 4 kB: a slow Drive is slower than any.
    os.environ["FUSE_LIBRARY_NAME"] = "fuse3"
    import mfusepy

    faulty = Faulty(os.path.realpath(backing))

    class Operations(mfusepy.Operations):
        """Those of `Faulty`; this library wants a child of its own class."""

        use_ns = True

    operations = Operations()
    for name in (*WRITES, *READS, *OTHERS):
        setattr(operations, name, getattr(faulty, name))
    threading.Thread(target=serve, args=(faulty, mountpoint), daemon=True).start()
    mfusepy.FUSE(operations, mountpoint, foreground=True, fsname="drive", subtype="drive", allow_other=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
