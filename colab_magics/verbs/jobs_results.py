"""The words of ``%jobs`` that compare what came of runs: parameters, metrics, code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .. import session
from ..errors import InvalidInput
from ..units import words
from . import bare, subcommand
from .jobs import jobs

if TYPE_CHECKING:
    from ..runs.compare import Result
    from ..runs.plots import Plot
    from ..runs.show import Text
    from ..ui import Table


@subcommand(jobs)
def diff(old: str, new: str, /) -> Text:
    """Show in what two runs differ: parameters, last metrics, commit, duration, and the code cell by cell.

    Parameters
    ----------
    old, new : str
        The two runs: ``3 7``, ``baseline/3 other/3``.

    Returns
    -------
    Text
        What differs; comments count.
    """
    from ..runs import compare
    from ..runs.show import Text
    from . import jobs_here as here

    return Text(compare.diff(here.the(old), here.the(new)))


@subcommand(jobs)
def table(*ids: str, all: bool = False, sort: str | None = None, where: str | None = None) -> Any:
    """Return runs as a table: run, state, seconds, parameters, last metrics, tags and notes are its columns.

    Where names meet, a metric's column is called ``metric.NAME`` and a parameter's ``parameter.NAME``.

    Parameters
    ----------
    *ids, all : str, bool
        See ``%jobs``.
    sort : str, optional
        The columns that its rows are ordered by: ``loss``; ``-acc,lr`` is the greatest ``acc`` first.
    where : str, optional
        Only the rows for which this holds: ``"lr<0.1 and size=='small'"``, ``"'good' in tags"``. Names of columns,
        comparisons, ``and``, ``or``, ``not``, ``in``; a name that is no word stands between backquotes. Runs without
        such a value are left out.

    Returns
    -------
    pandas.DataFrame
        With typed columns. In shells and scripts without pandas, a table of text.

    Raises
    ------
    InvalidInput
        For a column that these runs do not have, and a condition that cannot be read.
    Unavailable
        In a notebook without pandas.
    """
    from ..runs import compare
    from ..runs import where as condition
    from . import jobs_here as here

    ui = session.current().ui
    rows = compare.rows(here.meant(ids, every_job=all, some=False))
    found, unknown = condition.chosen(rows, where)
    ordered = condition.ordered(found, sort)
    if unknown:
        shown = ", ".join(map(str, unknown[:10])) + (f" and {len(unknown) - 10} more" if len(unknown) > 10 else "")
        ui.say(f"Left out, because they have not all of these values: {shown}")
    return compare.frame_or_text(ordered, text=ui.where == "script")


@subcommand(jobs)
def best(metric: str = "", /, *ids: str, all: bool = False) -> Result:
    """Return the finished run with the best last value of a metric.

    Parameters
    ----------
    metric : str, optional
        ``loss``, as the goal of the runs' ``%fork`` says (``goal=min:loss``), the least one where it says nothing; or
        ``max:acc``, ``min:loss``. Without it, the metric of that goal.
    *ids, all : str, bool
        See ``%jobs``.

    Returns
    -------
    Result
        ``best.id``, ``best.loss``, ``best["lr"]``, ``best.folder / "model.pt"``.

    Raises
    ------
    InvalidInput, NotFound
        When no finished run has such a number; lists the metrics there are.
    """
    from ..runs import compare, goal
    from . import jobs_here as here

    runs = here.meant(ids, every_job=all)
    way, name = goal.meant(runs, metric)
    return compare.best(runs, name, way)


@subcommand(jobs)
def metrics(*ids: str, all: bool = False, names: str | None = None) -> Table:
    """Show all that runs reported by ``colab_magics.report(loss=0.3, step=10)``: a row for each metric, with its trend.

    Parameters
    ----------
    *ids, all : str, bool
        See ``%jobs``.
    names : str, optional
        These metrics alone: ``loss,accuracy``.

    Returns
    -------
    Table
        Trend, last value, least and greatest; what earlier attempts computed too is left out of the trend.
    """
    from ..runs import trends
    from . import jobs_here as here

    runs = here.meant(ids, every_job=all)
    with session.current().ui.progress("reading metrics"):
        return trends.table(runs, words(names))


@subcommand(jobs)
@bare(over="repeat")
def plot(
    metric: str = "",
    /,
    *ids: str,
    all: bool = False,
    x: str = "step",
    over: str | None = None,
    log: Literal["x", "y", "xy"] | None = None,
    parallel: bool = False,
    by: Literal["matplotlib", "altair", "plotly", "text"] | None = None,
) -> Plot:
    """Draw a metric that runs reported by ``colab_magics.report(loss=0.3, step=10)``, a line for each run.

    Parameters
    ----------
    metric : str
        Its name, such as ``loss``; several as ``loss,accuracy``. Without one it lists what there is. Of a search also
        ``importance``, ``history``, ``slice`` and ``parallel``: what its goal depends on.
    *ids, all : str, bool
        See ``%jobs``.
    x : str, default "step"
        Over what: the steps, or a column of ``%jobs table``, such as a parameter (``x=lr``). Then each run is a point,
        its last value, and runs with the same parameters are one: their mean and standard deviation.
    over : str, optional
        Parameters that do not tell runs apart, such as ``seed``: runs that differ in nothing else are drawn as their
        mean and standard deviation. ``--over`` is those that ``n:`` of a grid repeats.
    log : {"x", "y", "xy"}, optional
        Which axes are logarithmic.
    parallel : bool, default False
        Parallel coordinates: an axis for each parameter that differs and one for the metric, a line for each run.
    by : {"matplotlib", "altair", "plotly", "text"}, optional
        What draws; the first of these that is installed by default. Terminals and scripts show text.

    Returns
    -------
    Plot
        Shows itself; ``plot.figure`` is the figure of the library, to be changed and saved.

    Raises
    ------
    InvalidInput, NotFound
        When no run has reported it; lists what they have.
    Unavailable
        When the library that ``by=`` names is not installed.
    """
    from ..runs import plots
    from ..runs.plots import reading
    from ..runs.search import charts
    from ..runs.search.found import is_of_search
    from . import jobs_here as here

    ui = session.current().ui
    in_text = ui.where in ("script", "terminal")
    library = plots.choose(by, text=in_text)
    note = "pip install matplotlib has it drawn." if library == plots.TEXT and not (in_text or by) else ""
    if parallel and (x != "step" or over):
        raise InvalidInput(
            "--parallel has an axis for each parameter: x= and over= mean nothing there.", "Leave them out."
        )
    runs = here.meant(ids, every_job=all)
    with ui.progress("reading metrics"):
        if metric in charts.WORDS and any(map(is_of_search, runs)):
            if parallel or x != "step" or over:
                raise InvalidInput(f"{metric} of a search has axes of its own.", "Leave x=, over= and --parallel out.")
            drawn = charts.draw(runs, metric, log or "")
        else:
            drawn = reading.drawings(runs, metric, x=x, over=over, log=log or "", parallel=parallel)
        return plots.Plot(drawn, library, note)
