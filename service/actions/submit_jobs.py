"""Accept many requests in one body: a manifest that is kept as a file and becomes a batch at once."""

from collections.abc import Iterable
from dataclasses import replace

from service.actions.fresh_blob import fresh_blob
from service.actions.keep_lines import keep_lines
from service.actions.once import Once, make_once
from service.actions.parts import Parts
from service.actions.read_batches import get_batch
from service.actions.submit_batch import check_options, create_batch
from service.contract.batches import BatchObject, BatchOptions
from service.contract.callers import Caller
from service.contract.tickets import Ingest
from service.store import batches

ROUTE = "/v1/jobs"


def submit_jobs(
    parts: Parts,
    caller: Caller,
    chunks: Iterable[bytes],
    options: BatchOptions,
    *,
    idempotency_key: str | None = None,
) -> BatchObject:
    """Store a stream of JSONL and make a batch of it, in constant memory.

    A sender that was cut off may send it again: the same idempotency key with the same lines gives the same batch.
    """
    check_options(parts, options)
    once = Once(ROUTE, idempotency_key)
    lines = keep_lines(parts, chunks, options.model_dump_json())
    once = replace(once, body_sha256=lines.sha256)
    new_id = batches.new_id()
    with fresh_blob(parts, lines.blob) as fresh, parts.database.transaction() as db:
        batch_id = make_once(db, caller, once, new_id)
        fresh.is_wanted = batch_id == new_id
        if fresh.is_wanted:
            create_batch(db, batch_id, caller, lines.enter(db, caller, batch_id), options, parts.settings)
    parts.doorbell.ring(Ingest(batch_id))
    return get_batch(parts, caller, batch_id)
