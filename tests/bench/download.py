"""A big file over http: ``%download`` beside curl, in turn, and once cut ten times.

    python tests/bench/download.py [--size 500] [--rounds 5] [--folder /tmp]

The server sends from a file by ``sendfile``, in a process of its own. Each download is a process, too, so that its
memory can be told; what only its first one takes, Python's imports, is told apart by a small file before. Files lie in
memory where there is room (/dev/shm): a disk that is still writing what the other has brought would be measured.
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import os
import re
import shutil
import socketserver
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENT = """
import resource, sys, time
from colab_magics import download
url, path, folder = sys.argv[1:]
began = time.perf_counter()
download(url + "/small.bin", to=folder + "/")
first = time.perf_counter() - began
began = time.perf_counter()
download(url + path, to=folder + "/")
took = time.perf_counter() - began
print(took, first, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves one file, in parts where they are asked for; below ``/cut`` an answer ends after a tenth of it."""

    file: Path
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        total = 1000 if self.path == "/small.bin" else self.file.stat().st_size
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.send_header("Content-Length", str(total - start))
        self.send_header("ETag", '"one"')
        self.send_header("Connection", "close")
        self.close_connection = True
        self.end_headers()
        end = min(total, start + total // 11 + 1) if self.path.startswith("/cut") else total
        with open(self.file, "rb") as stream:
            while start < end:
                start += os.sendfile(self.connection.fileno(), stream.fileno(), start, min(end - start, 1 << 22))

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(socketserver.ForkingMixIn, http.server.HTTPServer):
    """One process for each request."""


@contextmanager
def serving(file: Path) -> Iterator[str]:
    """Serve a file until the block ends; yields the server's address."""
    Handler.file = file
    server = Server(("127.0.0.1", 0), Handler)
    pid = os.fork()
    if pid == 0:
        server.serve_forever()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        os.kill(pid, 15)
        os.waitpid(pid, 0)
        server.server_close()


def ours(url: str, path: str, folder: Path) -> tuple[float, float, float]:
    """Fetch by ``%download``; returns its seconds, those of a first small file, and megabytes of memory."""
    command = [sys.executable, "-c", CLIENT, url, path, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    took, first, memory = map(float, done.stdout.split()[-3:])
    return took, first, memory


def curl(url: str, folder: Path) -> float:
    """Fetch by curl; returns seconds."""
    began = time.perf_counter()
    subprocess.run(["curl", "-sS", "-f", "-o", str(folder / "by curl"), url], check=True)
    return time.perf_counter() - began


def digest(file: Path) -> str:
    """Return a file's SHA-256."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=500, help="megabytes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", help="where files are written; /dev/shm where it has room")
    options = parser.parse_args()
    if shutil.which("curl") is None:
        raise SystemExit("curl is not installed: apt-get install curl")
    room = os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 4_000_000 * options.size
    with tempfile.TemporaryDirectory(dir=options.folder or ("/dev/shm" if room else None)) as folder:
        top = Path(folder)
        file = top / "served.bin"
        with open(file, "wb") as stream:
            for _ in range(options.size):
                stream.write(os.urandom(1_000_000))
        right = digest(file)
        with serving(file) as url:
            rows = []
            for number in range(options.rounds + 1):
                (top / "to").mkdir()
                pair = [lambda: curl(f"{url}/file.bin", top / "to"), lambda: ours(url, "/file.bin", top / "to")]
                first = number % 2
                found = {first: pair[first](), 1 - first: pair[1 - first]()}
                if digest(top / "to" / "file.bin") != right:
                    raise SystemExit("%download brought another file")
                shutil.rmtree(top / "to")
                if number:  # the first warms the caches
                    rows.append((found[0], *found[1]))
            print(f"Download of {options.size} MB on the loopback, medians of {options.rounds} rounds in turn")
            by_curl, call, small, memory = (statistics.median(row[n] for row in rows) for n in range(4))
            ratio = statistics.median(row[1] / row[0] for row in rows)
            print(f"  curl                               {by_curl:6.2f} s")
            print(f"  %download                          {call:6.2f} s   {ratio:.2f} of curl (target ≤ 1.1)")
            print(f"  memory at most                     {memory:6.0f} MB")
            print(f"  a first small file, with imports   {small:6.2f} s")
            (top / "cut").mkdir()
            call, _, memory = ours(url, "/cut.bin", top / "cut")
            sound = "whole" if digest(top / "cut" / "cut.bin") == right else "WRONG"
            print(f"  cut ten times                      {call:6.2f} s   {sound} by SHA-256, {memory:.0f} MB of memory")


if __name__ == "__main__":
    main()
