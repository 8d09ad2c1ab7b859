"""An engine that somebody else's package brings, installed by pip: all that engines keep to, and its own options."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from colab_magics import fork
from colab_magics.checkout.project import Project
from colab_magics.engines import open_engine
from colab_magics.errors import InvalidInput
from colab_magics.faces import completion, help_text, magics
from colab_magics.faces.signature import MAGIC, SHELL
from colab_magics.records.run import runs_of

from .engine_suite import EngineSuite

USERS_ENVIRONMENT = dict(os.environ)
"""pip reads the user's settings, which tests otherwise do not see."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package into a folder."""
    folder = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command = [*pip, "--target", folder, Path(__file__).parent / "nice_engine"]
    subprocess.run(command, check=True, env=USERS_ENVIRONMENT, stdin=subprocess.DEVNULL)
    return folder


@pytest.fixture(autouse=True)
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it where Python looks, here and in schedulers."""
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))


@pytest.mark.long
class TestNice(EngineSuite):
    """``on=nice``, an entry point."""

    @pytest.fixture
    def on(self) -> str:
        return "nice"


def test_its_options_stand_in_the_line(project: Project, tmp_path: Path) -> None:
    from runs.notebooks import write_notebook

    notebook = write_notebook(project.root / "a.ipynb", "import os\nopen(data_job + '/it', 'w').write(str(os.nice(0)))")
    magics.run_line("fork", f"n=1 on=nice niceness=7 notebook='{notebook}'", None, {})
    (run,) = runs_of(project.data_job)
    assert (run.folder / "it").read_text() == str(min(os.nice(0) + 7, 19))
    assert run.record["options"] == {"niceness": "7"}
    with pytest.raises(InvalidInput, match="niceness=much cannot be read"):
        fork(n=2, on="nice", niceness="much", notebook=str(notebook))
    with pytest.raises(InvalidInput, match="'nicenes=' is no option of %fork") as error:
        magics.run_line("fork", f"n=2 on=nice nicenes=7 notebook='{notebook}'", None, {})
    assert "did you mean niceness=?" in error.value.mend
    with pytest.raises(InvalidInput, match="is no option of on=local"):
        fork(n=2, niceness=7, notebook=str(notebook))


def test_they_are_in_the_help_and_behind_tab() -> None:
    assert "niceness : int, default 10" in help_text.verb_help("fork", None, MAGIC)
    assert "Options of on=nice" in help_text.verb_help("submit", None, SHELL)
    assert completion.candidates("%fork on=nice nic") == ("nic", ["niceness="])
    assert completion.candidates("%fork nic") == ("nic", [])


def test_for_an_unknown_engine_it_is_said_which_there_are_and_why_others_are_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="on=nicer:x names no engine") as error:
        open_engine("nicer:x")
    assert "did you mean nice?" in error.value.mend
    assert re.search(r"^  local$", error.value.mend, re.MULTILINE)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidInput) as error:
        open_engine("k8s")
    assert "  nice: not here: there is no nice on PATH" in error.value.mend
    assert "  ssh: not here: there is no ssh on PATH" in error.value.mend
