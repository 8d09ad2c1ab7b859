"""A tab of a spreadsheet as a table of runs: what its columns are for, what each row means, and why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...errors import InvalidInput, NotFound
from ..base import DONE, FAILED, READY, RUNNING, Value
from .texts import AGAIN, Record, Token, unmarked
from .values import comma_locale, of_cell, parameter, raw_text, show

NAME, STATUS, WORKER = "run_name", "status", "worker_name"
RECORD, PRIORITY = "run_record", "run_priority"
STOP_RUN, STOP_WORKER = "manual_run_stop", "manual_worker_stop"
SHOWN = {"output": "run_output", "commit": "run_commit", "error": "run_error"}
"""Columns that show what is in a record, by its key; each metric has one of its own."""
METRIC = "metrics."
_OURS = frozenset({NAME, STATUS, WORKER, RECORD, PRIORITY, STOP_RUN, STOP_WORKER, *SHOWN.values()})
_NO = ("", "0", "false", "no", "none")


@dataclass(frozen=True)
class Line:
    """A row of the tab that holds something.

    Parameters
    ----------
    number : int
        Its number in the sheet, from 1.
    cells : tuple of mapping
        Google's ``CellData``, from column A.
    name : str
        The run's.
    status, worker, record_text : str
        What these cells hold, to the letter.
    token : Token or None
        What the status says, when the run is being executed.
    record : Record or None
        What the record says, when it is this run's own.
    copy : bool
        Whether its token or record is another row's: somebody copied that row.
    broken : str
        The key whose cell, or whose default, shows an error of a formula; empty when none does.
    """

    number: int
    cells: tuple[Mapping[str, Any], ...]
    name: str
    status: str
    worker: str
    record_text: str
    token: Token | None
    record: Record | None
    copy: bool = False
    broken: str = ""

    @property
    def uid(self) -> str:
        """What names the run: of a row that nobody has claimed yet, its name or its place."""
        if self.token is not None:
            return self.token.uid
        return self.record.uid if self.record else self.name or self.place

    @property
    def place(self) -> str:
        """Where people find it."""
        return f"row {self.number}"

    @property
    def called(self) -> str:
        """How people call the run, also when they gave it no name."""
        return self.name or self.uid

    @property
    def who(self) -> str:
        """Its worker; empty where the cell holds only what a lost race has left for a moment."""
        name, was_marked = unmarked(self.worker)
        return "" if was_marked and self.token is None else name

    @property
    def is_ready(self) -> bool:
        """Whether anybody may claim it."""
        return self.status == READY and not self.who and not self.broken

    @property
    def state(self) -> str:
        """Its status, in this package's words where it has that meaning."""
        if self.token is not None:
            return RUNNING
        return READY if self.is_ready else self.status

    @property
    def remark(self) -> str:
        """Why it is not executed although somebody may think so."""
        if self.token is not None or self.is_ready:
            return ""
        if Token.read(self.status) is not None:
            return f"a copy of a run that is being executed; write {READY!r} and clear {WORKER}"
        if self.status == READY and self.broken:
            return f"the formula in column {self.broken!r} gives an error"
        if self.status == READY:
            return f"{READY!r}, but {WORKER} is {self.who!r}"
        if self.status.strip().lower() == READY:
            return f"{self.status!r} is not {READY!r}"
        if self.status.strip().lower() == RUNNING:
            return f"{self.status!r}, but no worker holds it; write {READY!r} and clear {WORKER}"
        if self.status not in (DONE, FAILED) and self.status.strip().lower() in (DONE, FAILED):
            return f"{self.status!r} is not {self.status.strip().lower()!r}"
        return ""


class Table:
    """What a reply of Google's shows of a tab.

    Parameters
    ----------
    spreadsheet : mapping
        A ``Spreadsheet``, with the grid data of the tab.
    gid : int
        The tab's id.

    Raises
    ------
    NotFound
        When the tab is not there.
    """

    def __init__(self, spreadsheet: Mapping[str, Any], gid: int) -> None:
        tabs = spreadsheet.get("sheets") or []
        sheet = next((tab for tab in tabs if int(tab.get("properties", {}).get("sheetId", 0)) == gid), None)
        if sheet is None:
            raise NotFound(f"The spreadsheet has no tab with gid={gid}.", "Open the tab and copy its link again.")
        properties = sheet.get("properties", {})
        grid = properties.get("gridProperties") or {}
        self.gid, self.title = gid, str(properties.get("title", ""))
        self.row_count, self.column_count = int(grid.get("rowCount", 0)), int(grid.get("columnCount", 0))
        self.comma = comma_locale(str(spreadsheet.get("properties", {}).get("locale") or "en_US"))
        self.rules = [
            value.get("userEnteredValue", "")
            for rule in sheet.get("conditionalFormats") or []
            for value in ((rule.get("booleanRule") or {}).get("condition") or {}).get("values") or []
        ]
        self._rows: list[list[Mapping[str, Any]]] = [
            list(row.get("values") or ()) for part in sheet.get("data") or () for row in part.get("rowData") or ()
        ]
        self.headers = [show(of_cell(cell, comma=False)).strip() for cell in (self._rows[0] if self._rows else [])]

    @cached_property
    def columns(self) -> dict[str, int]:
        """Where each key stands, from 0; of two of our own columns of a name the left one counts."""
        found: dict[str, int] = {}
        for index, key in enumerate(self.headers):
            if key and key not in found:
                found[key] = index
        return found

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Where each parameter stands.

        Raises
        ------
        InvalidInput
            When a column can be none, or two would be the same.
        """
        found: dict[str, int] = {}
        for index, key in enumerate(self.headers):
            if not key or _is_ours(key):
                continue
            name = parameter(key)
            if name in found:
                raise InvalidInput(
                    f"The columns {self.headers[found[name]]!r} ({letter(found[name])}) and {key!r} ({letter(index)}) "
                    f"both mean the parameter {name!r}.",
                    "Rename one of them in row 1.",
                )
            found[name] = index
        return found

    def check(self) -> Table:
        """Return it, when it is a table of runs.

        Raises
        ------
        InvalidInput
            When a column is missing, there twice, or no parameter.
        NotFound
            When the tab is empty.
        """
        if self.is_empty:
            raise NotFound(f"The tab {self.title!r} is empty: there is no table of runs.", "%queue create LINK")
        if STATUS not in self.columns:
            raise InvalidInput(
                f"The tab {self.title!r} is no table of runs: row 1 has no column {STATUS!r}.",
                f"Write {NAME}, {STATUS}, {WORKER} and the parameters into row 1, or: %queue create LINK",
            )
        for key in (NAME, STATUS, WORKER):
            where = [letter(index) for index, header in enumerate(self.headers) if header == key]
            if len(where) > 1:
                raise InvalidInput(f"The columns {' and '.join(where)} are both called {key!r}.", "Remove one of them.")
        _ = self.parameters
        return self

    @property
    def is_empty(self) -> bool:
        """Whether nothing stands in it."""
        return not any(cell.get("effectiveValue") for row in self._rows for cell in row)

    @property
    def has_defaults(self) -> bool:
        """Whether something stands in row 2."""
        return any(cell.get("effectiveValue") for cell in (self._rows[1] if len(self._rows) > 1 else []))

    @cached_property
    def lines(self) -> list[Line]:
        """The rows that hold something, in their order."""
        found, tokens, uids = [], set(), set()
        for index, cells in enumerate(self._rows[2:], start=2):
            values = [i for i, cell in enumerate(cells) if cell.get("effectiveValue")]
            if all(self.headers[i] == RECORD if i < len(self.headers) else True for i in values):
                continue  # nothing, or an id that a lost race left there
            status, record_text = self._text(cells, STATUS), self._text(cells, RECORD)
            token, record = Token.read(status), Record.read(record_text)
            copy = (token is not None and status in tokens) or (record is not None and record.uid in uids)
            tokens.add(status)
            uids |= {record.uid} if record else set()
            found.append(
                Line(
                    number=index + 1,
                    cells=tuple(cells),
                    name=self._text(cells, NAME),
                    status=status,
                    worker=self._text(cells, WORKER),
                    record_text=record_text,
                    token=None if copy else token,
                    record=None if copy else record,
                    copy=copy,
                    broken=self._broken(cells),
                )
            )
        return found

    def left_over(self) -> dict[str, str]:
        """Return what lost claims have left in rows that are not theirs, and what belongs there.

        A claim that was won shows its token beside, since a batch is applied as a whole.
        """
        found: dict[str, str] = {}
        for cells in self._rows[2:] if STATUS in self.columns else ():
            status, worker, text = self._text(cells, STATUS), self._text(cells, WORKER), self._text(cells, RECORD)
            name, was_marked = unmarked(worker)
            record = Record.read(text) if text else None
            if (record is None and not was_marked) or Token.read(status) is not None or AGAIN.search(status):
                continue
            if was_marked:
                found[worker] = name if record and record.end and record.by == name else ""
            if record is not None and record.is_fresh:
                found[text] = ""
        return found

    def value(self, cells: tuple[Mapping[str, Any], ...] | list[Mapping[str, Any]], key: str) -> Value:
        """Return what a row holds in a column; None when it is empty or there is no such column."""
        index = self.columns.get(key)
        return None if index is None or index >= len(cells) else of_cell(cells[index], comma=self.comma)

    def defaulted(self, line: Line, key: str) -> Value:
        """Return what a row holds in a column, or row 2."""
        value = self.value(line.cells, key)
        return self.value(self._rows[1], key) if value is None and len(self._rows) > 1 else value

    def config(self, line: Line, own: Mapping[str, Value] | None = None) -> dict[str, Value]:
        """Return a run's parameters: its own, else row 2's, else the code's."""
        found: dict[str, Value] = dict(own or {})
        for name, index in self.parameters.items():
            value = self.defaulted(line, self.headers[index])
            if value is not None:
                found[name] = value
        return found

    def called(self, line: Line) -> str:
        """Return a name for a run that no other run of the tab has."""
        same = sum(other.name == line.name for other in self.lines) if line.name else 0
        return f"{line.name}-{line.uid}" if same > 1 else line.called

    def holds(self, text: str) -> bool:
        """Whether a cell of it holds just this text."""
        return any(raw_text(cell) == text for row in self._rows for cell in row)

    def priority(self, line: Line) -> float:
        """Return a run's priority: 0 where none is written."""
        value = self.defaulted(line, PRIORITY)
        return float(value) if isinstance(value, int | float) else 0.0

    def stop(self, line: Line, *, worker_only: bool = False) -> str:
        """Say why this run is to end, or its worker, when somebody wrote that; empty otherwise."""
        for key in (STOP_WORKER,) if worker_only else (STOP_RUN, STOP_WORKER):
            value = self.defaulted(line, key)
            if show(value).strip().lower() not in _NO:
                return f"{line.place} says {key}" + (f": {value}" if isinstance(value, str) else "")
        return ""

    def held(self, claim: tuple[str, str, int]) -> Line | None:
        """Return the row that holds the token of this claim (uid, worker, epoch); None when none does."""
        return next((line for line in self.lines if line.token is not None and line.token.claim == claim), None)

    def by_uid(self, uid: str) -> Line | None:
        """Return the row of a run, by its record or its token."""
        return next((line for line in self.lines if uid in (line.record and line.record.uid, line.uid)), None)

    def _broken(self, cells: list[Mapping[str, Any]]) -> str:
        """Return the parameter whose value in this row is an error."""
        default = self._rows[1] if len(self._rows) > 1 else []
        for index, key in enumerate(self.headers):
            if not key or _is_ours(key):
                continue
            own = cells[index].get("effectiveValue") if index < len(cells) else None
            value = own or (default[index].get("effectiveValue") if index < len(default) else None)
            if value and "errorValue" in value:
                return key
        return ""

    def _text(self, cells: list[Mapping[str, Any]], key: str) -> str:
        """Return what a cell holds, to the letter; what is no text as it would be shown."""
        index = self.columns.get(key)
        if index is None or index >= len(cells):
            return ""
        return raw_text(cells[index]) or show(of_cell(cells[index], comma=False))


def _is_ours(key: str) -> bool:
    return key in _OURS or key.startswith(METRIC)


def letter(index: int) -> str:
    """Return the letters of a column, from 0: ``A``, ``Z``, ``AA``."""
    letters, index = "", index + 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters
