"""Addresses of repositories: names, sameness, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES

from colab_magics.checkout import git
from colab_magics.checkout.clone import for_token
from colab_magics.checkout.project import check_name
from colab_magics.errors import InvalidInput


# B1, and ✗ `git@host:repo.git` breaks the name
@pytest.mark.parametrize(
    "text",
    [
        "https://example.org/owner/net.git",
        "https://example.org/owner/net",
        "https://example.org/owner/net.git/",
        "https://example.org:8443/net",
        "git@example.org:net.git",
        "git@example.org:owner/group/net.git",
        "example.org:net.git",
        "example.org:net/",
        "ssh://git@example.org:2222/owner/net.git",
        "file:///srv/git/net.git",
        "/srv/git/net.git",
        "/srv/with space/net/",
        "../net",
        "net",
        "/srv/net/.git",
    ],
)
def test_b1_name(text: str) -> None:
    assert git.parse(text).name == "net"


@pytest.mark.parametrize(
    "text",
    [
        "https://Example.org/owner/net",
        "https://example.org:443/owner/net.git",
        "git@example.org:owner/net.git",
        "example.org:/owner/net",
        "ssh://git@example.org:2222/owner/net.git/",
    ],
)
def test_spellings_of_one_repository_are_the_same(text: str) -> None:
    assert git.same(text, git.parse("https://example.org/owner/net.git"))
    assert not git.same(text, git.parse("https://example.org/other/net.git"))


def test_an_origin_with_a_password_is_recognised_and_never_shown() -> None:
    origin = "https://me:s3cret@example.org/owner/net.git"
    assert git.same(origin, git.parse("git@example.org:owner/net"))
    assert git.hide_credentials(origin) == "https://example.org/owner/net.git"


def test_a_folder_and_its_file_address_are_the_same(tmp_path: Path) -> None:
    (tmp_path / "a b" / "net.git").mkdir(parents=True)
    here = tmp_path / "a b" / "net.git"
    assert git.same(str(here), git.parse(here.as_uri()))
    assert git.parse(here.as_uri()).name == "net"


@pytest.mark.parametrize(
    "text",
    [
        "https://me:s3cret@example.org/owner/net.git",
        "https://s3cret@example.org/owner/net.git",
        "http://me:s3cret@example.org/net",
        "https://me:s3cret/x@example.org/net",
        "ssh://me:s3cret@example.org/net",
        "https://me@it:s3cret@example.org/net",
    ],
)
def test_credentials_in_an_address_are_refused_unseen(text: str) -> None:
    with pytest.raises(InvalidInput) as error:
        git.parse(text)
    assert "s3cret" not in str(error.value)
    assert "→" in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["", "  ", "--upload-pack=touch gone", "ext::sh -c touch% gone", "ftp://example.org/net", "https:///net", "/"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="→"):
        git.parse(text)


def test_a_token_takes_https_and_never_plain_http() -> None:
    token = git.Token("T", "s3cret")
    assert "s3cret" not in repr(token)
    assert for_token(git.parse("git@example.org:owner/net.git"), token).text == "https://example.org/owner/net"
    assert for_token(git.parse("ssh://git@example.org:2222/owner/net"), token).text == "https://example.org/owner/net"
    with pytest.raises(InvalidInput, match="unencrypted"):
        for_token(git.parse("http://example.org/net"), token)
    with pytest.raises(InvalidInput, match="folder"):
        for_token(git.parse("/srv/net.git"), token)


@pytest.mark.parametrize("name", [name for name in HOSTILE_NAMES if name not in ("-rf", "new\nline")])
def test_hostile_names_are_names(name: str) -> None:
    assert check_name(name, option="job") == name


@pytest.mark.parametrize(
    "name", ["", " ", "..", ".", ".hidden", "a/b", "a\\b", "-rf", "new\nline", " a", "nul\0", "x" * 300]
)
def test_names_that_are_no_folder_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"job=(.|\n)*→"):
        check_name(name, option="job")
