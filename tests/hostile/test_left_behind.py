"""What a process that was killed could not remove, whoever comes next removes; and nothing else."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import poll
from runs.notebooks import write_notebook

from colab_magics import fork, process, session
from colab_magics.checkout.project import Project
from colab_magics.engines import scratch
from colab_magics.records.run import Run, runs_of
from colab_magics.session import Session

UNTIL_GO = "import os, time\nwhile not os.path.exists(data_job + '/go'):\n    time.sleep(0.02)"


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files with a short path."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(folder)
        monkeypatch.setattr(tempfile, "tempdir", None)


def names(base: Path) -> list[str]:
    return sorted(path.name for path in base.iterdir() if path.name.startswith("cm"))


def age(base: Path) -> None:
    for path in base.iterdir():
        os.utime(path, (1000, 1000), follow_symlinks=False)


@pytest.mark.parametrize("start", ["cold", "warm"])
def test_folders_of_killed_runners_and_zygotes_are_removed_by_the_next_sweep(
    base: Path, tmp_path: Path, start: str
) -> None:
    root = tmp_path / "net"
    root.mkdir()
    project = Project(name="net", job="baseline", root=root, notebooks=root)
    project.save()
    session.activate(Session(project=project))
    notebook = str(write_notebook(root / "a.ipynb", UNTIL_GO))
    fork(n=1, notebook=notebook, detach=True, start=start)
    run = project.data_job / "sub_job_000"
    poll(lambda: (Run.load(run).state() or {}).get("cell"), timeout=60)
    who = process.read_json(project.data_job / ".scheduler" / "state.json")
    assert who is not None
    pids = {who["process"]["pid"], *process.all_with(session.RUN_VARIABLE, str(run)), *of_zygotes(base)}
    # Stopped first, all of them: none is to see the end of another, and to end in order.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    poll(lambda: not process.all_with(session.RUN_VARIABLE, str(run)))
    left = names(base)
    assert len(left) == (1 if start == "cold" else 2), left
    age(base)
    (run / "go").touch()
    fork(n=1, notebook=notebook, detach=True, start=start)
    poll(lambda: [one.status().phase for one in runs_of(project.data_job)] == ["done"], timeout=60)
    poll(lambda: not set(left) & set(names(base)))


def of_zygotes(base: Path) -> list[int]:
    """The processes that kernels are forked from: the folder of their socket is their last argument."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if any(word.startswith(os.fsencode(base / "cmz-")) for word in words):
            found.append(int(pid))
    return found


def test_what_is_held_young_a_link_or_anothers_stays(base: Path) -> None:
    held, fd = scratch.make("cmk-")
    left, other = scratch.make("cmz-")
    os.close(other)
    (base / "cmk-file").write_text("a file")
    (base / "elsewhere").mkdir()
    (base / "cmk-link").symlink_to(base / "elsewhere")
    (base / "other-folder").mkdir()
    if os.getuid() == 0:
        (base / "cmk-foreign").mkdir()
        os.chown(base / "cmk-foreign", 65534, 65534)
    scratch.sweep()
    assert left.exists(), "it may be one that is being made"
    age(base)
    before = set(base.iterdir())
    scratch.sweep()
    assert before - set(base.iterdir()) == {left}
    os.close(fd)
    scratch.sweep()
    assert not held.exists()
