"""A folder that is kept in a bucket: what stands there, what it costs, and what can be no file here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from bucket_folder import BucketFolder
from buckets_server import Server
from conftest import poll
from faulty_proxy import Proxy, faulty_proxy

from colab_magics import session
from colab_magics.errors import ColabMagicsError, InvalidInput, NotFound, Unavailable
from colab_magics.mirror import control
from colab_magics.mirror.state import Config
from colab_magics.mirror.sync import Sync
from colab_magics.transport.buckets import access
from colab_magics.transport.places import parse
from colab_magics.transport.places.base import SENTINEL
from colab_magics.transport.places.bucket import BucketPlace
from colab_magics.verbs.sync import sync as verb

pytest_plugins = ("bucket_fixtures",)


@pytest.fixture
def there(server: Server, monkeypatch: pytest.MonkeyPatch, home: Path) -> BucketFolder:
    """A folder of a bucket of its own."""
    server.set(monkeypatch)
    return BucketFolder(server, server.make_bucket(f"bucket-{os.urandom(6).hex()}"), "net")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


def begin(source: Path, there: BucketFolder, **options: object) -> Sync:
    place = parse(str(there), project="net")
    return control.start(Config.of(source, place, project="net", every=options.pop("every", 3600.0), **options))


def test_it_comes_back_as_it_was(there: BucketFolder, source: Path, tmp_path: Path) -> None:
    names = ["a.txt", "deep/er/b ü#%&+.txt", "big.bin", "empty.txt", "-x", "a'; touch gone; '"]
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(os.urandom(9_000_000) if name == "big.bin" else name.encode()[: len(name) % 7])
        os.utime(source / name, ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    (source / "nothing" / "in it").mkdir(parents=True)
    sync = begin(source, there).now(timeout=60)
    assert sync.verify() == 0
    sync.stop()
    again = tmp_path / "again"
    sync = begin(again, there)
    for name in names:
        assert (again / name).read_bytes() == (source / name).read_bytes(), name
        assert (again / name).stat().st_mtime_ns == 1_600_000_000_123_456_789
    assert (again / "nothing" / "in it").is_dir()
    sync.now(timeout=60)
    assert sync.status()["handed"]["files"] == 0, "what came from there is not sent again"
    assert sync.verify() == 0
    sync.stop()


def test_what_another_has_written_is_not_overwritten(there: BucketFolder, source: Path) -> None:
    (source / "a.txt").write_text("one")
    sync = begin(source, there).now(timeout=60)
    (there / "a.txt").write_text("of another")
    (there / "new.txt").write_text("of another too")
    (source / "a.txt").write_text("mine, newer")
    (source / "new.txt").write_text("mine")
    for name in ("a.txt", "new.txt"):
        os.utime(source / name, (2e9, 2e9))
    sync.now(timeout=60)
    assert (there / "a.txt").read_text() == "mine, newer"
    kept = {(there / name).read_text() for name in there.names() if name.startswith(".sync_conflict/")}
    assert kept == {"of another", "of another too"}
    sync.stop()


def test_the_newer_one_there_stays(there: BucketFolder, source: Path) -> None:
    (source / "a.txt").write_text("one")
    sync = begin(source, there).now(timeout=60)
    (there / "a.txt").write_text("of another, newer")
    (source / "a.txt").write_text("mine")
    os.utime(source / "a.txt", (1e9, 1e9))
    sync.now(timeout=60)
    assert (there / "a.txt").read_text() == "of another, newer"
    assert [(there / name).read_text() for name in there.names() if name.startswith(".sync_conflict/")] == ["mine"]
    sync.stop()


def test_deletes_go_to_the_trash_and_versions_are_kept(there: BucketFolder, source: Path) -> None:
    for name in ("a.pt", "b.pt"):
        (source / name).write_text(f"first {name}")
    sync = begin(source, there, delete=True, keep=(2, "*.pt"), every=0.3).now(timeout=60)
    for n in range(4):
        (source / "a.pt").write_text(f"version {n} of a")
        sync.now(timeout=60)
    (source / "b.pt").unlink()
    poll(lambda: not (there / "b.pt").exists())
    versions = sorted((there / name).read_text() for name in there.names() if name.startswith(".sync_versions/a.pt"))
    assert versions == ["version 1 of a", "version 2 of a"]
    assert [(there / name).read_text() for name in there.names() if name.startswith(".sync_trash/")] == ["first b.pt"]
    sync.stop()


def test_a_change_costs_a_request_where_conditions_are_obeyed(
    moto: Server, source: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    with faulty_proxy(moto.port) as proxy:
        moto.set(monkeypatch, endpoint=proxy.endpoint)
        bucket = moto.make_bucket(f"bucket-{os.urandom(6).hex()}")
        for n in range(300):
            (source / f"d{n % 30}").mkdir(exist_ok=True)
            (source / f"d{n % 30}" / f"{n}.txt").write_text(str(n))
        sync = begin(source, BucketFolder(moto, bucket, "net")).now(timeout=60)
        proxy.requests.clear()
        for n in range(0, 300, 30):
            (source / f"d{n % 30}" / f"{n}.txt").write_text(f"changed {n}")
        sync.now(timeout=60)
        assert proxy.count("PUT") == 10
        assert len(proxy.requests) <= 15, proxy.requests
        sync.stop()


def test_what_can_be_no_file_stays_there_and_is_told(
    moto: Server, source: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    moto.set(monkeypatch)
    bucket = moto.make_bucket(f"bucket-{os.urandom(6).hex()}")
    there = BucketFolder(moto, bucket, "net")
    begin(source, there).stop()
    odd = ["net//double.txt", "net/../out.txt", "net/./b", "net/both"]
    for key in (*odd, "net/both/in it.txt", "net/good.txt"):
        moto.put(bucket, key)
    sync = begin(source, there, restore="all")
    found = {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()}
    assert found == {"good.txt", "both/in it.txt"}
    assert "can be no files here" in " ".join(one["text"] for one in sync.notices())
    sync.stop()
    assert not (source.parent / "out.txt").exists()


class TestRefusals:
    """What is wrong is said at once, with what to do."""

    def test_a_bucket_that_is_not_there(self, there: BucketFolder, source: Path) -> None:
        with pytest.raises(NotFound, match="no such bucket"):
            control.start(Config.of(source, parse("s3://no-such-bucket-here/x", project=""), every=1.0, project=""))

    def test_keys_that_may_not(self, moto: Server, source: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        with faulty_proxy(moto.port) as proxy:
            moto.set(monkeypatch, endpoint=proxy.endpoint)
            bucket = moto.make_bucket(f"bucket-{os.urandom(6).hex()}")
            proxy.rule = lambda request: 403
            with pytest.raises(Unavailable, match=r"may not|refuse"):
                begin(source, BucketFolder(moto, bucket, "net"))

    def test_no_keys_at_all(self, there: BucketFolder, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        with pytest.raises(Unavailable, match="There are no keys for S3"):
            begin(source, there)

    def test_flags_of_rsync(self, there: BucketFolder, source: Path) -> None:
        with pytest.raises(InvalidInput, match="rsync does not reach it"):
            begin(source, there, rsync="-a")

    def test_rsync_is_not_needed(
        self, there: BucketFolder, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        (source / "a.txt").write_text("a")
        begin(source, there).now(timeout=60).stop()
        assert (there / "a.txt").read_text() == "a"


@pytest.fixture
def proxy(moto: Server, monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[Proxy]:
    """A proxy before the server, which the process uses."""
    with faulty_proxy(moto.port) as made:
        moto.set(monkeypatch, endpoint=made.endpoint)
        yield made


def test_a_server_that_is_away_for_a_while(proxy: Proxy, moto: Server, source: Path) -> None:
    there = BucketFolder(moto, moto.make_bucket(f"bucket-{os.urandom(6).hex()}"), "net")
    sync = begin(source, there, every=0.3).now(timeout=60)
    proxy.rule = lambda request: "reset"
    (source / "a.txt").write_text("meanwhile")
    poll(lambda: sync.state() in ("HELD", "BACKOFF"), timeout=60)
    proxy.rule = lambda request: None
    poll(lambda: (there / "a.txt").exists(), timeout=90)
    poll(lambda: not sync.notices(), timeout=30)
    sync.stop()


def test_an_answer_that_is_lost_makes_no_conflict(proxy: Proxy, moto: Server, source: Path) -> None:
    """The object is there, and nobody was told: it is ours all the same."""
    there = BucketFolder(moto, moto.make_bucket(f"bucket-{os.urandom(6).hex()}"), "net")
    (source / "a.txt").write_text("one")
    sync = begin(source, there, every=0.3).now(timeout=60)
    lost: list[int] = []

    def rule(request: object) -> object:
        if getattr(request, "method", "") == "PUT" and "a.txt" in getattr(request, "path", "") and len(lost) < 3:
            lost.append(1)
            return "cut-request"
        return None

    proxy.rule = rule  # type: ignore[assignment]
    (source / "a.txt").write_text("two")
    poll(lambda: (there / "a.txt").read_text() == "two")
    sync.now(timeout=60)
    assert lost
    assert not [name for name in there.names() if ".sync_conflict" in name]
    sync.stop()


def test_of_two_places_one_goes_on_when_the_other_is_away(
    proxy: Proxy, moto: Server, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = BucketFolder(moto, moto.make_bucket(f"bucket-{os.urandom(6).hex()}"), "net")
    monkeypatch.chdir(tmp_path)
    (source / "a.txt").write_text("one")
    session.activate(session.Session())
    verb(str(source), to=f"{there},{tmp_path / 'nas'}", every="1s")
    proxy.rule = lambda request: "reset"
    (source / "b.txt").write_text("two")
    poll((tmp_path / "nas" / "b.txt").exists)
    for one in control.running(source):
        if one.place != str(there):
            one.stop()
    proxy.rule = lambda request: None
    poll((there / "b.txt").exists, timeout=90)
    # The other way: the first does not even begin.
    for one in control.running(source):
        one.stop(timeout=60)
    proxy.rule = lambda request: "reset"
    with pytest.raises(ColabMagicsError, match="Kept all the same"):
        verb(str(source), to=f"s3://{there.bucket}/other,{tmp_path / 'nas'}", every="1s")
    assert [one.place for one in control.running(source) if one.place == str(tmp_path / "nas")]


def test_the_keys_are_written_nowhere(there: BucketFolder, source: Path, home: Path) -> None:
    sync = begin(source, there).now(timeout=60)
    secret = there.server.secret.encode()
    assert [path for path in home.rglob("*") if path.is_file() and secret in path.read_bytes()] == []
    assert secret.decode() not in str(sync) + repr(sync) + str(sync.config)
    sync.stop()


def test_a_copy_of_a_notebook_that_used_a_bucket_is_told_instead_of_waiting_for_ever(there: BucketFolder) -> None:
    script = (
        "import os, sys\nfrom colab_magics.errors import Unavailable\nfrom colab_magics.transport.places import parse\n"
        "place = parse(sys.argv[1], project='')\nplace.prepare()\n"
        "if os.fork() == 0:\n"
        "    try:\n        place.prepare()\n"
        "    except Unavailable as error:\n        os.write(1, str(error).encode())\n"
        "    os._exit(0)\nos.wait()\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, str(there)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "start=warm" in done.stdout


def test_an_address_is_the_place_again() -> None:
    place = parse("s3://bucket/net/", project="net")
    assert isinstance(place, BucketPlace)
    assert (place.text, place.below("a", "b").target) == ("s3://bucket/net", "s3://bucket/net/a/b")
    assert access.odd(SENTINEL) == ""
