"""A response's request becomes a job: with a listener, or in the background."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from sqlalchemy.orm import Session

from service.actions.check_quotas import require_queue_room
from service.actions.keep_body import keep_body
from service.actions.known_models import served_name
from service.actions.once import Once, SentBefore, be_first
from service.actions.parts import Parts
from service.actions.read_responses import FoundResponse, find_response
from service.actions.readiness import require_model
from service.contract.callers import Caller
from service.contract.endpoints import RESPONSES
from service.contract.lifecycle import JobClass, JobState
from service.contract.response_objects import response_id, response_number
from service.contract.responses import ResponseRequest, kept_request
from service.contract.tickets import Wake
from service.errors import BadRequest, Conflict, NotFound
from service.store import jobs
from service.store.jobs import JobView, NewJob

# Of bulk work, in the lane of its tenant: somebody waits for it, if not on the line.
BACKGROUND_PRIORITY = 1


@dataclass(frozen=True, slots=True)
class Sender:
    """How a request was sent, beside its body.

    wait_for_model: rather than be refused while it loads. path_model: the one that its address names.
    """

    idempotency_key: str | None = None
    wait_for_model: bool = False
    path_model: str | None = None


def start_response(
    parts: Parts, caller: Caller, request: ResponseRequest, raw: bytes, sender: Sender
) -> FoundResponse:
    """Store the request and ring. raw: the body that `request` was read from.

    One without a listener waits for a model as bulk work does. The same idempotency key with the same request gives
    the same response again.
    """
    once = Once(RESPONSES, sender.idempotency_key, hashlib.sha256(raw).hexdigest())
    model = served_name(parts, request.model, sender.path_model)
    if request.background:
        require_queue_room(parts, caller)
    else:
        require_model(parts, model, may_load=sender.wait_for_model)
    asked, body = _kept(parts, caller, request, raw)
    new = _new_job(parts, caller, request, model, body)
    try:
        with parts.database.transaction() as db:
            job = _insert(db, caller, new)
            counts = partial(_counts, db, caller, bool(request.background))
            be_first(db, caller, once, response_id(job.id), is_there=counts)
    except SentBefore as before:
        return _found_again(parts, caller, asked, before.object_id)
    if not request.background:
        parts.streams.keep_alive(job.id)
    parts.doorbell.ring(Wake(model))
    return FoundResponse(job, asked)


def _insert(db: Session, caller: Caller, new: NewJob) -> JobView:
    job = jobs.get(db, caller.tenant_id, jobs.insert_chat(db, new))
    assert job is not None
    return job


def _counts(db: Session, caller: Caller, in_background: bool, sent_before: str) -> bool:
    """Whether an earlier response is the one. A sender who went away has cancelled it, and may be back for it."""
    job = jobs.get(db, caller.tenant_id, response_number(sent_before))
    return job is not None and (in_background or job.state is not JobState.CANCELLED)


def _found_again(parts: Parts, caller: Caller, asked: Mapping[str, Any], sent_before: str) -> FoundResponse:
    """What an earlier sender of the same request has made. It need not be one that is kept."""
    with parts.database.reading() as db:
        job = jobs.get(db, caller.tenant_id, response_number(sent_before))
    assert job is not None
    return FoundResponse(job, asked)


def _new_job(parts: Parts, caller: Caller, request: ResponseRequest, model: str, raw: bytes) -> NewJob:
    settings = parts.settings
    body, payload = keep_body(parts, raw)
    in_background = bool(request.background)
    return NewJob(
        tenant_id=caller.tenant_id,
        key_id=caller.key_id,
        model=model,
        body=body,
        payload=payload,
        endpoint=RESPONSES,
        # Chats whose listener has gone are dropped.
        job_class=JobClass.BULK if in_background else JobClass.CHAT,
        priority=BACKGROUND_PRIORITY if in_background else None,
        # Somebody may come to listen to one in the background.
        streams=in_background or bool(request.stream),
        expires_in_seconds=settings.batch_window_seconds if in_background else settings.chat_timeout_seconds,
    )


def _kept(
    parts: Parts, caller: Caller, request: ResponseRequest, raw: bytes
) -> tuple[Mapping[str, Any], bytes]:
    """The request as the desk will read it: with the whole conversation that it continues."""
    body = orjson.loads(raw)
    has_history = body.pop("history", None) is not None
    if request.previous_response_id is not None:
        body["history"] = _history(parts, caller, request.previous_response_id)
        raw = orjson.dumps(body)
        if len(raw) > parts.settings.max_request_bytes:
            raise _unusable(
                "The conversation has become larger than a request may be.", "conversation_too_long"
            )
        kept_request(body)  # refuses what only the whole conversation has too much of
    elif has_history:
        raw = orjson.dumps(body)
    return body, raw


def _history(parts: Parts, caller: Caller, previous_id: str) -> list[dict[str, Any]]:
    try:
        previous = find_response(parts, caller, previous_id)
    except NotFound:
        raise _unusable("There is no previous response of this id.", "previous_response_not_found") from None
    if previous.job.state is not JobState.SUCCEEDED:
        raise Conflict(
            f"The previous response is {previous.body['status']}, and only an answer can be continued.",
            param="previous_response_id",
            code="previous_response_not_completed",
        )
    said = [*previous.request.history, *previous.request.input]
    return [*(item.model_dump(exclude_none=True) for item in said), *previous.body["output"]]


def _unusable(sentence: str, code: str) -> BadRequest:
    return BadRequest(sentence, param="previous_response_id", code=code)
