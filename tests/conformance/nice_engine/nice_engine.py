"""Runs on this machine that give way to everything else: ``%fork n=5 on=nice niceness=19``."""

import os
import shutil
from dataclasses import dataclass

from colab_magics import process
from colab_magics.engines.base import ENDED, RUNNING, Engine, Resources
from colab_magics.errors import Unavailable
from colab_magics.session import RUN_VARIABLE


class NiceEngine(Engine):
    """A reference is what `process.identity` says of a run's process."""

    @dataclass(frozen=True)
    class Options:
        """niceness : int, default 10: 19 gives way to everything."""

        niceness: int = 10

    @classmethod
    def why_not(cls):
        return "" if shutil.which("nice") else "there is no nice on PATH"

    def settle(self, job_folder, cwd, workers="auto", gpus=None, ui=None):
        return Resources(os.cpu_count() or 1 if workers == "auto" else int(workers))

    def available(self, *, gpus=0):
        if gpus:
            raise Unavailable("on=nice gives out no GPUs.", "Leave gpus= out.")

    def prepare(self, work):
        self.work = work

    def submit(self, runs):
        return [self._start(run) for run in runs]

    def _start(self, run):
        command = ["nice", "-n", str(self.options.niceness), *self.work.program.command(run.folder)]
        env = {**self.work.environment, RUN_VARIABLE: str(run.folder), "NICE_KEY": run.key}
        log = run.folder / "log.txt"
        return process.identity(process.start_detached(command, log_file=log, cwd=run.folder, env=env))

    def find(self, runs):
        found = [sorted(process.all_with("NICE_KEY", run.key)) for run in runs]
        return [process.identity(pids[0]) if pids else None for pids in found]

    def poll(self, runs):
        process.reap()
        return [RUNNING if process.is_alive(run.ref) else ENDED for run in runs]

    def cancel(self, runs):
        for run in runs:
            if process.is_alive(run.ref):
                process.end_tree(run.ref["pid"], grace=10)
