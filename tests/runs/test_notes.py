"""Notes and tags of runs: written by ``%jobs note`` and ``%jobs tag``, in a file of their own."""

from __future__ import annotations

import threading

import pytest

from colab_magics import jobs
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput, NotFound
from colab_magics.records import notes
from colab_magics.records.names import NOTE, SCHEDULER, is_ours

from .folders import leave_run


@pytest.fixture
def two(project: Project) -> Project:
    for index in range(2):
        leave_run(project.data_job, index, parameters={"lr": index})
    return project


def test_notes_and_tags_stand_in_the_tables(two: Project) -> None:
    jobs.tag("0-1", "good", "seen")
    shown = str(jobs.note("1", "odd: the <b>loss</b> jumps"))
    assert "odd: the <b>loss</b> jumps" in shown
    assert "<b>" not in jobs("1")._repr_html_()
    assert "good, seen" in str(jobs())
    assert "note       odd: the" in str(jobs.show("1"))
    assert jobs.table(where="'good' in tags")["tags"].tolist() == [["good", "seen"]] * 2
    assert jobs.table(where="'good' in tags and note is not None")["run"].tolist() == ["baseline/1"]
    assert jobs.table(where="'jumps' in note")["run"].tolist() == ["baseline/1"]
    assert is_ours(NOTE)


def test_they_are_taken_back(two: Project) -> None:
    jobs.tag("0", "a", "b", "c")
    jobs.tag("0", "b", remove=True)
    assert notes.read(two.data_job / "sub_job_000").tags == ("a", "c")
    jobs.tag("0", remove=True)
    jobs.note("0", "x")
    jobs.note("0", "")
    assert notes.read(two.data_job / "sub_job_000") == notes.Noted()
    jobs.note("0", "too", "high")
    assert notes.read(two.data_job / "sub_job_000").note == "too high"
    jobs.note("0", "")
    assert not {"note", "tags"} & set(jobs.table().columns)
    assert len(jobs.table(where="'a' in tags or note is not None")) == 0


def test_without_words_runs_are_shown_and_nothing_is_written(two: Project) -> None:
    assert len(jobs.tag("0")) == len(jobs.note("0")) == 1
    assert not (two.data_job / "sub_job_000" / NOTE).exists()


@pytest.mark.parametrize("tag", ["two words", "a,b", "", "-x", "x" * 41, "it's", "\x1b[2J"])
def test_what_is_no_tag_is_refused_before_anything_is_written(two: Project, tag: str) -> None:
    with pytest.raises(InvalidInput, match="is no tag"):
        jobs.tag("0", "fine", tag)
    assert not (two.data_job / "sub_job_000" / NOTE).exists()


def test_a_note_is_no_longer_than_a_note(two: Project) -> None:
    with pytest.raises(InvalidInput, match="A note of 2,001 characters is too long"):
        jobs.note("0", "x" * 2001)
    with pytest.raises(NotFound):
        jobs.note("7", "x")


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b'{"tags": "x"}', b'{"note": 3}', b'{"note": "\x1b[2J", "tags": ["\\u001b[2J"]}']
)
def test_what_others_have_written_is_not_believed(two: Project, raw: bytes) -> None:
    (two.data_job / "sub_job_000" / NOTE).write_bytes(raw)
    assert "\x1b" not in str(jobs()) + str(jobs.show("0"))
    jobs.tag("0", "good")
    assert "good" in notes.read(two.data_job / "sub_job_000").tags


def test_two_lines_at_once_lose_no_tag(two: Project) -> None:
    (two.data_job / SCHEDULER).mkdir()
    threads = [threading.Thread(target=jobs.tag, args=("0", f"t{i}")) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(notes.read(two.data_job / "sub_job_000").tags) == [f"t{i}" for i in range(8)]
