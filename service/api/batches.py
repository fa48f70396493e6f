"""/v1/batches."""

from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from service.actions.cancel_batch import cancel_batch
from service.actions.read_batches import get_batch, list_batches
from service.actions.submit_batch import submit_batch
from service.api.context import current_caller, current_parts
from service.api.described import Described
from service.api.errors import REFUSALS
from service.api.headers import IdempotencyHeader
from service.api.paths import current_path_model
from service.contract.batches import BatchList, BatchObject, CreateBatch

api = APIBlueprint("batches", __name__, url_prefix="/v1", abp_responses=REFUSALS)


class BatchPath(BaseModel):
    """batch_id: `batch_…`."""

    batch_id: str


class BatchesQuery(Described):
    """A page of batches, newest first. after: the last id of the page before."""

    after: str | None = None
    limit: int = Field(default=20, ge=1, le=100)


@api.post("/batches", responses={200: BatchObject})
def create_batch(header: IdempotencyHeader, body: CreateBatch) -> BatchObject:
    """Run an uploaded manifest. OpenAI: POST /v1/batches."""
    if (model := current_path_model()) is not None:
        body = body.model_copy(update={"defaults": {"model": model, **body.defaults}})
    return submit_batch(current_parts(), current_caller(), body, idempotency_key=header.idempotency_key)


@api.get("/batches", responses={200: BatchList})
def list_(query: BatchesQuery) -> BatchList:
    """A page of batches. OpenAI: GET /v1/batches."""
    return list_batches(current_parts(), current_caller(), after=query.after, limit=query.limit)


@api.get("/batches/<batch_id>", responses={200: BatchObject})
def get(path: BatchPath) -> BatchObject:
    """One batch and how far it is. OpenAI: GET /v1/batches/{batch_id}."""
    return get_batch(current_parts(), current_caller(), path.batch_id)


@api.post("/batches/<batch_id>/cancel", responses={200: BatchObject})
def cancel(path: BatchPath) -> BatchObject:
    """Stop a batch; what has ended keeps its results. OpenAI: POST /v1/batches/{batch_id}/cancel."""
    return cancel_batch(current_parts(), current_caller(), path.batch_id)
