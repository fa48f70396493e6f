"""Close the batches whose last job has ended and have their files written; stop those that have spent their budget."""

import time
from collections.abc import Collection

from service.actions.parts import Parts
from service.contract.tickets import Export
from service.store import batches, budgets, sweeps

# Others wait for their results to be recorded meanwhile; the rest is left to the recovery rounds.
STOP_SECONDS = 0.2


def close_batches(parts: Parts, batch_ids: Collection[str]) -> None:
    """Look at batches whose progress has moved; exactly one caller closes each and rings for its export."""
    if not batch_ids:
        return
    with parts.database.transaction() as db:
        closed = [batch_id for batch_id in sorted(batch_ids) if batches.close_if_done(db, batch_id)]
        stopped = budgets.stop_spent(db, batch_ids)
    for batch_id in closed:
        parts.doorbell.ring(Export(batch_id))
    if stopped:
        _cancel_waiting(parts)
        close_batches(parts, stopped)


def _cancel_waiting(parts: Parts) -> None:
    """At once, or workers would go on taking jobs that nobody pays for."""
    until = time.monotonic() + STOP_SECONDS
    while time.monotonic() < until:
        with parts.database.transaction() as db:
            if not sweeps.apply_cancels(db).jobs:
                return
