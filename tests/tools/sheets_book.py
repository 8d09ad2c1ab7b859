"""Spreadsheets in memory, as far as a queue uses them: what people do in them, and what the requests of a batch do."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

from discovery import Invalid

Cell = dict[str, Any]
_SHOWN = re.compile(
    r'=\{"(?P<header>[^"]*)";ARRAYFORMULA\(IFERROR\((?P<value>VALUE\()?REGEXEXTRACT\('
    r'(?P<column>[A-Z]+)2:(?P=column);"(?P<pattern>(?:[^"]|"")*)"\)\)?\)\)\}'
)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def entered(text: str) -> Cell | None:
    """Return the cell that comes of typing a text: numbers, truth values, formulas, and what looks like a date."""
    if not text:
        return None
    if text.startswith(("=", "+")) and len(text) > 1:
        return {"userEnteredValue": {"formulaValue": text}}
    if text.lower() in ("true", "false"):
        return {"userEnteredValue": {"boolValue": text.lower() == "true"}}
    if _NUMBER.fullmatch(text):
        return {"userEnteredValue": {"numberValue": float(text)}}
    if re.fullmatch(r"\d{1,2} ?/ ?\d{1,2}", text):
        date = {"numberFormat": {"type": "DATE"}}
        return {"userEnteredValue": {"numberValue": 45000.0}, "userEnteredFormat": date}
    return {"userEnteredValue": {"stringValue": text.removeprefix("'")}}


def cell_of(value: Any) -> Cell | None:
    """Return the cell that holds a value as it is."""
    if value is None or value == "":
        return None
    if isinstance(value, dict):
        return value
    kind = "boolValue" if isinstance(value, bool) else "stringValue" if isinstance(value, str) else "numberValue"
    return {"userEnteredValue": {kind: value}}


def plain(cell: Cell | None) -> Any:
    """Return what a cell holds as a plain value."""
    return next(iter(cell["userEnteredValue"].values()), None) if cell and cell.get("userEnteredValue") else None


class Sheet:
    """A tab.

    Parameters
    ----------
    gid : int
        Its id.
    title : str
        Its name.
    rows : sequence of sequence
        What stands in it, from A1.
    size : tuple of int
        Its rows and columns at least.
    """

    def __init__(
        self, gid: int, title: str, rows: Sequence[Sequence[Any]] = (), size: tuple[int, int] = (1000, 26)
    ) -> None:
        self.gid, self.title, self.index = gid, title, 0
        self.width = max([size[1], *(len(row) for row in rows)])
        self.rows: list[list[Cell | None]] = [
            [cell_of(value) for value in row] + [None] * (self.width - len(row)) for row in rows
        ]
        self.rows += [[None] * self.width for _ in range(size[0] - len(self.rows))]
        self.rules: list[Any] = []
        self.metadata: list[Any] = []

    # What people do

    def values(self, *, shown: bool = False) -> list[list[Any]]:
        """Return the plain values, without empty rows at the end and empty cells at the ends of rows."""
        grid = self._shown() if shown else self.rows
        found = [[plain(cell) for cell in row] for row in grid]
        for row in found:
            while row and row[-1] is None:
                row.pop()
        while found and not found[-1]:
            found.pop()
        return found

    def column(self, key: str) -> int:
        """Return where a key stands in row 1; adds it when it is not there."""
        keys = [plain(cell) for cell in self._shown()[0]]
        if key not in keys:
            keys[keys.index(None)] = key
            self.rows[0][keys.index(key)] = cell_of(key)
        return keys.index(key)

    def by_name(self, key: str = "run_name") -> dict[Any, dict[str, Any]]:
        """Return the runs by what stands in a column: key → value."""
        header, _, *rows = [*self.values(shown=True), [], []][: max(2, len(self.values()))]
        runs = [dict(zip(header, [*row, *[None] * len(header)], strict=False)) for row in rows]
        return {run.get(key): run for run in runs if run.get(key) is not None}

    def put(self, name: str, key: str, value: Any) -> None:
        """Write into the row of a run."""
        where = self.column("run_name")
        row = next(row for row in self.rows[2:] if plain(row[where]) == name)
        row[self.column(key)] = cell_of(value)

    def sort(self, order: Callable[[list[Any]], Any]) -> None:
        """Sort the rows that hold something, from row 3, by their plain values."""
        count = max(2, len(self.values()))
        self.rows[2:count] = sorted(self.rows[2:count], key=lambda row: order([plain(cell) for cell in row]))

    def shuffle(self, dice: random.Random) -> None:
        """Bring the rows into another order."""
        self.sort(lambda _: dice.random())

    def insert_row(self, index: int, values: Sequence[Any] = ()) -> None:
        """Insert a row before the one of that index, from 0."""
        self.rows.insert(index, [cell_of(value) for value in values] + [None] * (self.width - len(values)))

    def move_column(self, source: int, target: int) -> None:
        """Move a column before another."""
        for row in self.rows:
            row.insert(target, row.pop(source))

    # What requests do

    def copy(self) -> Sheet:
        """Return a copy that may be changed; cells are never changed in place."""
        other = copy.copy(self)
        other.rows = [list(row) for row in self.rows]
        other.rules, other.metadata = list(self.rules), copy.deepcopy(self.metadata)
        return other

    def find_replace(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Replace in cells that hold no formula."""
        area = asked.get("range", {})
        rows = range(area.get("startRowIndex", 0), min(area.get("endRowIndex", len(self.rows)), len(self.rows)))
        columns = range(area.get("startColumnIndex", 0), min(area.get("endColumnIndex", self.width), self.width))
        find, new = asked.get("find", ""), asked.get("replacement", "")
        if not find:
            raise Invalid("find must not be empty")
        regex = bool(asked.get("searchByRegex"))
        case = 0 if asked.get("matchCase") else re.IGNORECASE
        pattern = re.compile(find if regex else re.escape(find), case)
        exact = asked.get("matchEntireCell") and asked.get("matchCase") and not regex
        changed = occurrences = 0
        lines = set()
        for index in rows:
            row = self.rows[index]
            for column in columns:
                text = _text(row[column])
                if exact:
                    if text != find:
                        continue
                    after, count = new, 1
                elif text is None or (text == "" and not regex):
                    continue
                elif asked.get("matchEntireCell"):
                    if not pattern.fullmatch(text):
                        continue
                    after, count = pattern.sub(new if regex else lambda _: new, text, count=1), 1
                else:
                    after, count = pattern.subn(new if regex else lambda _: new, text)
                if count:
                    row[column] = entered(after)
                    changed, occurrences = changed + 1, occurrences + count
                    lines.add(index)
        counts = {"valuesChanged": changed, "occurrencesChanged": occurrences, "rowsChanged": len(lines)}
        counts["sheetsChanged"] = int(changed > 0)
        return {name: count for name, count in counts.items() if count}  # a zero is not sent

    def append_cells(self, asked: dict[str, Any]) -> None:
        """Add rows below the last that holds something."""
        at = max((index + 1 for index, row in enumerate(self.rows) if any(row)), default=0)
        for offset, row in enumerate(asked.get("rows", [])):
            if at + offset >= len(self.rows):
                self.rows.append([None] * self.width)
            self._write(at + offset, 0, row.get("values", []))

    def update_cells(self, asked: dict[str, Any]) -> None:
        """Write cells at a place."""
        start = asked["start"]
        for offset, row in enumerate(asked.get("rows", [])):
            self._write(start.get("rowIndex", 0) + offset, start.get("columnIndex", 0), row.get("values", []))

    def _write(self, row: int, column: int, cells: list[Cell]) -> None:
        if row >= len(self.rows) or column + len(cells) > self.width:
            raise Invalid("Attempting to write outside of the grid")
        for offset, cell in enumerate(cells):
            kept = {"userEnteredValue": cell["userEnteredValue"]} if cell.get("userEnteredValue") else None
            self.rows[row][column + offset] = kept

    def insert_columns(self, start: int, end: int, *, before: bool) -> None:
        """Insert empty columns."""
        if not 0 <= start < self.width or end <= start or (before and start == 0):
            raise Invalid(f"Cannot insert columns {start} to {end} into {self.width}")
        for row in self.rows:
            row[start:start] = [None] * (end - start)
        self.width += end - start
        for one in self.metadata:
            where = one["location"].get("dimensionRange")
            if where and where.get("startIndex", 0) >= start:
                where["startIndex"] = where.get("startIndex", 0) + end - start
                where["endIndex"] += end - start

    def append_columns(self, count: int) -> None:
        """Add empty columns at the end."""
        for row in self.rows:
            row.extend([None] * count)
        self.width += count

    # What is seen

    def _shown(self) -> list[list[Cell | None]]:
        """Return the cells with what formulas make of them."""
        formulas = [
            (column, cell["userEnteredValue"]["formulaValue"])
            for column, cell in enumerate(self.rows[0])
            if cell and "formulaValue" in cell.get("userEnteredValue", {})
        ]
        if not formulas:
            return self.rows
        rows = [list(row) for row in self.rows]
        for column, formula in formulas:
            found = _SHOWN.fullmatch(formula)
            if found is None:
                rows[0][column] = {"userEnteredValue": {"errorValue": {"type": "ERROR"}}}
                continue
            rows[0][column] = cell_of(found["header"])
            source = _number_of(found["column"])
            pattern = re.compile(found["pattern"].replace('""', '"'))
            for row in rows[1:]:
                hit = pattern.search(_text(row[source]) or "")
                value: Any = hit[1] if hit else None
                row[column] = cell_of(float(value) if value and found["value"] else value)
        return rows

    def grid(self, wanted: set[str]) -> list[Any]:
        """Return ``rowData`` with the wanted fields of ``CellData``."""
        found = []
        for row in self._shown():
            cells: list[Cell] = []
            for cell in row:
                seen: Cell = {}
                if cell:
                    value = cell.get("userEnteredValue")
                    if value and "effectiveValue" in wanted:
                        formula = "formulaValue" in value
                        seen["effectiveValue"] = {"errorValue": {"type": "ERROR"}} if formula else value
                    if "userEnteredFormat" in wanted and "userEnteredFormat" in cell:
                        seen["userEnteredFormat"] = cell["userEnteredFormat"]
                cells.append(seen)
            while cells and not cells[-1]:
                cells.pop()
            found.append({"values": cells} if cells else {})
        while found and not found[-1]:
            found.pop()
        return found


def _text(cell: Cell | None) -> str | None:
    """Return the text in which a search looks; None for a formula."""
    if not cell or not cell.get("userEnteredValue"):
        return ""
    value = cell["userEnteredValue"]
    if "formulaValue" in value:
        return None
    found = next(iter(value.values()))
    if isinstance(found, bool):
        return str(found).upper()
    return found if isinstance(found, str) else f"{found:g}"


def _number_of(letters: str) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + ord(letter) - ord("A") + 1
    return number - 1


class Book:
    """A spreadsheet.

    Parameters
    ----------
    sheets : sequence of Sheet
        Its tabs.
    locale : str
        ``en_US``, ``de_DE``.
    """

    def __init__(self, sheets: Sequence[Sheet], locale: str = "en_US") -> None:
        self.sheets = {sheet.gid: sheet for sheet in sheets}
        self.locale = locale
        self.editors: set[str] | None = None
        """E-mails; None for everybody."""
        self.viewers: set[str] = set()
        self._arrange()

    def _arrange(self) -> None:
        for index, sheet in enumerate(self.sheets.values()):
            sheet.index = index

    def apply(self, requests: Sequence[dict[str, Any]]) -> list[Any]:
        """Apply a batch, or nothing of it."""
        before = self.sheets
        self.sheets = {gid: sheet.copy() for gid, sheet in before.items()}
        try:
            replies = [self._apply(*next(iter(request.items()))) for request in requests if self._is_one(request)]
        except BaseException:
            self.sheets = before
            raise
        # Tests hold on to their tabs.
        for gid, sheet in self.sheets.items():
            if gid in before:
                before[gid].__dict__.update(sheet.__dict__)
                self.sheets[gid] = before[gid]
        self._arrange()
        return replies

    def _is_one(self, request: dict[str, Any]) -> bool:
        if len(request) != 1:
            raise Invalid("Invalid requests[0]: exactly one kind must be set")
        return True

    def _sheet(self, asked: dict[str, Any]) -> Sheet:
        gid = asked.get("sheetId", 0)
        if gid not in self.sheets:
            raise Invalid(f"No grid with id: {gid}")
        return self.sheets[gid]

    def _apply(self, kind: str, asked: dict[str, Any]) -> dict[str, Any]:
        if kind == "findReplace":
            scopes = [name for name in ("range", "sheetId", "allSheets") if name in asked]
            if len(scopes) != 1:
                raise Invalid("exactly one of range, sheetId, allSheets must be set")
            return {kind: self._sheet(asked.get("range", asked)).find_replace(asked)}
        if kind == "appendCells":
            _fields(asked)
            self._sheet(asked).append_cells(asked)
        elif kind == "updateCells":
            _fields(asked)
            self._sheet(asked["start"]).update_cells(asked)
        elif kind == "insertDimension":
            area = asked["range"]
            if area["dimension"] != "COLUMNS":
                raise Invalid("columns only")
            before = bool(asked.get("inheritFromBefore"))
            self._sheet(area).insert_columns(area.get("startIndex", 0), area["endIndex"], before=before)
        elif kind == "appendDimension":
            if asked["dimension"] != "COLUMNS":
                raise Invalid("columns only")
            self._sheet(asked).append_columns(asked["length"])
        elif kind == "createDeveloperMetadata":
            return {kind: {"developerMetadata": self._metadata(asked["developerMetadata"])}}
        elif kind == "addConditionalFormatRule":
            sheet = self._sheet(asked["rule"]["ranges"][0])
            sheet.rules.insert(asked.get("index", 0), asked["rule"])
        elif kind == "addSheet":
            return {kind: {"properties": self._add(asked["properties"])}}
        elif kind == "deleteSheet":
            self._sheet(asked)
            del self.sheets[asked.get("sheetId", 0)]
        else:
            raise Invalid(f"this server does not do {kind}")
        return {}

    def _metadata(self, wanted: dict[str, Any]) -> dict[str, Any]:
        ids = {one["metadataId"] for sheet in self.sheets.values() for one in sheet.metadata}
        if wanted["metadataId"] in ids:
            raise Invalid(f"developerMetadata with id {wanted['metadataId']} already exists")
        if not wanted.get("metadataKey") or not wanted.get("visibility"):
            raise Invalid("metadata needs a key and a visibility")
        area = wanted["location"]["dimensionRange"]
        if area["endIndex"] - area.get("startIndex", 0) != 1:
            raise Invalid("metadata is of one row or column")
        self._sheet(area).metadata.append(copy.deepcopy(wanted))
        return wanted

    def _add(self, wanted: dict[str, Any]) -> dict[str, Any]:
        if wanted["title"] in {sheet.title for sheet in self.sheets.values()}:
            raise Invalid(f'A sheet with the name "{wanted["title"]}" already exists.')
        size = wanted.get("gridProperties", {})
        gid = wanted.get("sheetId", max(self.sheets, default=0) + 17)
        self.sheets[gid] = Sheet(gid, wanted["title"], (), (size.get("rowCount", 1000), size.get("columnCount", 26)))
        return self.properties(self.sheets[gid])

    def properties(self, sheet: Sheet) -> dict[str, Any]:
        """Return ``SheetProperties``."""
        grid = {"rowCount": len(sheet.rows), "columnCount": sheet.width}
        return {"sheetId": sheet.gid, "title": sheet.title, "index": sheet.index, "gridProperties": grid}

    def seen(self, gids: Sequence[int], wanted: dict[str, Any]) -> dict[str, Any]:
        """Return the ``Spreadsheet`` with these tabs; their cells where the mask wants them."""
        fields = wanted.get("sheets", {})
        sheets = []
        for gid in gids:
            sheet = self.sheets[gid]
            found: dict[str, Any] = {"properties": self.properties(sheet)}
            if sheet.rules:
                found["conditionalFormats"] = sheet.rules
            if "data" in fields:
                cells = fields["data"].get("rowData", {}).get("values", {})
                found["data"] = [{"rowData": sheet.grid(set(cells))}]
            sheets.append(found)
        return {"properties": {"title": "runs", "locale": self.locale}, "sheets": sheets}


def _fields(asked: dict[str, Any]) -> None:
    if asked.get("fields") != "userEnteredValue":
        raise Invalid(f"At least one field must be listed in 'fields': {json.dumps(asked.get('fields'))}")
