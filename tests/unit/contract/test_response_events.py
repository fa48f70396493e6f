"""A response's body and its events are what the official client's own types and accumulator take them for."""

from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from service.contract.ended_jobs import EndedJob
from service.contract.jobs import Usage
from service.contract.lifecycle import JobState
from service.contract.replies import FinishReason, choice_body
from service.contract.response_bodies import answered_body, response_body, told_in_response
from service.contract.response_events import Event, ResponseEvents
from service.contract.response_failures import failure, failure_of
from service.contract.response_objects import ResponseObject
from service.contract.responses import ResponseRequest, kept_request
from service.contract.result_table import table_row
from service.contract.streams import Delta
from service.errors import BadMedia, MediaUnavailable, ModelFailed

EVENTS: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
ENTRY = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
USAGE = Usage(prompt_tokens=7, completion_tokens=3, text_tokens=7, cached_tokens=2)
RICH = {
    "instructions": "Be brief.",
    "tools": [{"type": "function", "name": "look_up"}],
    "tool_choice": {"type": "function", "name": "look_up"},
    "text": {"format": {"type": "text"}},
    "metadata": {"a": "b"},
    "temperature": 0.5,
}


def call(number: int) -> dict[str, Any]:
    function = {"name": "look_up", "arguments": f'{{"n":{number}}}'}
    return {"id": f"call_{number}", "type": "function", "function": function}


def answered(
    text: str,
    *calls: dict[str, Any],
    reason: FinishReason = "stop",
    request: ResponseRequest | None = None,
    logprobs: tuple[dict[str, Any], ...] = (),
) -> dict[str, Any]:
    choice = choice_body(index=0, text=text, finish_reason=reason, logprobs=logprobs, tool_calls=calls)
    request = request or kept_request({"input": "Hello"})
    return answered_body(request, job_id=7, created=5, model="tiny", choices=[choice], usage=USAGE)


def events(deltas: Iterable[Delta], body: dict[str, Any], **fields: Any) -> list[Event]:
    request = kept_request({"input": "Hello"} | fields)
    status = "queued" if request.background else "in_progress"
    said = ResponseEvents(response_body(request, job_id=7, created=5, model="tiny", status=status), 7)
    told = list(said.begin())
    for delta in deltas:
        told += said.more(delta)
    return told + list(said.end(body))


def client_reads(told: Iterable[Event]) -> ResponseStreamState[None]:
    """What the official client makes of events; it refuses what does not fit together."""
    state: ResponseStreamState[None] = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in told:
        state.handle_event(EVENTS.validate_python(event))
    return state


def types(told: Iterable[Event]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in told]


@pytest.mark.parametrize(
    "body",
    [
        answered("Hi", logprobs=(ENTRY,)),
        answered("Hi", reason="length"),
        answered("", call(1), call(2), reason="tool_calls", request=kept_request({"input": "x"} | RICH)),
        *(
            response_body(
                kept_request({"input": "x", "background": True}),
                job_id=7,
                created=5,
                model="tiny",
                status=status,
            )
            for status in ("queued", "in_progress", "cancelled")
        ),
        response_body(
            kept_request({"input": "x"}),
            job_id=7,
            created=5,
            model="tiny",
            status="failed",
            error=failure_of(ModelFailed("It broke.")),
        ),
    ],
    ids=lambda body: body["status"],
)
def test_a_body_of_every_status_is_a_response_to_the_client_and_to_our_document(body: dict[str, Any]):
    Response.model_validate(body)
    ResponseObject.model_validate(body, extra="forbid")


def test_usage_adds_up_and_says_what_was_not_computed_again():
    usage = answered("Hi")["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] == 10
    assert usage["input_tokens_details"]["cached_tokens"] == 2


@pytest.mark.parametrize(("reason", "status"), [("stop", "completed"), ("length", "incomplete")])
def test_an_answer_that_was_cut_off_is_incomplete_and_says_why(reason: FinishReason, status: str):
    body = answered("Hi", reason=reason)
    assert (body["status"], body["output"][0]["status"]) == (status, status)
    assert (body["incomplete_details"] == {"reason": "max_output_tokens"}) is (reason == "length")
    assert (body["completed_at"] is None) is (reason == "length")


def test_words_come_in_one_item_and_one_part():
    told = events([Delta("Hi ", logprobs=(ENTRY,)), Delta("there")], answered("Hi there", logprobs=(ENTRY,)))
    assert types(told) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in told] == list(range(10))
    final = client_reads(told)._completed_response
    assert final is not None
    assert final.output_text == "Hi there"


def test_an_answer_without_a_word_still_has_its_item():
    told = events([], answered(""))
    assert types(told)[2:4] == ["output_item.added", "content_part.added"]
    final = client_reads(told)._completed_response
    assert final is not None
    assert final.output_text == ""


def test_an_answer_that_was_cut_off_ends_as_incomplete():
    told = events([Delta("Hi")], answered("Hi", reason="length"))
    assert types(told)[-1] == "incomplete"
    client_reads(told)


def test_in_the_background_a_response_waits_before_it_runs():
    assert types(events([], answered("Hi"), background=True))[:3] == ["created", "queued", "in_progress"]


def test_a_response_that_fails_closes_what_it_had_begun():
    body = response_body(kept_request({"input": "x"}), job_id=7, created=5, model="tiny", status="failed")
    told = events([Delta("Hi")], body | {"error": failure_of(ModelFailed("It broke."))})
    assert types(told)[-2:] == ["output_item.done", "failed"]
    assert told[-2]["item"]["status"] == "incomplete"
    client_reads(told)


PIECES = st.lists(st.one_of(st.sampled_from(["a", "bc", " d"]), st.integers(1, 3)), max_size=6, unique=True)


@settings(deadline=None)
@given(PIECES)
def test_whatever_comes_in_whatever_order_the_stream_and_the_whole_say_the_same(pieces: list[str | int]):
    deltas = [
        Delta(piece) if isinstance(piece, str) else Delta("", tool_calls=(call(piece),)) for piece in pieces
    ]
    calls = [call(piece) for piece in pieces if isinstance(piece, int)]
    body = answered("".join(piece for piece in pieces if isinstance(piece, str)), *calls)
    told = events(deltas, body)
    final = client_reads(told)._completed_response
    assert final is not None
    places = {event["item"]["id"]: event["output_index"] for event in told if "item" in event}
    assert [places[item["id"]] for item in told[-1]["response"]["output"]] == list(range(len(places)))
    assert final.output_text == "".join(
        event["delta"] for event in told if event["type"].endswith("text.delta")
    )
    whole = told_in_response(body)
    assert (whole.text, list(whole.tool_calls)) == (final.output_text, calls)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ModelFailed("It broke."), "server_error"),
        (BadMedia("Broken.", param="input[0].content[0].image_url"), "invalid_image"),
        (MediaUnavailable("Gone.", param="input[0].content[0].image_url"), "failed_to_download_image"),
        (BadMedia("Broken.", param="input[0].content[0].audio_url"), "invalid_prompt"),
    ],
)
def test_a_failure_has_one_of_the_codes_that_the_client_knows(error: Any, code: str):
    told = failure_of(error)
    assert (told["code"], told["param"], told["message"]) == (code, error.param, error.message)
    assert "status" not in told
    assert failure(JobState.FAILED, error.as_dict() | {"status": error.status}) == told


def test_a_response_that_waited_too_long_has_failed():
    assert failure(JobState.EXPIRED, None)["code"] == "server_error"


@pytest.mark.parametrize(
    ("body", "text", "reason"),
    [
        (answered("Hi"), "Hi", "stop"),
        (answered("Hi", reason="length"), "Hi", "length"),
        (answered("", call(1), reason="tool_calls"), None, "tool_calls"),
    ],
)
def test_a_table_of_results_has_a_responses_words_and_calls(body: dict[str, Any], text: str, reason: str):
    job = EndedJob(7, 1, "a", JobState.SUCCEEDED, "tiny", body=orjson.dumps(body))
    row = table_row(job, "")
    assert (row["text"], row["finish_reason"]) == (text, reason)
    assert (row["tool_calls"] is None) is (text is not None)
