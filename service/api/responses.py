"""/v1/responses: OpenAI's newer way to ask, whole, streamed or in the background."""

from collections.abc import Generator
from typing import Any, Literal

import orjson
from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from pydantic import BaseModel, Field

from service.actions.end_response import cancel_response, delete_response
from service.actions.follow_chat import ChatEvent, Quiet, follow_chat
from service.actions.read_responses import FoundResponse, find_response, get_response, list_input_items
from service.actions.start_response import Sender, start_response
from service.api.context import current_caller, current_parts, current_request
from service.api.described import Described
from service.api.errors import REFUSALS
from service.api.headers import CompletionHeaders, name_ignored
from service.api.listening import first_word, listen, reply_in
from service.api.paths import current_path_model
from service.api.response_stream import told
from service.api.sse import client_is_gone, event_stream
from service.contract.chat import ignored_fields
from service.contract.response_objects import DeletedResponse, InputItemList, ResponseObject
from service.contract.responses import ResponseRequest

api = APIBlueprint("responses", __name__, url_prefix="/v1", abp_responses=REFUSALS)


class ResponsePath(BaseModel):
    """response_id: `resp_…`."""

    response_id: str


class RetrieveQuery(Described):
    """stream: its events from the beginning, or those after number `starting_after`."""

    stream: bool = False
    starting_after: int = Field(default=-1, ge=-1)


class InputItemsQuery(Described):
    """A page of input items, the last first. after: the last id of the page before."""

    after: str | None = None
    limit: int = Field(default=20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"


@api.post("/responses", responses={200: ResponseObject})
def create_response(header: CompletionHeaders, body: ResponseRequest) -> Response:
    """Answer a conversation with images, videos and sounds. OpenAI: POST /v1/responses."""
    parts, caller = current_parts(), current_caller()
    sender = Sender(header.idempotency_key, header.wait_for_model, current_path_model())
    found = start_response(parts, caller, body, current_request().raw_body(), sender)
    waits = _in_background if body.background else _in_person
    response = waits(found, is_streamed=bool(body.stream))
    name_ignored(response, ignored_fields(body))
    return response


@api.get("/responses/<response_id>", responses={200: ResponseObject})
def get(path: ResponsePath, query: RetrieveQuery) -> Response:
    """One response, or its events while it is made. OpenAI: GET /v1/responses/{response_id}."""
    parts, caller = current_parts(), current_caller()
    if not query.stream:
        return _json(get_response(parts, caller, path.response_id))
    found = find_response(parts, caller, path.response_id)
    return event_stream(told(found, _watch(found), starting_after=query.starting_after))


@api.delete("/responses/<response_id>", responses={200: DeletedResponse})
def delete(path: ResponsePath) -> DeletedResponse:
    """Forget a response. OpenAI: DELETE /v1/responses/{response_id}."""
    return delete_response(current_parts(), current_caller(), path.response_id)


@api.post("/responses/<response_id>/cancel", responses={200: ResponseObject})
def cancel(path: ResponsePath) -> Response:
    """Stop a response that runs in the background. OpenAI: POST /v1/responses/{response_id}/cancel."""
    return _json(cancel_response(current_parts(), current_caller(), path.response_id))


@api.get("/responses/<response_id>/input_items", responses={200: InputItemList})
def input_items(path: ResponsePath, query: InputItemsQuery) -> InputItemList:
    """What a response was asked. OpenAI: GET /v1/responses/{response_id}/input_items."""
    return list_input_items(
        current_parts(),
        current_caller(),
        path.response_id,
        after=query.after,
        limit=query.limit,
        order=query.order,
    )


def _in_person(found: FoundResponse, *, is_streamed: bool) -> Response:
    """The reply, waited for; when the client leaves, the response is cancelled."""
    events = listen(current_parts(), current_caller(), found.job.id, with_deltas=is_streamed)
    if not is_streamed:
        return _json(found.as_answered(reply_in(events)))
    return event_stream(told(found, events, first=first_word(events)))


def _in_background(found: FoundResponse, *, is_streamed: bool) -> Response:
    return event_stream(told(found, _watch(found))) if is_streamed else _json(found.body)


def _watch(found: FoundResponse) -> Generator[ChatEvent, None, None]:
    """What happens to a response that runs by itself, for as long as somebody reads it."""
    parts, caller, environ = current_parts(), current_caller(), request.environ

    def events() -> Generator[ChatEvent, None, None]:
        for event in follow_chat(parts, caller, found.job.id, with_deltas=True, is_needed=False):
            if isinstance(event, Quiet) and client_is_gone(environ):
                return
            yield event

    return events()


def _json(body: dict[str, Any]) -> Response:
    return Response(orjson.dumps(body), content_type="application/json")
