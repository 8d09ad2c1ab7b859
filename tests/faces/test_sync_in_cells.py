"""What a sync has to say shows below the next cell, once."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import poll
from IPython.core.interactiveshell import InteractiveShell
from mirror.tools import begin, write

pytest_plugins = ["shells"]


def test_a_notice_shows_after_the_next_cell_and_once(
    shell: InteractiveShell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell("%load_ext colab_magics")
    sync = begin(write(tmp_path / "job", a_txt="a"), tmp_path / "place").now()
    shell.run_cell("1")
    assert "Nothing is written" not in "".join(capsys.readouterr())
    (tmp_path / "place" / ".colab_magics_place.json").unlink()
    write(sync.source, b_txt="b")
    poll(lambda: sync.notices())
    shell.run_cell("1")
    said = "".join(capsys.readouterr())
    assert f"Nothing is written to {tmp_path / 'place'}" in said
    assert "Mount it again" in said, "with its mend"
    shell.run_cell("1")
    assert "Nothing is written" not in "".join(capsys.readouterr())
    shell.run_cell("%unload_ext colab_magics")
    shell.run_cell("1")
    assert not shell.events.callbacks["post_run_cell"]
