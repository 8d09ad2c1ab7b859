"""``%host install``: an environment of the project's own on a host, which its next kernel there uses."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import set_up
from sshd import Sshd

from colab_magics import __main__ as face
from colab_magics.errors import CommandFailed
from colab_magics.relay import link
from colab_magics.relay.code import folder_there
from colab_magics.relay.environment import Environment, prepare
from colab_magics.relay.install_there import install
from colab_magics.relay.remote_kernel import attach
from colab_magics.transport import ssh
from relay.conftest import value

WHEEL = "tiny_thing-1.0-py3-none-any.whl"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Make a wheel of one module."""
    import zipfile

    with zipfile.ZipFile(tmp_path / WHEEL, "w") as archive:
        archive.writestr("tiny_thing.py", "answer = 42\n")
        archive.writestr("tiny_thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-thing\nVersion: 1.0\n")
        archive.writestr(
            "tiny_thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_thing-1.0.dist-info/RECORD", "tiny_thing.py,,\n")
    return tmp_path / WHEEL


def test_a_project_has_an_environment_of_its_own(
    box: Sshd, tmp_path: Path, wheel: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project = set_up(tmp_path / "net's")
    (project.root / "requirements.txt").write_text(f"--find-links {tmp_path}\n-r more.txt\n")
    (project.root / "more.txt").write_text("tiny-thing==1.0\n")
    assert face.main(["host", "install", "host=box"]) == 0
    assert capsys.readouterr().out.startswith("box has installed 1 requirement of requirements.txt, for ")
    with monkeypatch.context() as patch:
        patch.setattr(link, "prepare", lambda *_, **__: pytest.fail("prepared another one"))
        kernel = attach("box", folder=folder_there(project.root))
    assert value(kernel, "import tiny_thing; tiny_thing.answer") == "42"
    kernel.shutdown()
    # Words in place of the file; what fails says why.
    assert face.main(["host", "install", "nosuch-thing==1.0", "host=box"]) == 1
    said = capsys.readouterr().err
    assert "box could not install nosuch-thing==1.0" in said
    assert "No matching distribution" in said
    assert face.main(["host", "install", "--index-url=https://evil", "host=box"]) == 2
    assert not list(Path("/tmp").glob("tmp.*/more.txt"))


def test_other_projects_share_one_as_before(box: Sshd, other_env: Path) -> None:
    here, there = Environment(project="colab_magics/a"), Environment(project="colab_magics/b")
    assert here.key == there.key == Environment().key
    assert len({here.project_key, there.project_key, here.key}) == 3
    of_user = Environment(env=str(other_env), project="colab_magics/a")
    assert of_user.project_key == of_user.key
    assert prepare("box", of_user, own=True) == prepare("box", of_user)


def test_an_environment_without_any_installer(box: Sshd, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    if "uv" in ssh.run("box", ["sh", "-c", "command -v uv || true"]).stdout:
        pytest.skip("the host has uv")
    with pytest.raises(CommandFailed, match="neither pip nor uv"):
        install("box", str(python), ["x"], {})
