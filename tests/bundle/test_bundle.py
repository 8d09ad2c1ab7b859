"""%submit --bundle: code and packages in one file that runs without a network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import HOSTILE_NAMES, git, poll
from relay.conftest import other_pythons

from colab_magics import __main__ as face
from colab_magics import submit
from colab_magics.bundle.start import MANIFEST, MARK
from colab_magics.errors import InvalidInput, NotFound

from .conftest import Machine

Make = Callable[..., Path]


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return what the script has printed, and nothing else stood in its output."""
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_runs_without_a_network_and_the_second_start_uses_the_environment(
    tiny: Path, make: Make, machine: Machine
) -> None:
    (tiny / ".env").write_text("TOKEN=1")
    bundle = make(command=("python", "train.py", "--out", "{data_job}/x"))
    # What that machine's settings say of other installations does not count.
    (machine.home / "old").mkdir(mode=0o700)
    (machine.home / "old" / "tiny_thing.py").write_text("answer = 0")
    settings = {"PYTHONPATH": str(machine.home / "old"), "PIP_TARGET": "/nowhere"}
    first = machine.run("sh", bundle, "--lr", "two words", **settings)
    work = machine.home / "train.run"
    assert told(first) == {
        "argv": ["--out", f"{work}/data_job/x", "--lr", "two words"],
        "cwd": str(work),
        "job": f"{work}/data_job",
        "sub": "0",
        "tiny": 42,
        "version": list(sys.version_info[:2]),
    }
    assert "Preparing an environment" in first.stderr
    assert f"In {work}: python train.py" in first.stderr
    (work / "data_job" / "checkpoint").write_text("kept")
    for start in (["sh", bundle], [Path(sys.base_prefix, "bin", "python3"), bundle], [bundle]):
        again = machine.run(*start)
        assert told(again)["tiny"] == 42
        assert "Preparing" not in again.stderr
    assert (work / "data_job" / "checkpoint").read_text() == "kept"
    names = {str(file.relative_to(work)) for file in work.rglob("*") if file.is_file()}
    assert names == {
        *("train.py", "requirements.txt", "data_job/checkpoint"),
        *(MARK, ".colab_magics.bundle.lock"),
    }
    ours = [file for file in (*work.rglob("*"), work, *machine.home.rglob("*/")) if file.name != "checkpoint"]
    assert {oct(file.stat().st_mode & 0o077) for file in ours if not file.is_symlink()} == {"0o0"}
    assert bundle.stat().st_mode & 0o777 == 0o700


def test_it_becomes_the_command(code: Path, make: Make, machine: Machine) -> None:
    (code / "end.py").write_text(
        "import os, signal, sys, time\nprint(os.getpid(), flush=True)\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\ntime.sleep(60)\n"
    )
    bundle = make(command=("python", "end.py"))
    for number, status in ((signal.SIGTERM, 7), (signal.SIGKILL, -9)):
        with subprocess.Popen(
            machine.command(["sh", bundle]), cwd=machine.home, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as started:
            assert started.stdout is not None
            pid = int(started.stdout.readline())
            assert pid == started.pid
            # A second one has to say where it works.
            beside = machine.run("sh", bundle, "--", "true")
            assert (beside.returncode, "running in" in beside.stderr) == (125, True)
            assert machine.run("sh", bundle, "--work", "b", "--", "true").returncode == 0
            started.send_signal(number)
            assert started.wait(30) == status
    assert machine.run("sh", bundle, "--", "sh", "-c", "exit 33").returncode == 33
    assert machine.run("sh", bundle, "--", "nosuch-program").returncode == 125
    # What Python ignores is not ignored in the command.
    line = "cat /proc/self/status; umask"
    ignored = machine.run("sh", bundle, "--", "sh", "-c", line).stdout
    mask = int(next(one for one in ignored.splitlines() if one.startswith("SigIgn")).split()[1], 16)
    assert not mask & (1 << (signal.SIGPIPE - 1))
    assert ignored.splitlines()[-1] == subprocess.run(["sh", "-c", "umask"], capture_output=True, text=True).stdout[:-1]


def test_it_says_what_it_is(tiny: Path, make: Make, machine: Machine) -> None:
    bundle = make()
    helped = machine.run("sh", bundle, "--help")
    assert "train.bundle: python train.py" in helped.stdout
    assert f"Python {sys.version_info[0]}.{sys.version_info[1]}" in helped.stdout
    listed = machine.run("sh", bundle, "--list").stdout
    assert "package   tiny_thing-1.0-py3-none-any.whl  sha256:" in listed
    assert 'file      "train.py"' in listed
    done = machine.run("sh", bundle, "--extract", "all of it")
    assert done.returncode == 0, done.stderr
    assert (machine.home / "all of it" / "code" / "train.py").read_bytes() == (tiny / "train.py").read_bytes()
    assert (machine.home / "all of it" / "requirements.txt").read_text().startswith("tiny-thing==1.0 --hash=sha256:")
    assert {file.name.split("-")[0] for file in (machine.home / "all of it" / "wheels").iterdir()} == {
        "tiny_thing",
        "pip",
    }
    assert machine.run("sh", bundle, "--extract", "all of it").returncode == 125
    assert not (machine.home / ".cache").exists()
    assert bundle.read_bytes()[:200].isascii()


def test_the_same_gives_the_same_bytes(tiny: Path, make: Make) -> None:
    first = make().read_bytes()
    os.utime(tiny / "train.py")
    assert make(name="again.bundle").read_bytes() == first
    assert str(tiny).encode() not in first
    # It replaces its own kind, and nothing else; in the project it is no code.
    (tiny / "notes").write_text("mine")
    assert make(name="again.bundle") != first
    with pytest.raises(InvalidInput, match="is no bundle"):
        submit("python", "train.py", bundle="notes")
    with pytest.raises(InvalidInput, match="no folder"):
        submit("python", "train.py", bundle="nosuch/train.bundle")
    os.rename(make(), tiny / "x.bundle")
    assert "x.bundle" not in about(make())["files"]
    assert not [file for file in tiny.parent.iterdir() if file.name.startswith(".bundle-")]


def about(bundle: Path) -> dict[str, Any]:
    with zipfile.ZipFile(bundle) as archive:
        found: dict[str, Any] = json.loads(archive.read(MANIFEST))
    return found


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_of_all_kinds(code: Path, tmp_path: Path, machine: Machine, name: str) -> None:
    inside = code / name / name
    inside.parent.mkdir()
    inside.write_text("print('it is me')")
    (code / os.fsdecode(b"no\xfftext")).write_text("x")
    os.chdir(tmp_path)
    os.chdir(code)
    bundle = tmp_path / "made" / name
    bundle.parent.mkdir()
    submit("python", f"./{name}/{name}", bundle=str(bundle))
    done = machine.run("sh", bundle)
    assert done.stdout == "it is me\n", done.stderr
    work = machine.home / f"{name}.run"
    assert (work / name / name).read_bytes() == inside.read_bytes()
    assert (work / os.fsdecode(b"no\xfftext")).exists()
    os.chdir(bundle.parent)
    assert machine.run("sh", f"./{name}", "--list", cwd=bundle.parent).returncode == 0
    assert not list(tmp_path.rglob("gone"))


def test_a_line_for_the_shell(code: Path, make: Make, machine: Machine) -> None:
    bundle = make(command=('printf "%s|" {data_job} "$data_job" "$@" | tr a-z A-Z',))
    work = str(machine.home / "train.run" / "data_job").upper()
    assert machine.run("sh", bundle, "x y").stdout == f"{work}|{work}|X Y|"
    bundle = make(command=("exit 3 # nothing",))
    assert machine.run("sh", bundle).returncode == 3
    done = machine.run("sh", bundle, "word")
    assert (done.returncode, "takes no further words" in done.stderr) == (125, True)


def test_code_that_changed_since(code: Path, make: Make, machine: Machine) -> None:
    (code / "old.py").write_text("x = 1")
    assert machine.run("sh", make()).returncode == 0
    work = machine.home / "train.run"
    (work / "mine").write_text("kept")
    (work / "train.py").write_text("print('written over by its run')")
    assert machine.run("sh", make()).stdout == "written over by its run\n"
    (code / "old.py").unlink()
    (code / "train.py").write_text("print('new')")
    done = machine.run("sh", make())
    assert (done.returncode, "is not as a bundle has left it" in done.stderr) == (125, True)
    assert machine.run("sh", make(), "--work", "other").stdout == "new\n"
    (work / "train.py").unlink()
    assert machine.run("sh", make()).stdout == "new\n"
    assert not (work / "old.py").exists()
    assert (work / "mine").read_text() == "kept"


def test_a_start_that_was_cut_goes_on(tiny: Path, make: Make, machine: Machine) -> None:
    bundle = make()
    cache = machine.home / ".cache" / "colab_magics" / "bundles"
    with subprocess.Popen(
        machine.command(["sh", bundle]), cwd=machine.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as started:
        poll(lambda: list(cache.glob("*/wheels/pip-*.whl")))
        started.kill()
    # pip may still be at it: the next one waits for its end.
    assert told(machine.run("sh", bundle))["tiny"] == 42
    (folder,) = [one for one in cache.iterdir() if one.is_dir()]
    assert not (folder / "wheels").exists()
    (folder / "bin" / "python").unlink()
    assert told(machine.run("sh", bundle))["tiny"] == 42
    # Two at once share what one of them makes.
    subprocess.run(["rm", "-r", str(folder)], check=True)
    words = [machine.command(["sh", bundle, "--work", name]) for name in "ab"]
    both = [subprocess.Popen(one, cwd=machine.home, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for one in words]
    assert [child.communicate(timeout=60) and child.returncode for child in both] == [0, 0]


def rewrite(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a bundle says of itself."""
    with zipfile.ZipFile(bundle) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    found = json.loads(parts[MANIFEST])
    change(found)
    parts[MANIFEST] = json.dumps(found).encode()
    head = bundle.read_bytes().partition(b"PK\3\4")[0]
    with open(bundle, "wb") as stream:
        stream.write(head)
        with zipfile.ZipFile(stream, "w") as archive:
            for name, data in parts.items():
                archive.writestr(name, data)


@pytest.mark.parametrize("path", ["../out", "/tmp/out-of-it", "a/../../out", ""])
def test_no_file_leaves_the_folder(code: Path, make: Make, machine: Machine, path: str) -> None:
    bundle = make()
    rewrite(bundle, lambda found: found["files"].update({path: found["files"]["train.py"]}))
    for words in ([], ["--extract", "there"]):
        done = machine.run("sh", bundle, *words)
        assert (done.returncode, "leads out of the folder" in done.stderr) == (125, True)
    assert not list(machine.home.rglob("out"))
    assert not list(machine.home.rglob("train.py"))
    assert not Path("/tmp/out-of-it").exists()


def test_nothing_is_written_through_a_link(code: Path, make: Make, machine: Machine) -> None:
    (code / "sub").mkdir()
    (code / "sub" / "a.py").write_text("x = 1")
    (machine.home / "elsewhere").mkdir()
    (machine.home / "train.run").mkdir()
    (machine.home / "train.run" / "sub").symlink_to(machine.home / "elsewhere")
    done = machine.run("sh", make())
    assert (done.returncode, "by a link" in done.stderr) == (125, True)
    assert not list((machine.home / "elsewhere").iterdir())


def test_a_damaged_one_is_refused(tiny: Path, make: Make, machine: Machine) -> None:
    bundle = make()
    whole = bundle.read_bytes()
    at = whole.index(b"answer = 42")
    bundle.write_bytes(whole[:at] + b"answer = 43" + whole[at + 11 :])
    assert machine.run("sh", bundle).returncode == 125
    bundle.write_bytes(whole[:-100])
    cut = machine.run("sh", bundle)
    assert (cut.returncode, "Traceback" in cut.stderr) != (0, False)
    bundle.write_bytes(whole)
    rewrite(bundle, lambda found: found["wheels"].update(dict.fromkeys(found["wheels"], "0" * 64)))
    done = machine.run("sh", bundle)
    assert (done.returncode, "is damaged" in done.stderr) == (125, True)
    assert not list(machine.home.rglob("tiny_thing*"))


def test_another_python_or_machine_is_told(tiny: Path, make: Make, machine: Machine) -> None:
    bundle = make()
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    for python in other_pythons():
        done = machine.run(python, bundle)
        assert (done.returncode, f"it needs Python {here}" in done.stderr) == (125, True)
    rewrite(bundle, lambda found: found.update(machine="sparc64", glibc=[2, 17]))
    done = machine.run("sh", bundle)
    assert done.returncode == 125
    assert "Linux on sparc64 with glibc 2.17 or newer" in done.stderr
    assert f"platform=manylinux_2_{os.confstr('CS_GNU_LIBC_VERSION').split('.')[1]}_{os.uname().machine}" in done.stderr  # type: ignore[union-attr]
    rewrite(bundle, lambda found: found.update(machine=os.uname().machine, glibc=[2, 999]))
    assert "glibc 2.999 or newer" in machine.run("sh", bundle).stderr


@pytest.mark.parametrize("python", other_pythons(), ids=lambda python: python.parts[-3])
def test_one_for_another_python(code: Path, make: Make, machine: Machine, python: Path) -> None:
    short = ".".join(python.parts[-3].split(".")[:2])
    (code / "requirements.txt").write_text("tomli==2.0.1; python_version < '3.11'\nsix\n")
    (code / "train.py").write_text(
        "import sys, six\nif sys.version_info < (3, 11): import tomli\nprint(sys.version_info[1])"
    )
    bundle = make(f"python={short}")
    assert about(bundle)["python"] == short
    machine.path += f":{python.parent}"
    done = machine.run("sh", bundle)
    assert done.stdout == f"{short.split('.')[1]}\n", done.stderr


def test_what_goes_along(code: Path, make: Make, capsys: pytest.CaptureFixture[str]) -> None:
    (code / ".recompute").mkdir()
    (code / ".recompute" / "include").write_text("weights\ndata_project/small\n")
    (code / ".recompute" / "exclude").write_text("notes*\n")
    (code / ".gitignore").write_text("weights\n*.csv\n")
    for path in (
        "weights/w.bin",
        "data_project/small/s",
        "data_project/big/b",
        "data_project/.env",
        "notes.py",
        "a.csv",
    ):
        (code / path).parent.mkdir(parents=True, exist_ok=True)
        (code / path).write_text("x")
    (code / "data_project" / "away").symlink_to("/etc/passwd")
    bundle = make(command=("python", "train.py", "a.csv", str(code / "b.csv"), "b.csv"))
    said = capsys.readouterr().err
    assert "a.csv does not go along" in said
    assert f"{code / 'b.csv'} is a path of this machine" in said
    assert "\nb.csv" not in said
    usual = {
        ".gitignore",
        ".recompute/include",
        ".recompute/exclude",
        "train.py",
        "weights/w.bin",
        "data_project/small/s",
    }
    assert set(about(bundle)["files"]) == usual
    assert set(about(make("inputs=big"))["files"]) == {*usual, "data_project/big/b"}
    capsys.readouterr()
    assert set(about(make("inputs=full"))["files"]) == {*usual, "data_project/big/b"}
    assert "looks like a secret: data_project/.env" in capsys.readouterr().err
    with pytest.raises(NotFound, match="nosuch"):
        submit("x", bundle="x", inputs="nosuch")
    with pytest.raises(NotFound):
        submit("x", bundle="x", inputs="../co de's")


def test_a_project_that_can_be_installed_is_imported(code: Path, make: Make, machine: Machine) -> None:
    (code / "src" / "net").mkdir(parents=True)
    (code / "src" / "net" / "__init__.py").write_text("value = 5")
    (code / "pyproject.toml").write_text("[project]\nname = 'net'\nversion = '1'\ndependencies = []\n")
    assert machine.run("sh", make(command=("python", "-c", "import net; print(net.value)"))).stdout == "5\n"


def test_what_has_no_wheel_is_built_into_one(code: Path, make: Make, machine: Machine, tmp_path: Path) -> None:
    from relay.test_wheels import sdist

    setup = "from setuptools import setup\nsetup(name='pure_one', version='1.0', py_modules=['pure_one'])"
    sdist(tmp_path / "from", "pure_one", setup)
    sdist(tmp_path / "from", "broken_one_of_tests", "raise SystemExit('no way')")
    (code / "requirements.txt").write_text(f"--find-links {tmp_path / 'from'}\npure-one\n")
    first = make(command=("python", "-c", "import pure_one; print(pure_one.x)"))
    assert machine.run("sh", first).stdout == "1\n"
    assert make(command=("python", "-c", "import pure_one; print(pure_one.x)")).read_bytes() == first.read_bytes()
    (code / "requirements.txt").write_text(f"--find-links {tmp_path / 'from'}\nbroken-one-of-tests\n")
    assert face.main(["submit", "--bundle", str(tmp_path / "no.bundle"), "--", "true"]) == 1
    assert not (tmp_path / "no.bundle").exists()


def test_words_that_are_not_for_it(code: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ({"grid": {"lr": [1, 2]}}, {"platform": "win32"}, {"python": "2.7"}):
        with pytest.raises(InvalidInput):
            submit("python", "train.py", "{lr}", bundle="x.bundle", **options)  # type: ignore[arg-type]
    for name in ("python", "platform", "requirements", "inputs"):
        with pytest.raises(InvalidInput, match="how a bundle is made"):
            submit("python", "train.py", **{name: "3.12"})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="Which command"):
        submit(bundle="x.bundle")
    assert not (code / "x.bundle").exists()
    (code / "train.py").write_text("from colab_magics import report")
    assert face.main(["submit", "--bundle", "../x.bundle", "n=3", "--wait", "--", "true"]) == 0
    said = capsys.readouterr().err
    assert "n, wait does not count" in said
    assert "train.py imports colab_magics, which is not in the bundle" in said
    assert not (code / "data_job").exists()
    assert git("status", "--porcelain", cwd=code) == "?? train.py"
