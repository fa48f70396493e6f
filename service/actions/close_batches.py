"""Close the batches whose last job has ended, and have their files written."""

from collections.abc import Collection

from service.actions.parts import Parts
from service.contract.tickets import Export
from service.store import batches


def close_batches(parts: Parts, batch_ids: Collection[str]) -> None:
    """Look at batches whose progress has moved; exactly one caller closes each and rings for its export."""
    if not batch_ids:
        return
    with parts.database.transaction() as db:
        closed = [batch_id for batch_id in sorted(batch_ids) if batches.close_if_done(db, batch_id)]
    for batch_id in closed:
        parts.doorbell.ring(Export(batch_id))
