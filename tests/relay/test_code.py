"""Which files go along with cells to another machine, and when."""

from __future__ import annotations

import compileall
import os
from pathlib import Path
from typing import Any

import pytest
from conftest import git

from colab_magics.errors import InvalidInput
from colab_magics.relay import code as module
from colab_magics.relay.code import Code
from colab_magics.relay.files_there import Sent


class There:
    """Takes files as a kernel elsewhere does."""

    def __init__(self) -> None:
        self.files: dict[str, tuple[bytes, int]] = {}
        self.messages = 0

    def write_file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self.files[path] = (data, mode)
        self.messages += 1

    def remove_file(self, path: str) -> None:
        del self.files[path]
        self.messages += 1


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_what_changed_goes_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, a_dot_py="1", lib__b_dot_py="2", lib__run_dot_sh="echo")
    (tmp_path / "lib" / "run.sh").chmod(0o755)
    code, there = Code(tmp_path), There()
    assert code.send(there) == (3, 6)
    assert there.files["lib/run.sh"] == (b"echo", 0o755)
    assert code.send(there) == (0, 0)
    assert there.messages == 3  # an unchanged project says nothing
    (tmp_path / "a.py").write_text("changed")
    (tmp_path / "lib" / "b.py").unlink()
    assert code.send(there) == (1, 7)
    assert set(there.files) == {"a.py", "lib/run.sh"}
    (tmp_path / "a.py").chmod(0o700)
    code.send(there)
    assert there.files["a.py"] == (b"changed", 0o700)


def test_what_git_ignores_and_what_is_no_code_stays(tmp_path: Path) -> None:
    git("init", "--quiet", str(tmp_path))
    write(
        tmp_path,
        a_dot_py="1",
        secret_dot_env="KEY",
        data_job__x_dot_pt="weights",
        t_dot_ipynb="{}",
        build__c_dot_py="3",
    )
    write(tmp_path, _dot_venv__lib="x", _dot_gitignore="*.env\nbuild/\n", _dot_colab_magics_dot_json="{}")
    os.symlink("/etc/passwd", tmp_path / "link.py")
    there = There()
    Code(tmp_path).send(there)
    assert set(there.files) == {"a.py", ".gitignore"}
    there = There()
    Code(tmp_path, include=["build", "*.ipynb"], exclude=[".gitignore"]).send(there)
    assert set(there.files) == {"a.py", "build/c.py", "t.ipynb"}


def test_other_patterns_count_from_the_next_time_on(tmp_path: Path) -> None:
    git("init", "--quiet", str(tmp_path))
    write(tmp_path, a_dot_py="1", b_dot_py="2", gone_dot_py="3", _dot_gitignore="build/\n*.env\n", build__c_dot_py="4")
    code, there = Code(tmp_path), There()
    code.send(there)
    assert set(there.files) == {"a.py", "b.py", "gone.py", ".gitignore"}
    assert code.choose(include=["build"]) == 0
    assert code.send(there)[0] == 1
    assert "build/c.py" in there.files
    (tmp_path / "gone.py").unlink()
    assert code.choose(exclude=["b.py", "build", "gone.py"]) == 2
    (tmp_path / "b.py").write_text("changed")
    # What went and is excluded now stays there as it is; what went away here goes there too.
    assert code.send(there)[0] == 0
    assert set(there.files) == {"a.py", "b.py", ".gitignore", "build/c.py"}
    assert there.files["b.py"][0] == b"2"
    code.choose(exclude=[])
    assert code.send(there)[0] == 2
    assert there.files["b.py"][0] == b"changed"


@pytest.mark.parametrize("where", ["", "..", "/"])
def test_a_home_folder_is_refused(home: Path, where: str) -> None:
    with pytest.raises(InvalidInput, match="home folder"):
        Code(home / where if where != "/" else Path("/"))


def test_more_than_code_is_refused_and_nothing_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    write(tmp_path, a_dot_bin="x" * 2000)
    code, there = Code(tmp_path), There()
    for _ in range(2):
        with pytest.raises(InvalidInput, match="that is more than code"):
            code.send(there)
    assert not there.files


def test_a_file_that_cannot_be_read_stops_no_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, a_dot_py="1", b_dot_py="2")
    read = Path.read_bytes

    def refuse(self: Path) -> Any:
        if self.name == "a.py":
            raise PermissionError(13, "Permission denied")
        return read(self)

    code, there = Code(tmp_path), There()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    code.send(there)
    assert set(there.files) == {"b.py"}
    monkeypatch.undo()
    code.send(there)
    assert set(there.files) == {"a.py", "b.py"}


def test_what_was_sent_is_taken_away_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, here_before_dot_py="mine", lib__own_dot_py="mine")
    sent = Sent(str(tmp_path))
    for path in ("a.py", "lib/b.py", "new/deep/c.py", "here_before.py", "changed.py", "gone.py"):
        sent.put({"path": path}, b"x = 1")
    sent.put({"path": "gone.py", "remove": True}, b"")
    compileall.compile_dir(tmp_path, quiet=1)
    write(tmp_path, changed_dot_py="x = 2 # by a cell there", new__deep__out_dot_txt="a result")
    sent.take_away()
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.suffix != ".pyc" and path.is_file()}
    assert left == {"here_before.py", "changed.py", "lib/own.py", "new/deep/out.txt"}
    assert not list(tmp_path.rglob("c.*.pyc"))


def test_secrets_stay_here_and_are_named(tmp_path: Path) -> None:
    git("init", "--quiet", str(tmp_path))
    names = (".env", "conf/.env.local", "id_ed25519", "conf/server.pem", ".aws/config", "secrets.toml", "ignored.pem")
    for name in (*names, ".env.example", "secrets.py", "tokens.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "settings").symlink_to(".env")
    (tmp_path / ".gitignore").write_text("ignored.pem\n")
    code, there = Code(tmp_path), There()
    code.send(there)
    assert set(there.files) == {".env.example", "secrets.py", "tokens.txt", ".gitignore"}
    assert code.left_behind() == sorted({*names, "settings"} - {"ignored.pem"})
    code.send(there)
    assert code.left_behind() == [], "each is told once"
    code.choose(include=["conf", "*", ".env", "*.pem"])
    code.send(there)
    assert set(there.files) == {
        *(".env.example", "secrets.py", "tokens.txt", ".gitignore"),
        *(".env", "ignored.pem", "conf/server.pem"),
    }
