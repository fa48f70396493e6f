"""Webhooks hear of the end of each response that ran in the background, and of no other job's."""

from typing import Any

import orjson
import pytest
from openai.types.webhooks import UnwrapWebhookEvent
from pydantic import TypeAdapter
from sqlalchemy import select, update
from workplace import refuse, work

from service.actions.cancel_job import cancel_job
from service.actions.parts import Parts
from service.actions.recover_lost_work import recover_lost_work
from service.actions.start_response import Sender, start_response
from service.actions.submit_job import submit_job
from service.contract.callers import Caller
from service.contract.endpoints import request_in
from service.contract.jobs import ClaimedJob, Outcome, Succeeded, Usage
from service.contract.lifecycle import WorkerRole
from service.contract.replies import FinishReason, choice_body
from service.contract.responses import ResponseRequest
from service.contract.webhooks import event_body
from service.errors import BadMedia, WorkerLost
from service.store import jobs, webhooks, workers
from service.store.tables import Job, WebhookDelivery

ENDS = [f"response.{end}" for end in ("completed", "incomplete", "failed", "cancelled")]
EVENT: TypeAdapter[UnwrapWebhookEvent] = TypeAdapter(UnwrapWebhookEvent)


@pytest.fixture
def webhook(parts: Parts) -> None:
    with parts.database.transaction() as db:
        webhooks.insert_webhook(
            db,
            "default",
            webhook_id=webhooks.new_id(),
            name="mine",
            url="https://hooks.example.com/",
            event_types=ENDS,
        )


@pytest.fixture
def response(parts: Parts, caller: Caller, webhook: None) -> int:
    """The number of one that waits."""
    body = {"input": "Hello", "background": True}
    found = start_response(parts, caller, ResponseRequest.model_validate(body), orjson.dumps(body), Sender())
    return found.job.id


def heard(parts: Parts) -> list[tuple[str, str]]:
    with parts.database.reading() as db:
        rows = db.execute(select(WebhookDelivery.event_type, WebhookDelivery.object_id))
        return [(row.event_type, row.object_id) for row in rows]


def answer(job: ClaimedJob, reason: FinishReason = "stop") -> Outcome:
    assert job.body is not None
    choice = choice_body(index=0, text="Hi.", finish_reason=reason)
    reply = request_in(job.endpoint, job.body).reply
    body = reply(job_id=job.id, created=9, model=job.model, choices=[choice], usage=Usage())
    return Succeeded(job, body, Usage())


@pytest.mark.parametrize(
    ("end", "event"),
    [
        (answer, "response.completed"),
        (lambda job: answer(job, "length"), "response.incomplete"),
        (lambda job: refuse(job, BadMedia("Broken.")), "response.failed"),
    ],
)
def test_an_end_is_told_as_what_it_is(parts: Parts, response: int, end: Any, event: str):
    work(parts, answer=end)
    assert heard(parts) == [(event, f"resp_{response}")]
    told = EVENT.validate_json(event_body("evt_1", event, 5, f"resp_{response}"))
    assert (told.type, told.data.id) == (event, f"resp_{response}")


def test_what_will_be_tried_again_has_not_ended(parts: Parts, response: int):
    work(parts, answer=lambda job: refuse(job, WorkerLost("Gone.")))
    assert heard(parts) == []


def test_one_that_is_cancelled_while_it_waits_is_told(parts: Parts, caller: Caller, response: int):
    assert cancel_job(parts, caller, response)
    assert not cancel_job(parts, caller, response)
    assert heard(parts) == [("response.cancelled", f"resp_{response}")]


def test_one_that_waited_too_long_is_told(parts: Parts, response: int):
    with parts.database.transaction() as db:
        db.execute(update(Job).values(expires_at=1.0))
    recover_lost_work(parts)
    assert heard(parts) == [("response.failed", f"resp_{response}")]


def test_one_that_was_to_be_stopped_when_its_worker_died_is_told(parts: Parts, caller: Caller, response: int):
    with parts.database.transaction() as db:
        owner = workers.register(db, WorkerRole.ENGINE, "test", ["tiny"], None)
        assert jobs.claim(db, models=["tiny"], owner=owner, limit=1)
    cancel_job(parts, caller, response)
    assert heard(parts) == []
    with parts.database.transaction() as db:
        workers.lose(db, owner, "killed")
    recover_lost_work(parts)
    assert heard(parts) == [("response.cancelled", f"resp_{response}")]


def test_other_jobs_are_nobodys_news(parts: Parts, caller: Caller, webhook: None):
    submit_job(parts, caller, b'{"prompt": "Hello"}')
    with parts.database.transaction() as db:
        jobs.insert_chat(
            db,
            jobs.NewJob(
                tenant_id="default", model="tiny", endpoint="/v1/responses", body=b'{"input": "Hello"}'
            ),
        )
    work(parts)
    assert heard(parts) == []
