"""A chat that comes again with its Idempotency-Key listens to the job that it made before."""

import pytest
from workplace import refuse, reply, work

from service.actions.cancel_job import cancel_job
from service.actions.parts import Parts
from service.actions.start_chat import StartedChat, start_chat
from service.contract.callers import Caller
from service.contract.openai import parse_chat_request
from service.errors import BadRequest, KeyReused

ASKED = b'{"messages": [{"role": "user", "content": "Hello"}]}'


def ask(parts: Parts, caller: Caller, raw: bytes = ASKED, key: str | None = "k") -> StartedChat:
    request = parse_chat_request(raw)
    return start_chat(parts, caller, request, raw, wait_for_model=True, idempotency_key=key)


def test_a_chat_is_one_job_while_it_waits_and_after_its_reply(parts: Parts, caller: Caller) -> None:
    first = ask(parts, caller)
    assert ask(parts, caller).job_id == first.job_id
    assert [job.id for job in work(parts, answer=reply)] == [first.job_id]
    assert ask(parts, caller).job_id == first.job_id
    assert work(parts) == []


def test_without_a_key_every_chat_is_a_job(parts: Parts, caller: Caller) -> None:
    assert ask(parts, caller, key=None).job_id != ask(parts, caller, key=None).job_id


def test_another_chat_with_the_key_is_refused_and_makes_no_job(parts: Parts, caller: Caller) -> None:
    first = ask(parts, caller)
    with pytest.raises(KeyReused):
        ask(parts, caller, ASKED.replace(b"Hello", b"Bye"))
    assert [job.id for job in work(parts)] == [first.job_id]


def test_a_chat_that_failed_or_was_cancelled_is_asked_anew(parts: Parts, caller: Caller) -> None:
    failed = ask(parts, caller)
    work(parts, answer=lambda job: refuse(job, BadRequest("The image is broken.")))
    cancelled = ask(parts, caller)
    assert cancelled.job_id != failed.job_id
    cancel_job(parts, caller, cancelled.job_id)
    again = ask(parts, caller)
    assert again.job_id not in (failed.job_id, cancelled.job_id)
    assert ask(parts, caller).job_id == again.job_id
