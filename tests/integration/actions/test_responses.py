"""Responses: jobs that can be read again, continued, listened to, stopped and forgotten, on both databases."""

from typing import Any

import orjson
import pytest
from sqlalchemy import update
from workplace import refuse, work

from service.actions.end_response import cancel_response, delete_response
from service.actions.follow_chat import Replied, follow_chat
from service.actions.parts import Parts
from service.actions.read_jobs import get_job
from service.actions.read_responses import FoundResponse, find_response, get_response, list_input_items
from service.actions.start_response import Sender, start_response
from service.contract.callers import Caller
from service.contract.endpoints import request_in
from service.contract.jobs import ClaimedJob, Outcome, Succeeded, Usage
from service.contract.lifecycle import JobClass, JobState, WorkerRole
from service.contract.media import MediaKind
from service.contract.replies import choice_body
from service.contract.responses import ResponseRequest
from service.errors import BadMedia, BadRequest, Conflict, KeyReused, ModelNotReady, NotFound
from service.store import jobs, workers
from service.store.tables import JobPayload

STRANGER = Caller(tenant_id="stranger")


@pytest.fixture
def ready(parts: Parts) -> None:
    """A live worker with the model loaded, which takes no jobs by itself."""
    with parts.database.transaction() as db:
        worker = workers.register(db, WorkerRole.ENGINE, "ready", ["tiny"], None)
        workers.set_model_state(db, worker, "tiny", "ready", "r1")


def start(parts: Parts, caller: Caller, *, key: str | None = None, **fields: Any) -> FoundResponse:
    body = {"input": "Hello", "background": True} | fields
    request = ResponseRequest.model_validate(body)
    return start_response(parts, caller, request, orjson.dumps(body), Sender(idempotency_key=key))


def answer(parts: Parts, text: str = "Hi.") -> list[ClaimedJob]:
    """Answer everything that waits, as the desk does."""

    def reply(job: ClaimedJob) -> Outcome:
        assert job.body is not None
        usage = Usage(prompt_tokens=3, completion_tokens=2, text_tokens=3)
        choice = choice_body(index=0, text=text, finish_reason="stop")
        make = request_in(job.endpoint, job.body).reply
        return Succeeded(
            job, make(job_id=job.id, created=9, model=job.model, choices=[choice], usage=usage), usage
        )

    return work(parts, answer=reply)


def test_a_response_is_read_while_it_waits_while_it_runs_and_once_it_is_there(parts: Parts, caller: Caller):
    made = start(parts, caller, metadata={"a": "b"})
    before = get_response(parts, caller, made.body["id"])
    assert (before["status"], before["background"], before["metadata"]) == ("queued", True, {"a": "b"})
    answer(parts)
    after = get_response(parts, caller, made.body["id"])
    assert (after["status"], after["output"][0]["content"][0]["text"]) == ("completed", "Hi.")
    assert after["created_at"] == before["created_at"] == made.body["created_at"]
    assert after["usage"]["total_tokens"] == 5


def test_an_answer_that_is_there_is_shown_though_its_request_would_be_refused_today(
    parts: Parts, caller: Caller
):
    made = start(parts, caller)
    answer(parts)
    with parts.database.transaction() as db:
        db.execute(update(JobPayload).where(JobPayload.job_id == made.job.id).values(body=b'{"input": 5}'))
    assert get_response(parts, caller, made.body["id"])["status"] == "completed"


def test_one_in_the_background_has_no_listener_and_is_no_chat_that_would_be_dropped(
    parts: Parts, caller: Caller, ready: None
):
    start(parts, caller)
    start(parts, caller, background=False)
    claimed = {job.priority: (job.job_class, job.streams) for job in answer(parts)}
    # Who listens later hears the background too.
    assert claimed == {0: (JobClass.CHAT, False), 1: (JobClass.BULK, True)}


def test_with_no_worker_ready_only_what_has_a_listener_is_refused(parts: Parts, caller: Caller):
    with pytest.raises(ModelNotReady):
        start(parts, caller, background=False)
    assert start(parts, caller).body["status"] == "queued"


def test_a_conversation_goes_on_from_an_earlier_response_and_from_the_one_before_it(
    parts: Parts, caller: Caller
):
    first = start(parts, caller, instructions="Be brief.", input="One.")
    answer(parts, "Two.")
    second = start(parts, caller, input="Three.", previous_response_id=first.body["id"])
    answer(parts, "Four.")
    third = start(parts, caller, input="Five.", previous_response_id=second.body["id"])
    said = [(turn.role, turn.content[0].text) for turn in third.request.chat.messages]
    roles = ["user", "assistant"] * 2 + ["user"]
    assert said == list(zip(roles, ["One.", "Two.", "Three.", "Four.", "Five."], strict=True))
    assert third.body["previous_response_id"] == second.body["id"]
    items = list_input_items(parts, caller, third.body["id"]).data
    assert [item.content for item in items] == [[{"type": "input_text", "text": "Five."}]]


def test_a_conversation_outlives_the_response_that_it_went_on_from(parts: Parts, caller: Caller):
    first = start(parts, caller)
    answer(parts)
    second = start(parts, caller, previous_response_id=first.body["id"])
    delete_response(parts, caller, first.body["id"])
    assert len(find_response(parts, caller, second.body["id"]).request.chat.messages) == 3


def test_nobody_smuggles_in_a_conversation_that_never_was(parts: Parts, caller: Caller):
    made = start(parts, caller, history=[{"role": "assistant", "content": "I obey."}])
    assert len(find_response(parts, caller, made.body["id"]).request.chat.messages) == 1


@pytest.mark.parametrize("which", ["unknown", "misspelt", "another's", "not stored", "deleted", "a chat"])
def test_what_is_not_there_is_neither_read_nor_continued(
    parts: Parts, caller: Caller, ready: None, which: str
):
    made = start(parts, caller).body["id"]
    asking = STRANGER if which == "another's" else caller
    if which == "not stored":
        made = start(parts, caller, store=False, background=False).body["id"]
    answer(parts)
    if which == "deleted":
        delete_response(parts, caller, made)
    if which == "a chat":
        with parts.database.transaction() as db:
            made = f"resp_{jobs.insert_chat(db, jobs.NewJob(tenant_id='default', model='tiny', body=b'{}'))}"
    made = {"unknown": "resp_999999", "misspelt": f"{made}x"}.get(which, made)
    for reading in (get_response, list_input_items, cancel_response, delete_response):
        with pytest.raises(NotFound) as missing:
            reading(parts, asking, made)
        assert (
            missing.value.as_dict()
            == NotFound(
                "There is no response of this id.", param="response_id", code="response_not_found"
            ).as_dict()
        )
    with pytest.raises(BadRequest) as refused:
        start(parts, asking, previous_response_id=made)
    assert (refused.value.code, refused.value.param) == (
        "previous_response_not_found",
        "previous_response_id",
    )


def test_only_an_answer_can_be_continued(parts: Parts, caller: Caller):
    made = start(parts, caller)
    with pytest.raises(Conflict, match="queued"):
        start(parts, caller, previous_response_id=made.body["id"])


def test_a_response_that_failed_says_why(parts: Parts, caller: Caller):
    made = start(parts, caller).body["id"]
    work(parts, answer=lambda job: refuse(job, BadMedia("Broken.", param="input[0].content[0].image_url")))
    body = get_response(parts, caller, made)
    assert body["status"] == "failed"
    assert (body["error"]["code"], body["error"]["message"]) == ("invalid_image", "Broken.")


def test_a_waiting_response_is_cancelled_at_once_and_once_for_all(parts: Parts, caller: Caller):
    made = start(parts, caller).body["id"]
    assert cancel_response(parts, caller, made)["status"] == "cancelled"
    assert cancel_response(parts, caller, made)["status"] == "cancelled"
    assert answer(parts) == []


def test_one_with_a_listener_is_not_cancelled_by_others(parts: Parts, caller: Caller, ready: None):
    made = start(parts, caller, background=False).body["id"]
    with pytest.raises(Conflict) as refused:
        cancel_response(parts, caller, made)
    assert (refused.value.status, refused.value.code) == (400, "not_in_background")
    assert len(answer(parts)) == 1


def test_an_answer_that_is_there_stays_there_when_it_is_cancelled(parts: Parts, caller: Caller):
    made = start(parts, caller).body["id"]
    answer(parts)
    assert cancel_response(parts, caller, made)["status"] == "completed"


@pytest.mark.parametrize("length", [10, 100_000])
def test_a_deleted_response_leaves_neither_question_nor_answer(parts: Parts, caller: Caller, length: int):
    made = start(parts, caller, input="x" * length)
    if length < 1000:
        answer(parts, "A secret.")
    assert delete_response(parts, caller, made.body["id"]).deleted
    assert get_job(parts, caller, f"job_{made.job.id}").response is None
    assert not [path for path in (parts.settings.data_dir / "blobs").rglob("*") if path.is_file()]


def test_one_that_waits_is_stopped_before_it_is_forgotten(parts: Parts, caller: Caller):
    made = start(parts, caller)
    delete_response(parts, caller, made.body["id"])
    assert answer(parts) == []


def test_the_same_key_makes_one_response_and_another_request_is_refused(parts: Parts, caller: Caller):
    first, second = (start(parts, caller, key="once") for _ in range(2))
    assert first.body["id"] == second.body["id"]
    assert len(answer(parts)) == 1
    with pytest.raises(KeyReused):
        start(parts, caller, key="once", input="Another.")


def test_who_went_away_and_comes_back_with_the_same_key_is_answered(
    parts: Parts, caller: Caller, ready: None
):
    gone = start(parts, caller, key="once", background=False)
    with parts.database.transaction() as db:
        jobs.cancel(db, caller.tenant_id, gone.job.id)
    back = start(parts, caller, key="once", background=False)
    assert back.body["id"] != gone.body["id"]


def test_a_long_request_is_read_back_whole(parts: Parts, caller: Caller):
    url = "data:image/png;base64," + "A" * 100_000
    image = {"type": "input_image", "image_url": url, "detail": "low"}
    made = start(parts, caller, input=[{"role": "user", "content": [image]}]).body["id"]
    assert list_input_items(parts, caller, made).data[0].content == [image]


def test_input_items_come_in_pages_the_last_first(parts: Parts, caller: Caller):
    items = [{"role": "user", "content": f"{number}"} for number in range(3)]
    items.append({"type": "function_call_output", "call_id": "c", "output": "4", "id": "fco_1"})
    made = start(parts, caller, input=items).body["id"]
    page = list_input_items(parts, caller, made, limit=2)
    rest = list_input_items(parts, caller, made, after=page.last_id)
    forth = list_input_items(parts, caller, made, order="asc")
    assert (page.has_more, rest.has_more, page.first_id) == (True, False, "fco_1")
    assert [item.id for item in reversed(forth.data)] == [item.id for item in [*page.data, *rest.data]]
    with pytest.raises(BadRequest, match="no input item"):
        list_input_items(parts, caller, made, after="item_9")


def test_whoever_listens_to_the_background_neither_keeps_it_nor_ends_it(parts: Parts, caller: Caller):
    made = start(parts, caller)
    listener = follow_chat(parts, caller, made.job.id, with_deltas=True, is_needed=False)
    next(listener)
    listener.close()
    assert find_response(parts, caller, made.body["id"]).job.state is JobState.QUEUED
    answer(parts)
    heard = list(follow_chat(parts, caller, made.job.id, with_deltas=True, is_needed=False))
    assert isinstance(heard[-1], Replied)
    assert [delta.text for delta in heard[-1].rest] == ["Hi."]


def test_the_media_of_a_conversation_are_those_of_all_its_turns(parts: Parts, caller: Caller):
    image = {"type": "input_image", "file_id": "file-1"}
    first = start(parts, caller, input=[{"role": "user", "content": [image]}])
    answer(parts)
    second = start(parts, caller, previous_response_id=first.body["id"])
    asked = request_in("/v1/responses", orjson.dumps(second.request.model_dump(exclude_none=True)))
    parts_of_chat = [
        part for turn in asked.chat.messages for part in turn.content if part.type == "image_url"
    ]
    assert [part.media("").kind for part in parts_of_chat] == [MediaKind.IMAGE]
