"""The words of ``%jobs`` that compare what came of runs: parameters, metrics, code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import session
from ..units import words
from . import subcommand
from .jobs import jobs

if TYPE_CHECKING:
    from ..runs.chart import Chart, Charts
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
def table(*ids: str, all: bool = False) -> Any:
    """Return runs as a table: run, state, seconds, parameters and last metrics are its columns.

    Where names meet, a metric's column is called ``metric.NAME`` and a parameter's ``parameter.NAME``.

    Parameters
    ----------
    *ids, all : str, bool
        See ``%jobs``.

    Returns
    -------
    pandas.DataFrame
        With typed columns. In shells and scripts without pandas, a table of text.

    Raises
    ------
    Unavailable
        In a notebook without pandas.
    """
    from ..runs import compare
    from . import jobs_here as here

    return compare.frame_or_text(
        here.meant(ids, every_job=all, some=False), text=session.current().ui.where == "script"
    )


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
def plot(metric: str | None = None, /, *ids: str, all: bool = False) -> Chart | Charts | Table:
    """Draw a metric that runs reported by ``colab_magics.report(loss=0.3, step=10)``, a line for each run.

    Parameters
    ----------
    metric : str
        Its name, such as ``loss``; several as ``loss,accuracy``. Without one it lists what there is. Of a search also
        ``importance``, ``history``, ``slice`` and ``parallel``: what its goal depends on.
    *ids, all : str, bool
        See ``%jobs``.

    Returns
    -------
    Chart, Charts or Table
        Shows itself as a drawing with its numbers; in a terminal as bars.

    Raises
    ------
    InvalidInput, NotFound
        When no run has reported it; lists what they have.
    """
    from ..runs import chart
    from ..runs.search import charts
    from ..runs.search.found import is_of_search
    from . import jobs_here as here

    runs = here.meant(ids, every_job=all)
    with session.current().ui.progress("reading metrics"):
        if metric in charts.WORDS and any(map(is_of_search, runs)):
            return charts.draw(runs, metric)
        return chart.charts(runs, metric or "")
