"""``%tally PATTERN``: how many of the job's files have a name, and how large they are."""

from ..errors import InvalidInput
from ..ui import Table
from ..units import show_size
from . import jobs_here


def tally(pattern: str = "*", /, *, least: int = 1) -> Table:
    """Count the files of all runs of this job, by their endings.

    Parameters
    ----------
    pattern : str, default "*"
        Names that count: ``%tally '*.pt'``.
    least : int, default 1
        Leave endings out that fewer files have.

    Returns
    -------
    Table
        Ending, number, size.
    """
    project = jobs_here.project()
    if "/" in pattern:
        raise InvalidInput(f"{pattern!r} is a path, and names are counted.", "Write %tally '*.pt'")
    sizes: dict[str, list[int]] = {}
    for file in project.data_job.rglob(pattern):
        if file.is_file():
            sizes.setdefault(file.suffix or "none", []).append(file.stat().st_size)
    rows = [[ending, str(len(all_)), show_size(sum(all_))] for ending, all_ in sorted(sizes.items())]
    return Table(["ending", "files", "size"], [row for row in rows if int(row[1]) >= least])
