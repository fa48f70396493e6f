"""Accept many requests in one body: a manifest that is kept as a file and becomes a batch at once."""

from collections.abc import Iterable

from service.actions.fresh_blob import fresh_blob
from service.actions.once import Once, StreamDigest, make_once
from service.actions.parts import Parts
from service.actions.read_batches import get_batch
from service.actions.submit_batch import MANIFEST_PURPOSE, check_options, create_batch
from service.contract.batches import BatchObject, BatchOptions
from service.contract.callers import Caller
from service.contract.tickets import Ingest
from service.store import batches, files

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
    file_id = files.new_id()
    blob = f"files/{file_id}"
    digest = StreamDigest(options.model_dump_json().encode())
    size = parts.blobs.write(blob, digest.over(chunks), parts.settings.max_upload_bytes)
    once = Once(ROUTE, idempotency_key, digest.hexdigest())
    new_id = batches.new_id()
    with fresh_blob(parts, blob) as fresh, parts.database.transaction() as db:
        batch_id = make_once(db, caller, once, new_id)
        fresh.is_wanted = batch_id == new_id
        if fresh.is_wanted:
            file = files.insert(
                db,
                caller.tenant_id,
                file_id=file_id,
                key_id=caller.key_id,
                filename=f"{batch_id}.jsonl",
                purpose=MANIFEST_PURPOSE,
                num_bytes=size,
                blob=blob,
            )
            create_batch(db, batch_id, caller, file, options, parts.settings)
    parts.doorbell.ring(Ingest(batch_id))
    return get_batch(parts, caller, batch_id)
