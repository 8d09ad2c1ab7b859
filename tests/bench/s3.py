"""``%s3`` beside boto3 and bare obstore: many small files and a large one, up and down; and a listing of many keys.

    python tests/bench/s3.py [--files 2000] [--megabytes 500] [--keys 100000] [--rounds 3] [--server ceph|rclone|moto]

Each figure is the median of rounds in which all take turns, each in a process of its own, against one server on this
machine. Ours is the whole verb: both sides are looked at first, times and checksums are kept.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tools")]
from measuring import median, show  # noqa: E402 (the paths come first)

AT_ONCE = 24
BUCKET = "bench"


# What is measured, in a process of its own: files of the current folder, to the bucket and back


def ours(folder: str, *, up: bool) -> None:
    """The verb."""
    from colab_magics import s3

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        (s3.put if up else s3.get)(f"{folder}/*")


def obstore(folder: str, *, up: bool) -> None:
    """Bare obstore."""
    store = server().store(BUCKET)
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(key: str) -> None:
        async with limit:
            if up:
                await store.put_async(key, Path(key))
                return
            got = await store.get_async(key)
            with open(key, "wb") as file:
                async for block in got.stream():
                    file.write(block)

    async def every() -> None:
        keys = (
            [str(file) for file in Path(folder).iterdir()] if up else [k["path"] for p in store.list(folder) for k in p]
        )
        await asyncio.gather(*map(one, keys))

    asyncio.run(every())


def boto3(folder: str, *, up: bool) -> None:
    """boto3 with its own threads for parts, and as many for files."""
    import boto3 as library
    from botocore.config import Config

    here = server()
    client = library.client(
        "s3",
        endpoint_url=here.endpoint,
        aws_access_key_id=here.key,
        aws_secret_access_key=here.secret,
        region_name="us-east-1",
        config=Config(max_pool_connections=AT_ONCE),
    )
    with ThreadPoolExecutor(AT_ONCE) as pool:
        if up:
            list(pool.map(lambda file: client.upload_file(str(file), BUCKET, str(file)), Path(folder).iterdir()))
            return
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{folder}/")
        keys = [one["Key"] for page in pages for one in page["Contents"]]
        list(pool.map(lambda key: client.download_file(BUCKET, key, key), keys))


def listing(folder: str, *, up: bool) -> None:
    """Count keys, none of which is kept."""
    from colab_magics.transport.buckets import access

    address = access.Address("s3", BUCKET)
    print(sum(1 for _ in access.keys_below(access.connect(address), address, f"{folder}/")), file=sys.stderr)


def server() -> Any:
    """Return the server that the environment names."""
    from buckets_server import Server

    names = ("S3_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    endpoint, key, secret = (os.environ[name] for name in names)
    return Server("", endpoint, key, secret, None, Path())  # type: ignore[arg-type]


WAYS: dict[str, Callable[..., None]] = {"ours": ours, "obstore": obstore, "boto3": boto3, "listing": listing}


def measured(way: str, folder: str, *, up: bool) -> None:
    """Do it once, here: the imports do not count."""
    import boto3  # noqa: F401
    import obstore.store  # noqa: F401

    import colab_magics.transport.buckets.both_sides
    import colab_magics.verbs.s3  # noqa: F401

    began = time.perf_counter()
    WAYS[way](folder, up=up)
    took = time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"seconds": took, "rss": memory}), flush=True)
    # The threads of obstore's asyncio side sometimes still speak to an interpreter that is ending: SIGABRT.
    os._exit(0)


# The rounds


def once(way: str, folder: str, cwd: Path, *, up: bool) -> dict[str, float]:
    """Do it once, in a process of its own."""
    words = [sys.executable, str(Path(__file__).resolve()), "--way", way, "--folder", folder, *(["--up"] if up else [])]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, cwd=cwd)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rounds(options: argparse.Namespace, running: Any, top: Path, what: str, fill: Callable[[Path], None]) -> None:
    """Let all take turns, and print."""
    took: dict[tuple[str, bool], list[float]] = defaultdict(list)
    rss: dict[str, float] = defaultdict(float)
    source = top / what
    fill(source)
    for number in range(options.rounds):
        ways = ("ours", "obstore", "boto3")
        for way in (*ways[number % 3 :], *ways[: number % 3]):
            folder = f"{what}-{way}-{number}"
            here = top / f"work-{folder}"
            here.mkdir()
            source.rename(here / folder)
            for up in (True, False):
                found = once(way, folder, here, up=up)
                took[way, up].append(found["seconds"])
                rss[way] = max(rss[way], found["rss"])
                if up:
                    (here / folder).rename(source)
                    (here / folder).mkdir()
            whole = sum(one.stat().st_size for one in source.iterdir())
            assert sum(one.stat().st_size for one in (here / folder).iterdir()) == whole
            subprocess.run(["rm", "-rf", str(here)], check=True)
            store = running.store(BUCKET)
            store.delete([one["path"] for page in store.list(folder) for one in page])
    for up in (True, False):
        bare, peer, mine = (median(took[way, up]) for way in ("obstore", "boto3", "ours"))
        word = f"{what} {'up' if up else 'down'}"
        show(f"{word}: boto3", f"{peer:.2f} s")
        show(f"{word}: bare obstore", f"{bare:.2f} s")
        target = "≤ 1.2" if what == "small" else "≤ 1.1"
        show(f"{word}: ours, beside obstore", f"{mine:.2f} s", mine / bare, target)
        show(f"{word}: ours, beside boto3", "", mine / peer, "≤ 0.5" if what == "small" and up else "")
    show(f"{what}: memory of boto3, obstore", f"{rss['boto3']:.0f} MB, {rss['obstore']:.0f} MB")
    show(f"{what}: memory of ours", f"{rss['ours']:.0f} MB", None, "≤ 350 MB")


def keys(options: argparse.Namespace, running: Any, top: Path) -> None:
    """List many keys."""
    store = running.store(BUCKET)

    async def fill() -> None:
        limit = asyncio.Semaphore(64)

        async def one(number: int) -> None:
            async with limit:
                await store.put_async(f"keys/{number:07d}/of-a-usual-length.txt", b"")

        for first in range(0, options.keys, 5000):
            await asyncio.gather(*map(one, range(first, min(first + 5000, options.keys))))

    small = once("listing", "none", top, up=False)
    asyncio.run(fill())
    many = once("listing", "keys", top, up=False)
    show(f"listing {options.keys:,} keys", f"{many['seconds']:.1f} s")
    show(
        "its memory beside that of listing none",
        f"{many['rss']:.0f} MB, {small['rss']:.0f} MB",
        many["rss"] / small["rss"],
    )


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("files", 2000), ("megabytes", 500), ("keys", 100_000), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--server", default="ceph", choices=("ceph", "rclone", "moto"))
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--up", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        measured(options.way, options.folder, up=options.up)
        return
    from buckets_server import SERVERS
    from ceph_gateway import PROGRAMS, ceph_server

    if options.server == "ceph" and any(
        subprocess.run(["which", one], capture_output=True).returncode for one in PROGRAMS
    ):
        print("Ceph is not installed: rclone takes its place")
        options.server = "rclone"
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        with {**SERVERS, "ceph": ceph_server}[options.server](top) as running:
            running.make_bucket(BUCKET)
            for number in range(300):  # a new server is slow at first, whoever comes
                running.store(BUCKET).put(f"warm/{number}", b"x")
            os.environ.update(running.environment(BUCKET))
            print(f"{options.server}: {options.files} files of 8 KB, and one of {options.megabytes} MB")

            def small(source: Path) -> None:
                source.mkdir()
                for number in range(options.files):
                    (source / f"{number:05d}.bin").write_bytes(os.urandom(8000))

            def big(source: Path) -> None:
                source.mkdir()
                with (source / "big.bin").open("wb") as file:
                    for _ in range(options.megabytes):
                        file.write(os.urandom(1_000_000))

            if options.files:
                rounds(options, running, top, "small", small)
            if options.megabytes:
                rounds(options, running, top, "big", big)
            if options.keys:
                keys(options, running, top)


if __name__ == "__main__":
    main()
