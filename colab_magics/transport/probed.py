"""What hosts have told, as a table: the handle of ``%host probe``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..ui import Table
from ..units import show_size
from .choose import Choice
from .probe import Gpu, Report


@dataclass(frozen=True)
class Probed:
    """Hosts and what they have to give; shows itself as a table.

    Parameters
    ----------
    reports : list of Report
        What each has told.
    choice : Choice or None
        Which one has just enough, where a need was said.
    """

    reports: list[Report]
    choice: Choice | None = None

    def __iter__(self) -> Iterator[Report]:
        return iter(self.reports)

    def __len__(self) -> int:
        return len(self.reports)

    @property
    def table(self) -> Table:
        """One row a host; of a dead one the reason."""
        columns = ["host", "state", "away", "GPU memory free", "load", "RAM free", "disk free", ""]
        rows = [self._row(report) for report in self.reports]
        if not any(report.gpus for report in self.reports):
            columns, rows = columns[:3] + columns[4:], [row[:3] + row[4:] for row in rows]
        return Table(columns, rows, caption=str(self.choice or ""))

    def _row(self, report: Report) -> list[str]:
        chosen = self.choice is not None and self.choice.report is report
        state = "dead" if not report.alive else "chosen" if chosen else "ready"
        lost = self.choice.lost.get(report.host, "") if self.choice is not None else ""
        promises = [str(one) for one in report.promises if str(one) not in lost]
        notes = [report.why or lost, *promises, report.note]
        return [
            report.host,
            state,
            f"{1000 * report.rtt:.{1 if report.rtt < 0.01 else 0}f} ms" if report.rtt is not None else "",
            " · ".join(_gpu(gpu) for gpu in report.gpus),
            f"{report.load:.1f} of {report.cores}" if report.load is not None and report.cores else "",
            _of(report.memory_free, report.memory),
            _of(report.disk_free, report.disk),
            "; ".join(note for note in notes if note),
        ]

    def __str__(self) -> str:
        return str(self.table)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(str(self))

    def _repr_html_(self) -> str:
        return self.table._repr_html_()


def _gpu(gpu: Gpu) -> str:
    used = f" ({gpu.percent} % used)" if not gpu.idle and gpu.percent else "" if gpu.idle else " (in use)"
    return f"{show_size(gpu.free)} of {show_size(gpu.total)}{used}"


def _of(free: int | None, total: int | None) -> str:
    return f"{show_size(free)} of {show_size(total)}" if free is not None and total is not None else ""
