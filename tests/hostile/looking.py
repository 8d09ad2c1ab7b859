"""Everything that ``%jobs`` shows of runs, asked one after the other: what comes is text, or an error of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from colab_magics import jobs
from colab_magics.errors import ColabMagicsError
from colab_magics.units import without_controls

WORDS: tuple[Callable[[], Any], ...] = (
    jobs,
    lambda: jobs(all=True),
    lambda: jobs("failed", "running", "waiting"),
    jobs.show,
    jobs.logs,
    lambda: jobs.logs("baseline", lines=3),
    lambda: jobs.diff("0", "1"),
    jobs.table,
    jobs.metrics,
    jobs.plot,
    lambda: jobs.plot("loss"),
    jobs.du,
    lambda: jobs.open("1"),
    lambda: jobs.rm("baseline"),  # nobody says yes
)


def shown() -> Iterator[str]:
    """Yield what each of `WORDS` shows, as text and as HTML; of an error of ours its words."""
    for word in WORDS:
        try:
            found = word()
            text = str(found)
            with contextlib.suppress(AttributeError):
                text += found._repr_html_() or ""
            if type(found).__module__.startswith("pandas"):
                text = without_controls(text)  # what a DataFrame shows is pandas's own
        except ColabMagicsError as error:
            text = str(error)
        text.encode()  # what no terminal can write is no text
        yield text
