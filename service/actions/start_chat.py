"""A chat request becomes a job with a listener."""

import time
from dataclasses import dataclass

from service.actions.keep_body import keep_body
from service.actions.known_models import known_models, unknown_model
from service.actions.parts import Parts
from service.actions.readiness import ready_models
from service.contract.callers import Caller
from service.contract.endpoints import CHAT
from service.contract.manifest import DEFAULT_MODEL
from service.contract.openai import ChatRequest
from service.contract.tickets import Wake
from service.errors import Unavailable
from service.store import jobs
from service.store.jobs import NewJob

RETRY_AFTER_SECONDS = 10
# What huggingface_hub sends as the model's name where its user gave it an address and no name.
PLACEHOLDERS = frozenset({"dummy", "tgi"})


@dataclass(frozen=True, slots=True)
class StartedChat:
    """A chat that waits for its worker. created: Unix seconds. model: the name under which it is served."""

    job_id: int
    created: int
    model: str


def start_chat(
    parts: Parts, caller: Caller, request: ChatRequest, raw: bytes, *, wait_for_model: bool = False
) -> StartedChat:
    """Store a conversation and ring. raw: the body that `request` was read from, which is what the worker will read.

    With no worker ready this is Unavailable at once, unless the caller chose to wait for one.
    """
    return start_request(
        parts, caller, request.model, raw, streams=bool(request.stream), wait_for_model=wait_for_model
    )


def start_request(
    parts: Parts,
    caller: Caller,
    model_name: str,
    raw: bytes,
    *,
    endpoint: str = CHAT,
    streams: bool = False,
    wait_for_model: bool = False,
) -> StartedChat:
    """The same for any endpoint whose requests have a listener. raw: what the desk reads, as JSON."""
    known = known_models(parts)
    model = known.get(DEFAULT_MODEL if model_name in PLACEHOLDERS else model_name)
    if model is None:
        raise unknown_model(model_name, known)
    if not wait_for_model and model not in ready_models(parts):
        raise Unavailable(
            f"The model {model!r} is not ready.",
            code="model_not_ready",
            hint="Send it again in a moment, or with the header `x-wait-for-model: true` to wait.",
            retry_after=RETRY_AFTER_SECONDS,
        )
    body, payload = keep_body(parts, raw)
    new = NewJob(
        tenant_id=caller.tenant_id,
        key_id=caller.key_id,
        model=model,
        body=body,
        payload=payload,
        endpoint=endpoint,
        streams=streams,
        # Should this process die, nobody listens any more, and the job must not wait for ever.
        expires_in_seconds=parts.settings.chat_timeout_seconds,
    )
    with parts.database.transaction() as db:
        job_id = jobs.insert_chat(db, new)
    parts.streams.keep_alive(job_id)
    parts.doorbell.ring(Wake(model))
    return StartedChat(job_id, int(time.time()), model)
