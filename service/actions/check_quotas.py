"""Whether a tenant may ask for more: its requests, its tokens, its waiting jobs and its stored bytes.

Quotas are held at the door, when a request arrives. What was accepted is a promise, and runs whatever is spent:

    requests_per_minute   requests that make something: chats, jobs, batches, uploads … (polls where settings say so)
    tokens_per_day        spent by answers since midnight UTC, those of batches included: then no work is taken
    queued_jobs           bulk jobs that wait: then no job or batch is taken; one batch may go beyond it
    stored_bytes          files, results included: then no upload is taken
"""

import time
from dataclasses import dataclass

from service.actions.parts import Parts
from service.contract.callers import Caller
from service.errors import TooManyRequests

SECONDS_PER_DAY = 24 * 3600
ASK_AGAIN_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request would use. spends: tokens. queues: it leaves jobs that wait. num_bytes: to be stored."""

    spends: bool = False
    queues: bool = False
    num_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a quota. reset_seconds: until all of it is there again."""

    limit: int
    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is left of the quotas that the tenant has, and the refusal where one of them is used up."""

    requests: Allowance | None = None
    tokens: Allowance | None = None
    refusal: TooManyRequests | None = None


def check_quotas(parts: Parts, caller: Caller, asked: Asked) -> Verdict:
    """Count this request against its tenant's quotas. One that is refused for another reason is not counted."""
    tokens = _tokens_left(parts, caller)
    if asked.spends and tokens is not None and tokens.remaining == 0:
        return Verdict(tokens=tokens, refusal=_spent(tokens))
    if (refusal := _no_room(parts, caller, asked)) is not None:
        return Verdict(tokens=tokens, refusal=refusal)
    requests, allowed = _take_request(parts, caller)
    return Verdict(requests, tokens, None if allowed or requests is None else _too_often(requests))


def require_queue_room(parts: Parts, caller: Caller) -> None:
    """Refuse a job that would wait where too many do: for requests of which the path does not say that they queue."""
    if (refusal := _no_room(parts, caller, Asked(queues=True))) is not None:
        raise refusal


def _tokens_left(parts: Parts, caller: Caller) -> Allowance | None:
    limit = parts.meters.quotas(caller.tenant_id).tokens_per_day
    if limit is None:
        return None
    left = max(0, limit - parts.meters.tokens_today(caller.tenant_id))
    return Allowance(limit, left, SECONDS_PER_DAY - time.time() % SECONDS_PER_DAY)


def _no_room(parts: Parts, caller: Caller, asked: Asked) -> TooManyRequests | None:
    meters, tenant_id = parts.meters, caller.tenant_id
    most_bytes, most_jobs = meters.quotas(tenant_id).stored_bytes, meters.quotas(tenant_id).queued_jobs
    stores = asked.num_bytes
    if most_bytes is not None and stores is not None and meters.bytes_stored(tenant_id) + stores > most_bytes:
        return _full(most_bytes)
    if asked.queues and most_jobs is not None and not meters.add_waiting_job(tenant_id, most_jobs):
        return _queue_is_long(most_jobs)
    return None


def _take_request(parts: Parts, caller: Caller) -> tuple[Allowance | None, bool]:
    limit = parts.meters.quotas(caller.tenant_id).requests_per_minute
    if limit is None:
        return None, True
    rate = parts.rates.take(caller.tenant_id, limit)
    return Allowance(limit, rate.remaining, rate.reset_seconds), rate.allowed


def _too_often(requests: Allowance) -> TooManyRequests:
    return TooManyRequests(
        f"More than {requests.limit} requests in a minute.", retry_after=requests.reset_seconds
    )


def _spent(tokens: Allowance) -> TooManyRequests:
    return TooManyRequests(
        f"The {tokens.limit} tokens of today are spent.",
        code="insufficient_quota",
        hint="They are there again at midnight UTC; what was accepted before still runs.",
        retry_after=tokens.reset_seconds,
    )


def _queue_is_long(limit: int) -> TooManyRequests:
    return TooManyRequests(
        f"{limit} jobs wait already.",
        code="too_many_queued_jobs",
        hint="Wait until some of them have run, or cancel some.",
        retry_after=ASK_AGAIN_SECONDS,
    )


def _full(limit: int) -> TooManyRequests:
    return TooManyRequests(
        f"The files would be larger than {limit} bytes together.",
        code="insufficient_quota",
        hint="Delete files that are no longer needed.",
        retry_after=ASK_AGAIN_SECONDS,
    )
