"""Stop a batch; what has been answered stays and is exported."""

from service.actions.parts import Parts
from service.actions.read_batches import get_batch, unknown_batch
from service.actions.sweep_batches import sweep_batches
from service.contract.batches import BatchObject
from service.contract.callers import Caller
from service.contract.ids import is_batch_id
from service.contract.lifecycle import BatchState
from service.errors import Conflict
from service.store import batches

# A small batch is cancelled before we answer; the rest of a large one is left to the recovery rounds.
SWEEP_SECONDS = 0.5


def cancel_batch(parts: Parts, caller: Caller, batch_id: str) -> BatchObject:
    """Ask for a batch's end. Waiting jobs end in chunks, from now on; running ones are stopped by their workers."""
    if not is_batch_id(batch_id):
        raise unknown_batch()
    with parts.database.transaction() as db:
        requested = batches.request_cancel(db, caller.tenant_id, batch_id)
    if requested:
        sweep_batches(parts, SWEEP_SECONDS)
    batch = get_batch(parts, caller, batch_id)
    if not requested and batch.status not in (BatchState.CANCELLING, BatchState.CANCELLED):
        raise Conflict(f"The batch is {batch.status}; it can no longer be cancelled.", param="batch_id")
    return batch
