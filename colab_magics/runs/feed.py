"""The detached process that schedules a job: ``python -P -m colab_magics.runs.feed JOB_FOLDER LOCK_FD``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ..engines import forking, open_engine
from ..engines.base import Work
from ..errors import ColabMagicsError
from ..records.names import PLAN, QUEUED, SCHEDULER, SEARCHED
from ..records.run import runs_of
from .feeding import Scheduler, say
from .of_queue.table import Table
from .runner import Runner
from .scheduler import Feed, fed, last_plan, planning
from .sources import Planned, Source


def main() -> None:
    """Run as a program."""
    job_folder, lock = Path(sys.argv[1]), int(sys.argv[2])
    queue = Table.taken()
    plan = last_plan(job_folder)
    if not plan:
        raise ColabMagicsError(f"{job_folder / SCHEDULER / PLAN} cannot be read.", "Run the %fork line again.")
    names = {*plan.get("runs", ()), *plan.get("adopt", ())}
    by_name = {run.folder.name: run for run in runs_of(job_folder) if run.folder.name in names}
    forking.make_room()
    runs = [by_name[name] for name in plan["runs"] if name in by_name]
    adopt = [by_name[name] for name in plan["adopt"] if name in by_name]
    folders, adopted = [run.folder for run in runs], [run.folder for run in adopt]
    source: Source
    if queue is not None:
        from .of_queue.source import Queued  # which reads much, for few

        # First of all: its process is to be forked from one that holds nothing yet.
        source = Queued(job_folder, queue, adopted, [lock])
        folders = [job_folder / SCHEDULER / QUEUED]
    elif said := plan.get("search"):
        from .search.source import Searched

        folders = [job_folder / SCHEDULER / SEARCHED, *folders]
        source = Searched(job_folder, said, runs, adopt)
    else:
        source = Planned(job_folder, runs, len(plan["runs"]))
    engine, feed = open_engine(plan["engine"], plan.get("options")), Feed(**plan["feed"])
    secrets = {name: os.environ[name] for name in plan.get("secrets", ()) if name in os.environ}
    engine.prepare(Work(job_folder, Runner(), folders, adopted, secrets, feed.workers, plan.get("at_once")))
    scheduler = Scheduler(job_folder, engine, source, feed, adopt)
    while True:
        scheduler.run()
        # Whoever adds to the plan finds the job's lock held, and then this look comes after; or finds it free.
        with planning(job_folder):
            if source.exhausted():
                scheduler.finish()
                # A plan does not name what came later from a queue or a search.
                ended = fed(job_folder) if isinstance(source, Planned) else set()
                # Who waits for the job waits neither for what is told the user nor for this process's end.
                os.close(lock)
                break
    from . import notifying

    if problem := notifying.ended(job_folder, ended):
        say(problem)


if __name__ == "__main__":
    main()
    forking.leave(0)
