"""Folders of runs as the submitter, the runner and the run itself leave them, without executing anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat

from colab_magics import process
from colab_magics.records.names import LOG, NOTEBOOK, RECORD, SOURCE, STATE, folder_name
from colab_magics.records.run import Run

DEAD = {"pid": 1, "started": 0, "boot": "another", "host": process.host()}


def leave_run(
    job: Path,
    index: int,
    phase: str | None = "done",
    *,
    parameters: dict[str, Any] | None = None,
    cells: tuple[str, ...] = ("x = 1",),
    reports: list[dict[str, Any]] | None = None,
    started: float = 1000.0,
    took: float = 60.0,
    attempt: int = 1,
    alive: bool = False,
    **record: Any,
) -> Run:
    """Leave the folder of a run; `phase` None is one that waits."""
    folder = job / folder_name(index)
    folder.mkdir(parents=True)
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(content, folder / SOURCE)
    process.write_json(
        folder / RECORD,
        {
            "index": index,
            "repeat": 0,
            "attempt": attempt,
            "parameters": parameters or {},
            "notebook": "train.ipynb",
            "engine": "local",
            "start": "cold",
            "commit": "abc",
            "submitted": started,
            "payload": {"kind": "notebook", "kernel": None},
            **record,
        },
    )
    if phase is not None:
        error = {"cell": 1, "ename": "ValueError", "evalue": "no <b>"} if phase == "failed" else None
        state = {"attempt": attempt, "phase": phase, "started": started, "beat": started + took, "error": error}
        ended = {} if phase == "running" else {"ended": started + took}
        process.write_json(folder / STATE, state | ended | {"process": process.identity() if alive else DEAD})
        nbformat.write(content, folder / NOTEBOOK)
        (folder / LOG).write_text("══ attempt 1\nhello\n")
    if reports is not None:
        lines = [
            {"time": started, "attempt": attempt, **({"step": values.pop("step")} if "step" in values else {})}
            | {"values": values}
            for values in map(dict, reports)
        ]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return Run.load(folder)
