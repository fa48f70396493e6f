"""Stop a response that runs in the background, and forget one for good."""

import time
from typing import Any

from service.actions.cancel_job import cancel_job
from service.actions.parts import Parts
from service.actions.read_responses import find_response
from service.contract.callers import Caller
from service.contract.response_objects import DeletedResponse
from service.errors import Conflict
from service.store import jobs, responses

# A worker hears of a cancellation within two seconds, and needs a step to follow it.
PATIENCE_SECONDS = 5.0
LOOK_SECONDS = 0.1


def cancel_response(parts: Parts, caller: Caller, response_id: str) -> dict[str, Any]:
    """Stop a response and wait a little until it has stopped; one that has ended stays as it is."""
    found = find_response(parts, caller, response_id)
    if not found.runs_by_itself:
        raise Conflict(
            "Only responses that were made with `background` can be cancelled.",
            param="response_id",
            code="not_in_background",
            hint="Close the connection that waits for this one.",
        )
    _stop(parts, caller, found.job.id)
    return find_response(parts, caller, response_id).body


def delete_response(parts: Parts, caller: Caller, response_id: str) -> DeletedResponse:
    """Forget a response's request and its answer; one that still runs is stopped."""
    found = find_response(parts, caller, response_id)
    _stop(parts, caller, found.job.id)
    with parts.database.transaction() as db:
        kept = responses.find(db, caller.tenant_id, found.job.id)
        responses.erase(db, found.job.id)
    if kept is not None and kept.payload is not None:
        parts.blobs.delete(kept.payload.blob)
    return DeletedResponse(id=response_id)


def _stop(parts: Parts, caller: Caller, job_id: int) -> None:
    cancel_job(parts, caller, job_id)
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        with parts.database.reading() as db:
            job = jobs.get(db, caller.tenant_id, job_id)
        if job is None or job.state.is_terminal:
            return
        time.sleep(LOOK_SECONDS)
