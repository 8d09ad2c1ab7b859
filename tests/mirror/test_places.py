"""Places: how they are written, known again, and refused."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES

from colab_magics.errors import InvalidInput, Unavailable
from colab_magics.transport import ssh
from colab_magics.transport.places import parse
from colab_magics.transport.places.base import SENTINEL, Place
from mirror.tools import write


@pytest.mark.parametrize(
    ("text", "again", "target"),
    [
        ("drive", "drive", "/content/drive/MyDrive/colab_data/net/data_job/a b"),
        ("Drive", "drive", "/content/drive/MyDrive/colab_data/net/data_job/a b"),
        ("drive:", "drive", "/content/drive/MyDrive/colab_data/net/data_job/a b"),
        ("drive:MyDrive/x", "drive:MyDrive/x", "/content/drive/MyDrive/x/data_job/a b"),
        (
            "drive:Shareddrives/lab/net/",
            "drive:Shareddrives/lab/net",
            "/content/drive/Shareddrives/lab/net/data_job/a b",
        ),
        ("s3://bucket/net/", "s3://bucket/net", "s3://bucket/net/data_job/a b"),
        ("gs://bucket", "gs://bucket", "gs://bucket/data_job/a b"),
        ("rclone:my cloud:net/", "rclone:my cloud:net", "rclone:my cloud:net/data_job/a b"),
        ("rclone:cloud:", "rclone:cloud:", "rclone:cloud:data_job/a b"),
        ("/mnt/nas", "/mnt/nas", "/mnt/nas/data_job/a b"),
        ("/mnt/nas//x/../", "/mnt/nas", "/mnt/nas/data_job/a b"),
        ("/mnt/a:b", "/mnt/a:b", "/mnt/a:b/data_job/a b"),
        ("box:kept", "box:kept", "box:kept/data_job/a b"),
        ("me@box:/srv/kept/", "me@box:/srv/kept", "me@box:/srv/kept/data_job/a b"),
        ("box:~/kept", "box:kept", "box:kept/data_job/a b"),
        ("box:/", "box:/", "box:/data_job/a b"),
    ],
)
def test_a_place_is_the_same_again(text: str, again: str, target: str) -> None:
    place = parse(text, project="net")
    assert place.text == again
    assert parse(place.text, project="net") == place
    assert place.below("data_job", "a b").target == target


def test_relative_folders_and_the_home_folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse("kept", project="").text == str(tmp_path / "kept")
    assert parse("./drive", project="").text == str(tmp_path / "drive")
    assert parse("~/kept", project="").text == str(home / "kept")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no Place"),
        ("drvie", "did you mean drive"),
        ("gdrive", "did you mean drive"),
        ("ftp://server/x", "kind 'ftp' are not there yet"),
        ("az://bucket", "Known: drive, a folder, host:path, s3://bucket/folder"),
        ("s3://", "no name of a bucket"),
        ("s3://my_Bucket/x", "no name of a bucket"),
        ("s3://bucket/a/../b", "leads elsewhere"),
        ("rclone:", "names no remote"),
        ("rclone::sftp:evil", "names no remote"),
        ("rclone:name:../x", "leads out"),
        ("drive:lab", "no folder of Drive"),
        ("drive:Shareddrives/lab", "no folder of Drive"),
        ("drive:MyDrive/../x", "leads out"),
        ("drive,/mnt/nas", "several Places"),
        ("box:", "names no folder"),
        ("box:~other/x", "names no folder"),
        (":x", "no host's name"),
        ("-oProxyCommand=x:y", "no host's name"),
        ("a b:y", "no host's name"),
    ],
)
def test_what_is_no_place_is_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text, project="net")
    assert said in str(caught.value)
    assert "→" in str(caught.value)


def test_drive_needs_a_project() -> None:
    with pytest.raises(InvalidInput, match="needs a project"):
        parse("drive", project="")


@pytest.mark.parametrize("part", ["..", "../x", "/x", "", "."])
def test_no_part_leads_out(part: str) -> None:
    with pytest.raises(InvalidInput, match="leads out of"):
        parse("/mnt/nas", project="net").below("data_job", part)


def local(tmp_path: Path) -> Place:
    return parse(str(tmp_path / "kept"), project="net")


def test_preparing_twice_gives_one_id(tmp_path: Path) -> None:
    place = local(tmp_path)
    with pytest.raises(Unavailable, match="cannot be used"):
        place.check()
    first = place.prepare()
    assert place.below("data_job").prepare() == first, "the sentinel stands at the root"
    place.check(first)
    place.below("x", "y").check(first)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [SENTINEL], "looking makes no folders"


def test_preparing_at_once_gives_one_id(tmp_path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(local(tmp_path).prepare())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_a_sentinel_that_a_full_disk_left_empty_is_made_anew(tmp_path: Path) -> None:
    (write(tmp_path / "kept") / SENTINEL).touch()
    place = local(tmp_path)
    place.check(place.prepare())


def test_another_folder_of_that_name_is_told_apart(tmp_path: Path) -> None:
    place = local(tmp_path)
    mine = place.prepare()
    (tmp_path / "kept" / SENTINEL).write_text(json.dumps({"id": "another"}))
    with pytest.raises(Unavailable, match="another Place"):
        place.check(mine)
    (tmp_path / "kept" / SENTINEL).write_text("[]")
    with pytest.raises(Unavailable, match="is not there"):
        place.check()


def test_names_and_missing(tmp_path: Path) -> None:
    place = local(tmp_path)
    assert place.names() == []
    place.prepare()
    for name in HOSTILE_NAMES:
        write(tmp_path / "kept" / name, x="")
    assert place.names() == sorted(HOSTILE_NAMES)
    assert place.missing([*HOSTILE_NAMES, "gone", "-rf/x", "-rf/y"]) == ["gone", "-rf/y"]


def test_ssh_never_asks_and_takes_no_host_for_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", "/tmp/my config")
    command = ssh.command("box", ["echo", "a b"])
    assert command[-3:] == ["--", "box", "echo 'a b'"]
    assert "BatchMode=yes" in command
    assert command[1:3] == ["-F", "/tmp/my config"]
    assert "'/tmp/my config'" in ssh.rsync_shell()
    with pytest.raises(InvalidInput):
        ssh.command("-oProxyCommand=touch gone", ["true"])
