"""End the waiting jobs of batches that were cancelled or whose time is over."""

import time
from collections.abc import Callable

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from service.actions.close_batches import close_batches
from service.actions.parts import Parts
from service.store import recovery
from service.store.sweeps import Swept
from service.store.tables import Batch


def sweep_batches(parts: Parts, seconds: float) -> None:
    """Sweep in short transactions until every such batch was looked through, or for so long; others go on then."""
    _sweep(parts, recovery.apply_cancels, seconds)
    _sweep(parts, recovery.expire_due, seconds)


def _sweep(parts: Parts, sweep: Callable[[Session], Swept], seconds: float) -> None:
    until = time.monotonic() + seconds
    touched: set[str] = set()
    under_way = True
    while under_way and time.monotonic() < until:
        with parts.database.transaction() as db:
            swept = sweep(db)
            # A chunk without a waiting job proves nothing: those who wait may stand behind those who have ended.
            half_way = exists().where(Batch.id.in_(swept.batches), Batch.sweep_line > 0)
            under_way = bool(swept.jobs or (swept.batches and db.scalar(select(half_way))))
        touched |= swept.batches
    close_batches(parts, touched)
