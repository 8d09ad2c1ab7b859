"""A machine that executes runs and means harm: its answers are checked, and what it sends stays in a run's folder."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from conftest import poll
from runs.folders import leave_run

from colab_magics.checkout.project import Project
from colab_magics.engines.base import Submission
from colab_magics.engines.ssh import line as lines
from colab_magics.engines.ssh.attempts import Attempts
from colab_magics.engines.ssh.code import Snapshot, States
from colab_magics.engines.ssh.folders import Arrivals
from colab_magics.engines.ssh.line import Line, Refusal
from colab_magics.errors import InvalidInput, Unavailable
from colab_magics.pipes import Pipes
from colab_magics.records.run import Run

SERVER = """
import os, sys
from colab_magics.relay import wire
answer = {answer!r}
reader = wire.Reader()
while data := os.read(0, 1 << 16):
    for kind, number, payload in reader.feed(data):
        os.write(1, answer if isinstance(answer, bytes) else wire.record(2, wire.frames([answer.encode()]), number))
"""
KEY = "ab" * 16


def line_to(answer: str | bytes) -> Line:
    """A line to a machine that gives the same answer to everything."""
    return Line("evil", Pipes([sys.executable, "-c", SERVER.format(answer=answer)]), b"", lambda: None)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("settle", {"workers": 10**9, "gpus": None, "only_free": True, "inputs": True, "devices": [], "warnings": []}),
        ("settle", {"workers": "two"}),
        ("poll", {"phases": ["fine"]}),
        ("poll", {"phases": 3}),
        ("fetch", {"runs": [{"files": [["x"]]}]}),
        ("fetch", {"runs": [{"files": [["x", -1, 0]]}]}),
        ("code", {"missing": {"a": 1}}),
        ("find", {"runs": [{"base": {"log.txt": "many"}}]}),
        ("folder", {"folder": ["/etc"]}),
    ],
)
def test_an_answer_that_is_none_is_refused(question: str, answer: Any) -> None:
    line = line_to(json.dumps(answer))
    with pytest.raises(Unavailable, match="evil answers what means nothing here"):
        line.ask(question).result(20)
    line.close()


@pytest.mark.parametrize("answer", ["[]", "nonsense", "{", '{"error": {"what": "no\\u001b[2J room", "mend": 3}}'])
def test_words_that_are_no_answer(answer: str) -> None:
    line = line_to(answer)
    with pytest.raises(Unavailable) as problem:
        line.ask("poll", keys=[]).result(20)
    assert "\x1b" not in str(problem.value)
    assert isinstance(problem.value, Refusal) == ("room" in answer)
    line.close()


def test_bytes_that_are_no_record_end_the_line_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "PATIENCE", 1.0)
    monkeypatch.setattr(lines.ssh, "drop_shared", lambda host: None)
    line = line_to(b"\xff" * 100)
    asked = line.ask("poll", keys=[])
    poll(asked.done)
    with pytest.raises(Unavailable):
        asked.result(0)


def test_a_machine_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "PATIENCE", 0.2)
    monkeypatch.setattr(lines.ssh, "drop_shared", lambda host: None)
    told = threading.Event()
    line = Line("evil", Pipes([sys.executable, "-c", "import time; time.sleep(600)"]), b"", told.set)
    asked = line.ask("poll", keys=[])
    poll(asked.done)
    with pytest.raises(Unavailable, match="evil does not answer"):
        asked.result(0)
    assert told.is_set()
    with pytest.raises(Unavailable):
        line.ask("poll", keys=[]).result(0)


class Machine:
    """Stands for a host: what it is asked for is answered at once."""

    name = "evil"

    def __init__(self, fetched: dict[str, Any], parts: list[bytes], files: bytes = b"") -> None:
        self.fetched, self.parts, self.archive = fetched, parts, files

    def ask(self, question: str, *blobs: bytes, **words: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        known = {"fetch": ({"runs": [self.fetched]}, list(self.parts)), "files": ({}, [self.archive])}
        answer.set_result(known.get(question, ({}, [])))
        return answer


def archive(*members: tuple[str, str, bytes]) -> bytes:
    """An archive with any names."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, link, data in members:
            entry = tarfile.TarInfo(name)
            if link:
                entry.type, entry.linkname = tarfile.SYMTYPE, link
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("../evil", [("../evil", "", b"x")]),
        ("/tmp/evil-of-a-host", [("/tmp/evil-of-a-host", "", b"x")]),
        ("run.json", [("run.json", "", b"{}")]),
        ("ref.json", [("ref.json", "", b"{}")]),
        ("a/../../evil", [("a/../../evil", "", b"x")]),
        ("fine", [("../evil", "", b"x")]),
        ("fine", [("link", "/etc", b""), ("link/evil", "", b"x")]),
        ("link", [("link", "../../..", b"")]),
    ],
)
def test_what_it_sends_stays_in_the_folder_of_the_run(
    project: Project, tmp_path: Path, name: str, members: list[tuple[str, str, bytes]]
) -> None:
    run = leave_run(project.data_job, 3, None)
    record = (run.folder / "run.json").read_bytes()
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(run.folder)}
    machine = Machine({"more": False, "files": [[name, 1, 1]], "beside": []}, [b"", b"", b""], archive(*members))
    submission = Submission(run.folder, KEY, {"host": "evil", "base": {}})
    Arrivals(lambda name: machine).fetch([("evil", submission)], final=True)  # type: ignore[arg-type,return-value]
    assert {path for path in tmp_path.rglob("*") if not path.is_relative_to(run.folder)} == before
    assert (run.folder / "run.json").read_bytes() == record
    assert not Path("/tmp/evil-of-a-host").exists()
    assert not any(os.path.islink(path) for path in run.folder.rglob("*"))


def test_a_state_that_is_none_makes_that_run_unreadable_alone(project: Project) -> None:
    run = leave_run(project.data_job, 3, None)
    machine = Machine({"more": False, "files": [], "beside": []}, [b'{"phase": 3}', b"\xff\x00log", b"nonsense\n"])
    submission = Submission(run.folder, KEY, {"host": "evil", "base": {"log.txt": "many"}})
    Arrivals(lambda name: machine).fetch([("evil", submission)], final=True)  # type: ignore[arg-type,return-value]
    assert Run.load(run.folder).status().phase == "unreadable"


@pytest.mark.parametrize("key", ["../x", "", "a" * 15, "ab/cd" * 5, "A" * 32])
def test_a_key_names_no_file_elsewhere(tmp_path: Path, key: str) -> None:
    with pytest.raises(InvalidInput):
        Attempts(tmp_path / ".runs").known(key)


def test_what_is_known_of_a_run_leads_nowhere_else(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path / ".runs")
    for folder in ("/etc", str(tmp_path / ".runs" / ".." / "x"), str(tmp_path / ".runsx")):
        attempts.note(KEY, folder=folder)
        assert attempts.known(KEY) is None


def test_a_key_that_was_cancelled_first_is_known_as_such(tmp_path: Path) -> None:
    attempts = Attempts(tmp_path / ".runs")
    attempts.cancel(KEY)
    assert attempts.is_cancelled(KEY)
    assert attempts.known(KEY) is None


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", ".colab_magics.json", "data_project", ""])
def test_code_goes_nowhere_but_into_its_folder(path: str) -> None:
    with pytest.raises(InvalidInput):
        Snapshot.of({path: ["00", 0o644]})


def test_contents_that_a_run_has_changed_are_asked_for_again(tmp_path: Path) -> None:
    import hashlib

    states = States(tmp_path / "code")
    digest = hashlib.sha256(b"a = 1\n").hexdigest()
    first = Snapshot.of({"a.py": [digest, 0o644]})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo(digest)
        entry.size = 6
        tar.addfile(entry, io.BytesIO(b"a = 1\n"))
    folder = states.make(first, packed.getvalue(), "{}", tmp_path / "inputs")
    second = Snapshot.of({"a.py": [digest, 0o644], "b.py": [digest, 0o644]})
    assert states.missing(second.state, second) == []
    (folder / "a.py").write_text("changed by a run\n")
    assert states.missing(second.state, second) == [digest]
    assert states.missing(first.state, first) is None
    assert [name for name, *_ in states.written(first.state)] == ["a.py"]
