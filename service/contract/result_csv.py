"""Results as CSV (RFC 4180, UTF-8) that a spreadsheet may open: no cell of it is a formula."""

import csv
import io
from collections.abc import Iterable, Mapping

from service.contract.result_table import COLUMNS, Cell

# What spreadsheets take for the beginning of a formula, or skip before one. The last ones are full-width.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
SHIELD = "'"


def csv_header() -> bytes:
    """The names of the columns."""
    return _written([COLUMNS])


def csv_rows(rows: Iterable[Mapping[str, Cell]]) -> bytes:
    """Rows as `table_row` makes them."""
    return _written([_cell(row[name]) for name in COLUMNS] for row in rows)


def shielded(text: str) -> str:
    """The text with an apostrophe before it, if it could be a formula or begins with an apostrophe itself.

    So a reader gets the text back by taking away one apostrophe from the beginning of a cell.
    """
    return SHIELD + text if text.startswith((SHIELD, *FORMULA_STARTS)) else text


def _cell(value: Cell) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str():
            return shielded(value)
    return str(value)


def _written(rows: Iterable[Iterable[str]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
