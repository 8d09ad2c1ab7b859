"""What a project needs on another machine: from its files, and where there is none from its imports."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest
from fronts import notebook

from colab_magics.checkout import elsewhere
from colab_magics.checkout.elsewhere import imports, of_packages, of_project
from colab_magics.errors import InvalidInput, NotFound


def pinned(name: str) -> str:
    return f"{name}=={importlib.metadata.version(name).partition('+')[0]}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with modules of its own and a notebook."""
    import nbformat

    for folder in ("src/net", "scripts", "notebooks", "yaml_things"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "src" / "net" / "__init__.py").touch()
    (tmp_path / "src" / "net" / "model.py").write_text(
        "from . import layers\nimport psutil.x, net, os.path, yaml_things\n"
    )
    (tmp_path / "scripts" / "helper.py").write_text("import nosuchmod\nfrom ruamel.yaml.comments import CommentedMap\n")
    (tmp_path / "scripts" / "run.py").write_text("import helper\nimport net.model\n")
    (tmp_path / "broken.py").write_text("import (\n")
    made = notebook(
        "%load_ext colab_magics\n!pip install x\nif 1:\n    %time f()\nimport nbformat", "from helper import y"
    )
    nbformat.write(made, tmp_path / "notebooks" / "train.ipynb")
    return tmp_path


def test_a_file_is_written_from_the_imports_where_there_is_none(root: Path) -> None:
    found = imports(root)
    assert found.requirements == [pinned("nbformat"), pinned("psutil"), pinned("ruamel.yaml")]
    assert found.unknown == ["nosuchmod"]
    needed = of_project(root)
    text = (root / "requirements.txt").read_text()
    assert text.splitlines()[1:] == found.requirements
    assert needed.files == {"requirements.txt": text.encode()}
    assert needed.words == ["--requirement", "requirements.txt"]
    assert needed.what == "3 requirements of requirements.txt"
    assert "was written from the imports: nbformat==" in needed.notes[0]
    assert "which packages hold nosuchmod" in needed.notes[1]
    # A file that is there is never written again.
    (root / "requirements.txt").write_text("numpy\n")
    assert of_project(root).notes == []
    assert (root / "requirements.txt").read_text() == "numpy\n"


def test_a_project_that_imports_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import os, nosuchmod\n")
    with pytest.raises(InvalidInput, match=r"imports nothing that could be installed.*hold nosuchmod"):
        of_project(tmp_path)
    assert not (tmp_path / "requirements.txt").exists()


def test_modules_that_several_packages_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    for name, module in (("space-one", "space/one"), ("space-two", "space/two")):
        info = site / f"{name.replace('-', '_')}-1.0+cu12.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0+cu12\n")
        (info / "RECORD").write_text(f"{module}/__init__.py,,\n")
        (site / module).mkdir(parents=True)
        (site / module / "__init__.py").touch()
    of_git = site / "of_git-2.dist-info"
    local = site / "local-3.dist-info"
    for info, url in ((of_git, {"url": "https://x/y", "vcs_info": {"vcs": "git", "commit_id": "abc"}}),
                      (local, {"url": "file:///here", "dir_info": {}})):  # fmt: skip
        info.mkdir()
        name, version = info.name.removesuffix(".dist-info").split("-")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text(f"{name}_module.py,,\n")
        (site / f"{name}_module.py").touch()
        (info / "direct_url.json").write_text(json.dumps(url))
    monkeypatch.syspath_prepend(str(site))
    root = tmp_path / "net"
    root.mkdir()
    (root / "a.py").write_text("from space import two\nimport of_git_module, local_module\n")
    found = imports(root)
    assert found.requirements == ["of_git @ git+https://x/y@abc", "space-two==1.0"]
    assert found.unknown == ["local_module"]
    (root / "a.py").write_text("import space\n")
    assert imports(root) == elsewhere.Imports([], ["space"])


def test_files_that_name_others_go_together(tmp_path: Path) -> None:
    (tmp_path / "deps").mkdir()
    (tmp_path / "requirements.txt").write_text(
        "# all\n-r deps/more.txt  # these\n--constraint=pins.txt\n--extra-index-url https://x/y\n"
        "-e .\n.[test]\nnumpy>=2\n./local\n"
    )
    (tmp_path / "deps" / "more.txt").write_text("torch\n-r ../requirements.txt\n")
    (tmp_path / "pins.txt").write_text("numpy==2.1\n")
    needed = of_project(tmp_path)
    assert set(needed.files) == {"requirements.txt", "deps/more.txt", "pins.txt"}
    text = needed.files["requirements.txt"].decode()
    assert "--extra-index-url https://x/y\n" in text
    assert "numpy>=2\n" in text
    assert not {"-e .", "./local", ".[test]"} & set(text.splitlines())
    assert needed.notes == ["Left out, as the project's code goes along by itself: -e ., .[test], ./local"]
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "requirements.txt").write_text("-r ../pins.txt\n")
    with pytest.raises(InvalidInput, match="outside of the project"):
        of_project(tmp_path / "net")
    with pytest.raises(NotFound):
        of_project(tmp_path, "nothing.txt")


def test_a_pyproject(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    file.write_text('[project]\nname = "net"\nversion = "1"\ndependencies = ["numpy>=2", "torch"]\n')
    assert of_project(tmp_path).files == {"requirements.txt": b"numpy>=2\ntorch\n"}
    file.write_text('[project]\nname = "net"\nversion = "1"\ndynamic = ["dependencies"]\n')
    with pytest.raises(InvalidInput, match="leaves its dependencies to a program"):
        of_project(tmp_path)


@pytest.mark.parametrize("name", ["", " ", "-r", "--index-url=https://evil", "a\nb"])
def test_words_that_are_no_packages(name: str) -> None:
    with pytest.raises(InvalidInput, match="is no package"):
        of_packages(["numpy", name])
