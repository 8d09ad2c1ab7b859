"""Edits of the project's own modules and scripts make a finished run another one, as edits of cells do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import HOSTILE_NAMES

from colab_magics.payloads.modules import changed, imported


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def files(root: Path, *cells: str) -> list[str]:
    """Name what these cells of a notebook in ``notebooks/`` use."""
    return list(imported(cells, [root, root / "src", root / "notebooks"], root))


PACKAGE = {
    "net/__init__.py": "",
    "net/model.py": "import torch, json\nfrom .layers import conv\n",
    "net/layers/__init__.py": "",
    "net/layers/conv.py": "def conv():\n    from ... import net\n    from ..ops import fast\n",
    "net/ops/fast.py": "",
    "net/unused.py": "",
    "src/tools.py": "try:\n    import helper\nexcept ImportError:\n    pass\n",
    "notebooks/helper.py": "",
}
MODEL = ["net/__init__.py", "net/layers/__init__.py", "net/layers/conv.py", "net/model.py", "net/ops/fast.py"]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("import net", ["net/__init__.py"]),
        ("import net.model as m", MODEL),
        ("from net import model", MODEL),
        ("from net import Model", ["net/__init__.py"]),
        ("def f():\n    from net.model import Model", MODEL),
        ("if x:\n    import net.layers", ["net/__init__.py", "net/layers/__init__.py"]),
        ("import importlib\nm = importlib.import_module('net.model')", MODEL),
        ("importlib.import_module('.fast', 'net.ops')", ["net/__init__.py", "net/ops/fast.py"]),
        ("import tools", ["notebooks/helper.py", "src/tools.py"]),
        ("%load_ext net.ops.fast", ["net/__init__.py", "net/ops/fast.py"]),
        ("%aimport helper", ["notebooks/helper.py"]),
        ("%%time\nimport helper", ["notebooks/helper.py"]),
        ("%time import helper", ["notebooks/helper.py"]),
        ("%matplotlib inline\nimport helper\n!ls", ["notebooks/helper.py"]),
        ("!pip install a \\\n  b\nimport helper", ["notebooks/helper.py"]),
        ("x = '''\nimport helper\n'''", []),
        ("import numpy, os.path, json, nothing.at.all", []),
        ("from . import helper\nfrom .helper import x\nfrom .. import net", []),
    ],
)
def test_imports_are_followed_from_file_to_file(tmp_path: Path, cell: str, expected: list[str]) -> None:
    write(tmp_path, PACKAGE)
    assert files(tmp_path, cell) == expected


@pytest.mark.parametrize(
    "line",
    [
        "%run train.py --lr 3",
        "%run -i train",
        "%run -N3 train.py",
        "%time %run train.py",
        "!python train.py --lr {lr}",
        "!python3 -u train.py > log.txt",
        "out = !{sys.executable} train.py",
        "!A=b python 'train.py'",
        "!cd .. && python notebooks/train.py",
        "!torchrun --nproc-per-node 2 train.py",
        "!python train.py it's",
        "!python -m train",
        "!./train.py | tee log",
        "!python \\\n  train.py",
        "%%bash\necho start\npython train.py",
        "import runpy\nrunpy.run_path('train.py')",
        "%cd ..\n!python notebooks/train.py",
    ],
)
def test_a_script_counts_and_imports_from_its_own_folder(tmp_path: Path, line: str) -> None:
    write(tmp_path, {"notebooks/train.py": "import helper", "notebooks/helper.py": "", "train.txt": ""})
    assert files(tmp_path, line) == ["notebooks/helper.py", "notebooks/train.py"]


def test_a_script_below_brings_its_folder_and_nobody_elses(tmp_path: Path) -> None:
    write(
        tmp_path, {"deep/train.py": "import helper", "deep/helper.py": "", "helper.py": "", "own.py": "import helper"}
    )
    assert files(tmp_path, "!python ../deep/train.py") == ["deep/helper.py", "deep/train.py"]
    assert files(tmp_path, "import own") == ["helper.py", "own.py"]


@pytest.mark.parametrize(
    "line", ["!cat train.py", "!rm -f train.py", "!git add train.py", "# python train.py", "%cat train.py"]
)
def test_a_script_that_is_only_named_does_not_count(tmp_path: Path, line: str) -> None:
    write(tmp_path, {"notebooks/train.py": ""})
    assert files(tmp_path, line) == []


def test_folders_that_a_cell_adds_are_searched(tmp_path: Path) -> None:
    write(tmp_path, {"lib/deep.py": "", "notebooks/sub/low.py": ""})
    assert files(tmp_path, "import deep, low") == []
    assert files(tmp_path, "import sys\nsys.path.append('../lib')\nimport deep") == ["lib/deep.py"]
    assert files(tmp_path, "import sys\nsys.path.insert(0, 'sub')", "import low") == ["notebooks/sub/low.py"]


def test_the_package_wins_over_the_module_and_the_first_root_over_the_second(tmp_path: Path) -> None:
    write(tmp_path, {"a/__init__.py": "", "a.py": "", "src/a.py": "", "src/b.py": "", "notebooks/b/__init__.py": ""})
    assert files(tmp_path, "import a, b") == ["a/__init__.py", "src/b.py"]


def test_a_package_without_init_spans_all_folders(tmp_path: Path) -> None:
    write(tmp_path, {"space/one.py": "", "src/space/two.py": "", "notebooks/space/three/x.py": ""})
    assert files(tmp_path, "from space import one\nimport space.two, space.three.x") == [
        "notebooks/space/three/x.py",
        "space/one.py",
        "src/space/two.py",
    ]


def test_a_star_takes_the_modules_of_all(tmp_path: Path) -> None:
    write(tmp_path, {"p/__init__.py": "__all__ = ['a', 'f']", "p/a.py": "", "p/b.py": ""})
    assert files(tmp_path, "from p import *") == ["p/__init__.py", "p/a.py"]
    assert files(tmp_path, "import p") == ["p/__init__.py"]


def test_what_python_itself_holds_is_not_taken_from_the_project(tmp_path: Path) -> None:
    write(tmp_path, {"time.py": "", "sys.py": ""})
    assert files(tmp_path, "import time, sys") == []


def test_a_notebook_that_is_run_counts_by_its_code(tmp_path: Path) -> None:
    def save(source: str, count: int) -> dict[str, str]:
        cell = {"cell_type": "code", "metadata": {}, "source": source, "execution_count": count, "outputs": []}
        write(tmp_path, {"lib.ipynb": json.dumps({"cells": [cell]}), "helper.py": ""})
        return imported(["%run lib.ipynb"], [tmp_path], tmp_path)

    first = save("import helper", 1)
    assert list(first) == ["helper.py", "lib.ipynb"]
    assert save("import helper  # why", 7) == first
    assert changed(first, save("import helper\nx = 1", 7)) == ["lib.ipynb"]


def test_comments_and_layout_do_not_count_and_docstrings_do(tmp_path: Path) -> None:
    def hashed(text: str) -> dict[str, str]:
        write(tmp_path, {"m.py": text})
        return imported(["import m"], [tmp_path], tmp_path)

    before = hashed('def f(a,b):\n  """Do."""\n  return a+b')
    assert hashed('# why\n\ndef f(a, b):\n    """Do."""\n    return (a + b)\n') == before
    assert changed(before, hashed('def f(a, b):\n    """Do it."""\n    return a + b')) == ["m.py"]
    assert changed(before, hashed("def f(a, b):\n    return a - b")) == ["m.py"]


@pytest.mark.parametrize(
    "text",
    ["def broken(:\n", "x = '\0'", "print 'two'", "(" * 5000 + ")" * 5000, "x = " + "-" * 100_000 + "1"],
    ids=["syntax", "nul", "python-2", "nested", "deep"],
)
def test_a_file_that_cannot_be_parsed_counts_by_its_bytes(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"m.py": text})
    before = imported(["import m"], [tmp_path], tmp_path)
    assert list(before) == ["m.py"]
    write(tmp_path, {"m.py": text + " "})
    assert changed(before, imported(["import m"], [tmp_path], tmp_path)) == ["m.py"]


def test_a_compiled_module_counts_by_its_bytes(tmp_path: Path) -> None:
    from importlib.machinery import EXTENSION_SUFFIXES

    name = f"fast{EXTENSION_SUFFIXES[0]}"
    (tmp_path / name).write_bytes(b"\x7fELF 1")
    (tmp_path / "fast.py").write_text("")
    before = imported(["import fast"], [tmp_path], tmp_path)
    assert list(before) == [name]
    (tmp_path / name).write_bytes(b"\x7fELF 22")
    assert changed(before, imported(["import fast"], [tmp_path], tmp_path)) == [name]


def test_nothing_outside_of_the_project_and_nothing_installed_counts(tmp_path: Path) -> None:
    root = tmp_path / "net"
    write(tmp_path, {"other/secret.py": "", "other/pkg/__init__.py": "__all__ = ['a']", "other/pkg/a.py": ""})
    write(
        root,
        {
            ".venv/lib/python3.12/site-packages/lib.py": "",
            "data_job/baseline/made.py": "",
            "data_project/made.py": "",
            "m.py": "",
        },
    )
    (root / "secret.py").symlink_to(tmp_path / "other/secret.py")
    (root / "pkg").symlink_to(tmp_path / "other/pkg")
    (root / "installed").symlink_to(root / ".venv/lib/python3.12/site-packages")
    cell = "\n".join(
        [
            "import secret, data_job.baseline.made, data_project.made, installed.lib",
            "from pkg import *",
            "%run ../../other/secret.py",
            f"%run {tmp_path}/other/secret.py",
            "!python ../data_job/baseline/made.py",
            "!python ../.venv/lib/python3.12/site-packages/lib.py",
            "import sys; sys.path.append('../../other'); sys.path.append('/')",
            "import m",
        ]
    )
    (root / "notebooks").mkdir()
    assert files(root, cell) == ["m.py"]


def test_a_file_that_a_cell_writes_counts_by_the_cell(tmp_path: Path) -> None:
    cells = ["%%writefile helper.py\nimport other", "import helper"]
    write(tmp_path, {"other.py": ""})
    before = imported(cells, [tmp_path], tmp_path)
    assert list(before) == ["other.py"]
    write(tmp_path, {"helper.py": "import other"})
    assert imported(cells, [tmp_path], tmp_path) == before
    assert list(imported(["import helper"], [tmp_path], tmp_path)) == ["helper.py", "other.py"]


def test_circles_end(tmp_path: Path) -> None:
    write(tmp_path, {"a.py": "import b", "b.py": "import a, b\nfrom a import *", "c.py": "%run c.py"})
    assert files(tmp_path, "import a") == ["a.py", "b.py"]
    assert files(tmp_path, "%cd ..\n" * 30 + "%run c.py") == ["c.py"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_that_break_careless_quoting(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    write(root, {"m.py": "", f"{name}.py": ""})
    found = imported(["import m", f"import runpy\nrunpy.run_path({name + '.py'!r})"], [root], root)
    assert sorted(found) == sorted(["m.py", f"{name}.py"])


def test_a_name_that_is_no_text_can_be_written_into_a_record(tmp_path: Path) -> None:
    root = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    Path(root).mkdir()
    write(Path(root), {"m.py": ""})
    (name,) = imported(["import m"], [Path(root)], tmp_path)
    name.encode()


@pytest.mark.parametrize(
    "cell", ["import_module('..')", "import_module('a/b')", "%run", "!python", "%run '\0.py'", "!&& ||", "!'"]
)
def test_words_that_name_nothing(tmp_path: Path, cell: str) -> None:
    assert files(tmp_path, cell) == []


def test_changed_names_what_differs_came_and_went() -> None:
    assert changed({"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}) == ["b", "c", "d"]
    assert changed({"a": "1"}, {"a": "1"}) == []


def test_links_and_another_way_to_the_folder_name_the_same_files(tmp_path: Path) -> None:
    write(tmp_path / "net", {"m.py": "", "link_to.txt": ""})
    (tmp_path / "short").symlink_to("net")
    assert imported(["import m"], [tmp_path / "short"], tmp_path / "net") == imported(
        ["import m"], [tmp_path / "net"], tmp_path / "short"
    )


def test_it_finds_what_python_itself_imports(tmp_path: Path) -> None:
    write(tmp_path, PACKAGE | {"net/ops/__init__.py": "", "net/layers/conv.py": "from ..ops import fast"})
    program = "import sys; before = set(sys.modules); sys.path[:0] = sys.argv[1:]; import net.model as m, tools\n"
    program += "print(*sorted(f for n, m in sys.modules.items() if n not in before and (f := m.__file__)), sep='\\n')"
    write(tmp_path, {"net/model.py": "from .layers import conv"})
    folders = [tmp_path, tmp_path / "src", tmp_path / "notebooks"]
    done = subprocess.run([sys.executable, "-c", program, *folders], capture_output=True, text=True, check=True)
    theirs = [os.path.relpath(file, tmp_path) for file in done.stdout.splitlines() if file.startswith(str(tmp_path))]
    assert files(tmp_path, "import net.model as m, tools") == theirs


def test_two_hundred_modules_are_looked_at_in_no_time(tmp_path: Path) -> None:
    lines = [f"def f{n}(x):\n    return g(x, {n}) + os.path.join('a', str(x))\n" for n in range(20)]
    for n in range(200):
        others = "".join(f"from pkg import m{(n * 7 + k) % 200}\n" for k in range(5))
        write(tmp_path, {f"pkg/m{n}.py": f"import os, numpy, torch.nn\n{others}" + "\n".join(lines)})
    imported(["import pkg.m0"], [tmp_path, tmp_path / "src"], tmp_path)

    def seconds() -> float:
        began = time.perf_counter()
        assert len(imported(["import pkg.m0"], [tmp_path, tmp_path / "src"], tmp_path)) == 200
        return time.perf_counter() - began

    assert min(seconds() for _ in range(10)) < 0.05
