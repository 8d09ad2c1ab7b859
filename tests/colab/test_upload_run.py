"""``%upload --run``: the notebook on a new runtime by Google's program, which is played with real kernels."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from fronts import ROOT, notebook
from google_cli import GoogleCli

from colab_magics import session, upload
from colab_magics.errors import CommandFailed, InvalidInput, RunsFailed, Unavailable
from colab_magics.payloads.code import source_of

from .test_upload import Asked


@pytest.fixture
def google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GoogleCli:
    content = tmp_path / "content"
    content.mkdir()
    monkeypatch.setenv("COLAB_MAGICS_CONTENT", str(content))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cli = GoogleCli(tmp_path / "google", content)
    monkeypatch.setenv("PATH", f"{cli.file.parent}:{os.environ['PATH']}")
    return cli


@pytest.fixture
def user(home: Path) -> Asked:
    face = Asked()
    session.activate(session.Session(ui=face))
    return face


@pytest.fixture
def shown(user: Asked, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    stream = io.StringIO()
    monkeypatch.setattr(user, "show", lambda text: stream.write(f"{text}\n"))
    return stream


def write(folder: Path, *cells: str, **metadata: Any) -> str:
    made = notebook('job_name = "old"', *cells)
    made.metadata |= metadata
    nbformat.write(made, folder / "a.b.ipynb")
    return str(folder / "a.b.ipynb")


def outputs(file: Path) -> list[str]:
    content = nbformat.read(file, as_version=4)
    nbformat.validate(content)
    return ["".join(one.get("text", one.get("evalue", "")) for one in cell.outputs) for cell in content.cells]


def verbs(google: GoogleCli) -> list[str]:
    return [words[0] for words in google.calls]


def test_the_executed_notebook_and_what_the_job_wrote_come_home(
    google: GoogleCli, user: Asked, shown: io.StringIO, tmp_path: Path
) -> None:
    lines = "import os\ndata_job = os.path.join(os.getcwd(), 'out')\nos.makedirs(data_job + '/deep')"
    file = write(tmp_path, lines, "open(data_job + '/deep/r.txt', 'w').write(job_name)", "print('all of it')")
    found = upload(file, job="new", gpu="L4", run=True, to=str(tmp_path / "kept"))
    assert (tmp_path / "kept" / "a.b-new.ipynb").is_file(), "only where to= says so"
    home = tmp_path / "a.b-new_output.ipynb"
    assert outputs(home) == ["", "", "", "all of it\n"]
    assert source_of(nbformat.read(home, as_version=4).cells[0]) == "job_name = 'new'"
    assert (tmp_path / "a.b-new" / "deep" / "r.txt").read_text() == "new"
    assert "a.b-new_output.ipynb" in str(found)
    assert google.calls[0][:2] == ["new", "-s"]
    assert google.calls[0][3:] == ["--gpu", "L4"]
    assert verbs(google) == ["new", "upload", "exec", "exec", "download", "stop"], "Drive is not asked for"
    assert google.sessions == [], "nothing is left that costs"
    assert "all of it" in shown.getvalue()
    assert "Executing cell 2/5" in shown.getvalue()


def test_a_cell_that_fails_ends_it_and_is_told(google: GoogleCli, user: Asked, shown: Any, tmp_path: Path) -> None:
    file = write(tmp_path, "data_job = 'out'\n__import__('os').mkdir('out')", "1 / 0", "open('gone on', 'w')")
    with pytest.raises(RunsFailed, match="cell 3 failed: ZeroDivisionError: division by zero") as failed:
        upload(file, job="new", run=True)
    assert not (google.content / "gone on").exists(), "the cells below are not executed, as in Run All"
    assert "a.b-new_output.ipynb" in failed.value.mend
    assert (tmp_path / "a.b-new").is_dir(), "what there is has come home"
    assert google.sessions == []


def test_stop_ends_it_well_and_fork_knows_its_notebook(
    google: GoogleCli, user: Asked, shown: Any, tmp_path: Path
) -> None:
    (tmp_path / "a.b-new_output.ipynb").write_text("of before")
    file = write(tmp_path, "%load_ext colab_magics", "%fork n=1 --dry-run", "%stop that is all", "open('x', 'w')")
    upload(file, job="new", run=True)
    assert not (google.content / "x").exists()
    content = nbformat.read(tmp_path / "a.b-new_output-2.ipynb", as_version=4)
    assert "data_job/a.b-new. Nothing was started" in str(content.cells[2].outputs), "%fork has found the notebook"
    assert (tmp_path / "a.b-new_output.ipynb").read_text() == "of before", "what came home before stays"


@pytest.mark.parametrize("answers", [True, False])
def test_drive_is_mounted_where_it_is_needed_by_the_users_consent(
    google: GoogleCli, user: Asked, shown: Any, tmp_path: Path, answers: bool
) -> None:
    google.tell(consent=1, stop=answers)
    user.yes = answers
    file = write(tmp_path, "# from google.colab import drive; drive.mount('/content/drive')\nprint('in')")
    if answers:
        upload(file, job="new", run=True)
    else:
        with pytest.raises(Unavailable, match="wants your consent"):
            upload(file, job="new", run=True)
    assert "https://accounts.example/consent" in user.questions[0]
    assert verbs(google)[1:3] == ["drivemount", "drivemount" if answers else "stop"]
    if not answers:
        assert google.sessions == []
        return
    assert outputs(tmp_path / "a.b-new_output.ipynb")[1] == "in\n", "a runtime that does not end loses nothing"
    assert f"colab stop -s {google.sessions[0]}" in user.out.getvalue()
    google.end()


def test_a_runtime_that_google_does_not_give(google: GoogleCli, user: Asked, tmp_path: Path) -> None:
    google.tell(quota=False)
    with pytest.raises(CommandFailed, match=r"colab new: .*You may not have quota"):
        upload(write(tmp_path), job="new", gpu="A100", run=True)
    google.tell(login=False)
    with pytest.raises(CommandFailed, match=r"(?s)not logged in.*in a terminal: colab new"):
        upload(write(tmp_path), job="new", run=True)
    assert verbs(google) == ["new"] * 2


def test_a_lost_connection_keeps_the_runtime(google: GoogleCli, user: Asked, shown: Any, tmp_path: Path) -> None:
    google.tell(exec=1)
    with pytest.raises(CommandFailed, match="websocket is gone") as failed:
        upload(write(tmp_path), job="new", run=True)
    (name,) = google.sessions
    assert f"colab log -s {name}" in failed.value.mend
    assert f"colab stop -s {name}" in user.out.getvalue()
    google.end()


def test_what_cannot_be_is_said_before_it_costs(
    google: GoogleCli, user: Asked, tmp_path: Path, monkeypatch: Any
) -> None:
    with pytest.raises(InvalidInput, match="more memory"):
        upload(write(tmp_path), job="new", high_ram=True, run=True)
    google.file.unlink()
    with pytest.raises(Unavailable, match=r"(?s)not here.*google-colab-cli"):
        upload(write(tmp_path), job="new", run=True)
    assert not (google.folder / "calls").exists()
