"""What %sync to a bucket costs: requests for 10 changed of many files, and bringing 2,000 small ones, beside obstore.

    python tests/bench/sync_bucket.py [files]

The server is moto behind a proxy that counts (requests), and Ceph's gateway, where it is installed (time).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "tools"), str(Path(__file__).resolve().parents[1])]

from buckets_server import Server, moto_server, program  # noqa: E402
from ceph_gateway import ceph_server  # noqa: E402
from faulty_proxy import faulty_proxy  # noqa: E402

from colab_magics.mirror import control  # noqa: E402
from colab_magics.mirror.state import Config  # noqa: E402
from colab_magics.mirror.sync import Sync  # noqa: E402
from colab_magics.transport.places import parse  # noqa: E402


def begin(source: Path, to: str) -> Sync:
    """Start the sync of a folder."""
    return control.start(Config.of(source, parse(to, project="bench"), every=3600.0, project="bench"))


def fill(folder: Path, count: int, size: int) -> None:
    """Write files, a hundred in a folder."""
    for n in range(count):
        (folder / f"{n // 100:04d}").mkdir(exist_ok=True, parents=True)
        (folder / f"{n // 100:04d}" / f"{n}.bin").write_bytes(os.urandom(size))


def requests_of_a_change(server: Server, top: Path, count: int) -> None:
    """Print how many requests ten changed files cost."""
    with faulty_proxy(server.port) as proxy:
        os.environ |= server.environment(endpoint=proxy.endpoint)
        bucket = server.make_bucket("requests")
        fill(top / "many", count, 10)
        began = time.monotonic()
        sync = begin(top / "many", f"s3://{bucket}/net").now(timeout=3600)
        print(f"{server.name}: {count:,} files brought in {time.monotonic() - began:.1f} s (through a slow proxy)")
        proxy.requests.clear()
        for n in range(0, count, count // 10):
            (top / "many" / f"{n // 100:04d}" / f"{n}.bin").write_bytes(b"changed")
        sync.now(timeout=600)
        kinds = {kind: proxy.count(kind) for kind in ("GET", "HEAD", "PUT", "POST", "DELETE")}
        print(f"{server.name}: 10 of {count:,} files changed: {len(proxy.requests)} requests {kinds} (goal 15)")
        sync.stop()


def many_small(server: Server, top: Path) -> None:
    """Print how long 2,000 files of 8 KB take, beside obstore alone."""
    os.environ |= server.environment()
    bucket = server.make_bucket("small")
    fill(top / "small", 2000, 8192)
    sync = begin(top / "empty", f"s3://{bucket}/ours")
    began = time.monotonic()
    (top / "small").rename(top / "empty" / "small")
    sync.now(timeout=600)
    ours = time.monotonic() - began
    sync.stop()
    files = list((top / "empty").rglob("*.bin"))
    store = server.store(bucket)
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda path: store.put(f"bare/{path.name}", path.read_bytes()), files))
    bare = time.monotonic() - began
    print(
        f"{server.name}: 2,000 x 8 KB by %sync {ours:.2f} s, obstore with 16 threads {bare:.2f} s: {ours / bare:.2f} x"
    )


def main() -> None:
    """Measure all of it."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        os.environ |= {"HOME": folder, "XDG_STATE_HOME": folder, "COLAB_MAGICS_DMI": "/nonexistent"}
        with moto_server(top) as moto:
            requests_of_a_change(moto, top, count)
        if program("radosgw") is None:
            print("Without Ceph's gateway (apt-get install radosgw ceph-mon ceph-osd) the rest is not measured.")
            return
        with ceph_server(top) as ceph:
            many_small(ceph, top)
            requests_of_a_change(ceph, top / "on ceph", 1000)


if __name__ == "__main__":
    main()
