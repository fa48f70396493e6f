"""Stop a preflight, or forget one that has ended."""

from service.actions.cancel_batch import SWEEP_SECONDS
from service.actions.parts import Parts
from service.actions.read_preflights import find_preflight, get_preflight
from service.actions.sweep_batches import sweep_batches
from service.contract.callers import Caller
from service.contract.preflights import DeletedPreflight, PreflightObject
from service.errors import Conflict
from service.store import batches, preflights


def cancel_preflight(parts: Parts, caller: Caller, preflight_id: str) -> PreflightObject:
    """Stop counting and measuring; what was found stays. One that has ended stays as it is."""
    with parts.database.transaction() as db:
        find_preflight(db, caller, preflight_id)
        requested = batches.request_cancel(db, caller.tenant_id, preflight_id)
    if requested:
        sweep_batches(parts, SWEEP_SECONDS)
    return get_preflight(parts, caller, preflight_id)


def delete_preflight(parts: Parts, caller: Caller, preflight_id: str) -> DeletedPreflight:
    """Forget a preflight that has ended. Its manifest stays, being a file of its own."""
    with parts.database.transaction() as db:
        find_preflight(db, caller, preflight_id)
        if not preflights.delete(db, caller.tenant_id, preflight_id):
            raise Conflict(
                "The preflight has not ended.", param="preflight_id", hint="Cancel it, or wait for its end."
            )
    return DeletedPreflight(id=preflight_id)
