"""What a batch has brought so far, as one Parquet file."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from service.actions.parts import Parts
from service.actions.read_results import MOST_AT_ONCE, read_results
from service.contract.callers import Caller
from service.contract.result_table import COLUMNS, Cell, table_row

# A row group is what is in memory at a time.
GROUP_ROWS, GROUP_CHARACTERS = 10_000, 16 << 20


@dataclass(frozen=True, slots=True)
class Snapshot:
    """cursor: asks for what comes after it. is_complete: nothing will ever come after it."""

    cursor: str
    is_complete: bool


def snapshot_results(
    parts: Parts,
    caller: Caller,
    batch_id: str,
    target: BinaryIO,
    *,
    cursor: str | None = None,
    limit: int | None = None,
) -> Snapshot:
    """Write what has ended after `cursor`, up to `limit` lines (None: all), to a file; tells how far it went."""
    # Imported here: it takes 50 MB, which a process that nobody asks for Parquet should not hold.
    import pyarrow  # type: ignore[import-untyped]
    from pyarrow import parquet

    schema = _schema(pyarrow)
    reader = _Reader(parts, caller, batch_id, cursor, limit)
    with parquet.ParquetWriter(target, schema, compression="zstd") as writer:
        for group in _groups(reader.rows()):
            writer.write_table(pyarrow.Table.from_pylist(group, schema))
    return reader.reached


class _Reader:
    """Pages until nothing is left that has ended by now; remembers how far it came."""

    def __init__(
        self, parts: Parts, caller: Caller, batch_id: str, cursor: str | None, limit: int | None
    ) -> None:
        self._parts, self._caller, self._batch_id = parts, caller, batch_id
        self._left = limit
        self.reached = Snapshot(cursor or "", is_complete=False)

    def rows(self) -> Iterator[dict[str, Cell]]:
        while self._left != 0:
            limit = MOST_AT_ONCE if self._left is None else min(self._left, MOST_AT_ONCE)
            page = read_results(
                self._parts, self._caller, self._batch_id, cursor=self.reached.cursor, limit=limit
            )
            num_told = 0
            for told in page.chunks:
                yield from (table_row(one.job, str(one.cursor)) for one in told)
                num_told += len(told)
            self.reached = Snapshot(page.cursor, page.is_complete)
            if self._left is not None:
                self._left -= num_told
            if num_told < limit:
                return


def _groups(rows: Iterator[dict[str, Cell]]) -> Iterator[list[dict[str, Cell]]]:
    group: list[dict[str, Cell]] = []
    num_characters = 0
    for row in rows:
        group.append(row)
        num_characters += sum(len(cell) for cell in row.values() if isinstance(cell, str))
        if len(group) >= GROUP_ROWS or num_characters >= GROUP_CHARACTERS:
            yield group
            group, num_characters = [], 0
    if group:
        yield group


def _schema(pyarrow: Any) -> Any:
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    return pyarrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
