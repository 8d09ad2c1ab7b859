"""What other users, and other people's files, can make us do: nothing to processes, tokens and folders of ours."""

from __future__ import annotations

import importlib
import io
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import poll
from faults.kit import as_root, picture, tmpfs
from runs.folders import leave_run

from colab_magics import jobs, process, session
from colab_magics.checkout.project import Project
from colab_magics.faces import jupyter_server
from colab_magics.records.names import LOCK, STATE
from colab_magics.records.run import Run
from colab_magics.runs import feeding, scheduler, sources
from colab_magics.session import Session
from colab_magics.ui import TerminalUI

from .looking import shown

NOBODY = 65534


def as_nobody(work: Callable[[], Any]) -> Any:
    """Do something as another user, in a process of its own; return what came of it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.environ["HOME"] = "/nonexistent"
            with os.fdopen(writer, "wb") as stream:
                pickle.dump(work(), stream)
            status = 0
        except BaseException:  # noqa: BLE001 - it is shown, and the process ends here
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        raw = stream.read()
    assert os.waitpid(child, 0)[1] == 0, "see the trace above"
    return pickle.loads(raw)


@pytest.fixture
def seen_by_all() -> Iterator[Path]:
    """A folder that other users can enter."""
    as_root()
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def with_runs(root: Path) -> Project:
    root.mkdir()
    project = Project(name="net", job="baseline", root=root, notebooks=root)
    project.save()
    for index, phase in enumerate(["done", "failed", "running", None]):
        leave_run(project.data_job, index, phase, reports=[{"loss": 0.5, "step": 1}])
    session.activate(Session(ui=TerminalUI(out=io.StringIO()), project=project))
    return project


def test_who_reads_a_foreign_folder_writes_nothing_and_sees_what_there_is(seen_by_all: Path) -> None:
    project = with_runs(seen_by_all / "net")
    closed = leave_run(project.data_job, 4).folder
    closed.chmod(0o700)
    (project.data_job / "sub_job_002" / "run.json").chmod(0o600)
    before = picture(seen_by_all, ours=True)
    list(shown())  # imports what the other user may not
    texts = as_nobody(lambda: list(shown()))
    assert picture(seen_by_all, ours=True) == before
    assert "baseline/0  done" in texts[0]
    assert "baseline/2  unreadable: run.json: Permission denied" in texts[0]
    assert "baseline/4  unreadable: run.json: Permission denied" in texts[0]


def test_a_foreign_run_is_neither_killed_nor_removed_and_it_is_said(seen_by_all: Path) -> None:
    project = with_runs(seen_by_all / "net")
    before = picture(seen_by_all, ours=True)
    list(shown())
    for name in ("retry", "watching", "submit"):  # the other user may not read the modules themselves
        importlib.import_module(f"colab_magics.runs.{name}")

    def try_it() -> list[str]:
        found = []
        for word in (lambda: jobs.kill("3"), lambda: jobs.rm("0", yes=True), lambda: jobs.retry("1")):
            try:
                found.append(str(word()))
            except Exception as error:  # noqa: BLE001 - which one is what is asked
                found.append(f"{type(error).__name__}: {error}")
        return found

    said = as_nobody(try_it)
    assert all("ColabMagicsError" in text and "Permission denied" in text for text in said), said
    assert picture(seen_by_all, ours=True) == before
    assert project.data_job.is_dir()


@pytest.mark.parametrize("how", ["read-only", "full"])
def test_who_reads_a_disk_that_cannot_be_written_sees_what_there_is(tmp_path: Path, how: str) -> None:
    disk = tmp_path / "disk"
    with tmpfs(disk, size="1m"):
        with_runs(disk / "net")
        # A runner that was killed has left its journal: who opens the notebook would complete it.
        folder = disk / "net" / "data_job" / "baseline" / "sub_job_002"
        (folder / LOCK).touch()
        (folder / ".notebook.ipynb.journal.1.1.tmp").write_text('{"notebook": {"cells": [], "metadata": {}}}\n')
        if how == "full":
            fill = ["dd", "if=/dev/zero", f"of={disk}/ballast", "bs=512"]
            filled = subprocess.run(fill, check=False, capture_output=True)
            assert b"No space" in filled.stderr
        else:
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        before = picture(disk, ours=True)
        first = next(iter(shown()))
        assert "baseline/0  done" in first
        assert "baseline/3  waiting" in first
        assert "cannot" not in str(jobs.open("2"))
        assert picture(disk, ours=True) == before


def test_who_lists_runs_writes_nothing(tmp_path: Path) -> None:
    project = with_runs(tmp_path / "net")
    book = project.data_job / "sub_job_002" / ".notebook.ipynb.journal.1.1.tmp"
    book.write_text('{"notebook": {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}}\n')
    before = picture(tmp_path, ours=True)
    for word in (jobs, jobs.show, jobs.logs, jobs.table, jobs.metrics, jobs.du, lambda: jobs.diff("0", "1")):
        str(word())
    assert picture(tmp_path, ours=True) == before


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that is no run."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as child:
        yield child
        child.kill()


def test_a_process_that_a_file_names_is_not_ended_unless_it_is_that_runs(
    tmp_path: Path, bystander: subprocess.Popen[bytes]
) -> None:
    project = with_runs(tmp_path / "net")
    named = leave_run(project.data_job, 5, "running").folder
    value = json.loads((named / STATE).read_text())
    (named / STATE).write_text(json.dumps({**value, "process": process.identity(bystander.pid)}))
    run = Run.load(named)
    assert run.runner_lives(), "the file is a good one"
    scheduler.kill([run])
    (named / "verdict.json").unlink()
    feeding.Scheduler(
        project.data_job, _engine(), sources.Planned(project.data_job, []), scheduler.Feed(), adopt=[run]
    ).run()
    assert bystander.poll() is None
    assert run.verdict() is not None, "it is lost: nobody executes it"


def test_the_process_of_a_run_is_ended(tmp_path: Path) -> None:
    project = with_runs(tmp_path / "net")
    named = leave_run(project.data_job, 5, "running").folder
    env = {**os.environ, session.RUN_VARIABLE: str(named)}
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], env=env) as child:
        poll(lambda: process.variable(child.pid, session.RUN_VARIABLE))
        value = json.loads((named / STATE).read_text())
        (named / STATE).write_text(json.dumps({**value, "process": process.identity(child.pid)}))
        scheduler.kill([Run.load(named)])
        assert not process.is_alive(json.loads((named / STATE).read_text())["process"])


def _engine() -> Any:
    from colab_magics.engines.local import LocalEngine

    return LocalEngine()


class Listener:
    """Somebody who listens on a port and keeps what comes; `uid` is who."""

    def __init__(self, uid: int) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        reader, writer = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            os.setuid(uid)
            os.write(writer, b"!")
            while True:
                link, _ = self.socket.accept()
                os.write(writer, link.recv(65536))
                link.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
                link.close()
        self.socket.close()
        os.close(writer)
        assert os.read(reader, 1) == b"!"
        os.set_blocking(reader, False)
        self.reader = reader

    def heard(self) -> bytes:
        try:
            return os.read(self.reader, 65536)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        os.kill(self.child, 9)
        os.waitpid(self.child, 0)
        os.close(self.reader)


@pytest.mark.parametrize("who", ["dead", "ours, elsewhere", "the listener's"])
def test_a_token_goes_to_no_other_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    as_root()
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "of-hub")
    listener = Listener(NOBODY)
    try:
        pid = {"dead": 2**22 + 1, "ours, elsewhere": os.getpid(), "the listener's": listener.child}[who]
        info = {"url": f"http://localhost:{listener.port}/", "token": "secret", "root_dir": "/", "pid": pid}
        (tmp_path / "jpserver-1.json").write_text(json.dumps(info))
        assert jupyter_server.find_session("k1", tmp_path) is None
        assert listener.heard() == b""
    finally:
        listener.close()


def test_a_token_goes_to_our_own_server_and_not_where_that_sends_us(tmp_path: Path) -> None:
    as_root()
    listener = Listener(0)
    asked = list[bytes]()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            link, _ = server.accept()
            asked.append(link.recv(65536))
            elsewhere = f"http://127.0.0.1:{listener.port}/"
            link.sendall(f"HTTP/1.1 302 Found\r\nLocation: {elsewhere}\r\nContent-Length: 0\r\n\r\n".encode())
            link.close()

        thread = threading.Thread(target=answer)
        thread.start()
        info = {"url": f"http://localhost:{server.getsockname()[1]}/", "token": "secret", "pid": os.getpid()}
        (tmp_path / "jpserver-1.json").write_text(json.dumps(info))
        assert jupyter_server.find_session("k1", tmp_path) is None
        thread.join()
    assert b"token secret" in asked[0]
    assert listener.heard() == b""
    listener.close()
