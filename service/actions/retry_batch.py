"""Try again what a batch that has ended did not answer, as a new batch."""

import hashlib

from sqlalchemy.orm import Session

from service.actions.once import Once, make_once
from service.actions.parts import Parts
from service.actions.read_batches import get_batch, unknown_batch
from service.contract.batch_controls import RetryBatch
from service.contract.batches import BatchObject
from service.contract.callers import Caller
from service.contract.ids import is_batch_id
from service.contract.lifecycle import JobState
from service.contract.tickets import Ingest
from service.errors import BadRequest, Conflict
from service.store import batches, progress, retries
from service.store.batches import NewBatch
from service.store.retries import Retries
from service.store.tables import Batch

ROUTE = "/v1/batches/retry"


def retry_batch(
    parts: Parts, caller: Caller, batch_id: str, wanted: RetryBatch, *, idempotency_key: str | None = None
) -> BatchObject:
    """Make a batch of the lines that failed, died, expired or were cancelled; the same key gives the same batch again.

    A line that never became a request is not tried again: it stays in the error file of the batch that read it.
    """
    if not is_batch_id(batch_id):
        raise unknown_batch()
    again = Retries(tuple(JobState(state) for state in sorted(set(wanted.states))), wanted.only_retryable)
    parent = _ended_batch(parts, caller, batch_id)
    _require_lines(parts, parent, again)
    body_sha256 = hashlib.sha256(f"{batch_id}{wanted.model_dump_json()}".encode()).hexdigest()
    new_id = batches.new_id()
    with parts.database.transaction() as db:
        child_id = make_once(db, caller, Once(ROUTE, idempotency_key, body_sha256), new_id)
        if child_id == new_id:
            _create(db, new_id, caller, parent, wanted, again, parts.settings.batch_window_seconds)
    parts.doorbell.ring(Ingest(child_id))
    return get_batch(parts, caller, child_id)


def _ended_batch(parts: Parts, caller: Caller, batch_id: str) -> Batch:
    with parts.database.reading() as db:
        parent = batches.get(db, caller.tenant_id, batch_id)
    if parent is None:
        raise unknown_batch()
    if not parent.state.is_terminal:
        raise Conflict(
            f"The batch is {parent.state}; only one that has ended can be retried.",
            param="batch_id",
            hint="Wait for its end, or cancel it first.",
        )
    return parent


def _require_lines(parts: Parts, parent: Batch, again: Retries) -> None:
    with parts.database.reading() as db:
        counts = progress.of(db, parent.id)
        # The counters first: they cost nothing where a million lines have succeeded.
        if any(getattr(counts, state) for state in again.states) and retries.any_lines(db, parent.id, again):
            return
    raise BadRequest(
        "The batch has no line of that kind to retry.",
        param="batch_id",
        code="nothing_to_retry",
        hint="Lines that could not be read have to be corrected and submitted again.",
    )


def _create(
    db: Session,
    child_id: str,
    caller: Caller,
    parent: Batch,
    wanted: RetryBatch,
    again: Retries,
    default_window_seconds: int,
) -> None:
    window_seconds = wanted.window_seconds or default_window_seconds
    batches.create(
        db,
        NewBatch(
            tenant_id=caller.tenant_id,
            key_id=caller.key_id,
            # Long lines are still read from the manifest, and with the same defaults.
            manifest=parent.manifest,
            base_dir=parent.base_dir,
            defaults=parent.defaults,
            dedupe=parent.dedupe,
            endpoint=parent.endpoint,
            model=parent.model,
            input_file_id=parent.input_file_id,
            priority=wanted.priority or parent.priority,
            completion_window=wanted.completion_window or f"{window_seconds // 3600}h",
            window_seconds=window_seconds,
            metadata=parent.user_metadata if wanted.metadata is None else wanted.metadata,
            retry_of=parent.id,
            retries=again.as_dict(),
            token_budget=wanted.token_budget,
        ),
        child_id,
    )
