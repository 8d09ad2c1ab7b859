"""Streams joined as Jupyter joins them, and the journal's way to say so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from colab_magics.kernels import journal
from colab_magics.kernels.streams import Stream, overwritten

from .executing import notebook_of


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain\n", "plain\n"),
        ("10%\r20%\r100%\n", "100%\n"),
        ("12345\rab\n", "ab345\n"),
        ("dos\r\nlines\r\n", "dos\nlines\n"),
        ("waiting\r", "waiting\r"),
        ("abc\b\bX", "aX"),
        ("a\n\rb", "a\nb"),
    ],
)
def test_what_a_terminal_would_show(raw: str, shown: str) -> None:
    assert overwritten(raw) == shown


def test_pieces_say_the_same_as_the_whole() -> None:
    stream = Stream(nbformat.v4.new_output("stream", name="stdout", text="1%"))
    for i in range(2, 5000):
        stream.add(f"\r{i}%")
        if i % 700 == 0:
            stream.settle()
    stream.add("\r")
    stream.settle()
    stream.add("end\n")
    stream.settle()
    assert stream.output["text"] == "end9%\n"


def message(kind: str, **content: Any) -> dict[str, Any]:
    return {"msg_type": kind, "content": content, "metadata": {}, "header": {}, "parent_header": {"msg_id": "1"}}


def test_a_journal_that_was_cut_off_gives_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    book = journal.Journal(path, notebook_of("a", "b"))
    cell = {"metadata": {"papermill": {"status": "running"}}}
    book.begins(0, cell)
    book.message(0, message("stream", name="stdout", text="one\n"))
    book.message(0, message("stream", name="stdout", text="two\n"))
    book.message(0, message("display_data", data={"text/plain": "old"}, metadata={}, transient={"display_id": "d"}))
    book.ended(0, {**cell, "execution_count": 5})
    book.begins(1, cell)
    book.message(
        1, message("update_display_data", data={"text/plain": "new"}, metadata={}, transient={"display_id": "d"})
    )
    book.message(1, message("stream", name="stderr", text="lone \ud800 surrogate"))
    book.close()
    with open(book.path, "ab") as stream:
        stream.write(b'{"cell": 1, "msg_type": "stream", "content": {"na')
    assert journal.rebuild(path)
    rebuilt = nbformat.read(path, as_version=4)
    assert [one.get("text") for one in rebuilt.cells[0].outputs] == ["one\ntwo\n", None]
    assert rebuilt.cells[0].outputs[1].data["text/plain"] == "new"
    assert rebuilt.cells[0].execution_count == 5
    assert rebuilt.cells[1].metadata.papermill.status == "running"
    assert rebuilt.cells[1].outputs[0].text.startswith("lone ")
    assert list(tmp_path.iterdir()) == [path]


def test_without_a_journal_there_is_nothing_to_rebuild(tmp_path: Path) -> None:
    assert not journal.rebuild(tmp_path / "a.ipynb")
    journal.path_of(tmp_path / "a.ipynb").write_text('{"notebook": {"cel')
    assert journal.rebuild(tmp_path / "a.ipynb")
    assert not (tmp_path / "a.ipynb").exists()
