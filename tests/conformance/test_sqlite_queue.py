"""A queue in a file of SQLite keeps to what queues keep to, and to what files do."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from string import Template
from typing import Any

import pytest
from conftest import poll
from faults.drive import Drive
from faults.kit import as_root

from colab_magics import process
from colab_magics.errors import InvalidInput, NotFound, Unavailable
from colab_magics.queues import kind_of, local_disk, open_queue, sqlite
from colab_magics.queues.base import DONE, STALE, End, New, Queue
from colab_magics.queues.sqlite import SqliteQueue

from .queue_load import load
from .queue_suite import Open
from .sql_suite import SqlQueueSuite


def by_hand(path: Path, words: str, *values: Any) -> None:
    """Write into a file as people do, with another program."""
    with closing(sqlite3.connect(path, timeout=10)) as db, db:
        db.execute(words, values)


class TestSqliteQueue(SqlQueueSuite):
    """``runs.db``."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        folder = tmp_path / "a'; echo ?#%41 $(touch gone)"
        folder.mkdir()
        return folder / "rüns.db"

    @pytest.fixture
    def open(self, path: Path) -> Iterator[Open]:
        opened: list[Queue] = []

        def one(lease: float = 60.0) -> Queue:
            opened.append(SqliteQueue(str(path), lease=lease))
            return opened[-1]

        yield one
        for queue in opened:
            queue.close()

    def by_hand(self, queue: Queue, words: str, *values: Any) -> None:
        by_hand(queue.path, Template(words).substitute(runs="runs", settings="runs_settings"), *values)  # type: ignore[attr-defined]

    # Files

    def test_its_address_is_a_path_or_a_url(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        monkeypatch.chdir(tmp_path)
        for address, path in [
            ("runs.db", tmp_path / "runs.db"),
            ("sqlite:///a b/runs.db", tmp_path / "a b/runs.db"),
            ("sqlite:////var/x.db", Path("/var/x.db")),
            ("~/x.db", home / "x.db"),
            ("../x=1.db", tmp_path.parent / "x=1.db"),
        ]:
            assert kind_of(address) == "sqlite"
            queue = open_queue(address, lease=5.0)
            assert isinstance(queue, SqliteQueue)
            assert (queue.path, queue.address, queue.lease) == (path, address, 5.0)
        for wrong, mend in [("sqlite://runs.db", "sqlite:///runs.db"), ("sqlite:///", "runs.db"), (":memory:", "path")]:
            with pytest.raises(InvalidInput, match=mend):
                open_queue(wrong)

    def test_it_stays_at_its_place_when_the_program_goes_elsewhere(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with closing(SqliteQueue("runs.db")) as queue:
            queue.create()
            monkeypatch.chdir("/")
            assert queue.add([New({}, name="a")]) == ["a"]
        assert (tmp_path / "runs.db").is_file()

    def test_looking_makes_no_file(self, open: Open, path: Path) -> None:
        with pytest.raises(NotFound):
            open().rows()
        assert not list(path.parent.iterdir())
        shutil.rmtree(path.parent)
        with pytest.raises(NotFound, match="mkdir"):
            open().create()

    def test_a_database_of_something_else_is_left_alone(self, open: Open, path: Path) -> None:
        by_hand(path, "CREATE TABLE photos (name TEXT)")
        before = path.read_bytes()
        for ask in (lambda: open().create(), lambda: open().rows(), lambda: open().add([New({})])):
            with pytest.raises(InvalidInput, match="photos"):
                ask()
        assert path.read_bytes() == before

    def test_a_file_that_is_no_database_is_left_alone(self, open: Open, path: Path) -> None:
        path.write_text("my notes, which are longer than the header of a database " * 20)
        before = path.read_bytes()
        for ask in (lambda: open().create(), lambda: open().rows()):
            with pytest.raises(InvalidInput, match="no database"):
                ask()
        assert path.read_bytes() == before
        path.unlink()
        path.mkdir()
        with pytest.raises(InvalidInput, match="no file"):
            open().create()

    def test_a_queue_of_a_newer_version_is_left_alone(self, queue: Queue, open: Open, path: Path) -> None:
        by_hand(path, "UPDATE runs_settings SET version = 2")
        for ask in (lambda: open().rows(), lambda: open().create(), lambda: open().claim("w")):
            with pytest.raises(InvalidInput, match="newer version"):
                ask()

    @pytest.mark.parametrize("made", [b"", None], ids=["an empty file", "tables without a queue"])
    def test_who_was_killed_while_making_it_left_nothing_in_the_way(
        self, open: Open, path: Path, made: bytes | None
    ) -> None:
        path.write_bytes(b"")
        if made is None:
            with closing(sqlite3.connect(path)) as db:
                db.execute("PRAGMA journal_mode = WAL")
        with pytest.raises(NotFound, match="%queue create"):
            open().rows()
        open().create()
        assert open().rows() == []

    @pytest.mark.parametrize("kind", ["nfs4", "fuse.drive", "fuse.sshfs", "cifs", "9p", "lustre", "virtiofs"])
    def test_file_systems_of_networks_are_refused(
        self, open: Open, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        table = tmp_path / "mountinfo"
        point = str(path.parent).replace(" ", r"\040")
        table.write_text(
            f"22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n30 22 0:50 / {point} rw - {kind} server:/x rw\n"
        )
        monkeypatch.setattr(local_disk.file_system, "__defaults__", (str(table),))
        with pytest.raises(InvalidInput, match=rf"which is {kind}.*\n.*Google Sheet or postgresql"):
            open().create()
        assert not path.exists()
        table.write_text(table.read_text() + f"31 22 8:1 / {point} rw - tmpfs tmpfs rw\n")
        open().create()
        path.unlink()
        table.write_text(f"22 1 0:9 / / rw - {kind} none rw\n")
        if kind in ("9p", "virtiofs"):
            open().create()  # a sandbox, whose whole disk it is
        else:
            with pytest.raises(InvalidInput, match="which is"):
                open().create()

    def test_a_mounted_drive_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        as_root()
        pytest.importorskip("mfusepy", reason="the stand-in for Drive needs mfusepy and fuse3")
        drive = tmp_path / "drive"
        monkeypatch.setenv("COLAB_MAGICS_DRIVE", str(drive))
        (tmp_path / "google" / "MyDrive").mkdir(parents=True)
        with Drive.mounted(tmp_path / "google", drive):
            (tmp_path / "link").symlink_to(drive / "MyDrive")
            for folder in (drive / "MyDrive", tmp_path / "link"):
                with pytest.raises(InvalidInput, match="which is fuse"):
                    SqliteQueue(str(folder / "runs.db")).create()
            assert not list((tmp_path / "google" / "MyDrive").iterdir())

    def test_a_file_that_was_replaced_is_the_queue_now(self, queue: Queue, path: Path) -> None:
        queue.add([New({}, name="old")])
        for one in path.parent.iterdir():
            one.unlink()
        with pytest.raises(NotFound):
            queue.claim("w")
        with closing(SqliteQueue(str(path))) as other:
            other.create()
            other.add([New({}, name="new")])
        assert [row.name for row in queue.rows()] == ["new"]

    def test_leases_of_another_boot_are_over(self, queue: Queue, open: Open, monkeypatch: pytest.MonkeyPatch) -> None:
        queue.add([New({}, name="a")])
        assert queue.claim("before") is not None
        monkeypatch.setattr(process, "boot_id", lambda: "another")
        after = open()
        assert [row.status for row in after.rows()] == [STALE]
        claim = after.claim("w")
        assert claim is not None
        assert claim.epoch == 2

    def test_a_sandbox_without_a_name_of_its_boot_has_leases_too(
        self, open: Open, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sqlite, "_BOOT_ID", "/nowhere")
        queue = open(lease=self.LEASE)
        queue.create()
        queue.add([New({}, name="a")])
        assert queue.claim("dead") is not None
        assert queue.claim("w") is None
        assert poll(lambda: queue.claim("w")).epoch == 2

    def test_a_lock_that_another_program_keeps_is_told(
        self, queue: Queue, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        queue.add([New({}, name="a")])
        monkeypatch.setattr(sqlite, "_PATIENCE", 0.1)
        with closing(sqlite3.connect(path, isolation_level=None)) as shell:
            shell.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked"):
                queue.claim("w")
            assert [row.name for row in queue.rows()] == ["a"], "who reads does not wait"
        assert queue.claim("w") is not None

    def test_answers_are_kept_for_the_last_exchanges_alone(self, queue: Queue, path: Path) -> None:
        queue.add([New({}) for _ in range(40)])
        for worker in ("w", "v"):
            while claim := queue.claim(worker):
                assert queue.finish(End(claim))
        with closing(sqlite3.connect(path)) as db:
            counts = dict(db.execute("SELECT worker, count(*) FROM runs_tickets GROUP BY worker"))
        assert all(count <= 17 for count in counts.values()), counts
        assert all(row.status == DONE for row in queue.rows())

    @pytest.mark.long
    def test_every_run_once_whatever_happens_to_workers(self, open: Open, path: Path, tmp_path: Path) -> None:
        queue = open(lease=3.0)
        queue.create()
        print(load(queue, str(path), tmp_path).check(500))
