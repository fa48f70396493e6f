"""/v1/jobs: one request without a listener, or a whole batch of them as JSON lines. Ours; OpenAI has no such path."""

from typing import Any, BinaryIO, cast

from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models import RawModel
from flask_openapi3.models.media_type import MediaType
from flask_openapi3.models.reference import Reference
from pydantic import BaseModel, Field, ValidationError

from service.actions.cancel_job import cancel_job
from service.actions.read_jobs import MAX_WAIT_SECONDS, get_job, list_jobs
from service.actions.submit_job import submit_job
from service.actions.submit_jobs import submit_jobs
from service.api.context import current_caller, current_parts, current_request
from service.api.described import Described
from service.api.errors import REFUSALS
from service.api.headers import IdempotencyHeader
from service.api.paths import current_path_model
from service.channels.blobs import chunks_of
from service.contract.batches import DEFAULT_PRIORITY, MAX_PRIORITY, BatchObject, BatchOptions
from service.contract.job_objects import JobList, JobObject, job_number
from service.contract.lifecycle import JobState
from service.contract.plain_errors import bad_request
from service.errors import UnsupportedBody

CHAT_REQUEST = "#/components/schemas/ChatRequest"
JSON_LINES = ("application/jsonl", "application/x-ndjson")

api = APIBlueprint("jobs", __name__, url_prefix="/v1", abp_responses=REFUSALS)


class JobsBody(RawModel):
    """One JSON object: anything that may stand on a line of a manifest. Or JSON lines: a manifest."""

    mimetypes: list[str] = ["application/json", *JSON_LINES]  # noqa: RUF012 - the library's own spelling


class SubmitQuery(Described):
    """Options of a submission. For JSON lines, `model`, `prompt` and `max_tokens` are for lines that do not say."""

    priority: int = Field(default=DEFAULT_PRIORITY, ge=1, le=MAX_PRIORITY)
    completion_window: str | None = None
    base_dir: str | None = None
    token_budget: int | None = Field(default=None, ge=1, le=2**53)
    dedupe: bool = False
    model: str | None = None
    prompt: str | None = None
    max_tokens: int | None = Field(default=None, ge=1)


class JobPath(BaseModel):
    """job_id: `job_…`."""

    job_id: str


class WaitQuery(Described):
    """wait: seconds to wait for the job to end."""

    wait: float = Field(default=0, ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)


class ListQuery(Described):
    """A page of a batch's jobs in the order of its lines, or of the jobs that belong to no batch.

    custom_id: alone, it finds the jobs of that name in every batch and outside.
    """

    batch_id: str | None = None
    custom_id: str | None = Field(default=None, min_length=1)
    state: list[JobState] | None = None
    after: str | None = None
    limit: int = Field(default=100, ge=1, le=1000)


@api.post("/jobs", responses={200: BatchObject, 202: JobObject})
def create_job(raw: JobsBody, header: IdempotencyHeader, query: SubmitQuery) -> Any:
    """Accept one request (application/json: 202 and its Location), or many as JSON lines: a batch at once."""
    parts, caller, request = current_parts(), current_caller(), current_request()
    if request.mimetype in JSON_LINES:
        chunks = chunks_of(cast("BinaryIO", request.body_stream()))
        return submit_jobs(parts, caller, chunks, _options(query), idempotency_key=header.idempotency_key)
    if request.mimetype != "application/json":
        raise UnsupportedBody(f"This path takes application/json or {JSON_LINES[0]}.")
    job = submit_job(
        parts,
        caller,
        request.raw_body(),
        priority=query.priority,
        idempotency_key=header.idempotency_key,
        path_model=current_path_model(),
    )
    return job, 202, {"Location": f"/v1/jobs/{job.id}"}


@api.get("/jobs/<job_id>", responses={200: JobObject})
def get(path: JobPath, query: WaitQuery) -> JobObject:
    """One job and its reply; with `wait`, as soon as there is one."""
    return get_job(current_parts(), current_caller(), path.job_id, wait_seconds=query.wait)


@api.get("/jobs", responses={200: JobList})
def list_(query: ListQuery) -> JobList:
    """A page of jobs; `state` may be repeated. The failed lines of a batch: `?batch_id=…&state=failed`."""
    return list_jobs(
        current_parts(),
        current_caller(),
        batch_id=query.batch_id,
        custom_id=query.custom_id,
        states=query.state,
        after=query.after,
        limit=query.limit,
    )


@api.post("/jobs/<job_id>/cancel", responses={200: JobObject})
def cancel(path: JobPath) -> JobObject:
    """Stop a job; one that has ended stays as it is."""
    parts, caller = current_parts(), current_caller()
    cancel_job(parts, caller, job_number(path.job_id))
    return get_job(parts, caller, path.job_id)


def _options(query: SubmitQuery) -> BatchOptions:
    model = query.model or current_path_model()
    defaults = {"model": model, "prompt": query.prompt, "max_tokens": query.max_tokens}
    try:
        return BatchOptions(
            priority=query.priority,
            completion_window=query.completion_window,
            base_dir=query.base_dir,
            token_budget=query.token_budget,
            dedupe=query.dedupe,
            defaults={name: value for name, value in defaults.items() if value is not None},
        )
    except ValidationError as error:
        raise bad_request(error) from None


def _name_the_body() -> None:
    """The library shows a body of several types as any object; ours is a chat request, which `chat.py` describes."""
    operation = api.paths["/v1/jobs"].post
    operation.requestBody.content["application/json"] = MediaType(
        schema=Reference.model_validate({"$ref": CHAT_REQUEST})
    )


_name_the_body()
