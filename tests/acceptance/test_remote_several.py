"""Several machines and several notebooks at once: nothing of one gets into another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from conftest import poll
from fronts import Front, Reply
from sshd import sshd

pytest_plugins = ("shells",)


@pytest.fixture
def config(tmp_path: Path, home: Path) -> Iterator[Path]:
    """Run two machines, ``ada`` and ``bob``, each with a home of its own; returns the configuration for both."""
    for name in ("ada", "bob"):
        (tmp_path / name).mkdir()
        (home / name).mkdir()
    with (
        sshd(tmp_path / "ada", host="ada", session_home=home / "ada") as ada,
        sshd(tmp_path / "bob", host="bob", session_home=home / "bob") as bob,
    ):
        both = tmp_path / "ssh config"
        both.write_text(ada.config_file.read_text() + bob.config_file.read_text())
        yield both


@pytest.fixture
def notebook(tmp_path: Path, config: Path, start_kernel: Callable[..., Front]) -> Callable[..., Front]:
    """Start the kernel of a notebook in a folder."""

    def start(path: str = "net/a.ipynb") -> Front:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        front = start_kernel(COLAB_MAGICS_SSH_CONFIG=str(config), JPY_SESSION_NAME=str(file))
        ok(front.run(f"import os\nos.chdir({str(file.parent)!r})\n%load_ext colab_magics"))
        return front

    return start


def ok(reply: Reply) -> Reply:
    assert reply.status == "ok", "\n".join(reply.traceback)
    return reply


def shown(reply: Reply) -> list[str]:
    return [data.get("text/plain", "") for data in reply.data]


def remote(host: str, words: str = "") -> str:
    return f"%remote {host} env={sys.executable} {words}"


def pid_there(front: Front, magic: str = "") -> int:
    return int(ok(front.run(f"{magic}import os\nprint(os.getpid())")).out.splitlines()[-1])


def test_two_machines_are_kept_apart(notebook: Callable[..., Front]) -> None:
    front = notebook()
    ok(front.run(remote("ada")))
    assert shown(ok(front.run("x = 'of ada'"))) == ["⇢ ada"]
    ada = pid_there(front)
    ok(front.run(remote("bob")))
    reply = ok(front.run("import os\nprint('x' in globals(), os.environ['HOME'])\nx = 'of bob'"))
    assert shown(reply) == ["⇢ bob"]
    assert reply.out.startswith("False") or "\nFalse" in reply.out
    assert reply.out.endswith("/bob\n")
    bob = pid_there(front)
    assert len({ada, bob, front.kernel_pid}) == 3
    # One cell there, and back.
    one = ok(front.run("%%remote ada\nprint(x)"))
    assert (one.out, shown(one)) == ("of ada\n", ["⇢ ada"])
    two = ok(front.run("print(x)"))
    assert (two.out, shown(two)) == ("of bob\n", ["⇢ bob"])
    rows = [line.split() for line in shown(ok(front.run("%remote status")))[-1].splitlines()]
    assert [(row[0], row[1], row[-1] == "yes") for row in rows if row and row[0] in ("ada", "bob")] == [
        ("ada", "connected", False),
        ("bob", "connected", True),
    ]
    ok(front.run("%%local\nmine = 7"))
    ok(front.run("%remote push mine host=ada"))
    assert ok(front.run("%%remote ada\nprint(mine)")).out == "7\n"
    assert ok(front.run("print('mine' in globals())")).out == "False\n"


def test_the_end_of_one_machine_leaves_the_other(notebook: Callable[..., Front]) -> None:
    front = notebook()
    ok(front.run(remote("ada")))
    ada = pid_there(front)
    ok(front.run(remote("bob")))
    bob = pid_there(front)
    assert "The kernel on ada keeps" in ok(front.run("%remote off ada")).out
    assert pid_there(front) == bob
    assert "has ended" in ok(front.run("%remote end ada")).out
    poll(lambda: not psutil.pid_exists(ada))
    assert pid_there(front) == bob
    assert "no kernel on ada" in "\n".join(front.run("%remote off ada").traceback)
    ok(front.run("%remote off bob"))
    assert pid_there(front) == front.kernel_pid
    assert pid_there(front, "%%remote bob\n") == bob
    ok(front.run(remote("ada")))
    assert pid_there(front) not in (ada, bob)
    ok(front.run("%remote end"))
    assert pid_there(front) == front.kernel_pid
    assert psutil.pid_exists(bob)


def test_two_notebooks_on_one_machine(notebook: Callable[..., Front], home: Path, tmp_path: Path) -> None:
    first, second, namesake = notebook(), notebook("net/b.ipynb"), notebook("other/net/a.ipynb")
    (tmp_path / "net" / "mod.py").write_text("whose = 'of the first project'\n")
    (tmp_path / "other" / "net" / "mod.py").write_text("whose = 'of its namesake'\n")
    pids = set()
    for number, front in enumerate((first, second, namesake)):
        ok(front.run(remote("ada")))
        ok(front.run(f"x = {number}"))
        pids.add(pid_there(front))
    assert len(pids) == 3
    said = [ok(front.run("import mod\nprint(x, mod.whose)")).out for front in (first, second, namesake)]
    assert said == ["0 of the first project\n", "1 of the first project\n", "2 of its namesake\n"]
    ok(first.run("%remote end"))
    assert ok(second.run("print(x)")).out == "1\n"


@pytest.mark.long
def test_another_kernel_on_the_same_machine_by_its_name(notebook: Callable[..., Front]) -> None:
    front = notebook()
    ok(front.run(remote("ada")))
    first = pid_there(front)
    ok(front.run(remote("ada", "name=second")))
    second = pid_there(front)
    assert second != first
    assert "Attached" not in ok(front.run("%remote ada")).out  # it is the one that is held
    assert pid_there(front) == second
    ok(front.run("%remote ada --new"))
    third = pid_there(front)
    poll(lambda: not psutil.pid_exists(second))
    assert psutil.pid_exists(first)
    assert third not in (first, second)


def test_other_patterns_count_from_the_next_cell_on(notebook: Callable[..., Front], tmp_path: Path) -> None:
    front = notebook()
    (tmp_path / "net" / "notes.ipynb").write_text("{}")
    (tmp_path / "net" / "mod.py").write_text("x = 1\n")
    ok(front.run(remote("ada")))
    look = "import os\nprint(sorted(n for n in os.listdir() if n in ('notes.ipynb', 'mod.py', 'more.py')))"
    assert ok(front.run(look)).out.endswith("['mod.py']\n")
    assert "count for a new one" in ok(front.run(remote("ada", "include=*.ipynb"))).out
    assert ok(front.run(look)).out == "['mod.py', 'notes.ipynb']\n"
    assert "1 file that went to ada before" in ok(front.run("%remote ada exclude=mod.py,more.py")).out
    (tmp_path / "net" / "more.py").write_text("y = 1\n")
    (tmp_path / "net" / "mod.py").write_text("x = 'changed'\n")
    assert ok(front.run(f"{look}\nprint(open('mod.py').read())")).out == "['mod.py', 'notes.ipynb']\nx = 1\n\n"
