"""Find what lost workers, due times and missed bells have left behind, and set it going again."""

from service.actions.close_batches import close_batches
from service.actions.forget_expired import forget_expired
from service.actions.parts import Parts
from service.actions.spread_wishes import spread_wishes
from service.actions.sweep_batches import sweep_batches
from service.contract.tickets import Export, Ingest, Ticket, Wake
from service.store import budgets, recovery, wishes
from service.store.recovery import Reaped

# Of one round; what is left is the next round's, so that no process sweeps for minutes on end.
SWEEP_SECONDS = 2.0


def recover_lost_work(parts: Parts) -> list[Ticket]:
    """One round, in short transactions; any process may run it at any time.

    Returns the tickets that could not be rung: an io worker may do that work without one.
    """
    reaped = _reap(parts)
    woken = _wake(parts)
    sweep_batches(parts, SWEEP_SECONDS)
    spread_wishes(parts, SWEEP_SECONDS)
    with parts.database.reading() as db:
        done = recovery.batches_to_close(db) + budgets.spent_batches(db)
    close_batches(parts, done)
    with parts.database.reading() as db:
        tickets: list[Ticket] = [Ingest(batch_id) for batch_id in recovery.unfinished_ingests(db)]
        tickets += [Export(batch_id) for batch_id in recovery.batches_to_export(db)]
    tickets += [Wake(model) for model in sorted(reaped.models | woken)]
    unrung = [ticket for ticket in tickets if not parts.doorbell.ring(ticket)]
    parts.blobs.sweep_partial()
    forget_expired(parts)
    return unrung


def _reap(parts: Parts) -> Reaped:
    with parts.database.transaction() as db:
        reaped = recovery.reap_workers(db)
    close_batches(parts, reaped.batches)
    return reaped


def _wake(parts: Parts) -> frozenset[str]:
    with parts.database.transaction() as db:
        woken = recovery.wake_due(db)
        wishes.renew_forgotten(db)
        recovery.promote_aged(db)
    return woken
