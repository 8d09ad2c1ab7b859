"""What is asked of Google, as the REST interface of Sheets (v4) spells it.

The only write that may meet a row which has moved is `swap`: replace a cell's whole text, if it is exactly that.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..base import DONE, FAILED
from .table import letter

Request = dict[str, Any]

SEEN = (
    "properties(locale),sheets(properties(sheetId,title,gridProperties(rowCount,columnCount)),"
    "conditionalFormats(booleanRule(condition(values(userEnteredValue)))),"
    "data(rowData(values(effectiveValue,userEnteredFormat(numberFormat(type))))))"
)
"""What is read of a spreadsheet: values, not how they are shown."""
_COLOURS = {"running": (1.0, 0.8, 0.5), "done": (0.7, 0.83, 1.0), "failed": (0.96, 0.7, 0.7)}
"""S18: running orange, done blue."""


def swap(gid: int, old: str, new: str, *, row: int | None = None, column: int | None = None) -> Request:
    """Replace a cell's whole text where it is exactly `old`: in the whole tab, or in one cell of it.

    Parameters
    ----------
    gid : int
        The tab.
    old : str
        The text; empty for a cell that is empty, which must be named.
    new : str
        What is to stand there; empty to empty it.
    row, column : int, optional
        The one cell, from 0.
    """
    found: Request = {"find": old or "^$", "replacement": new, "matchCase": True, "matchEntireCell": True}
    if not old:
        found["searchByRegex"] = True  # nothing else finds an empty cell
    if row is None or column is None:
        return {"findReplace": {**found, "sheetId": gid}}
    return {"findReplace": {**found, "range": cell_range(gid, row, column)}}


def cell_range(gid: int, row: int, column: int) -> Request:
    """Return the range that is one cell."""
    ends = {"endRowIndex": row + 1, "endColumnIndex": column + 1}
    return {"sheetId": gid, "startRowIndex": row, "startColumnIndex": column, **ends}


def append_rows(gid: int, rows: Sequence[Sequence[Mapping[str, Any]]]) -> Request:
    """Add rows below everything that the tab holds."""
    cells = [{"values": list(row)} for row in rows]
    return {"appendCells": {"sheetId": gid, "rows": cells, "fields": "userEnteredValue"}}


def write_cells(gid: int, row: int, column: int, cells: Sequence[Mapping[str, Any]]) -> Request:
    """Write cells side by side; only where nobody else writes."""
    start = {"sheetId": gid, "rowIndex": row, "columnIndex": column}
    return {"updateCells": {"start": start, "rows": [{"values": list(cells)}], "fields": "userEnteredValue"}}


def new_columns(
    gid: int, headers: Sequence[Mapping[str, Any]], keys: Sequence[str], at: int, room: int
) -> list[Request]:
    """Insert columns with these headers; fails as a whole, and changes nothing, when one of them was made already.

    Inserted columns are empty, so that nothing is overwritten wherever they come to stand. What makes it happen once is
    the id of each column's developer metadata, of which a spreadsheet has no two; it goes when the column is deleted.

    Parameters
    ----------
    gid : int
        The tab.
    headers : sequence of mapping
        Their cells of row 1.
    keys : sequence of str
        Their keys.
    at : int
        Where they come, from 0.
    room : int
        How many columns the tab has.
    """
    requests: list[Request] = []
    if at >= room:  # a column can be inserted before another one only
        requests.append({"appendDimension": {"sheetId": gid, "dimension": "COLUMNS", "length": at - room + 1}})
    across = {"sheetId": gid, "dimension": "COLUMNS", "startIndex": at, "endIndex": at + len(keys)}
    requests.append({"insertDimension": {"range": across, "inheritFromBefore": at > 0}})
    requests.append(write_cells(gid, 0, at, headers))
    for index, key in enumerate(keys, start=at):
        where = {"sheetId": gid, "dimension": "COLUMNS", "startIndex": index, "endIndex": index + 1}
        metadata = {
            "metadataId": _id(gid, key),
            "metadataKey": "colab_magics",
            "metadataValue": key,
            "visibility": "DOCUMENT",
            "location": {"dimensionRange": where},
        }
        requests.append({"createDeveloperMetadata": {"developerMetadata": metadata}})
    return requests


def _id(gid: int, key: str) -> int:
    return zlib.crc32(f"colab_magics {gid} {key}".encode()) % (2**31 - 2) + 1


def shown_column(key: str, header: str, record: int, *, number: bool) -> Mapping[str, Any]:
    """Return the header of a column that shows, for each row, one thing of its record: a formula that fills the column.

    Nothing is ever written into such a column, so that nothing can be misplaced there. ``;`` parts arguments in every
    locale.
    """
    where = f"{letter(record)}2:{letter(record)}"
    pattern = f'""{_quoted(re.escape(key))}"": {"([^,}]+)" if number else _TEXT}'
    found = f'REGEXEXTRACT({where};"{pattern}")'
    found = f"VALUE({found})" if number else found  # records write 12E-2, which has no point in any locale
    formula = f'={{"{_quoted(header)}";ARRAYFORMULA(IFERROR({found}))}}'
    return {"userEnteredValue": {"formulaValue": formula}}


_TEXT = r'""((?:[^""\\]|\\.)*)""'


def _quoted(text: str) -> str:
    return text.replace('"', '""')


def colours(gid: int, status: int, there: Sequence[str]) -> list[Request]:
    """Return the rules that colour rows by their status, without those that are there."""
    requests: list[Request] = []
    known = {formula.replace(",", ";") for formula in there}  # some locales part arguments by commas
    for word, formula in colour_formulas(status).items():
        if formula.replace(",", ";") in known:
            continue
        red, green, blue = _COLOURS[word]
        rule = {
            "ranges": [{"sheetId": gid, "startRowIndex": 2}],
            "booleanRule": {
                "condition": {"type": "CUSTOM_FORMULA", "values": [{"userEnteredValue": formula}]},
                "format": {"backgroundColorStyle": {"rgbColor": {"red": red, "green": green, "blue": blue}}},
            },
        }
        requests.append({"addConditionalFormatRule": {"rule": rule, "index": 0}})
    return requests


def colour_formulas(status: int) -> dict[str, str]:
    """Return, by word, when a row has that colour; rows are looked at from row 3."""
    cell = f"${letter(status)}3"
    return {
        "running": f'=REGEXMATCH({cell};"#\\d+\\.\\d+ \\w+ \\w+\\.\\d+\\]$")',
        DONE: f'={cell}="{DONE}"',
        FAILED: f'={cell}="{FAILED}"',
    }
