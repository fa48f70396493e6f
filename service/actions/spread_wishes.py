"""Tell waiting jobs what their batch wants of them: to be held or queued, and their priority."""

import time

from service.actions.parts import Parts
from service.contract.tickets import Wake
from service.errors import Unavailable
from service.store import wishes

# A small batch is told before we answer; the rest of a large one is left to the recovery rounds.
SPREAD_SECONDS = 0.5


def spread_wishes(parts: Parts, seconds: float = SPREAD_SECONDS) -> None:
    """Go on in short transactions until every job was told, or for so long; others go on then."""
    until = time.monotonic() + seconds
    with parts.database.reading() as db:
        batch_ids = wishes.wishing_batches(db)
    while batch_ids and time.monotonic() < until:
        batch_ids = [batch_id for batch_id in batch_ids if _spread(parts, batch_id)]


def _spread(parts: Parts, batch_id: str) -> bool:
    try:
        with parts.database.transaction() as db:
            spread = wishes.spread(db, batch_id)
    except Unavailable as busy:
        if busy.code != "database_busy":
            raise
        return False  # somebody holds the batch; the next round comes by again
    for model in sorted(spread.models):
        parts.doorbell.ring(Wake(model))
    return spread.goes_on
