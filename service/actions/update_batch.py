"""Change what a batch was submitted with, while it runs."""

from typing import Any

from sqlalchemy.orm import Session

from service.actions.close_batches import close_batches
from service.actions.parts import Parts
from service.actions.pause_batch import OPEN, no_longer
from service.actions.read_batches import get_batch, unknown_batch
from service.actions.spread_wishes import spread_wishes
from service.contract.batch_controls import UpdateBatch
from service.contract.batches import BatchObject
from service.contract.callers import Caller
from service.contract.ids import is_batch_id
from service.errors import Conflict
from service.store import batches, wishes


def update_batch(parts: Parts, caller: Caller, batch_id: str, wanted: UpdateBatch) -> BatchObject:
    """Give an open batch another priority, window, budget or metadata, all of them or none."""
    if not is_batch_id(batch_id):
        raise unknown_batch()
    with parts.database.transaction() as db:
        changed = _change(db, caller.tenant_id, batch_id, wanted)
        hurried = changed and wanted.priority is not None
        hurried = hurried and wishes.set_priority(db, caller.tenant_id, batch_id, wanted.priority or 0)
    if hurried:
        spread_wishes(parts)
    if changed and wanted.token_budget is not None:
        close_batches(parts, {batch_id})
    batch = get_batch(parts, caller, batch_id)
    if not changed:
        raise _refusal(batch)
    return batch


def _change(db: Session, tenant_id: str, batch_id: str, wanted: UpdateBatch) -> bool:
    columns: dict[str, Any] = {}
    if "metadata" in wanted.model_fields_set:
        columns["user_metadata"] = wanted.metadata
    if "token_budget" in wanted.model_fields_set:
        columns["token_budget"] = wanted.token_budget
    if wanted.completion_window is not None:
        columns["completion_window"] = wanted.completion_window
    return batches.change(db, tenant_id, batch_id, columns, window_seconds=wanted.window_seconds)


def _refusal(batch: BatchObject) -> Conflict:
    if batch.status not in OPEN:
        return no_longer(batch, "changed")
    return Conflict(
        "The batch's completion window has passed; its waiting lines expire.",
        param="completion_window",
        hint="Wait for its end, then retry the lines that have expired.",
    )
