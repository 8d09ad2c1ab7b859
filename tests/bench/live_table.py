"""What the live table of five hundred runs costs: processor time of the notebook's kernel, and bytes to the front end.

``python tests/bench/live_table.py [RUNS] [SECONDS] [search]``. Four runs move, twice a second, and a run ends each
second; the others wait or are done. Of a search none waits: a new one is made when one has ended.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from runs.folders import leave_run  # noqa: E402 (the paths come first)

from colab_magics import process  # noqa: E402
from colab_magics.faces import notebook_ui  # noqa: E402
from colab_magics.records.names import FORKS, METRICS, RECORD, SCHEDULER, STATE, folder_name  # noqa: E402
from colab_magics.records.run import runs_of  # noqa: E402
from colab_magics.runs import scheduler  # noqa: E402
from colab_magics.runs.board import Board  # noqa: E402
from colab_magics.runs.goal import Goal  # noqa: E402
from colab_magics.runs.search import found  # noqa: E402
from colab_magics.runs.search.start import SearchBoard  # noqa: E402

SHARE, BYTES = 0.02, 100_000
MOVING = 4


class Watched(notebook_ui.NotebookUI):
    """A notebook's face whose front end only counts what comes."""

    where = "jupyter"  # type: ignore[assignment]
    cell = 1  # type: ignore[assignment]

    def __init__(self) -> None:
        pass

    def links_from(self) -> Path:
        return Path.cwd()


def main(runs: int = 500, seconds: float = 20.0, kind: str = "") -> None:
    """Measure and print."""
    sent: list[int] = []
    notebook_ui._Display.__init__ = lambda self: None  # type: ignore[assignment, method-assign]
    notebook_ui._Display.update = (  # type: ignore[method-assign]
        lambda self, plain, markup: sent.append(len(json.dumps({"text/plain": plain, "text/html": markup}).encode()))
    )
    with tempfile.TemporaryDirectory() as folder:
        job = Path(folder, "data_job", "many")
        reports = [{"loss": 1 / (1 + i), "acc": i / 50, "step": i} for i in range(50)]
        is_search = kind == "search"
        done_first = runs if is_search else runs // 5
        for index in range(runs + MOVING * is_search):
            phase = "done" if index < done_first else "running" if index < done_first + MOVING else None
            given = {"lr": 10 ** -(index % 5), "size": index, "name": "a word or two"}
            alive = {"alive": True, "started": time.time()} if phase == "running" else {}
            alive |= {"fork": 1, "search": {"number": index}} if is_search else {}
            leave_run(job, index, phase, parameters=given, reports=reports if phase else None, **alive)  # type: ignore[arg-type]
        mover = multiprocessing.get_context("fork").Process(target=_move, args=(job, done_first), daemon=True)
        mover.start()
        board: _Fed | _FedSearch = _Fed(lambda: runs_of(job))
        if is_search:
            space = {"lr": [10**-n for n in range(5)], "size": "int(0, 100000)", "name": "a word or two"}
            entry = {"notebook": "train.ipynb", "notebook_path": None, "fork": 1, "search": space, "goal": "min:loss"}
            (job / SCHEDULER).mkdir(exist_ok=True)
            process.write_json(job / SCHEDULER / FORKS, {"forks": [{**entry, "runs": []}]})
            board = _FedSearch(lambda: found.members(job, entry), goal=Goal("min", "loss"))
        done = threading.Event()
        board.over = done
        watcher = threading.Thread(target=board.watch, args=(Watched(),))
        watcher.start()
        time.sleep(3)  # the first look is not the usual one
        sent.clear()
        before, began = time.process_time(), time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        share, rate = (time.process_time() - before) / took, sum(sent) / took
        print(f"{runs} runs: {100 * share:.2f} % of a core (goal {100 * SHARE:g} %: {_met(share <= SHARE)})")
        print(
            f"{rate / 1000:.1f} kB/s in {len(sent) / took:.2f} updates/s (goal {BYTES / 1000:g}: {_met(rate <= BYTES)})"
        )
        done.set()
        watcher.join()
        mover.terminate()


class _Fed(Board):
    """A board that a scheduler feeds until all is over."""

    over: threading.Event

    def waits_for_more(self) -> bool:
        if self.over.is_set():
            raise SystemExit
        return True


class _FedSearch(_Fed, SearchBoard):
    """The same of a search."""


def _move(job: Path, first: int) -> None:
    """Be a scheduler, and four runs: they report twice a second, and the oldest of them ends each second."""
    with scheduler.taken(job):
        _move_on(job, first)


def _move_on(job: Path, first: int) -> None:
    folders = [job / folder_name(index) for index in range(first, first + MOVING)]
    for count in itertools.count():
        for folder in folders:
            line = {"time": time.time(), "attempt": 1, "step": count, "values": {"loss": 1 / (1 + count), "total": 1e6}}
            with open(folder / METRICS, "a") as stream:
                stream.write(json.dumps(line) + "\n")
        if count % 2:
            if not (new := job / folder_name(first + MOVING)).exists():
                record = process.read_json(folders[0] / RECORD) or {}
                made = job / SCHEDULER / new.name
                made.mkdir(parents=True)
                again = {"index": first + MOVING, "search": {"number": first + MOVING}}
                process.write_json(made / RECORD, {**record, **again})
                made.rename(new)
            state = process.read_json(folders[0] / STATE) or {}
            process.write_json(folders.pop(0) / STATE, {**state, "phase": "done", "ended": time.time()})
            first += 1
            folders.append(job / folder_name(first + MOVING - 1))
            process.write_json(folders[-1] / STATE, {**state, "started": time.time()})
        time.sleep(0.5)


def _met(good: bool) -> str:
    return "met" if good else "MISSED"


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:3]), *sys.argv[3:4])
