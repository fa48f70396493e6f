"""A chat request becomes a job with a listener."""

import hashlib
import time
from dataclasses import dataclass
from functools import partial

from sqlalchemy.orm import Session

from service.actions.keep_body import keep_body
from service.actions.known_models import served_name
from service.actions.once import Once, SentBefore, be_first
from service.actions.parts import Parts
from service.actions.readiness import require_model
from service.contract.callers import Caller
from service.contract.endpoints import CHAT
from service.contract.equal_requests import is_deterministic
from service.contract.job_objects import job_number, wire_id
from service.contract.lifecycle import JobState
from service.contract.openai import ChatRequest
from service.contract.tickets import Wake
from service.store import jobs
from service.store.jobs import NewJob

ROUTE = "/v1/chat/completions"
COMES_ONCE = Once(ROUTE, None)


@dataclass(frozen=True, slots=True)
class StartedChat:
    """A chat that waits for its worker. created: Unix seconds. model: the name under which it is served.

    may_reuse: an answer that an equal request has had may be its own.
    """

    job_id: int
    created: int
    model: str
    may_reuse: bool = False


def start_chat(
    parts: Parts,
    caller: Caller,
    request: ChatRequest,
    raw: bytes,
    *,
    wait_for_model: bool = False,
    path_model: str | None = None,
    use_cache: bool = False,
    idempotency_key: str | None = None,
) -> StartedChat:
    """Store a conversation and ring. raw: the body that `request` was read from, which is what the worker will read.

    With no worker ready this is ModelNotReady at once, unless the caller chose to wait for one. path_model: the model
    that the request's address names. use_cache: an answer that an equal request has had will do. idempotency_key: the
    same key with the same request listens to the job that it made before, unless that has ended without a reply.
    """
    return start_request(
        parts,
        caller,
        request.model,
        raw,
        streams=bool(request.stream),
        wait_for_model=wait_for_model,
        path_model=path_model,
        reuse=use_cache and parts.settings.answer_cache_seconds > 0 and is_deterministic(request),
        once=Once(ROUTE, idempotency_key, hashlib.sha256(raw).hexdigest()),
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
    path_model: str | None = None,
    reuse: bool = False,
    once: Once = COMES_ONCE,
) -> StartedChat:
    """The same for any endpoint whose requests have a listener. raw: what the desk reads, as JSON."""
    model = served_name(parts, model_name, path_model)
    require_model(parts, model, may_load=wait_for_model)
    body, payload = keep_body(parts, raw)
    new = NewJob(
        tenant_id=caller.tenant_id,
        key_id=caller.key_id,
        model=model,
        body=body,
        payload=payload,
        endpoint=endpoint,
        streams=streams,
        reuse=reuse,
        # Should this process die, nobody listens any more, and the job must not wait for ever.
        expires_in_seconds=parts.settings.chat_timeout_seconds,
    )
    try:
        with parts.database.transaction() as db:
            job_id = jobs.insert_chat(db, new)
            be_first(db, caller, once, wire_id(job_id), is_there=partial(_may_reply, db, caller))
    except SentBefore as before:
        job_id = job_number(before.object_id)
    parts.streams.keep_alive(job_id)
    parts.doorbell.ring(Wake(model))
    return StartedChat(job_id, int(time.time()), model, reuse)


def _may_reply(db: Session, caller: Caller, job_id: str) -> bool:
    job = jobs.get(db, caller.tenant_id, job_number(job_id))
    return job is not None and (job.state is JobState.SUCCEEDED or not job.state.is_terminal)
