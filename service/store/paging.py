"""Pages by keyset: a page costs the same wherever it lies."""

from typing import Any, TypeVar

from sqlalchemy import Select, select, tuple_

from service.store.tables import Batch, File, Key, Webhook

Row = TypeVar("Row", Batch, File, Key, Webhook)


def newest_first(
    rows: Select[Row], table: type[Batch | File | Key | Webhook], after: str | None
) -> Select[Row]:
    """Order by age, newest first, from the one after `after` on."""
    ordered = rows.order_by(table.created_at.desc(), table.id.desc())
    return ordered if after is None else ordered.where(_key(table) < _key_of(table, after))


def oldest_first(
    rows: Select[Row], table: type[Batch | File | Key | Webhook], after: str | None
) -> Select[Row]:
    """Order by age, oldest first, from the one after `after` on."""
    ordered = rows.order_by(table.created_at, table.id)
    return ordered if after is None else ordered.where(_key(table) > _key_of(table, after))


def _key(table: type[Batch | File | Key | Webhook]) -> Any:
    return tuple_(table.created_at, table.id)


def _key_of(table: type[Batch | File | Key | Webhook], row_id: str) -> Any:
    return select(table.created_at, table.id).where(table.id == row_id).scalar_subquery()
