"""Runs that call a function of the project: ``lab_call.call("train:fit", lr=[0.1, 0.2])``, a run for each value."""

import contextlib
import importlib
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

from colab_magics import process, session
from colab_magics.payloads import modules
from colab_magics.payloads.base import Draft, Payload, kind_of
from colab_magics.runs import grid, submit, which_job
from colab_magics.runs.order import Order


class Call(Payload):
    """What a run's process does with the record of `Drafted`; the function's result becomes ``result.json``."""

    def execute(self, attempt):
        record, values = attempt.run.record, attempt.run.record["parameters"]
        sys.path.insert(0, record["cwd"])
        module, _, name = record["payload"]["function"].partition(":")
        try:
            with contextlib.redirect_stdout(attempt.log):
                result = getattr(importlib.import_module(module), name)(**values)
        except Exception as error:  # noqa: BLE001 - the function may raise anything
            said = traceback.format_exc()
            return {"cell": None, "ename": type(error).__name__, "evalue": str(error), "traceback": said}
        process.write_json(attempt.run.folder / "result.json", {"result": result})
        return None

    def check(self, run):
        """Nothing of it can be missing."""

    def seal(self, folder):
        return False

    def set_aside(self, folder, attempt):
        """Nothing is left that the next attempt would spoil."""

    def title(self, record):
        return "call", record["payload"]["function"]

    def mend(self):
        return "Mend the function and call it again"


@dataclass(frozen=True)
class Drafted(Draft):
    """The same in the notebook, before there are runs; it is its own `Owner`: who may keep a finished run."""

    function: str
    folder: Path

    @property
    def hashes(self):
        return modules.imported([f"import {self.function.partition(':')[0]}"], [self.folder], self.folder)

    @property
    def whose(self):
        return self

    def is_maker_of(self, run):
        return kind_of(run.record) == "call"

    def made(self, run, hashes):
        return self.is_maker_of(run) and run.record["payload"] == self.record()["payload"]

    def may_take(self, run, hashes):
        return False

    def record(self):
        return {"payload": {"kind": "call", "function": self.function}}


def call(function, **values):
    """Start a run for each point of the grid; returns them, as ``%fork`` does."""
    project = which_job.of_commands(session.current())
    points, _ = grid.asked_for(values, 1)
    order = Order(project.data_job, Drafted(function, project.root), points, project.root, project.root)
    return submit.submit(order)[0]
