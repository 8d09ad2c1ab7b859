"""The values of ours that can stand in a line, for Tab: runs, jobs, metrics, engines, Places, hosts, keys of a cell."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import session
from ..errors import ColabMagicsError
from ..verbs import load
from .signature import options

if TYPE_CHECKING:
    from ..checkout.project import Project

RUNS = {"ids", "id", "old", "new"}
"""Parameters whose values name runs."""
METRICS = {"metric", "names", "trend"}
"""Parameters of ``%jobs`` whose values name metrics, with commas between them."""
COLUMNS = {"sort", "x", "over"}
"""Parameters of ``%jobs`` whose values name columns of the runs' table."""
_MOST = 50
"""So many runs are read for the names of their metrics, the last ones: Tab does not wait."""
_BODY = re.compile(r"\s*%%(project|fork|submit|queue)(?!\w)([^\n]*)\n(.*)", re.DOTALL)
_SEARCH = re.compile(r"\s(?:--)?search[= ]")
_DRAWN = re.compile(r".*[\w-]:\s+(\w*)")
_KEY = re.compile(r"\s*(?:[-{]\s*)*([\w-]*)")


def of_option(verb: str, name: str, start: str) -> list[str]:
    """Return what can follow ``name=``, beyond a path; `start` is what stands there."""
    if (verb == "jobs" and name in METRICS) or name == "trend":
        return _listed(start, _metrics)
    if verb == "jobs" and name in COLUMNS:
        return _listed(start, _parameters if name == "over" else lambda: [*_parameters(), *_metrics()])
    if name == "on":
        return _engines(start)
    if name == "goal":
        before, comma, _ = start.rpartition(",")
        return [f"{before}{comma}{way}:{metric}" for metric in _metrics() for way in ("min", "max")]
    if name == "here":
        return ["best"]
    if name == "via":
        return _ways()
    if name == "job":
        return _jobs()
    if name == "to" and verb in ("project", "sync", "upload"):
        return ["drive", "s3://", "gs://", "rclone:", *(f"{host}:" for host in hosts())]
    return []


def of_position(verb: str, names: Iterable[str], before: int, start: str) -> list[str]:
    """Return what can stand without a name, beyond paths, after so many other words."""
    found = set(names)
    if verb == "jobs" and found & {"tags", "text"} and before:
        return _tags() if "tags" in found else []
    if verb == "jobs" and "metric" in found and not before:
        return _listed(start, _metrics)
    return _runs(start) if verb == "jobs" and found & RUNS else []


def of_body(text: str) -> tuple[str, list[str]] | None:
    """Find the keys that can stand at the end of a cell magic's body; None when this is no body of data.

    Parameters
    ----------
    text : str
        The cell up to the cursor.

    Returns
    -------
    tuple or None
        As for `completion.candidates`.
    """
    match = _BODY.fullmatch(text)
    if match is None:
        return None
    verb, line = match[1], match[3].rpartition("\n")[2]
    is_search = verb == "fork" and _SEARCH.search(match[2]) is not None
    if (key := _KEY.fullmatch(line)) is not None:
        return key[1], [word for word in _keys(verb, is_search=is_search) if word.startswith(key[1])]
    if is_search and (drawn := _DRAWN.fullmatch(line)) is not None:
        from ..runs.search.space import KINDS

        return drawn[1], [f"{kind}(" for kind in KINDS if kind.startswith(drawn[1])]
    return re.split(r"[\s\[{,:=]", line)[-1], []


def hosts() -> list[str]:
    """Return the hosts that ssh's configuration names."""
    from ..transport import hosts

    return [one.name for one in hosts.names()]


def _keys(verb: str, *, is_search: bool = False) -> list[str]:
    if verb == "project":
        return [f"{word.replace('-', '_')} = " for word in options(load(verb))]
    from ..runs.grid import WORDS
    from ..runs.of_queue.run_table import NAME, PRIORITY, STATUS
    from ..runs.search.space import FIRST, WHEN

    of_queue = [NAME, STATUS, PRIORITY] if verb == "queue" else []
    return [f"{word}: " for word in [*of_queue, *_parameters(), *((WHEN, FIRST) if is_search else WORDS)]]


def _listed(start: str, names: Callable[[], list[str]]) -> list[str]:
    """Complete the last name of several with commas between them."""
    before, comma, _ = start.rpartition(",")
    used = before.split(",")
    return [before + comma + name for name in names() if name not in used]


def _engines(start: str) -> list[str]:
    from ..engines import ENGINES

    if start.startswith("ssh:"):
        return [f"ssh:{name}" for name in _listed(start.removeprefix("ssh:"), hosts)]
    return [f"{name}:" if name == "ssh" else name for name in ENGINES.names()]


def _ways() -> list[str]:
    """Return the ways of a tunnel."""
    from ..tunnels.relays import SERVICES

    return ["colab", "ngrok", *(f"ssh:{name}" for name in (*hosts(), *(one.names[0] for one in SERVICES)))]


def _project() -> Project | None:
    """Return the project that is meant here; nothing is said of what is wrong with it while a line is written."""
    from ..checkout.project import find_project

    with suppress(ColabMagicsError, OSError):
        found: Project | None = session.current().project or find_project(Path.cwd())
        return found
    return None


def _jobs() -> list[str]:
    from ..runs.select import job_names

    project = _project()
    with suppress(ColabMagicsError):
        return job_names(project.data_job.parent) if project is not None else []
    return []


def _of_job(name: str | None = None) -> list[Any]:
    from ..records.run import runs_of

    project = _project()
    if project is None:
        return []
    with suppress(ColabMagicsError, OSError):
        return runs_of(project.data_job.parent / (name or project.job))
    return []


def _runs(start: str) -> list[str]:
    from ..runs.select import PHASES

    job, slash, _ = start.partition("/")
    if slash:
        known = _of_job(job) if job in _jobs() else []
        return [f"{job}/{word}" for word in (*(run.word for run in known), *(PHASES if known else ()))]
    return [*(run.word for run in _of_job()), *_jobs(), *PHASES]


def _metrics() -> list[str]:
    from ..records import metrics

    reported = [metrics.last(metrics.recent(run.folder)) for run in _of_job()[-_MOST:]]
    return [name for name in dict.fromkeys(name for one in reported for name in one) if not re.search(r"\s", name)]


def _tags() -> list[str]:
    from ..records import notes

    return list(dict.fromkeys(tag for run in _of_job()[-_MOST:] for tag in notes.read(run.folder).tags))


def _parameters() -> list[str]:
    return list(dict.fromkeys(str(name) for run in _of_job()[-_MOST:] for name in run.parameters))
