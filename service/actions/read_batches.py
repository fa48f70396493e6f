"""Look at batches."""

from service.actions.parts import Parts
from service.actions.wire import batch_object, filled
from service.contract.batches import BatchList, BatchObject
from service.contract.callers import Caller
from service.contract.ids import is_batch_id
from service.errors import NotFound
from service.store import batches, progress


def get_batch(parts: Parts, caller: Caller, batch_id: str) -> BatchObject:
    """One batch with its counts; the cost does not depend on its size."""
    if not is_batch_id(batch_id):
        raise unknown_batch()
    with parts.database.reading() as db:
        row = batches.get(db, caller.tenant_id, batch_id)
        if row is None:
            raise unknown_batch()
        return batch_object(row, progress.of(db, batch_id))


def list_batches(parts: Parts, caller: Caller, *, after: str | None = None, limit: int = 20) -> BatchList:
    """A page of batches, newest first."""
    if after is not None and not is_batch_id(after):
        raise unknown_batch("after")
    with parts.database.reading() as db:
        rows = batches.page(db, caller.tenant_id, after=after, limit=limit + 1)
        data = [batch_object(row, progress.of(db, row.id)) for row in rows[:limit]]
    return filled(BatchList(data=data), has_more=len(rows) > limit)


def unknown_batch(param: str = "batch_id") -> NotFound:
    """Unknown, or another tenant's."""
    return NotFound("There is no batch of this id.", param=param, code="batch_not_found")
