"""How pods get the code: with the job, or by a clone."""

from __future__ import annotations

import base64
import os
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from conftest import git
from kubernetes_checks import check

from colab_magics.engines.kubernetes import built, code, settings
from colab_magics.engines.kubernetes.code import Code
from colab_magics.engines.kubernetes.options import Options
from colab_magics.errors import InvalidInput


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "base"
    (root / "config").mkdir(parents=True)
    (root / "src").mkdir()
    (root / "src/modelA.py").write_text("a\n")
    (root / ".env").write_text("AWS_SECRET_ACCESS_KEY=s3cr3t\n")
    (root / "config/kube.yaml").write_text("image: python:3.12\nnamespace: lab\n")
    return root


def of(root: Path, **words: Any) -> Code:
    warn = words.pop("warn", pytest.fail)
    return code.of(settings.read(root, Options(**words), project="base"), root, root, warn)


def held(root: Path) -> list[str]:
    (made,) = of(root).objects
    check(made)
    with tarfile.open(fileobj=BytesIO(base64.b64decode(made["binaryData"]["code.tgz"]))) as archive:
        return archive.getnames()


def test_the_code_is_in_the_config_map_and_secrets_are_not(root: Path) -> None:
    built.write(root, {"net-code": "kind: ConfigMap\n"})
    (root / "build/mine.py").write_text("x = 1\n")
    found = held(root)
    assert "src/modelA.py" in found
    assert ".env" not in found
    assert [name for name in found if name.startswith("build")] == ["build/mine.py"], "what a dry run wrote is no code"


def in_git(root: Path, address: str) -> None:
    git("init", "--quiet", str(root))
    (root / ".gitignore").write_text(".env\nconfig/\nbuild/\n")
    git("add", ".", cwd=root)
    git("commit", "--quiet", "-m", "first", cwd=root)
    git("remote", "add", "origin", address, cwd=root)


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("https://me:t0ken@git.example/a/base.git", "https://git.example/a/base.git"),
        ("git@git.example:a/base.git", "https://git.example/a/base.git"),
    ],
)
def test_code_by_git_is_a_clone_at_the_commit_that_is_here(root: Path, address: str, url: str) -> None:
    in_git(root, address)
    with pytest.raises(InvalidInput, match="is on no branch of git"):
        of(root, code="git")
    git("update-ref", "refs/remotes/origin/main", "HEAD", cwd=root)
    (root / "src/modelA.py").write_text("edited\n")
    said: list[str] = []
    clone = of(root, code="git", warn=said.append).clone
    assert "without the edits" in said[0]
    assert clone is not None
    assert (clone.url, clone.commit) == (url, git("rev-parse", "HEAD", cwd=root))


@pytest.mark.parametrize("address", ["/srv/base.git", ""])
def test_code_that_no_pod_can_clone(root: Path, address: str) -> None:
    if address:
        in_git(root, address)
    with pytest.raises(InvalidInput, match=r"code=git: .*\n.*code=configmap"):
        of(root, code="git")


def test_code_that_is_too_much_for_a_config_map(root: Path) -> None:
    (root / "src/big.py").write_text(os.urandom(1_500_000).hex())
    with pytest.raises(InvalidInput, match="code=git"):
        of(root)
