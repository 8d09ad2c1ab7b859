"""Payloads: those that another version has submitted are left alone, with a word; one more is a file and a line."""

from __future__ import annotations

import pytest

from colab_magics import jobs, process
from colab_magics.checkout.project import Project
from colab_magics.errors import InvalidInput
from colab_magics.payloads import PAYLOADS, payload_of
from colab_magics.payloads.base import Payload, Unknown
from colab_magics.payloads.notebook import Notebook
from colab_magics.records.names import NOTEBOOK, RECORD
from colab_magics.records.run import Run

from .folders import leave_run


def of_another_version(project: Project, index: int, phase: str) -> Run:
    run = leave_run(project.data_job, index, phase)
    record = process.read_json(run.folder / RECORD) or {}
    process.write_json(run.folder / RECORD, {**record, "payload": {"kind": "quantum"}})
    return Run.load(run.folder)


def test_every_payload_of_the_registry_is_one() -> None:
    assert all(isinstance(PAYLOADS.load(name)(), Payload) for name in PAYLOADS.names())
    assert isinstance(payload_of({}), Notebook)
    assert isinstance(payload_of({"payload": {"kind": "quantum"}}), Unknown)


def test_retry_says_what_it_does_not_know_and_touches_nothing(project: Project) -> None:
    run = of_another_version(project, 0, "failed")
    (run.folder / NOTEBOOK).write_text("theirs")
    with pytest.raises(InvalidInput, match="no payload that this version knows: 'quantum'") as caught:
        jobs.retry("0")
    assert "Update colab_magics" in str(caught.value)
    assert Run.load(run.folder).attempt == run.attempt
    assert (run.folder / NOTEBOOK).read_text() == "theirs"


def test_it_is_shown_and_can_be_removed(project: Project) -> None:
    run = of_another_version(project, 0, "failed")
    assert run.id in str(jobs.list())
    jobs.rm("0", yes=True)
    assert not run.folder.exists()
