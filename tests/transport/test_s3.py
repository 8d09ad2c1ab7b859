"""``%s3`` on real servers: the rows U2 to U8, and what predecessors got wrong."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from buckets_server import Server, clean_environment
from conftest import git
from faulty_proxy import Proxy, Request, faulty_proxy, silent_port

from colab_magics import __main__ as face
from colab_magics import s3, session, trust
from colab_magics.errors import ColabMagicsError, CommandFailed, InvalidInput, NotFound, Unavailable
from colab_magics.transport.buckets import access
from colab_magics.transport.buckets import copy as bucket_copy
from colab_magics.transport.buckets.both_sides import Pattern
from colab_magics.transport.buckets.files import Head, head, same
from colab_magics.ui import TerminalUI

pytest_plugins = ("shells", "bucket_fixtures")


@dataclass
class Person(TerminalUI):
    """Somebody who answers, and a record of what was said."""

    out: Any = field(default_factory=io.StringIO)
    answers: list[str | bool] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def ask(self, question: str) -> bool:
        self.asked.append(question)
        return bool(self.answers.pop(0)) if self.answers else False

    def choose(self, question: str, answers: Sequence[str]) -> str:
        self.asked.append(f"{question} {', '.join(answers)}")
        return str(self.answers.pop(0)) if self.answers else ""


@pytest.fixture
def person() -> Person:
    """A session with somebody in front of it."""
    face = Person()
    session.activate(session.Session(ui=face))
    return face


@dataclass
class Bench:
    """A folder, and its bucket."""

    folder: Path
    server: Server
    bucket: str

    def write(self, *names: str, text: str = "") -> None:
        for name in names:
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text or name)

    def there(self, *names: str, text: str = "") -> None:
        for name in names:
            self.server.put(self.bucket, name, (text or name).encode())

    def listed(self) -> list[str]:
        address = access.Address("s3", self.bucket)
        return [one.key for one in access.keys_below(self.store(), address)]

    def files(self) -> list[str]:
        return sorted(
            one.relative_to(self.folder).as_posix()
            for one in self.folder.rglob("*")
            if one.is_file() or one.is_symlink()
        )

    def store(self) -> Any:
        return access.connect(access.Address("s3", self.bucket), given=self.server.environment())


def _bench(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    bucket = server.make_bucket(f"b{abs(hash(str(tmp_path))) % 10**12}")
    server.set(monkeypatch, bucket)
    return Bench(folder, server, bucket)


@pytest.fixture
def bench(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, person: Person) -> Bench:
    """An empty folder, and an empty bucket that the environment names."""
    return _bench(server, tmp_path, monkeypatch)


@pytest.fixture
def any_key(moto: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, person: Person) -> Bench:
    """The same, where keys may be anything."""
    return _bench(moto, tmp_path, monkeypatch)


@pytest.fixture
def proxied(
    rclone: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, person: Person
) -> Iterator[tuple[Bench, Proxy]]:
    """The same, with a proxy between."""
    made = _bench(rclone, tmp_path, monkeypatch)
    with faulty_proxy(rclone.port) as proxy:
        monkeypatch.setenv("S3_ENDPOINT_URL", proxy.endpoint)
        yield made, proxy


def states(*patterns: str) -> dict[str, str]:
    return {pair.key: pair.state for pair in s3.ls(*patterns)}


def text(handle: object) -> str:
    return str(handle)


# The rows


def test_u2_dotenv_names_the_bucket(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    clean_environment(monkeypatch)
    lines = [f"export {name}='{value}' # ours" for name, value in bench.server.environment(bench.bucket).items()]
    bench.write(".env", text="\n".join(lines))
    bench.write("a.txt")
    assert "1 file" in text(s3.put("a.txt"))
    assert bench.listed() == ["a.txt"]
    # The environment wins.
    monkeypatch.setenv("S3_BUCKET_NAME", "no-such-bucket")
    with pytest.raises(NotFound, match="no such bucket"):
        s3.ls()


def test_u2_a_bucket_in_the_call(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("S3_BUCKET_NAME")
    bench.write("Model/a")
    with pytest.raises(InvalidInput, match="Which bucket") as told:
        s3.put("Model/*")
    assert "S3_BUCKET_NAME" in str(told.value)
    s3.put(f"s3://{bench.bucket}/Model/*")
    assert bench.listed() == ["Model/a"]
    with pytest.raises(InvalidInput, match="one bucket"):
        s3.ls("s3://one-bucket/a", "s3://other-bucket/a")


@pytest.mark.parametrize(
    ("choice", "here", "there"),
    [
        ("delete (local)", ["Model2/x"], ["Model/there", "Model2/y"]),
        ("remove (S3)", ["Model/here", "Model2/x"], ["Model2/y"]),
        ("download", ["Model/here", "Model/there", "Model2/x"], ["Model/there", "Model2/y"]),
        ("upload", ["Model/here", "Model2/x"], ["Model/here", "Model/there", "Model2/y"]),
        ("exit", ["Model/here", "Model2/x"], ["Model/there", "Model2/y"]),
    ],
)
def test_u3_shows_both_sides_and_asks(
    bench: Bench, person: Person, choice: str, here: list[str], there: list[str]
) -> None:
    bench.write("Model/here", "Model2/x")
    bench.there("Model/there", "Model2/y")
    person.answers = [choice, True]
    s3("Model/*")
    said = person.out.getvalue()
    assert said.index("Model/here") < said.index("Model/there")  # local matches, then those of S3
    assert "Model2" not in said
    assert person.asked[0] == "What now? delete (local), remove (S3), download, upload, exit"
    assert (bench.files(), bench.listed()) == (here, there)


def test_u3_without_anybody_to_ask_it_says_the_words(bench: Bench, person: Person) -> None:
    bench.write("a")
    shown = text(s3("*"))
    assert "%s3 get" in shown
    assert "put" in shown
    assert (bench.files(), bench.listed()) == (["a"], [])


def test_u4_ls_tells_all_five_states(bench: Bench) -> None:
    bench.write("same", "newer-here", "newer-there", "only-here")
    s3.put("same", "newer-here", "newer-there")
    bench.write("newer-here", text="edited")
    os.utime("newer-here", (4e9, 4e9))
    bench.write("newer-there", text="old")
    os.utime("newer-there", (1e9, 1e9))
    bench.there("only-there")
    assert states() == {
        "same": "same",
        "newer-here": "newer here",
        "newer-there": "newer there",
        "only-here": "only here",
        "only-there": "only there",
    }
    shown = text(s3.ls())
    assert "1 same, 1 newer here, 1 newer there, 1 only here, 1 only there" in shown


def test_content_decides_and_not_the_time(bench: Bench) -> None:
    bench.write("a", text="12345")
    os.utime("a", (1e9, 1e9))
    s3.put("a")
    stamp = os.stat("a").st_mtime_ns
    bench.write("a", text="54321")
    os.utime("a", ns=(stamp, stamp))
    assert states() == {"a": "newer here"}
    bench.write("a", text="12345")  # another time, the same content
    assert states() == {"a": "same"}


@pytest.mark.parametrize(
    ("pattern", "means"),
    [
        ("Model/*", ["Model/a", "Model/sub/b"]),
        ("Model/", ["Model/a", "Model/sub/b"]),
        ("./Model", ["Model/a", "Model/sub/b"]),
        ("Model*", ["Model/a", "Model/sub/b", "Model2/c"]),
        ("*/b", ["Model/sub/b"]),
        ("Model?/c", ["Model2/c"]),
        ("*.txt", ["[x].txt", "d.txt"]),
        ("[x].txt", ["[x].txt"]),
        ("*", ["Model/a", "Model/sub/b", "Model2/c", "[x].txt", "d.txt"]),
    ],
)
def test_u5_the_star_crosses_folders_and_never_names(pattern: str, means: list[str]) -> None:
    keys = ["Model/a", "Model/sub/b", "Model2/c", "[x].txt", "d.txt"]
    assert [key for key in keys if Pattern.parse(pattern).means(key)] == means


def test_u5_the_same_pattern_means_the_same_on_both_sides(bench: Bench) -> None:
    names = ["Model/a", "Model/sub/b", "Model2/c", "d.txt"]
    bench.write(*names)
    bench.there(*names)
    for pattern in ("Model/*", "Model", "Mod*", "*b", "d.txt", "*"):
        found = list(s3.ls(pattern))
        assert [pair.key for pair in found if pair.here] == [pair.key for pair in found if pair.there]
        assert [pair.key for pair in found] == [name for name in names if Pattern.parse(pattern).means(name)]


@pytest.mark.parametrize("pattern", ["/etc/*", "../x", "a/../../x", "~/x", "a//b"])
def test_a_pattern_that_leads_out_is_refused(bench: Bench, pattern: str) -> None:
    with pytest.raises(InvalidInput, match="leads out"):
        s3.put(pattern)


def test_u6_the_structure_is_kept_and_what_is_the_same_is_skipped_and_named(bench: Bench, person: Person) -> None:
    bench.there("Model/x y/ünï $(a)", "Model/b")
    os.mkdir("Model")
    bench.write("Model/b")
    shown = text(s3.get("Model/*"))
    assert "the same already, skipped: Model/b" in shown
    assert (bench.folder / "Model/x y/ünï $(a)").read_text() == "Model/x y/ünï $(a)"
    assert "only there" in person.out.getvalue()  # both sides are shown first
    shown = text(s3.get("Model/*"))
    assert "0 files" in shown


def test_u7_local_delete_removes_emptied_folders_and_asks(bench: Bench, person: Person) -> None:
    bench.write("Model/a/b/c", "Model/d", "keep")
    s3.put("Model/d")
    assert "Nothing was removed" in text(s3.delete("Model/*"))
    assert person.asked == [f"Remove 2 files here, in {bench.folder}, for good?"]
    assert "only here" in person.out.getvalue()
    person.answers = [True]
    shown = text(s3.delete("Model/*"))
    assert "Model, Model/a, Model/a/b" in shown
    assert os.listdir() == ["keep"]
    assert bench.listed() == ["Model/d"]


# What predecessors got wrong


def test_removing_asks_first_and_is_no_prefix_match(bench: Bench, person: Person) -> None:
    bench.there("Model/a", "Model/b", "Model2/c")
    bench.write("Model/a")
    assert "Nothing was removed" in text(s3.rm("Model/*"))
    assert "Model/b" in person.out.getvalue()
    assert bench.listed() == ["Model/a", "Model/b", "Model2/c"]
    assert "--dry-run" in text(s3.rm("Model/*", yes=True, dry_run=True))
    assert len(bench.listed()) == 3
    assert "2 files" in text(s3.rm("Model/*", yes=True))
    assert (bench.listed(), bench.files()) == (["Model2/c"], ["Model/a"])


def test_a_folder_is_not_removed_by_its_bare_name(bench: Bench) -> None:
    bench.there("Model/a", "single")
    with pytest.raises(InvalidInput, match="is a folder") as told:
        s3.rm("Model", yes=True)
    assert "Model/*" in told.value.mend
    s3.rm("single", yes=True)
    assert bench.listed() == ["Model/a"]


def test_more_than_a_thousand_are_removed_in_batches(
    rclone: Server, proxied: tuple[Bench, Proxy], person: Person
) -> None:
    bench, proxy = proxied
    for number in range(2100):
        file = rclone.folder / bench.bucket / "many" / f"{number:04d}"
        file.parent.mkdir(exist_ok=True)
        file.touch()
    shown = text(s3.rm("many/*", yes=True))
    assert "2,100 files" in shown
    assert bench.listed() == []
    assert proxy.count("POST") == 3


def test_each_result_of_a_removal_is_checked(any_key: Bench) -> None:
    any_key.there("a\x01b", "c")
    failed = access.delete(any_key.store(), access.Address("s3", any_key.bucket), ["a\x01b", "c"])
    assert failed == {"a\x01b": "its key cannot be written"}
    assert any_key.listed() == ["a\x01b"]


def test_forbidden_is_not_absent(proxied: tuple[Bench, Proxy]) -> None:
    bench, proxy = proxied
    bench.write("a", text="here")
    bench.there("a", text="much longer there")
    proxy.rule = lambda request: 403 if request.method == "HEAD" else None
    with pytest.raises(Unavailable, match="403"):
        s3.put("a")  # who does not know whether it is newer there writes nothing over it
    proxy.rule = lambda request: 403
    for call in (s3.ls, s3.get, s3.put):
        with pytest.raises(Unavailable, match="403") as told:
            call("a")
        assert "not there" not in str(told.value)
    proxy.rule = lambda request: 403 if request.method in ("PUT", "POST") else None
    with pytest.raises(CommandFailed, match="403"):
        s3.put("a", force=True)
    with pytest.raises(Unavailable, match="403"):
        s3.rm("a", yes=True)
    assert bench.server.request("GET", bench.bucket, "a") == b"much longer there"


def test_one_that_is_forbidden_does_not_keep_the_others(proxied: tuple[Bench, Proxy]) -> None:
    bench, proxy = proxied
    bench.there("a", "b", "c")
    proxy.rule = lambda request: 403 if request.method == "GET" and request.path.endswith("/b") else None
    with pytest.raises(CommandFailed) as told:
        s3.get("*")
    assert "1 of 3 files" in told.value.what
    assert "'b'" in told.value.what
    assert bench.files() == ["a", "c"]


def test_stale_files_are_refreshed_on_either_side_and_newer_ones_stay(bench: Bench) -> None:
    bench.write("a", text="first")
    s3.put("a")
    bench.write("a", text="edited here")
    os.utime("a", (4e9, 4e9))
    assert "newer here, and stays so (--force copies over it): a" in text(s3.get("a"))
    assert Path("a").read_text() == "edited here"
    s3.put("a")
    assert states("a") == {"a": "same"}
    bench.write("a", text="old")
    os.utime("a", (1e9, 1e9))
    assert "newer there, and stays so" in text(s3.put("a"))
    s3.get("a")
    assert (Path("a").read_text(), os.stat("a").st_mtime) == ("edited here", 4e9)
    bench.write("a", text="new")
    os.utime("a", (5e9, 5e9))
    s3.get("a", force=True)
    assert Path("a").read_text() == "edited here"


def test_hostile_keys_are_refused_one_by_one_and_the_others_come(any_key: Bench, tmp_path: Path) -> None:
    hostile = [
        "../out",
        "x/../../out",
        "/etc/x",
        "x//y",
        "x/./y",
        "x/c\x1b[31md",
        ".git/hooks/pre-commit",
        "x/.git/config",
    ]
    any_key.there(*hostile, "x/ok", "ok 2", ".env")
    any_key.server.put(any_key.bucket, "x/mark/", b"")  # a console's mark of a folder is neither
    shown = text(s3.get("*"))
    assert any_key.files() == ["ok 2", "x/ok"]
    assert [one.name for one in tmp_path.iterdir()] == ["work"]
    for key in hostile:
        assert repr(key) in shown
    assert "\x1b" not in shown
    assert len(s3.ls().refused) == len(hostile) + 1  # .env would say where the bucket is
    s3.get(".env")
    assert ".env" in any_key.files()


def test_links_here_lead_nobody_out(bench: Bench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    os.symlink(outside, "Model")
    os.symlink(outside / "f", "link")
    bench.there("Model/a", "link", "ok")
    shown = text(s3.get("*"))
    assert "Model is a link here" in shown
    assert "a link stands here" in shown
    assert (os.listdir(outside), Path("ok").read_text()) == ([], "ok")
    (outside / "secret").write_text("x")
    assert "it is a link" in text(s3.put("*"))
    assert bench.listed() == ["Model/a", "link", "ok"]


def test_a_file_in_the_way_of_a_folder_is_named(any_key: Bench) -> None:
    any_key.there("a", "a/b", "c/d")
    with pytest.raises(CommandFailed) as told:
        s3.get("*")
    assert "a" in told.value.what
    assert Path("c/d").read_text() == "c/d"
    assert not [name for name in any_key.files() if name.startswith(".colab")]


def test_secrets_go_only_when_they_are_named(bench: Bench) -> None:
    bench.write("conf/.env", "conf/id_rsa", "conf/a", "conf/.env.example", ".git/config", ".venv/x")
    shown = text(s3.put("*"))
    assert "'conf/.env': it looks like a secret" in shown
    assert bench.listed() == ["conf/.env.example", "conf/a"]
    s3.put("conf/.env")
    assert "conf/.env" in bench.listed()
    # What stands on both sides is not written over as if it were only there.
    bench.write("conf/.env", text="mine, longer")
    os.utime("conf/.env", (4e9, 4e9))
    s3.get("conf/id_rsa", "conf/a")
    assert Path("conf/.env").read_text() == "mine, longer"


# What goes wrong on the way


def test_a_download_that_is_cut_leaves_what_was_there(proxied: tuple[Bench, Proxy]) -> None:
    bench, proxy = proxied
    data = "0123456789" * 300_000
    bench.there("big", text=data)
    bench.write("big", text="before")
    os.utime("big", (1e9, 1e9))
    proxy.rule = lambda request: "cut" if request.method == "GET" and request.path.endswith("/big") else None
    with pytest.raises(CommandFailed):
        s3.get("big")
    assert (Path("big").read_text(), os.listdir()) == ("before", ["big"])
    proxy.rule = lambda request: None
    s3.get("big")
    assert Path("big").read_text() == data


def test_where_the_store_encrypts_the_etag_is_no_checksum(proxied: tuple[Bench, Proxy]) -> None:
    bench, proxy = proxied
    bench.write("a", text="content")
    bench.there("a", text="content")
    os.remove("a")
    proxy.answer_headers = {"ETag": '"0123456789abcdef0123456789abcdef"'}
    with pytest.raises(CommandFailed, match="came damaged"):
        s3.get("a")
    assert os.listdir() == []
    proxy.answer_headers["x-amz-server-side-encryption"] = "aws:kms"
    s3.get("a")
    assert Path("a").read_text() == "content"


def test_where_the_store_encrypts_size_and_time_decide(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("content")
    os.utime(file, (1e9, 1e9))
    etag = "0" * 32
    for time, counts, expected in ((1e9, False, True), (1e9, True, False), (2e9, False, False)):
        there = Head("f", 7, etag, 0.0, time, {"mtime": str(int(time))})
        assert same(file, 7, etag, lambda there=there: there, lambda counts=counts: counts) is expected  # type: ignore[misc]


def test_an_answer_that_is_lost_is_asked_for_again(proxied: tuple[Bench, Proxy]) -> None:
    bench, proxy = proxied
    bench.write("a")
    proxy.rule = lambda request: 503 if request.number % 2 else None
    s3.put("a")
    proxy.rule = lambda request: "reset" if request.number % 2 else None
    assert states() == {"a": "same"}


def test_a_dead_server_is_told_soon(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with silent_port() as port:
        monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setattr("colab_magics.transport.buckets.requests.ANSWER_SECONDS", 0.3)
        with pytest.raises(Unavailable, match="does not answer") as told:
            s3.ls()
    assert bench.server.secret not in str(told.value)


def test_what_answers_but_is_no_store_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from http.server import HTTPServer, SimpleHTTPRequestHandler
    from threading import Thread

    class Page(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html><p>hello")

        def log_message(self, *words: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Page) as page:
        Thread(target=page.serve_forever, daemon=True).start()
        monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{page.server_port}")
        try:
            with pytest.raises(Unavailable, match="does not speak S3"):
                s3.ls()
        finally:
            page.shutdown()


def test_when_nothing_goes_the_rest_is_not_tried(proxied: tuple[Bench, Proxy]) -> None:
    bench, proxy = proxied
    bench.write(*(f"many/{number}" for number in range(200)))
    proxy.rule = lambda request: 403 if request.method == "PUT" else None
    with pytest.raises(CommandFailed, match="200 of 200"):
        s3.put("many/*")
    assert proxy.count("PUT") < 100


def test_an_interrupt_publishes_nothing_half(proxied: tuple[Bench, Proxy]) -> None:
    bench, proxy = proxied
    bench.write("big", text="x" * (30 << 20))

    def tell(now: object) -> None:
        raise KeyboardInterrupt

    pairs = list(s3.ls("big"))
    with pytest.raises(KeyboardInterrupt):
        bucket_copy.put(bench.store(), bench.folder, pairs, tell=tell)
    there = head(bench.store(), "big")
    assert there is None or there.size == 30 << 20
    assert proxy.count() > 0


# A repository's own words


def test_a_dotenv_of_a_clone_sends_nothing_without_a_yes(
    rclone: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, person: Person
) -> None:
    bench = _bench(rclone, tmp_path, monkeypatch)
    seen: list[Request] = []
    with faulty_proxy(rclone.port) as evil:
        evil.rule = lambda request: seen.append(request)  # type: ignore[func-returns-value]
        clean_environment(monkeypatch)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", rclone.key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rclone.secret)
        bench.write(".env", text=f"S3_ENDPOINT_URL={evil.endpoint}\nS3_BUCKET_NAME={bench.bucket}\n")
        bench.write("a")
        git("init", "--quiet", str(bench.folder))
        git("add", "--force", ".env", cwd=bench.folder)
        with pytest.raises(InvalidInput, match="Which bucket"):
            s3.put("a")
        assert "tracked by git" in person.out.getvalue()
        assert seen == []
        shown = text(trust(yes=True))
        assert evil.endpoint in shown
        s3.put("a")
        assert seen
        bench.write(".env", text=f"S3_ENDPOINT_URL=http://other\nS3_BUCKET_NAME={bench.bucket}\n")
        with pytest.raises(InvalidInput, match="Which bucket"):  # other values need another yes
            s3.put("a")


def test_trust_shows_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, person: Person) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", str(tmp_path))
    (tmp_path / ".env").write_text("AWS_ACCESS_KEY_ID=AKIA\nAWS_SECRET_ACCESS_KEY=hush-hush\n")
    git("add", "--force", ".env", cwd=tmp_path)
    shown = text(trust(yes=True))
    assert "AKIA" in shown
    assert "hush" not in shown + person.out.getvalue()


# The package


def test_without_obstore_it_says_what_to_install(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(Unavailable, match="obstore") as told:
        s3.ls()
    assert "pip install 'colab-magics[s3]'" in told.value.mend


def test_what_is_nowhere_is_told(bench: Bench) -> None:
    for call in (s3.get, s3.put):
        with pytest.raises(NotFound, match=r"Nothing .* matches"):
            call("no/such*")
    for call in (s3.rm, s3.delete):
        assert "nothing was removed" in text(call("no/such*", yes=True))


def test_without_a_pattern_it_says_how(bench: Bench) -> None:
    for call in (s3, s3.get, s3.put, s3.rm, s3.delete):
        with pytest.raises(ColabMagicsError, match="Which files"):
            call()


def test_the_shell_says_the_same(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.write("Model/a", "Model/b")
    # A shell that expands the pattern itself names the files.
    assert face.main(["s3", "put", "Model/a", "Model/b"]) == 0
    assert "2 files" in capsys.readouterr().out
    assert face.main(["s3", "ls", "Model/*"]) == 0
    assert "2 same" in capsys.readouterr().out
    assert face.main(["s3", "rm", "Model/*", "--yes"]) == 0
    assert bench.listed() == []


def test_the_magic_says_the_same(bench: Bench, shell: Any) -> None:
    bench.write("Model/a")
    shell.run_line_magic("load_ext", "colab_magics")
    assert "1 file" in str(shell.run_line_magic("s3", "put Model/*"))
    assert "1 same" in str(shell.run_line_magic("s3", "ls 'Model/*'"))
    shell.run_line_magic("unload_ext", "colab_magics")
