"""``%queue``: a table of runs that workers on many machines claim, each run once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from .. import session
from ..errors import InvalidInput
from ..units import count
from . import body, call_only, subcommand
from .fork_queue import accept, opened

if TYPE_CHECKING:
    from ..queues.base import Queue
    from ..runs.of_queue.by_hand import Worker
    from ..ui import Table


@body("runs")
@call_only("yes", "again", "colab_terms")
def queue(
    url: str,
    /,
    *,
    runs: Sequence[Mapping[str, Any]] | Mapping[str, Any] | None = None,
    n: int | None = None,
    defaults: str | None = None,
    watch: bool = False,
    again: bool = False,
    yes: bool = False,
    credentials: str | None = None,
    colab_terms: Literal["accepted"] | None = None,
) -> Worker:
    """Keep runs in a table that workers on many machines claim, each run once, while people edit it.

    The table is a file (``runs.db``, for workers of one machine), a PostgreSQL database or a Google Sheet. ``%%queue``
    adds the runs that its cell names, a list or a grid as ``%%fork`` has it, and makes the table where there is none::

        %%queue runs.db
        lr: [1e-3, 1e-4]
        optimizer: [adam, sgd]

        %%queue runs.db
        - {run_name: small, lr: 0.1, status: draft}     # nobody claims what is not ready
        - {run_name: big, lr: 0.01, priority: 5}

    Runs that are there already, by their name or their parameters, are not added twice: the cell may be executed again.
    ``%fork runs=runs.db`` executes them with this notebook, ``%submit runs=runs.db -- COMMAND`` with a command.

    In Python it is what there is to do::

        for run in colab_magics.queue("runs.db"):
            for epoch in range(run.config.n_epoch):
                changed = run.sync(status=f"{epoch} / {run.config.n_epoch}", loss=0.3)
                if run.stop:
                    break       # out of the epochs

    A run is done when the loop asks for the next one. An exception that ends the loop marks it failed with the text,
    leaving the loop by ``break`` or an interrupt gives it back, ``run.done("good enough")`` ends it with a word of your
    own. With ``with run:`` in the loop an exception is shown, marks that run failed, and the loop goes on.

    Parameters
    ----------
    url : str
        A file, ``postgresql://user@host/name``, or the link of a Google Sheet.
    runs : list or mapping, optional
        Runs to add, or a grid; the cell's body.
    n : int, optional
        How often each of them.
    defaults : str, optional
        In Python's loop: values for parameters of which the table has none; a mapping, or YAML.
    watch : bool, default False
        In Python's loop: wait for runs that are added when none is left.
    again : bool, default False
        Add runs although there are some with the same parameters.
    yes : bool, default False
        Add more than 1,000 runs without asking again.
    credentials : str, optional
        Who asks Google: ``secret:NAME`` (of Colab's secrets, or the environment) or a file, with the key of a service
        account. By default ``GOOGLE_APPLICATION_CREDENTIALS``, gspread's own file, or on Colab you, who are asked.
    colab_terms : {"accepted"}, optional
        On Colab: you have read what its terms say of workers; see ``%fork``.

    Returns
    -------
    Worker
        Shows itself as the table; iterating over it claims runs.

    Raises
    ------
    InvalidInput, NotFound, Unavailable
        The text says what to do.
    """
    from ..checkout import git
    from ..checkout.project import find_project
    from ..runs import in_run
    from ..runs.of_queue import by_hand

    here = session.current()
    if runs is not None and not in_run.is_run(here.ui):
        _add(url, runs, n, again=again, yes=yes, credentials=credentials)

    def commit() -> str:
        project = here.project or find_project(here.start_folder)
        return git.commit(project.root if project is not None else here.start_folder) or ""

    return by_hand.Worker(
        _open(url, credentials),
        own=_mapping(defaults),
        watch=watch,
        accept=lambda: accept(colab_terms),
        say=here.ui.say,
        commit=commit,
    )


@subcommand(queue)
def create(url: str, /, *, defaults: str | None = None, credentials: str | None = None) -> Table:
    """Make a table of runs, where there is none.

    Parameters
    ----------
    url : str
        See ``%queue``.
    defaults : str, optional
        Values for parameters that a run does not name: YAML such as ``defaults="{n_epoch: 10}"``, or a mapping.
    credentials : str, optional
        See ``%queue``.

    Returns
    -------
    Table
        The runs.
    """
    found = _open(url, credentials)
    with _asking(found):
        found.create(_mapping(defaults))
    return show(url, credentials=credentials)


@subcommand(queue)
@call_only("yes", "again")
def add(
    url: str,
    runs: Any,
    /,
    *,
    n: int | None = None,
    again: bool = True,
    yes: bool = False,
    credentials: str | None = None,
) -> Table:
    """Add runs to a table; it is made where there is none.

    Parameters
    ----------
    url : str
        See ``%queue``.
    runs : str
        A file of runs: ``.yaml`` (a list or a grid), ``.json`` or ``.csv`` (a row for each run, parameters in columns;
        ``run_name``, ``status`` and ``priority`` are none). In Python also a list of dicts, or a grid as a dict.
    n : int, optional
        How often each of them.
    again : bool, default True
        Add also those whose parameters are there already; ``--no-again`` leaves them out.
    yes : bool, default False
        Add more than 1,000 runs without asking again.
    credentials : str, optional
        See ``%queue``.

    Returns
    -------
    Table
        The runs.
    """
    from ..runs.of_queue import run_table

    given = run_table.read(runs) if isinstance(runs, str) else runs
    _add(url, given, n, again=again, yes=yes, credentials=credentials)
    return show(url, credentials=credentials)


@subcommand(queue)
def show(url: str, /, *, status: str | None = None, credentials: str | None = None) -> Table:
    """Show the runs of a table: status, worker, attempts, lease, parameters, metrics, and why one is not executed.

    Parameters
    ----------
    url : str
        See ``%queue``.
    status : str, optional
        Only those that stand so: ``status=failed``.
    credentials : str, optional
        See ``%queue``.

    Returns
    -------
    Table
        The runs.
    """
    from ..queues.addresses import shown
    from ..runs.of_queue import run_table, sweep

    found = _open(url, credentials)
    with _asking(found):
        rows = found.rows()
    chosen = [row for row in rows if status is None or row.status == status]
    return run_table.table(chosen, f"{shown(found.address)}: {sweep.count(rows)}.")


@subcommand(queue)
def requeue(url: str, /, *which: str, credentials: str | None = None) -> Table:
    """Make runs ready again that failed, or whose worker is gone; or any that no worker holds, by their names.

    Parameters
    ----------
    url : str
        See ``%queue``.
    *which : str
        ``failed``, ``stale``, or names of runs. Whose worker is gone shows in a Google Sheet when nobody has written
        for the time of a lease, five minutes: so long ``stale`` looks there. Workers take such runs over by themselves.
    credentials : str, optional
        See ``%queue``.

    Returns
    -------
    Table
        The runs.
    """
    from ..queues.base import FAILED, STALE
    from ..runs.of_queue import run_table

    words = list(map(str, which))
    if url in (FAILED, STALE) and words:
        url, words = words[-1], [url, *words[:-1]]
    if not words:
        raise InvalidInput("Which runs?", f"Write %queue requeue {url} failed, or stale, or their names.")
    found = _open(url, credentials)
    with _asking(found):
        names = found.requeue(words)
    told = f"ready again: {run_table.names(names)}" if names else f"no run is {' or '.join(words)}"
    session.current().ui.say(told[:1].upper() + told[1:] + ".")
    return show(url, credentials=credentials)


@subcommand(queue)
def stop(
    url: str, /, *which: str, worker: str | None = None, why: str = "stopped by hand", credentials: str | None = None
) -> None:
    """Have runs end that are being executed, or a worker claim no more; each hears of it with its next heartbeat.

    In a Google Sheet write the reason into ``manual_run_stop`` or ``manual_worker_stop`` of its row.

    Parameters
    ----------
    url : str
        See ``%queue``.
    *which : str
        Names of runs.
    worker : str, optional
        The worker, by its name.
    why : str, default "stopped by hand"
        The reason.
    credentials : str, optional
        See ``%queue``.
    """
    found, ui = _open(url, credentials), session.current().ui
    if not which and worker is None:
        raise InvalidInput("Which runs?", f"Write their names: %queue stop {url} NAME, or worker=NAME")
    with _asking(found):
        names = found.stop(list(map(str, which)), why) if which else []
        if worker is not None:
            found.stop_worker(worker, why)
    ui.say(f"To end: {', '.join([*names, *([f'worker {worker}'] if worker is not None else [])]) or 'none'}.")


@subcommand(queue)
def probe(url: str, /, *, clients: int = 8, rounds: int = 25, credentials: str | None = None) -> Table:
    """Try the claim on a table of yours: many at once, often; each time exactly one may win.

    Parameters
    ----------
    url : str
        See ``%queue``.
    clients, rounds : int, default 8 and 25
        How many claim the same run at once, and how often. It is a run of its own, which is gone afterwards.
    credentials : str, optional
        See ``%queue``.

    Returns
    -------
    Table
        How many won.
    """
    from ..queues.addresses import shown
    from ..ui import Table

    found = _open(url, credentials)
    clients, rounds = count(clients, name="clients", least=2), count(rounds, name="rounds")
    with session.current().ui.progress(f"{clients} workers try {shown(found.address)}"):
        seen = found.probe(clients=clients, rounds=rounds)
    wrong = sum(number != 1 for number in seen.winners)
    verdict = "each run has one worker" if not wrong else f"{wrong} rounds had another number than one: do not use it"
    caption = f"{shown(found.address)}: {verdict} ({seen.clients} at once, {seen.rounds} rounds, {seen.seconds:.2g} s)."
    rows = [
        [f"{number} winners", "ok" if number == 1 else "failed", str(seen.winners.count(number))]
        for number in sorted(set(seen.winners))
    ]
    return Table(["claims", "state", "rounds"], rows, caption=caption, notes=[seen.remark] if seen.remark else [])


@subcommand(queue)
def export(url: str, file: str, /, *, credentials: str | None = None) -> Table:
    """Write the runs into a file, by its ending: ``.csv``, ``.json``, ``.yaml``.

    Parameters
    ----------
    url : str
        See ``%queue``.
    file : str
        The file. ``%queue add`` reads it again.
    credentials : str, optional
        See ``%queue``.

    Returns
    -------
    Table
        How many were written, and where.
    """
    from ..runs.of_queue import run_table
    from ..ui import Table

    found = _open(url, credentials)
    with _asking(found):
        rows = found.rows()
    path = run_table.write(rows, file)
    return Table([], [], caption=f"{len(rows)} runs were written to {path}.")


def _open(url: str, credentials: str | None) -> Queue:
    from ..queues.addresses import absolute

    return opened(absolute(str(url)), credentials)


def _asking(found: Queue) -> Any:
    from ..queues.addresses import shown

    return session.current().ui.progress(f"asking {shown(found.address)}")


def _add(url: str, runs: Any, n: int | None, *, again: bool, yes: bool, credentials: str | None) -> None:
    from ..queues.addresses import shown
    from ..runs.of_queue import run_table

    found = _open(url, credentials)
    wanted = run_table.entries(runs, n=n, yes=yes)
    with _asking(found):
        found.create()
        fresh = wanted if again else run_table.missing(wanted, found.rows())
        names = found.add(fresh) if fresh else []
    there = len(wanted) - len(fresh)
    told = f"{len(names)} runs added to {shown(found.address)}" + (f": {run_table.names(names)}" if names else "")
    session.current().ui.say(told + (f"; {there} were there already" if there else "") + ".")


def _mapping(text: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Read parameters' values: a mapping, or YAML of one."""
    from ..runs.grid import plain_value, why_no_parameter
    from ..runs.of_queue import run_table

    try:
        values = run_table.read_yaml(text) if isinstance(text, str) else text
    except ValueError as error:
        raise InvalidInput(f"defaults= cannot be read: {error}", 'Write defaults="{lr: 0.1}"') from error
    if values is None:
        return None
    if not isinstance(values, Mapping):
        raise InvalidInput("defaults= names no parameters.", 'Write defaults="{lr: 0.1}"')
    for name in values:
        if (problem := why_no_parameter(name)) is not None:
            raise problem
    return {name: plain_value(value, name) for name, value in values.items()}
