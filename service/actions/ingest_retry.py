"""Copy the lines that a batch retries, in chunks: whoever is killed loses the chunk that was not committed."""

from service.actions.close_batches import close_batches
from service.actions.parts import Parts
from service.contract.tickets import Wake
from service.store import batches, retries
from service.store.retries import Retries


def ingest_retry(parts: Parts, batch_id: str) -> None:
    """Make jobs of the parent's lines, from where the last one stopped to the end. Several may race.

    The batch's offset is the last of the parent's lines that has been looked at.
    """
    while _take_chunk(parts, batch_id):
        pass
    close_batches(parts, {batch_id})


def _take_chunk(parts: Parts, batch_id: str) -> bool:
    """Copy the next lines and wake the workers for them; whether there may be more to do for us."""
    limit = parts.settings.ingest_chunk_lines
    with parts.database.reading() as db:
        child = batches.find(db, batch_id)
        if child is None or child.ingested_at is not None or child.retry_of is None:
            return False
        offset, again = child.ingest_offset, Retries.from_dict(child.retries or {})
        # The parent has ended, and what has ended never changes.
        lines = retries.next_lines(db, child.retry_of, again, offset, limit)
    is_last = len(lines) < limit
    end = lines[-1].line_no if lines else offset
    with parts.database.transaction() as db:
        if not batches.advance_ingest(db, batch_id, offset, end, num_lines=len(lines), done=is_last):
            return False
        retries.copy_lines(db, child, lines)
    for model in sorted({line.model for line in lines}):
        parts.doorbell.ring(Wake(model))
    return not is_last
