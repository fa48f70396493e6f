"""Stop one job."""

from service.actions.close_batches import close_batches
from service.actions.parts import Parts
from service.contract.callers import Caller
from service.store import jobs


def cancel_job(parts: Parts, caller: Caller, job_id: int) -> bool:
    """Cancel a waiting job now, or ask its worker to stop; False if it has ended, or is not the caller's."""
    with parts.database.transaction() as db:
        cancelled = jobs.cancel(db, caller.tenant_id, job_id)
        view = jobs.get(db, caller.tenant_id, job_id) if cancelled else None
    if view is not None and view.batch_id is not None:
        close_batches(parts, {view.batch_id})
    return cancelled
