"""A Place, and another machine, are other people's words: what goes there, and what comes from there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mirror.tools import begin, write
from sshd import sshd

from colab_magics.mirror import native
from colab_magics.mirror.lease import Leases


def mode(path: Path) -> int:
    """Return all twelve bits of a file's mode."""
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=["folder", "host"])
def there(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return what to write before a folder's path, so that it is a Place of this machine or of another."""
    if request.param == "folder":
        yield ""
        return
    with sshd(tmp_path) as server:
        monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
        yield f"{server.host}:"


@contextmanager
def umask(value: int) -> Iterator[None]:
    """Let all bits through, as on machines whose users share everything."""
    before = os.umask(value)
    try:
        yield
    finally:
        os.umask(before)


# ── going out: a copy never has more rights than its source ───────────────────────────────────────────────────────


@pytest.mark.parametrize("keeps_modes", [True, False])
def test_a_copy_has_never_more_rights_than_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keeps_modes: bool
) -> None:
    """Seen while each piece is copied; 0600 files were 0644 until the last one."""
    file, to, seen = write(tmp_path, key_bin="x" * 100) / "key.bin", tmp_path / "to", []
    file.chmod(0o600)
    os.utime(file, (1e9, 1e9))
    piece = native._piece

    def watched(fd: int, out: int, at: int, count: int) -> int:
        seen.append(mode(to))
        return piece(fd, out, at, 10)

    monkeypatch.setattr(native, "_piece", watched)
    with umask(0):
        done = native.copy(
            str(tmp_path), "key.bin", str(to), Leases(), open_since=None, modes=keeps_modes, urgent=False
        )
    assert done.outcome == native.DONE
    assert {*seen, mode(to)} == {0o600}


def test_a_folder_there_has_never_more_rights_than_here(tmp_path: Path, there: str) -> None:
    """0700 folders were 0755 there, and so were the mirror itself, its trash and what lost a conflict."""
    place, source = tmp_path / "kept" / "here", tmp_path / "job"
    for folder, rights in (("secret", 0o700), ("secret/deep", 0o755), ("team", 0o750), ("empty", 0o700)):
        (source / folder).mkdir(parents=True)
        (source / folder).chmod(rights)
    write(source / "secret" / "deep", a_txt="a")
    write(source / "team", b_txt="b")
    source.chmod(0o700)
    with umask(0o022):
        sync = begin(source, f"{there}{place}", delete=True).now()
    found = {str(path.relative_to(place)): mode(path) for path in place.rglob("*") if path.is_dir()}
    found = {name: bits for name, bits in found.items() if not name.startswith(".~")}
    assert found == {"secret": 0o700, "secret/deep": 0o755, "team": 0o750, "empty": 0o700}
    assert mode(place) == 0o700
    (source / "secret" / "deep" / "a.txt").unlink()
    sync.now()
    assert mode(place / ".sync_trash") == 0o700
