"""/v1/preflight: what a manifest would come to, without running it. Ours; OpenAI has no such path."""

from typing import Any, BinaryIO, cast

from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models import RawModel
from flask_openapi3.utils import parse_body
from pydantic import BaseModel, Field, ValidationError

from service.actions.end_preflight import cancel_preflight, delete_preflight
from service.actions.read_preflights import MAX_WAIT_SECONDS, get_preflight
from service.actions.submit_preflight import submit_lines, submit_preflight
from service.api.context import current_caller, current_parts, current_request
from service.api.described import Described
from service.api.errors import REFUSALS
from service.api.headers import IdempotencyHeader
from service.api.jobs import JSON_LINES
from service.channels.blobs import chunks_of
from service.contract.batches import BatchOptions
from service.contract.plain_errors import bad_request
from service.contract.preflights import (
    DEFAULT_SAMPLE,
    MAX_SAMPLE,
    CreatePreflight,
    DeletedPreflight,
    PreflightObject,
)

api = APIBlueprint("preflight", __name__, url_prefix="/v1", abp_responses=REFUSALS)


class PreflightBody(RawModel):
    """The body that would make a batch. Or JSON lines: a manifest."""

    mimetypes: list[str] = ["application/json", *JSON_LINES]  # noqa: RUF012 - the library's own spelling


class LinesQuery(Described):
    """For JSON lines. model, prompt, max_tokens: for lines that do not say. sample: how many lines to measure."""

    base_dir: str | None = None
    model: str | None = None
    prompt: str | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    sample: int = Field(default=DEFAULT_SAMPLE, ge=1, le=MAX_SAMPLE)


class PreflightPath(BaseModel):
    """preflight_id: `preflight_…`."""

    preflight_id: str


class WaitForEnd(Described):
    """wait: seconds to wait for the preflight to end."""

    wait: float = Field(default=0, ge=0, le=MAX_WAIT_SECONDS, allow_inf_nan=False)


@api.post("/preflight", responses={202: PreflightObject})
def create_preflight(raw: PreflightBody, header: IdempotencyHeader, query: LinesQuery) -> Any:
    """Count a manifest and measure some of its lines: media, tokens, time, and what would fail."""
    parts, caller, request = current_parts(), current_caller(), current_request()
    if request.mimetype in JSON_LINES:
        chunks = chunks_of(cast("BinaryIO", request.body_stream()))
        told = submit_lines(
            parts, caller, chunks, _options(query), query.sample, idempotency_key=header.idempotency_key
        )
    else:
        told = submit_preflight(
            parts, caller, _wanted(request.get_json()), idempotency_key=header.idempotency_key
        )
    return told, 202, {"Location": f"/v1/preflight/{told.id}"}


@api.get("/preflight/<preflight_id>", responses={200: PreflightObject})
def get(path: PreflightPath, query: WaitForEnd) -> PreflightObject:
    """What is known so far; with `wait`, as soon as all is."""
    return get_preflight(current_parts(), current_caller(), path.preflight_id, wait_seconds=query.wait)


@api.post("/preflight/<preflight_id>/cancel", responses={200: PreflightObject})
def cancel(path: PreflightPath) -> PreflightObject:
    """Stop a preflight; what it has found stays."""
    return cancel_preflight(current_parts(), current_caller(), path.preflight_id)


@api.delete("/preflight/<preflight_id>", responses={200: DeletedPreflight})
def delete(path: PreflightPath) -> DeletedPreflight:
    """Forget a preflight that has ended."""
    return delete_preflight(current_parts(), current_caller(), path.preflight_id)


def _wanted(body: Any) -> CreatePreflight:
    try:
        return CreatePreflight.model_validate(body)
    except ValidationError as error:
        raise bad_request(error) from None


def _options(query: LinesQuery) -> BatchOptions:
    defaults = {"model": query.model, "prompt": query.prompt, "max_tokens": query.max_tokens}
    try:
        return BatchOptions(
            base_dir=query.base_dir,
            defaults={name: value for name, value in defaults.items() if value is not None},
        )
    except ValidationError as error:
        raise bad_request(error) from None


def _name_the_body() -> None:
    """The library shows a body of several types as any object."""
    content, schemas = parse_body(CreatePreflight)
    api.components_schemas.update(schemas)
    api.paths["/v1/preflight"].post.requestBody.content.update(content)


_name_the_body()
