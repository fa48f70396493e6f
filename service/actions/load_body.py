"""The request body of a claimed job, wherever it lies."""

from service.actions.parts import Parts
from service.contract.jobs import ClaimedJob
from service.contract.manifest import Defaults, body_of
from service.errors import NotFound
from service.store import batches


def load_body(parts: Parts, job: ClaimedJob) -> bytes:
    """The request as JSON bytes. A long one is read from its blob; a batch's is a line of its manifest."""
    if job.payload is None:
        return job.body or b"{}"
    raw = parts.blobs.read_range(job.payload.blob, job.payload.offset, job.payload.length)
    if job.batch_id is None:
        return raw
    return body_of(raw, job.line_no or 0, _defaults(parts, job.batch_id))


def _defaults(parts: Parts, batch_id: str) -> Defaults:
    with parts.database.reading() as db:
        batch = batches.find(db, batch_id)
    if batch is None:
        raise NotFound("The batch of this request is gone.")
    return Defaults.from_dict(batch.defaults or {}, batch.base_dir, batch.endpoint)
