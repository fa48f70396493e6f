"""Let a batch rest, and go on."""

from collections.abc import Callable

from sqlalchemy.orm import Session

from service.actions.parts import Parts
from service.actions.read_batches import get_batch, unknown_batch
from service.actions.spread_wishes import spread_wishes
from service.contract.batches import BatchObject
from service.contract.callers import Caller
from service.contract.ids import is_batch_id
from service.contract.lifecycle import BatchState
from service.errors import Conflict
from service.store import wishes

OPEN = (BatchState.VALIDATING, BatchState.IN_PROGRESS)


def pause_batch(parts: Parts, caller: Caller, batch_id: str) -> BatchObject:
    """Hold a batch's waiting jobs, in chunks; what runs is finished. A batch that is paused already stays so."""
    return _ask(parts, caller, batch_id, wishes.pause, "paused")


def resume_batch(parts: Parts, caller: Caller, batch_id: str) -> BatchObject:
    """Queue a paused batch's jobs again; a batch that is not paused is left as it is."""
    return _ask(parts, caller, batch_id, wishes.resume, "resumed")


def no_longer(batch: BatchObject, asked: str) -> Conflict:
    """The refusal of a batch that has ended, or is about to. asked: what it can no longer be."""
    return Conflict(f"The batch is {batch.status}; it can no longer be {asked}.", param="batch_id")


def _ask(
    parts: Parts, caller: Caller, batch_id: str, ask: Callable[[Session, str, str], bool], asked: str
) -> BatchObject:
    if not is_batch_id(batch_id):
        raise unknown_batch()
    with parts.database.transaction() as db:
        is_news = ask(db, caller.tenant_id, batch_id)
    if is_news:
        spread_wishes(parts)
    batch = get_batch(parts, caller, batch_id)
    if not is_news and batch.status not in OPEN:
        raise no_longer(batch, asked)
    return batch
