"""``unpack()`` and ``pack()``: archives that anybody may have made."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES

from colab_magics import pack, unpack
from colab_magics.archives import unpacking
from colab_magics.errors import ColabMagicsError, InvalidInput, NotFound, Unavailable


def tree(folder: Path) -> dict[str, object]:
    """Return what a folder holds: bytes of files, where links lead, None for folders."""
    return {
        str(one.relative_to(folder)): os.readlink(one)
        if one.is_symlink()
        else None
        if one.is_dir()
        else one.read_bytes()
        for one in sorted(folder.rglob("*"))
    }


def tar_of(path: Path, *members: tuple[str, dict[str, object], bytes], mode: str = "w") -> Path:
    """Write a tar of members: name, further fields, content."""
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, fields, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(data))
    return path


def zip_of(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def refused(tmp_path: Path, archive: Path, error: type[ColabMagicsError] = InvalidInput, words: str = "") -> None:
    """See that nothing comes of an archive, within the folder or outside."""
    before = tree(tmp_path)
    with pytest.raises(error, match=words) as raised:
        unpack(archive)
    assert raised.value.mend
    assert tree(tmp_path) == before


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "tgz"])
def test_what_was_packed_is_unpacked_again(tmp_path: Path, ending: str) -> None:
    source = tmp_path / "re sults"
    (source / "deep" / "empty").mkdir(parents=True)
    for number, name in enumerate(HOSTILE_NAMES):
        (source / "deep" / name).write_bytes(bytes([number]) * 100_000)
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o4755)
    (source / "link").symlink_to("deep/with space")
    os.mkfifo(source / "pipe")
    (source / ".~colab_magics.get-1").write_text("half")
    packed = pack(source, tmp_path / f"out.{ending}")
    expected = {name: what for name, what in tree_without_pipe(source).items() if "colab_magics" not in name}
    got = unpack(packed, tmp_path / "re sults again")
    assert tree(got / "re sults") == expected
    mode = (got / "re sults" / "run.sh").stat().st_mode
    assert mode & stat.S_IXUSR
    assert not mode & stat.S_ISUID
    first = pack(source, packed).read_bytes()
    assert pack(source, packed).read_bytes() == first
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted([f"out.{ending}", "re sults", "re sults again"])


def tree_without_pipe(folder: Path) -> dict[str, object]:
    (folder / "pipe").unlink()
    return tree(folder)


def test_a_folder_named_like_the_archive_is_not_doubled(tmp_path: Path) -> None:
    zip_of(tmp_path / "x.zip", **{"x/a": b"1", "x/b": b"2"})
    assert tree(unpack(tmp_path / "x.zip")) == {"a": b"1", "b": b"2"}
    zip_of(tmp_path / "y.zip", **{"other/a": b"1"})
    assert tree(unpack(tmp_path / "y.zip")) == {"other": None, "other/a": b"1"}


def test_a_second_unpack_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = zip_of(tmp_path / "x.zip", a=b"1")
    (unpack(archive) / "mine").write_text("mine")
    assert tree(unpack(archive)) == {"a": b"1", "mine": b"mine"}
    assert "there already" in capsys.readouterr().err
    unpack(archive, force=True)
    assert tree(tmp_path / "x") == {"a": b"1"}
    assert (tmp_path / "x.old1" / "mine").read_text() == "mine"


@pytest.mark.parametrize(("ending", "packed"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_one_file_without_a_name(tmp_path: Path, ending: str, packed: Callable[[bytes], bytes]) -> None:
    (tmp_path / f"a.csv.{ending}").write_bytes(packed(b"1,2\n" * 9999))
    assert unpack(tmp_path / f"a.csv.{ending}") == tmp_path / "a.csv"
    assert (tmp_path / "a.csv").read_bytes() == b"1,2\n" * 9999
    (tmp_path / f"b.csv.{ending}").write_bytes(packed(b"1,2\n" * 9999)[:-9])
    refused(tmp_path, tmp_path / f"b.csv.{ending}", words="cannot be unpacked")


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz"])
def test_tars_of_all_kinds_by_content_not_by_name(tmp_path: Path, ending: str) -> None:
    tar_of(tmp_path / "x", ("d/a", {}, b"1"), mode=f"w:{ending}")
    assert tree(unpack(tmp_path / "x", tmp_path / "to")) == {"d": None, "d/a": b"1"}


def test_zst_is_unpacked_or_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "x.tar.zst").write_bytes(b"\x28\xb5\x2f\xfd" + b"\0" * 20)
    try:
        import zstandard  # noqa: F401
    except ImportError:
        if sys.version_info < (3, 14):
            refused(tmp_path, tmp_path / "x.tar.zst", Unavailable, "packed by zstd")
            return
    refused(tmp_path, tmp_path / "x.tar.zst")


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "a/../../evil", "a/b/../../../evil", "..", "./../evil", "x/..", "//tmp/evil"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str, kind: str) -> None:
    inside = tmp_path / "in"
    inside.mkdir()
    archive = inside / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr("good", b"1")
            made.writestr(zipfile.ZipInfo(name), b"evil")
    else:
        tar_of(archive, ("good", {}, b"1"), (name, {}, b"evil"))
    refused(tmp_path, archive, words="leads out of the folder")


def test_backslashes_of_windows_are_separators_and_lead_out_no_more_than_others(tmp_path: Path) -> None:
    for name, archive in (("a\\b", "x.zip"), ("..\\..\\evil", "y.zip")):
        info = zipfile.ZipInfo(name)
        info.create_system = 0
        with zipfile.ZipFile(tmp_path / archive, "w") as made:
            made.writestr(info, b"1")
    assert tree(unpack(tmp_path / "x.zip")) == {"a": None, "a/b": b"1"}
    refused(tmp_path, tmp_path / "y.zip", words="leads out")


LINK, HARD, DEVICE, PIPE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE


@pytest.mark.parametrize(
    "members",
    {
        "absolute": [("l", {"type": LINK, "linkname": "/etc/passwd"}, b"")],
        "out": [("l", {"type": LINK, "linkname": "../../etc"}, b"")],
        "out of a folder": [("d/l", {"type": LINK, "linkname": "../../x"}, b"")],
        "through another": [
            ("deep/er/there", {}, b"1"),
            ("a", {"type": LINK, "linkname": "deep/er"}, b""),
            ("b", {"type": LINK, "linkname": "a/../../.."}, b""),
        ],
        "and then a file through it": [("l", {"type": LINK, "linkname": ".."}, b""), ("l/evil", {}, b"1")],
        "inside, then a file through it": [
            ("d/x", {}, b"1"),
            ("l", {"type": LINK, "linkname": "d"}, b""),
            ("l/evil", {}, b"1"),
        ],
        "to itself twice over a file": [("l", {}, b"1"), ("l", {"type": LINK, "linkname": "x"}, b"")],
        "a hard one out": [("l", {"type": HARD, "linkname": "../../precious"}, b"")],
        "a hard one absolute": [("l", {"type": HARD, "linkname": "/etc/passwd"}, b"")],
        "a hard one to a link": [
            ("l", {"type": LINK, "linkname": "x"}, b""),
            ("h", {"type": HARD, "linkname": "l"}, b""),
        ],
        "a device": [("null", {"type": DEVICE, "devmajor": 1, "devminor": 3}, b"")],
        "a pipe": [("pipe", {"type": PIPE}, b"")],
        "a file that is a folder": [("a", {}, b"1"), ("a/b", {}, b"1")],
        "a folder that is a file": [("a/b", {}, b"1"), ("a", {}, b"1")],
        "no name": [(".", {}, b"1")],
    }.items(),
    ids=lambda pair: pair[0],
)
def test_links_and_devices_are_refused(tmp_path: Path, members: tuple[str, list]) -> None:
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "in").mkdir()
    refused(tmp_path, tar_of(tmp_path / "in" / "x.tar", ("good", {}, b"1"), *members[1]), words="refused")


def test_links_within_stay(tmp_path: Path) -> None:
    archive = tar_of(
        tmp_path / "x.tar",
        ("l", {"type": LINK, "linkname": "d/a"}, b""),
        ("d/a", {"mode": 0o6777}, b"1"),
        ("h", {"type": HARD, "linkname": "d/a"}, b""),
        ("dangling", {"type": LINK, "linkname": "nowhere"}, b""),
    )
    got = unpack(archive)
    assert tree(got) == {"l": "d/a", "d": None, "d/a": b"1", "h": b"1", "dangling": "nowhere"}
    assert stat.S_IMODE((got / "d" / "a").stat().st_mode) & 0o7022 == 0


def test_links_of_zips_are_links_and_keep_within(tmp_path: Path) -> None:
    for name, leads in (("x.zip", "a"), ("y.zip", "/etc/passwd")):
        info = zipfile.ZipInfo("l")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        with zipfile.ZipFile(tmp_path / name, "w") as made:
            made.writestr("a", b"1")
            made.writestr(info, leads)
    assert tree(unpack(tmp_path / "x.zip")) == {"a": b"1", "l": "a"}
    refused(tmp_path, tmp_path / "y.zip", words="refused")


def test_a_name_twice(tmp_path: Path) -> None:
    assert tree(unpack(tar_of(tmp_path / "x.tar", ("a", {}, b"old"), ("a", {}, b"new")))) == {"a": b"new"}
    with zipfile.ZipFile(tmp_path / "y.zip", "w") as made:
        made.writestr("a", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("a", b"2")
    refused(tmp_path, tmp_path / "y.zip", words="holds 'a' twice")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "gz"])
def test_bombs_are_refused_unless_big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(unpacking, "CALM", 100_000)
    zeros, archive = b"\0" * 5_000_000, tmp_path / f"x.{kind}"
    if kind == "zip":
        zip_of(archive, a=zeros)
    elif kind == "gz":
        archive.write_bytes(gzip.compress(zeros))
    else:
        tar_of(archive, ("a", {}, zeros), mode="w:gz")
    refused(tmp_path, archive, words="over 100 times as big")
    got = unpack(archive, big=True)
    assert (got if got.is_file() else got / "a").read_bytes() == zeros


def test_entries_that_overlap_are_refused(tmp_path: Path) -> None:
    zip_of(tmp_path / "x.zip", a=os.urandom(1000), b=os.urandom(1000))
    data = bytearray((tmp_path / "x.zip").read_bytes())
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 0)  # where the local header of b stands: that of a
    (tmp_path / "x.zip").write_bytes(data)
    refused(tmp_path, tmp_path / "x.zip", words="within another entry")


def test_a_zip_that_lies_about_a_size_is_refused(tmp_path: Path) -> None:
    zip_of(tmp_path / "x.zip", a=b"\0" * 1_000_000)
    data = bytearray((tmp_path / "x.zip").read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = struct.pack("<I", 10)
    (tmp_path / "x.zip").write_bytes(data)
    refused(tmp_path, tmp_path / "x.zip", words="cannot be unpacked")


def test_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "ENTRIES", 50)
    archive = tar_of(tmp_path / "x.tar", *((f"{n}", {}, b"") for n in range(51)))
    refused(tmp_path, archive, words="over 50 entries")
    assert len(tree(unpack(archive, big=True))) == 51


def test_what_has_no_room_is_refused_also_when_big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 1000))
    refused(tmp_path, zip_of(tmp_path / "x.zip", a=b"1"), Unavailable, "0 B are free")


def test_a_locked_zip_is_told(tmp_path: Path) -> None:
    zip_of(tmp_path / "x.zip", a=b"1")
    data = bytearray((tmp_path / "x.zip").read_bytes())
    for at in (6, data.rindex(b"PK\x01\x02") + 8):
        data[at] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    refused(tmp_path, tmp_path / "x.zip", Unavailable, "locked by a password")


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
def test_half_an_archive_makes_no_folder(tmp_path: Path, kind: str) -> None:
    archive = tmp_path / f"x.{kind}"
    if kind == "zip":
        zip_of(archive, a=os.urandom(90_000), b=os.urandom(90_000))
    else:
        tar_of(archive, ("a", {}, os.urandom(90_000)), ("b", {}, os.urandom(90_000)), mode=f"w:{kind[4:]}")
    archive.write_bytes(archive.read_bytes()[:100_000])
    refused(tmp_path, archive, words="cannot be unpacked")


def test_a_killed_unpack_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "x.zip", a=b"1")
    left = tmp_path / f"{unpacking.TEMPORARY}{unpacking._mark('x')}-1-1"
    left.mkdir()
    (left / "a").write_text("half")
    assert tree(unpack(archive)) == {"a": b"1"}
    assert not left.exists()


def test_what_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2\n" * 500)
    refused(tmp_path, tmp_path / "a.csv", words="no archive")
    (tmp_path / "a.7z").write_bytes(b"7z\xbc\xaf\x27\x1c" + b"\0" * 99)
    refused(tmp_path, tmp_path / "a.7z", Unavailable, "7z archive")
    with pytest.raises(NotFound):
        unpack(tmp_path / "none.zip")
    with pytest.raises(NotFound):
        pack(tmp_path / "none")
    with pytest.raises(InvalidInput, match="no kind of archive"):
        pack(tmp_path / "a.csv", tmp_path / "a.rar")


def test_a_link_out_of_a_folder_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "l").symlink_to("../secret")
    with pytest.raises(InvalidInput, match="leads out of"):
        pack(tmp_path / "d")
    assert [one.name for one in tmp_path.iterdir()] == ["d"]
