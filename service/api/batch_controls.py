"""What can be asked of a batch that is there: POST /v1/batches/{batch_id} and below. Ours, but for cancelling."""

from flask_openapi3.blueprint import APIBlueprint

from service.actions.pause_batch import pause_batch, resume_batch
from service.actions.retry_batch import retry_batch
from service.actions.update_batch import update_batch
from service.api.batches import BatchPath
from service.api.context import current_caller, current_parts
from service.api.errors import REFUSALS
from service.api.headers import IdempotencyHeader
from service.contract.batch_controls import RetryBatch, UpdateBatch
from service.contract.batches import BatchObject

api = APIBlueprint("batch_controls", __name__, url_prefix="/v1", abp_responses=REFUSALS)


@api.post("/batches/<batch_id>", responses={200: BatchObject})
def update(path: BatchPath, body: UpdateBatch) -> BatchObject:
    """Change an open batch's priority, completion window, token budget or metadata."""
    return update_batch(current_parts(), current_caller(), path.batch_id, body)


@api.post("/batches/<batch_id>/pause", responses={200: BatchObject})
def pause(path: BatchPath) -> BatchObject:
    """Let a batch rest: what runs is finished, nothing more is begun. Its completion window goes on."""
    return pause_batch(current_parts(), current_caller(), path.batch_id)


@api.post("/batches/<batch_id>/resume", responses={200: BatchObject})
def resume(path: BatchPath) -> BatchObject:
    """Let a paused batch go on."""
    return resume_batch(current_parts(), current_caller(), path.batch_id)


@api.post("/batches/<batch_id>/retry", responses={200: BatchObject})
def retry(path: BatchPath, header: IdempotencyHeader, body: RetryBatch) -> BatchObject:
    """Make a batch of the lines that a batch which has ended did not answer; the body may be left out."""
    return retry_batch(
        current_parts(),
        current_caller(),
        path.batch_id,
        body,
        idempotency_key=header.idempotency_key,
    )
