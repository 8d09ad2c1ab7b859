"""Buckets, on real servers: settings, addresses, what stores refuse, and single files up and down."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from buckets_server import Server, clean_environment, free_port, rclone_server
from conftest import git

from colab_magics.errors import Busy, ColabMagicsError, InvalidInput, NotFound, Unavailable
from colab_magics.transport.buckets import access
from colab_magics.transport.buckets import files as bucket_files
from colab_magics.transport.buckets import settings as bucket_settings
from colab_magics.transport.buckets.access import Address, connect
from colab_magics.transport.buckets.requests import Refused

pytest_plugins = ("bucket_fixtures",)


@pytest.fixture
def store(server: Server, monkeypatch: pytest.MonkeyPatch) -> access.Store:
    """Its bucket ``results``."""
    server.make_bucket("results")
    server.set(monkeypatch)
    return connect(Address.parse("s3://results"))


def listed(store: access.Store, prefix: str = "") -> list[str]:
    return [found.key for found in access.keys_below(store, Address("s3", "results"), prefix)]


# Addresses


def test_an_address_is_a_bucket_and_a_key() -> None:
    assert Address.parse("s3://my-results/a b/c/") == Address("s3", "my-results", "a b/c")
    assert str(Address.parse("gs://my_results")) == "gs://my_results"
    assert str(Address("s3", "b").below("x", "y")) == "s3://b/x/y"


@pytest.mark.parametrize(
    "text",
    ["", "results", "http://results", "s3://", "s3://ab", "s3://Results", "s3://a..b", "s3://1.2.3.4", "s3://-abc"]
    + [f"s3://results/{key}" for key in ("../x", "a/../b", "a//b", "/a", "a/./b", "a\x01", "a\nb", "x" * 2000)],
)
def test_an_impossible_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        Address.parse(text)


# Files


@pytest.mark.parametrize("size", [0, 5, (8 << 20) + 1, 20 << 20])
def test_a_file_goes_up_and_comes_down_with_its_time(store: access.Store, tmp_path: Path, size: int) -> None:
    file, back = tmp_path / "ünï $(x)", tmp_path / "back"
    file.write_bytes(os.urandom(size))
    os.utime(file, ns=(0, 1_700_000_000_123_456_789))
    up = bucket_files.put_file(store, "ünï/$(x) +%20", file)
    there = bucket_files.head(store, "ünï/$(x) +%20")
    assert there is not None
    assert (there.size, there.metadata["mtime"]) == (size, "1700000000.123456789")
    (listing,) = list(access.keys_below(store, Address("s3", "results"), "ünï/"))
    assert (listing.key, listing.size, listing.etag) == ("ünï/$(x) +%20", size, there.etag)
    assert bucket_files.same(file, listing.size, listing.etag, lambda: there)
    assert bucket_files.same(file, up.size, up.etag, lambda: up)
    bucket_files.get_file(store, "ünï/$(x) +%20", back)
    assert back.read_bytes() == file.read_bytes()
    assert back.stat().st_mtime_ns == 1_700_000_000_123_456_789
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([file.name, "back"])
    if size:
        changed = bytearray(file.read_bytes())
        changed[-1] ^= 1
        file.write_bytes(changed)
        assert not bucket_files.same(file, listing.size, listing.etag, lambda: there)


def test_an_iterator_that_raises_publishes_nothing(server: Server, store: access.Store) -> None:
    """What `put_file` says of obstore: %sync checks content after its last block, before it is published."""
    store.put("whole", b"before")

    class Stop(Exception): ...

    def blocks() -> Iterator[bytes]:
        for _ in range(4):
            yield bytes(6 << 20)
        raise Stop

    for key in ("whole", "new"):
        with pytest.raises(Stop):
            store.put(key, blocks(), use_multipart=True)
    assert bytes(store.get("whole").bytes()) == b"before"
    assert bucket_files.head(store, "new") is None
    assert b"<Upload>" not in server.request("GET", "results", query="uploads=")
    store.delete("whole")


def test_a_file_that_changes_while_it_is_read_is_not_published(store: access.Store, tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(bytes(20 << 20))
    store.put("log", b"before")

    def grow(size: int) -> None:
        with file.open("ab") as stream:
            stream.write(b"more")

    with pytest.raises(Busy, match="changed while it was read"):
        bucket_files.put_file(store, "log", file, count=grow)
    assert bytes(store.get("log").bytes()) == b"before"
    store.delete("log")


def test_the_checksum_of_parts_is_that_of_the_server(store: access.Store, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(os.urandom(17 << 20))
    etag = bucket_files.put_file(store, "parts", file).etag
    assert etag.endswith("-3")
    sums = bucket_files.Sums(etag, 17 << 20)
    data = file.read_bytes()
    for at in range(0, len(data), 1 << 19):
        sums.add(data[at : at + (1 << 19)])
    assert sums.fit()
    store.delete("parts")


# What is there


def test_keys_that_are_no_paths_are_listed_as_they_are(moto: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    moto.make_bucket("results")
    moto.set(monkeypatch)
    store = connect(Address.parse("s3://results"))
    keys = ["odd/../x", "odd//x", "odd/a/./b", "odd/c\x01d", "odd/tab\tx", "odd/mark/", "odd/ok", "odd/sp +%41"]
    for key in keys:
        moto.put("results", key)
    assert sorted(listed(store, "odd/")) == sorted(keys)
    assert [key for key in keys if not access.odd(key)] == ["odd/ok", "odd/sp +%41"]
    failed = access.delete(store, Address("s3", "results"), keys)
    assert set(failed) == {"odd/c\x01d"}
    assert listed(store, "odd/") == ["odd/c\x01d"]


def test_more_than_a_thousand_keys_are_listed_and_deleted(store: access.Store) -> None:
    from concurrent.futures import ThreadPoolExecutor

    keys = [f"many/{number:04d}" for number in range(1234)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: store.put(key, b"x"), keys))
    store.put("many2", b"x")
    assert listed(store, "many/") == keys
    assert access.delete(store, Address("s3", "results"), keys) == {}
    assert listed(store, "many") == ["many2"]


def test_what_is_not_there_is_none(store: access.Store, tmp_path: Path) -> None:
    assert bucket_files.head(store, "no/such") is None
    with pytest.raises(NotFound):
        bucket_files.get_file(store, "no/such", tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


# What is refused


def test_a_bucket_that_is_not_there_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.set(monkeypatch)
    address = Address.parse("s3://no-such-bucket")
    with pytest.raises(NotFound, match="no such bucket"):
        access.check(connect(address), address)


def test_a_wrong_secret_is_told_without_it(rclone: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    rclone.make_bucket("results")
    rclone.set(monkeypatch)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrongwrongwrong")
    address = Address.parse("s3://results")
    store = connect(address)
    with pytest.raises(Unavailable, match="secret does not fit") as told:
        access.check(store, address)
    assert "wrongwrong" not in f"{told.value} {store!r} {store.credential_provider!r}"
    with pytest.raises(Unavailable, match="403"):
        bucket_files.head(store, "x")  # 403 is not "absent"


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:{}", "http://no.such.host.invalid:{}"])
def test_a_server_that_is_not_there_is_told_soon(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    address, url = Address.parse("s3://results"), endpoint.format(free_port())
    given = {"AWS_ACCESS_KEY_ID": "A" * 20, "AWS_SECRET_ACCESS_KEY": "secret" * 5, "S3_ENDPOINT_URL": url}
    store = connect(address, given=given)
    for ask in (lambda: access.check(store, address), lambda: bucket_files.head(store, "x")):
        with pytest.raises(Unavailable, match=r"nothing listens|not found|no network|does not answer") as told:
            ask()
        assert told.value.mend
        assert "secretsecret" not in str(told.value)


def test_a_certificate_counts_whose_authority_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nobody: None
) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=tmp_path, check=True, capture_output=True)

    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    openssl(
        "req",
        "-x509",
        *new,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=ours",
        "-addext",
        "keyUsage=critical,keyCertSign",
    )
    openssl("req", *new, "-keyout", "key.pem", "-out", "request", "-subj", "/CN=store")
    (tmp_path / "names").write_text(
        "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\nauthorityKeyIdentifier=keyid\n"
    )
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
    openssl("x509", "-req", "-in", "request", "-out", "cert.pem", *signed)
    tls = ("--cert", str(tmp_path / "cert.pem"), "--key", str(tmp_path / "key.pem"))
    with rclone_server(tmp_path / "tls", more=tls) as server:
        (server.folder / "results").mkdir()
        address, given = Address.parse("s3://results"), server.environment()
        given["S3_ENDPOINT_URL"] = given["S3_ENDPOINT_URL"].replace("http:", "https:")
        store = connect(address, given=given)
        for ask in (lambda: access.check(store, address), lambda: bucket_files.head(store, "x")):
            with pytest.raises(Unavailable, match="certificate"):
                ask()
        store = connect(address, given={**given, "AWS_CA_BUNDLE": str(tmp_path / "ca.pem")})
        access.check(store, address)
        assert bucket_files.head(store, "x") is None


# Settings


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that names no store."""
    clean_environment(monkeypatch)


def test_without_keys_it_says_at_once_what_to_set(nobody: None, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no keys for S3") as told:
        connect(Address.parse("s3://results"), folder=tmp_path)
    assert "AWS_ACCESS_KEY_ID" in told.value.mend
    assert "AWS_SKIP_SIGNATURE" in told.value.mend
    connect(Address.parse("s3://results"), given={"AWS_SKIP_SIGNATURE": "true"})


def test_u8_dotenv_comments_quotes_export_and_spaces(nobody: None, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(
        b"\xef\xbb\xbf# a comment\r\n\r\nexport S3_BUCKET_NAME = 'my # bucket'  # said\r\n"
        b"AWS_ACCESS_KEY_ID=AKIA$HOME#x\n"
        b'  AWS_SECRET_ACCESS_KEY = "a\\"b=c/$X#1"\nS3_ENDPOINT_URL=https://s3.example.org # ours\nAWS_REGION=\n'
        b"nonsense\nOTHER=1\nPATH=/evil\n"
    )
    assert dict(bucket_settings.settings(tmp_path)) == {
        "S3_BUCKET_NAME": "my # bucket",
        "AWS_ACCESS_KEY_ID": "AKIA$HOME#x",
        "AWS_SECRET_ACCESS_KEY": 'a"b=c/$X#1',
        "S3_ENDPOINT_URL": "https://s3.example.org",
    }
    assert 'a"b' not in repr(bucket_settings.settings(tmp_path))


def test_u2_the_environment_wins_over_dotenv(nobody: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(
        "S3_BUCKET_NAME=of-file\nS3_ENDPOINT_URL=https://file\nAWS_ACCESS_KEY_ID=F\nAWS_SECRET_ACCESS_KEY=f\n"
        "AWS_SESSION_TOKEN=t\n"
    )
    monkeypatch.setenv("S3_BUCKET_NAME", "of-environment")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "https://environment")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "E")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "e")
    # The token belongs to the file's key: it does not go with another one.
    assert dict(bucket_settings.settings(tmp_path)) == {
        "S3_BUCKET_NAME": "of-environment",
        "S3_ENDPOINT_URL": "https://environment",
        "AWS_ACCESS_KEY_ID": "E",
        "AWS_SECRET_ACCESS_KEY": "e",
    }


def test_a_key_without_its_secret_is_told(nobody: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "E")
    with pytest.raises(InvalidInput, match="AWS_SECRET_ACCESS_KEY"):
        bucket_settings.settings()


def test_a_dotenv_that_git_tracks_counts_after_a_yes_alone(nobody: None, tmp_path: Path) -> None:
    git("init", "--quiet", str(tmp_path))
    (tmp_path / ".env").write_text("S3_ENDPOINT_URL=https://evil.example\nS3_BUCKET_NAME=evil\n")
    inner = tmp_path / "notebooks"
    inner.mkdir()
    assert bucket_settings.settings(inner)["S3_BUCKET_NAME"] == "evil"  # the user's own: git knows nothing of it
    git("add", "--force", ".env", cwd=tmp_path)
    said: list[str] = []
    assert dict(bucket_settings.settings(inner, warn=said.append)) == {}
    assert "tracked by git" in said[0]
    assert bucket_settings.settings(inner, consent=lambda file, values: True)["S3_BUCKET_NAME"] == "evil"


def test_a_folder_that_looks_like_a_repository_does_not_hide_that_git_tracks_it(nobody: None, tmp_path: Path) -> None:
    git("init", "--quiet", str(tmp_path))
    inner = tmp_path / "inner"
    for name in ("objects", "refs"):
        (inner / name).mkdir(parents=True)
    (inner / "HEAD").write_text("ref: refs/heads/main\n")
    (inner / ".env").write_text("S3_ENDPOINT_URL=https://evil.example\n")
    git("add", "--force", "inner/.env", cwd=tmp_path)
    assert dict(bucket_settings.settings(inner)) == {}


def test_a_dotenv_that_is_a_link_is_not_read(nobody: None, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("S3_BUCKET_NAME=x-y-z\n")
    (tmp_path / ".env").symlink_to("other")
    said: list[str] = []
    assert dict(bucket_settings.settings(tmp_path, warn=said.append)) == {}
    assert "link" in said[0]


def test_the_usual_files_of_aws_come_last(nobody: None, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = D\naws_secret_access_key = d\n[work]\naws_access_key_id=W\n"
        "aws_secret_access_key=w%x\naws_session_token=t\n"
    )
    (home / ".aws" / "config").write_text(
        "[default]\nregion = eu-west-1\n[profile work]\nregion=us-west-2\nendpoint_url = https://s3.work\n"
        "[profile role]\nrole_arn = arn\nsource_profile = default\n"
    )
    found = bucket_settings.settings()
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_REGION"]) == ("D", "eu-west-1")
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert dict(bucket_settings.settings()) == {
        "AWS_ACCESS_KEY_ID": "W",
        "AWS_SECRET_ACCESS_KEY": "w%x",
        "AWS_SESSION_TOKEN": "t",
        "AWS_REGION": "us-west-2",
        "S3_ENDPOINT_URL": "https://s3.work",
    }
    monkeypatch.setenv("AWS_PROFILE", "role")
    assert dict(bucket_settings.settings()) == {"AWS_PROFILE": "role"}
    monkeypatch.setenv("AWS_PROFILE", "wrok")
    with pytest.raises(InvalidInput, match="wrok") as told:
        bucket_settings.settings()
    assert "did you mean work" in told.value.mend


@pytest.mark.parametrize("url", ["s3.example.org", "ftp://x", "https://key:secret@host", "https://"])
def test_an_endpoint_that_cannot_be_is_refused(nobody: None, url: str) -> None:
    given = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "b", "S3_ENDPOINT_URL": url}
    with pytest.raises(InvalidInput) as told:
        connect(Address.parse("s3://results"), given=given)
    assert "secret@" not in str(told.value)


def test_times_are_written_as_rclone_writes_them() -> None:
    assert bucket_files.write_time(1_700_000_000_123_456_789) == "1700000000.123456789"
    assert bucket_files.write_time(1_700_000_000_000_000_000) == "1700000000"
    assert bucket_files.read_time({"mtime": "1700000000.5"}) == 1700000000.5
    assert bucket_files.read_time({"mtime": "1e999"}) is None


def test_an_etag_of_parts_is_tried_with_likely_sizes() -> None:
    md5 = hashlib.md5(b"x").hexdigest()
    assert bucket_files.parts_that_fit(md5, 1) == [0]
    assert bucket_files.parts_that_fit(f"{md5}-3", 17 << 20) == [8 << 20]
    assert bucket_files.parts_that_fit("abc", 1) == []


@pytest.mark.parametrize(
    ("refused", "kind", "says"),
    [
        (Refused(301, "PermanentRedirect", "m", "eu-west-1"), Unavailable, "AWS_REGION=eu-west-1"),
        (Refused(400, "AuthorizationHeaderMalformed", "m", "eu-west-1"), Unavailable, "AWS_REGION=eu-west-1"),
        (Refused(403, "RequestTimeTooSkewed"), Unavailable, "clock"),
        (Refused(403, "InvalidAccessKeyId"), Unavailable, "does not know the access key"),
        (Refused(403, "ExpiredToken"), Unavailable, "expired"),
        (Refused(403, "AccessDenied"), Unavailable, "refuses it (403 AccessDenied)"),
        (Refused(401), Unavailable, "refuses it (401)"),
        (Refused(404, "NoSuchBucket"), NotFound, "no such bucket"),
        (Refused(404), NotFound, "is not there"),
        (Refused(412, "PreconditionFailed"), Busy, "somebody else"),
        (Refused(503, "SlowDown"), Unavailable, "overloaded"),
        (Refused(500), Unavailable, "answers 500"),
        (Refused(0, "timeout", "https://x timed out"), Unavailable, "https://x does not answer"),
        (Refused(0, "OSError", "http://x Network is unreachable"), Unavailable, "http://x is not reached"),
        (RuntimeError("anything?X-Amz-Signature=abc"), Unavailable, "anything"),
    ],
)
def test_every_refusal_says_why_and_what_to_do(refused: Exception, kind: type, says: str) -> None:
    told = access.explain(refused, "listing s3://b")
    assert isinstance(told, kind)
    assert isinstance(told, ColabMagicsError)
    assert says in str(told)
    assert told.mend
    assert "Signature" not in str(told)


# Google's, whose XML interface is S3's but for names of headers: its keys and metadata cannot be tried here


def test_buckets_of_google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with rclone_server(tmp_path / "google", anybody=True) as server:
        (server.folder / "of-google").mkdir()
        clean_environment(monkeypatch)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.endpoint.removeprefix("http://"))
        address = Address.parse("gs://of-google/a")
        store = connect(address)
        (tmp_path / "f").write_text("content")
        bucket_files.put_file(store, "a/f", tmp_path / "f")
        bucket_files.put_file(store, "a2/f", tmp_path / "f")
        assert [found.key for found in access.keys_below(store, address, "a/")] == ["a/f"]
        assert [found.key for found in access.keys_below(store, address, "a")] == ["a/f", "a2/f"]
        bucket_files.get_file(store, "a/f", tmp_path / "g")
        assert (tmp_path / "g").read_text() == "content"
        assert bucket_files.head(store, "a/none") is None
        assert access.delete(store, address, ["a/f", "a2/f"]) == {}
        assert list(access.keys_below(store, address)) == []


def test_google_without_keys_says_at_once_what_to_set(
    nobody: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match="Google") as told:
        connect(Address.parse("gs://results"))
    assert "GOOGLE_APPLICATION_CREDENTIALS" in told.value.mend
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(InvalidInput, match=r"none\.json"):
        connect(Address.parse("gs://results"))
