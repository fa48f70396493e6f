"""Pages by keyset: a page costs the same wherever it lies."""

from typing import Any, TypeVar

from sqlalchemy import Select, tuple_

from service.store.tables import Batch, File, Key, Webhook

Row = TypeVar("Row", Batch, File, Key, Webhook)


def newest_first(
    rows: Select[Row], table: type[Batch | File | Key | Webhook], after: str | None
) -> Select[Row]:
    """Order by age, newest first, from the one after `after` on."""
    ordered = rows.order_by(table.created_at.desc(), table.id.desc())
    return ordered if after is None else ordered.where(_key(table) < _key_of(rows, table, after))


def oldest_first(
    rows: Select[Row], table: type[Batch | File | Key | Webhook], after: str | None
) -> Select[Row]:
    """Order by age, oldest first, from the one after `after` on."""
    ordered = rows.order_by(table.created_at, table.id)
    return ordered if after is None else ordered.where(_key(table) > _key_of(rows, table, after))


def _key(table: type[Batch | File | Key | Webhook]) -> Any:
    return tuple_(table.created_at, table.id)


def _key_of(rows: Select[Row], table: type[Batch | File | Key | Webhook], row_id: str) -> Any:
    # Among the same rows: the id of another tenant's must not tell how old it is.
    same = rows.with_only_columns(table.created_at, table.id).order_by(None).limit(None)
    return same.where(table.id == row_id).correlate(None).scalar_subquery()
