"""Links of Google Drive, against a stand-in for its pages: see `drive_stand_in` for what that cannot show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gdown
import pytest
from drive_stand_in import Drive, DriveFile, drive

from colab_magics import download
from colab_magics.errors import InvalidInput, NotFound, Unavailable
from colab_magics.transport.downloads import drive_links, fetch
from colab_magics.transport.downloads.drive_links import Link

# gdown 5 with a newer Beautiful Soup
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated method findChildren:DeprecationWarning")
DATA = bytes(range(256)) * 2000
ONE, TWO, THREE, FOLDER, INNER = (letter * 33 for letter in "abcde")


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drive]:
    """Stand in for Drive."""
    monkeypatch.setattr(fetch.random, "uniform", lambda *_: 0.01)
    (tmp_path / "keys").mkdir()
    with drive(tmp_path / "keys", monkeypatch) as running:
        yield running


@pytest.mark.parametrize(
    ("url", "link"),
    [
        (f"https://drive.google.com/file/d/{ONE}/view?usp=sharing", Link(ONE)),
        (f"https://drive.google.com/file/u/1/d/{ONE}/edit", Link(ONE)),
        (f"https://drive.google.com/open?id={ONE}", Link(ONE)),
        (f"https://drive.google.com/uc?id={ONE}&export=download", Link(ONE)),
        (f"https://drive.google.com/drive/folders/{ONE}?usp=sharing", Link(ONE, folder=True)),
        (f"https://drive.google.com/drive/u/0/folders/{ONE}", Link(ONE, folder=True)),
        (f"https://docs.google.com/document/d/{ONE}/edit", Link(ONE, kind="document")),
        (f"https://docs.google.com/spreadsheets/d/{ONE}/edit#gid=0", Link(ONE, kind="spreadsheets")),
        ("https://drive.google.com/drive/my-drive", None),
        (f"https://example.org/file/d/{ONE}/view", None),
    ],
)
def test_links_are_read(url: str, link: Link | None) -> None:
    assert drive_links.parse(url) == link


@pytest.mark.parametrize("confirm", [False, True])
def test_a_file_comes_with_its_name_and_is_resumed(there: Drive, tmp_path: Path, confirm: bool) -> None:
    there.files[ONE] = DriveFile("träin.csv", DATA, confirm=confirm, cuts=2)
    url = f"https://drive.google.com/file/d/{ONE}/view"
    got = download(url, to=str(tmp_path / "in"))
    assert got.path == tmp_path / "in" / "träin.csv"
    assert got.path.read_bytes() == DATA
    assert [heads.get("Range") for _, _, heads in there.seen][-1] == "bytes=200000-"
    asked = len(there.seen)
    assert "there already" in str(download(url, to=str(tmp_path / "in")))
    assert len(there.seen) == asked


def test_another_machine_gets_the_address_behind_the_pages(there: Drive, tmp_path: Path) -> None:
    there.files[ONE] = DriveFile("a.csv", DATA, confirm=True)
    url, name = drive_links.Drive(Link(ONE)).direct()
    assert name == "a.csv"
    assert url.startswith("https://drive.usercontent.google.com/download?")
    assert "confirm=t" in url


def test_a_document_is_exported(there: Drive, tmp_path: Path) -> None:
    there.files[ONE] = DriveFile("text.docx", DATA, state="document")
    for number, url in enumerate(("https://docs.google.com/document/d/{}/edit", "https://drive.google.com/uc?id={}")):
        assert download(url.format(ONE), to=str(tmp_path / str(number))).path.read_bytes() == DATA


def test_the_quota_is_told_in_our_words(there: Drive, tmp_path: Path) -> None:
    there.files[ONE] = DriveFile("a", state="quota")
    with pytest.raises(Unavailable, match="too many have fetched it lately") as raised:
        download(f"https://drive.google.com/uc?id={ONE}", to=str(tmp_path / "in"))
    assert "make a copy in your own Drive" in raised.value.mend


def test_what_is_not_shared_is_told(there: Drive, tmp_path: Path) -> None:
    there.files[ONE] = DriveFile("a", state="private")
    with pytest.raises(Unavailable) as raised:
        download(f"https://drive.google.com/uc?id={ONE}", to=str(tmp_path / "in"))
    assert "Anyone with the link" in raised.value.mend
    with pytest.raises(NotFound, match="has no file"):
        download(f"https://drive.google.com/uc?id={TWO}", to=str(tmp_path / "in"))
    with pytest.raises(Unavailable, match="does not show what the folder") as raised:
        download(f"https://drive.google.com/drive/folders/{TWO}", to=str(tmp_path / "in"))
    assert "Anyone with the link" in raised.value.mend


def test_a_folder_comes_with_those_in_it(there: Drive, tmp_path: Path) -> None:
    there.files |= {ONE: DriveFile("a.csv", DATA), TWO: DriveFile("..", DATA[:-1], confirm=True)}
    there.files[THREE] = DriveFile("c.csv", state="quota")
    there.folders |= {FOLDER: ("data set", [ONE, INNER, THREE]), INNER: ("../inner", [TWO])}
    with pytest.raises(Unavailable, match="1 of 3 files could not be fetched") as raised:
        download(f"https://drive.google.com/drive/folders/{FOLDER}", to=str(tmp_path / "in"))
    assert "data set/c.csv: Google Drive gives out the file" in str(raised.value)
    found = sorted(one.relative_to(tmp_path / "in") for one in (tmp_path / "in").rglob("*") if one.is_file())
    names = [str(one) for one in found if not one.name.startswith(".")]
    assert "data set/a.csv" in names
    assert len(names) == 2
    assert not {one.name for one in tmp_path.iterdir()} - {"in", "keys"}
    there.files[THREE].state = "shared"
    assert len(download(f"https://drive.google.com/drive/folders/{FOLDER}", to=str(tmp_path / "in")).paths) == 3


def test_a_folder_of_many_is_whole_or_refused(there: Drive, tmp_path: Path) -> None:
    ids = [f"{number:033d}" for number in range(60)]
    there.files |= {one: DriveFile(f"{one}.csv", b"1") for one in ids}
    there.folders[FOLDER] = ("many", ids)
    url = f"https://drive.google.com/drive/folders/{FOLDER}"
    if int(gdown.__version__.partition(".")[0]) < 6:
        with pytest.raises(Unavailable, match="more than the 50 files"):
            download(url, to=str(tmp_path / "in"))
    else:
        assert len(download(url, to=str(tmp_path / "in")).paths) == 60


def test_a_link_of_a_repository_leads_no_file_out(there: Drive, tmp_path: Path) -> None:
    there.files[ONE] = DriveFile("a.csv", DATA)
    there.folders[FOLDER] = ("data", [ONE])
    for folder in ("in", "outside"):
        (tmp_path / folder).mkdir()
    (tmp_path / "in" / "data").symlink_to(tmp_path / "outside")
    with pytest.raises(InvalidInput, match="through a link"):
        download(f"https://drive.google.com/drive/folders/{FOLDER}", to=str(tmp_path / "in"))
    assert not list((tmp_path / "outside").iterdir())


def test_cookies_of_gdown_count(there: Drive, tmp_path: Path, home: Path) -> None:
    there.files[ONE] = DriveFile("a", DATA)
    cookies = home / ".cache" / "gdown" / "cookies.txt"
    cookies.parent.mkdir(parents=True)
    cookies.write_text("# Netscape HTTP Cookie File\n.google.com\tTRUE\t/\tTRUE\t0\tSID\tmine\n")
    download(f"https://drive.google.com/uc?id={ONE}", to=str(tmp_path / "in"))
    assert there.seen[0][2]["Cookie"] == "SID=mine"


def test_a_page_that_leads_away_is_refused(there: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there.files[ONE] = DriveFile("a", DATA, confirm=True)
    import sys

    monkeypatch.setattr(sys.modules["gdown.download"], "get_url_from_gdrive_confirmation", lambda page: "http://evil/x")
    with pytest.raises(Unavailable, match="leads away from it, to evil"):
        download(f"https://drive.google.com/uc?id={ONE}", to=str(tmp_path / "in"))
