"""Accept one request that nobody listens to: it waits among the bulk work, and its result stays."""

import hashlib

from service.actions.keep_body import keep_body
from service.actions.known_models import served_name
from service.actions.once import Once, SentBefore, be_first
from service.actions.parts import Parts
from service.actions.read_jobs import get_job
from service.contract.batches import DEFAULT_PRIORITY
from service.contract.callers import Caller
from service.contract.chat import parse_chat_request
from service.contract.job_objects import JobObject, wire_id
from service.contract.lifecycle import JobClass
from service.contract.manifest import Defaults, LineError, parse_line
from service.contract.tickets import Wake
from service.store import jobs
from service.store.jobs import NewJob

ROUTE = "/v1/jobs#one"


def submit_job(
    parts: Parts,
    caller: Caller,
    raw: bytes,
    *,
    priority: int = DEFAULT_PRIORITY,
    idempotency_key: str | None = None,
    path_model: str | None = None,
) -> JobObject:
    """Store one request as a job. raw: anything that may stand on a line of a manifest, as JSON.

    path_model: the model that the request's address names.
    The same idempotency key with the same request gives the same job again.
    """
    once = Once(ROUTE, idempotency_key, hashlib.sha256(b"%d " % priority + raw).hexdigest())
    model, new = _read(parts, caller, raw, priority, path_model)
    try:
        with parts.database.transaction() as db:
            job_id = wire_id(jobs.insert_chat(db, new))
            be_first(db, caller, once, job_id)
    except SentBefore as before:
        return get_job(parts, caller, before.object_id)
    parts.doorbell.ring(Wake(model))
    return get_job(parts, caller, job_id)


def _read(
    parts: Parts, caller: Caller, raw: bytes, priority: int, path_model: str | None
) -> tuple[str, NewJob]:
    line = parse_line(raw, 1, Defaults())
    if isinstance(line, LineError):
        raise line.error
    parse_chat_request(line.body)
    model = served_name(parts, line.model, path_model)
    body, payload = keep_body(parts, line.body)
    new = NewJob(
        tenant_id=caller.tenant_id,
        key_id=caller.key_id,
        model=model,
        body=body,
        payload=payload,
        job_class=JobClass.BULK,
        priority=priority,
        custom_id=line.custom_id,
        expires_in_seconds=parts.settings.batch_window_seconds,
    )
    return model, new
