"""An engine whose runs execute in other folders, as on another machine, and which does all that engines do wrong.

Its world is a folder, named by the environment variable ELSEWHERE. ``faults.json`` in it says what goes wrong now:

``delay``    seconds until a submitted run begins;
``skew``     seconds by which the clock there is ahead: in all times that come from there;
``unknown``  nobody can tell how runs are doing;
``away``     nothing can be reached: submissions, searches and fetches fail;
``lost``     a submission arrives, and its answer does not: the engine raises once;
``dies``     the scheduler is killed by a submission, ``before`` it arrives or ``after``; once;
``forgets``  what has ended is not known any more a moment later.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from colab_magics import process
from colab_magics.engines import base
from colab_magics.engines.base import Engine, Phase, Ref, Resources, Submission, Work
from colab_magics.records.names import RECORD, STATE
from colab_magics.session import RUN_VARIABLE

HOST = "elsewhere.example"
WRITTEN_HERE = {"run.json", "ref.json", "verdict.json", "source.ipynb", ".colab_magics.lock"}
TIMES = ("started", "ended", "beat", "cell_began")


class Elsewhere(Engine):
    """Runs that execute in ``$ELSEWHERE/KEY/JOB/sub_job_000``."""

    poll_every = 0.2

    def __init__(self, where: str = "", options: Any = None) -> None:
        super().__init__(where, options)
        self.world = Path(os.environ["ELSEWHERE"])
        self.work: Work | None = None

    def faults(self) -> dict[str, Any]:
        return process.read_json(self.world / "faults.json") or {}

    def once(self, name: str, value: Any) -> bool:
        """Whether a fault is to happen, which then is over."""
        said = self.faults()
        if said.get(name) != value:
            return False
        del said[name]
        process.write_json(self.world / "faults.json", said)
        return True

    def reach(self) -> None:
        if self.faults().get("away"):
            raise OSError(113, f"{HOST} cannot be reached")

    def settle(
        self, job_folder: Path, cwd: Path, workers: str | int = "auto", gpus: Any = None, ui: Any = None
    ) -> Resources:
        return Resources(2 if workers == "auto" else int(workers))

    def available(self, *, gpus: float = 0) -> None:
        pass

    def prepare(self, work: Work) -> None:
        self.work = work

    def there(self, run: Submission) -> Path:
        return self.world / run.key / run.folder.parent.name / run.folder.name

    def submit(self, runs: Sequence[Submission]) -> list[Ref | None]:
        self.reach()
        for run in runs:
            if self.once("dies", "before"):
                os.kill(os.getpid(), signal.SIGKILL)
            self.start(run)
            if self.once("dies", "after"):
                os.kill(os.getpid(), signal.SIGKILL)
            if self.once("lost", True):
                raise OSError(104, "connection reset")
        return [{"job": run.key} for run in runs]

    def start(self, run: Submission) -> None:
        assert self.work is not None
        there = self.there(run)
        if (self.world / run.key / "job.json").exists():
            raise AssertionError("submitted twice")
        shutil.copytree(run.folder, there, ignore=lambda *_: [".colab_magics.lock", "ref.json"])
        delay = float(self.faults().get("delay", 0))
        env = {name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH", "LANG") if name in os.environ}
        words = ["sh", "-c", 'sleep "$1"; shift; exec "$@"', "sh", str(delay), *self.work.program.command(there)]
        with (there / "log.txt").open("ab") as log:
            child = subprocess.Popen(
                words,
                cwd=there,
                env={**env, **self.work.environment, RUN_VARIABLE: str(there)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        child.returncode = 0
        process.expect(child.pid)
        job = {"who": process.identity(child.pid), "begins": time.time() + delay}
        process.write_json(self.world / run.key / "job.json", job)

    def find(self, runs: Sequence[Submission]) -> list[Ref | None]:
        self.reach()
        return [{"job": run.key} if (self.world / run.key / "job.json").exists() else None for run in runs]

    def poll(self, runs: Sequence[Submission]) -> list[Phase]:
        process.reap()
        faults = self.faults()
        if faults.get("unknown") or faults.get("away"):
            return [base.UNKNOWN] * len(runs)
        return [self.phase(run, forgets=bool(faults.get("forgets"))) for run in runs]

    def phase(self, run: Submission, *, forgets: bool) -> Phase:
        job = process.read_json(self.world / str((run.ref or {})["job"]) / "job.json")
        if job is None:
            return base.ENDED
        if process.is_alive(job["who"]):
            return base.QUEUED if time.time() < job["begins"] else base.RUNNING
        if forgets:
            (self.world / run.key / "job.json").unlink()
        return base.ENDED

    def fetch(self, runs: Sequence[Submission], *, final: bool) -> list[str]:
        if self.faults().get("away"):
            return [f"{HOST} cannot be reached"] * len(runs)
        for run in runs:
            for path in sorted(self.there(run).rglob("*")):
                inside = path.relative_to(self.there(run))
                if inside.name in WRITTEN_HERE or (not final and len(inside.parts) > 1):
                    continue
                # A run at work removes its temporary files.
                with contextlib.suppress(FileNotFoundError):
                    self.bring(path, inside, run.folder)
        return [""] * len(runs)

    def bring(self, path: Path, inside: Path, home: Path) -> None:
        if path.is_dir():
            (home / inside).mkdir(exist_ok=True)
        elif inside.name == STATE:
            self.bring_state(path, home / STATE)
        else:
            shutil.copyfile(path, home / f".{inside.name}.part")
            (home / f".{inside.name}.part").replace(home / inside)

    def bring_state(self, source: Path, target: Path) -> None:
        state = process.read_json(source)
        if state is None:
            return
        skew = float(self.faults().get("skew", 0))
        state |= {name: state[name] + skew for name in TIMES if state.get(name)}
        for name in ("process", "kernel_process"):
            if state.get(name):
                state[name] |= {"host": HOST, "boot": "another"}
        process.write_json(target, state)

    def cancel(self, runs: Sequence[Submission]) -> None:
        self.reach()
        for run in runs:
            job = process.read_json(self.world / run.key / "job.json") or {}
            if process.is_alive(job.get("who") or {}):
                os.kill(job["who"]["pid"], signal.SIGTERM)

    def log(self, run: Submission) -> str:
        return ""


def install(site: Path, source: Path = Path(__file__)) -> None:
    """Make a folder for `sys.path` in which the engine is installed, as a package of somebody else's."""
    info = site / "elsewhere-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[colab_magics.engine]\nelsewhere = elsewhere_engine:Elsewhere\n")
    shutil.copyfile(source, site / "elsewhere_engine.py")


def submissions(world: Path) -> list[int]:
    """The indices of the runs whose submissions arrived, in no order."""
    return [json.loads(path.read_text())["index"] for path in world.glob(f"*/*/*/{RECORD}")]
