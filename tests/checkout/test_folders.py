"""Folders, git's list of what is excluded, imports, the marker."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES, git

from colab_magics.checkout import folders
from colab_magics.checkout.project import MARKER, Project, find_project
from colab_magics.errors import InvalidInput, NotFound, Unavailable

from .conftest import blocks


def make(root: Path, job: str = "default") -> Project:
    project = Project("net", job, root, root)
    folders.make(project)
    project.save()
    return project


def test_data_and_marker_are_no_part_of_the_code(repository: Path) -> None:
    for _ in range(2):
        folders.exclude(repository)
        project = make(repository, "a'; echo foo")
        (project.data_project / "in.txt").touch()
        (project.data_job / "out.txt").touch()
    assert git("status", "--porcelain", cwd=repository) == ""
    lines = (repository / ".git" / "info" / "exclude").read_text().splitlines()
    assert lines.count("/data_job/") == lines.count("/data_project/") == lines.count(f"/{MARKER}") == 1


def test_a_linked_worktree_has_its_list_elsewhere(repository: Path, tmp_path: Path) -> None:
    tree = tmp_path / "other tree"
    git("worktree", "add", "--quiet", "-b", "other", str(tree), cwd=repository)
    folders.exclude(tree)
    (make(tree).data_job / "x").touch()
    assert git("status", "--porcelain", cwd=tree) == ""


def test_a_submodule_has_its_list_elsewhere(repository: Path, tmp_path: Path) -> None:
    outer = tmp_path / "outer"
    git("init", "--quiet", str(outer))
    git("submodule", "--quiet", "add", str(repository), "net", cwd=outer)
    folders.exclude(outer / "net")
    (make(outer / "net").data_job / "x").touch()
    assert git("status", "--porcelain", cwd=outer / "net") == ""


def test_a_list_that_is_missing_or_not_ended_is_mended(repository: Path) -> None:
    file = repository / ".git" / "info" / "exclude"
    file.write_bytes(b"*.bin\n\xff.txt")
    folders.exclude(repository)
    assert file.read_bytes().startswith(b"*.bin\n\xff.txt\n/data_project/\n")
    file.unlink()
    file.parent.rmdir()
    folders.exclude(repository)
    assert "/data_job/" in file.read_text()


def test_data_folders_below_a_checkout(repository: Path) -> None:
    inside = repository / "odd [x] *name"
    (make(inside).data_job / "x").touch()
    folders.exclude(inside)
    assert git("status", "--porcelain", cwd=repository) == ""


def test_no_checkout_no_list(tmp_path: Path) -> None:
    folders.exclude(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_code_is_importable_once(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = work / "proj"
    (root / "src").mkdir(parents=True)
    (root / "cm_at_root.py").write_text("where = 'root'\n")
    (root / "src" / "cm_in_src.py").write_text("where = 'src'\n")
    project = make(root)
    assert not folders.enter(project), "a project of data folders alone leaves the working folder as it is"
    assert Path.cwd() != root
    (root / ".git").mkdir()
    assert folders.enter(project)
    assert not folders.enter(project)
    assert sys.path[:2] == [str(root), str(root / "src")]
    assert sys.path.count(str(root)) == 1
    assert importlib.import_module("cm_at_root").where == "root"
    assert importlib.import_module("cm_in_src").where == "src"
    assert Path.cwd() == root


def test_notebooks_folder(tmp_path: Path) -> None:
    assert folders.notebooks_folder(tmp_path, None) == tmp_path
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "a b").mkdir()
    assert folders.notebooks_folder(tmp_path, "notebooks") == tmp_path / "notebooks"
    assert folders.notebooks_folder(tmp_path, "a b") == tmp_path / "a b"
    with pytest.raises(NotFound) as gone:
        folders.notebooks_folder(tmp_path, "gone")
    blocks(gone.value)
    for outside in ("..", "/etc", "a b/../.."):
        with pytest.raises(InvalidInput, match="outside") as error:
            folders.notebooks_folder(tmp_path, outside)
        blocks(error.value)


def test_a_file_in_the_way_of_the_folders(tmp_path: Path) -> None:
    (tmp_path / "data_job").write_text("mine")
    with pytest.raises(Unavailable, match="cannot be made") as error:
        make(tmp_path)
    blocks(error.value)
    assert (tmp_path / "data_job").read_text() == "mine"


@pytest.mark.parametrize("job", [name for name in HOSTILE_NAMES if name not in ("-rf", "new\nline")])
def test_the_marker_is_found_from_below_and_knows_the_job(tmp_path: Path, job: str) -> None:
    root = tmp_path / "net"
    (root / "notebooks" / "deep").mkdir(parents=True)
    Project("net", "other", root, root / "notebooks", place="/kept", url="https://example.org/net").save()
    found = find_project(root / "notebooks" / "deep")
    assert found == Project("net", "other", root, root / "notebooks", "/kept", "https://example.org/net")
    run = root / "data_job" / job / "sub_job_003"
    run.mkdir(parents=True)
    of_run = find_project(run)
    assert of_run is not None
    assert (of_run.job, of_run.data_job) == (job, run.parent)
    assert find_project(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"job": 3}', '{"name": null}'])
def test_a_damaged_marker_is_no_project(tmp_path: Path, text: str) -> None:
    (tmp_path / MARKER).write_text(text)
    assert find_project(tmp_path) is None


def test_a_marker_that_says_the_same_is_not_written_again(tmp_path: Path) -> None:
    make(tmp_path)
    before = (tmp_path / MARKER).stat()
    make(tmp_path)
    assert (tmp_path / MARKER).stat().st_ino == before.st_ino
