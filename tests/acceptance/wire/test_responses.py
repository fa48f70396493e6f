"""OpenAI's Responses API, as its official client speaks it."""

import asyncio
import base64
import io
import time
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import Response, ResponseFunctionToolCall
from PIL import Image, ImageDraw
from pydantic import BaseModel
from wire_server import Wire

MODEL = "default"
TOOL: Any = {
    "type": "function",
    "name": "look_up",
    "description": "Look a word up.",
    "parameters": {
        "type": "object",
        "properties": {"word": {"type": "string", "enum": ["cat", "dog"]}},
        "required": ["word"],
        "additionalProperties": False,
    },
    "strict": True,
}
ENDS = {"completed", "incomplete", "failed", "cancelled"}


class Animal(BaseModel):
    name: str
    is_cat: bool


def picture() -> Any:
    drawn, file = Image.new("RGB", (64, 64), "white"), io.BytesIO()
    ImageDraw.Draw(drawn).ellipse((10, 10, 54, 54), fill="red")
    drawn.save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"type": "input_image", "image_url": url, "detail": "auto"}


def about(*parts: Any) -> Any:
    return [{"role": "user", "content": [*parts, {"type": "input_text", "text": "Describe this image."}]}]


def whole(response: Response) -> Response:
    """The response, which has all that the client's own type asks for."""
    return Response.model_validate(response.to_dict())


def until_over(client: openai.OpenAI, response: Response) -> Response:
    give_up = time.monotonic() + 20
    while response.status not in ENDS:
        assert time.monotonic() < give_up
        time.sleep(0.05)
        response = client.responses.retrieve(response.id)
    return response


def test_a_response_is_whole_and_can_be_read_again(client: openai.OpenAI) -> None:
    made = client.responses.create(model=MODEL, input="Hello", metadata={"a": "b"})

    assert whole(made).output_text
    assert (made.status, made.metadata) == ("completed", {"a": "b"})
    assert made.usage is not None
    assert made.usage.total_tokens == made.usage.input_tokens + made.usage.output_tokens
    assert client.responses.retrieve(made.id).to_dict() == made.to_dict()
    assert [item.type for item in client.responses.input_items.list(made.id)] == ["message"]


def test_a_picture_is_described_inline_and_by_its_id(client: openai.OpenAI) -> None:
    image = picture()
    file = client.files.create(
        file=("disc.png", base64.b64decode(image["image_url"].partition(",")[2])), purpose="vision"
    )
    by_id = {"type": "input_image", "file_id": file.id, "detail": "low"}

    told = [client.responses.create(model=MODEL, input=about(part)) for part in (image, by_id)]

    assert all("red circle" in response.output_text for response in told)
    assert told[0].usage is not None
    assert told[0].usage.input_tokens_details.to_dict()["image_tokens"]


def test_a_picture_that_cannot_be_read_is_named_where_it_stands(client: openai.OpenAI) -> None:
    broken: Any = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}

    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=MODEL, input=about(picture(), broken))
    waited = client.responses.create(model=MODEL, input=about(broken), background=True)
    failed = until_over(client, waited)

    assert refused.value.param == "input[0].content[1].image_url"
    assert whole(failed).error is not None
    assert (failed.status, failed.error and failed.error.code) == ("failed", "invalid_image")


def test_a_stream_says_the_same_as_the_response_it_ends_with(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model=MODEL, input="Hello", stream=True))

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [events[0].type, events[-1].type] == ["response.created", "response.completed"]
    final = events[-1].response  # type: ignore[union-attr]
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == final.output_text == client.responses.retrieve(final.id).output_text


def test_the_clients_stream_helper_puts_the_answer_together(client: openai.OpenAI) -> None:
    with client.responses.stream(model=MODEL, input="Hello", text_format=Animal) as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()

    assert snapshots[-1] == final.output_text
    assert isinstance(final.output_parsed, Animal)


def test_every_event_bears_its_name_on_the_line(cats: httpx.Client) -> None:
    with cats.stream("POST", "/v1/responses", json={"input": "Hello", "stream": True}) as answer:
        lines = list(answer.iter_lines())

    assert answer.headers["content-type"].startswith("text/event-stream")
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert names[0] == "response.created"
    assert all(f'"type":"{name}"' in line for name, line in zip(names, lines[1::3], strict=True))


def test_an_answer_is_parsed_into_the_form_that_it_was_given(client: openai.OpenAI) -> None:
    parsed = client.responses.parse(model=MODEL, input="A cat", text_format=Animal)

    assert isinstance(parsed.output_parsed, Animal)


def test_a_tool_is_called_and_its_result_taken(client: openai.OpenAI) -> None:
    asked = client.responses.create(model=MODEL, input="Look it up.", tools=[TOOL], tool_choice="required")
    call = asked.output[0]
    assert isinstance(call, ResponseFunctionToolCall)
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "An animal."}

    told = client.responses.create(
        model=MODEL, input=[result], tools=[TOOL], tool_choice="none", previous_response_id=asked.id
    )
    with client.responses.stream(
        model=MODEL, input="Look it up.", tools=[TOOL], tool_choice={"type": "function", "name": "look_up"}
    ) as stream:
        streamed = stream.get_final_response().output[0]

    assert whole(asked).output[0].type == whole(told).output[0].type.replace("message", "function_call")
    assert streamed.type == "function_call"
    assert streamed.parsed_arguments in ({"word": "cat"}, {"word": "dog"})


def test_a_conversation_goes_on_where_it_was(client: openai.OpenAI) -> None:
    first = client.responses.create(model=MODEL, input=about(picture()))
    second = client.responses.create(model=MODEL, input="Describe it again.", previous_response_id=first.id)

    assert first.usage is not None
    assert second.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens + first.usage.output_tokens
    # The picture is still before the model's eyes.
    assert second.usage.input_tokens_details.to_dict()["image_tokens"]


def test_the_clients_own_output_may_be_sent_back_as_input(client: openai.OpenAI) -> None:
    first = client.responses.create(model=MODEL, input="Hello")
    items: Any = [{"role": "user", "content": "Hello"}, *first.output, {"role": "user", "content": "And?"}]

    reply = client.responses.with_raw_response.create(model=MODEL, input=items, store=False)

    assert reply.parse().output_text
    assert "x-sluice-ignored" not in reply.headers


def test_what_is_cut_off_is_incomplete_and_what_is_probable_is_told(client: openai.OpenAI) -> None:
    cut = client.responses.create(
        model=MODEL,
        input="Hello",
        max_output_tokens=2,
        top_logprobs=2,
        include=["message.output_text.logprobs"],
    )

    assert cut.status == "incomplete"
    assert whole(cut).incomplete_details is not None
    text = cut.output[0].content[0]  # type: ignore[union-attr, index]
    assert [len(entry.top_logprobs) for entry in text.logprobs or ()] == [2, 2]  # type: ignore[union-attr]


def test_in_the_background_it_runs_by_itself_and_can_be_listened_to_again(client: openai.OpenAI) -> None:
    made = client.responses.create(model=MODEL, input="Hello", background=True, stream=True)
    first = next(iter(made))
    made.close()  # The listener leaves, and the response goes on.
    assert first.type == "response.created"
    assert first.response.status == "queued"

    ended = until_over(client, first.response)
    events = list(client.responses.retrieve(ended.id, stream=True))
    rest = list(client.responses.retrieve(ended.id, stream=True, starting_after=5))
    with client.responses.stream(response_id=ended.id, starting_after=5) as stream:
        again = stream.get_final_response()

    assert ended.status == "completed"
    assert again.output_text == ended.output_text
    assert [event.to_dict() for event in rest] == [event.to_dict() for event in events[6:]]
    assert whole(client.responses.create(model=MODEL, input="Hello", background=True)).status == "queued"


def test_in_the_background_it_is_cancelled_and_deleted(client: openai.OpenAI) -> None:
    long: Any = {"ignore_eos": True}
    made = client.responses.create(
        model=MODEL, input="Hello", background=True, max_output_tokens=3500, extra_body=long
    )

    cancelled = client.responses.cancel(made.id)
    client.responses.delete(made.id)

    assert cancelled.status == "cancelled"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)


def test_a_listener_who_leaves_takes_the_response_along(client: openai.OpenAI) -> None:
    stream = client.responses.create(
        model=MODEL, input="Hello", stream=True, max_output_tokens=3500, extra_body={"ignore_eos": True}
    )
    begun = next(iter(stream))
    assert begun.type == "response.created"
    assert client.responses.retrieve(begun.response.id).status == "in_progress"
    stream.close()

    assert until_over(client, begun.response).status == "cancelled"


def test_what_is_not_stored_is_gone_and_what_has_a_listener_is_not_cancelled(client: openai.OpenAI) -> None:
    fleeting = client.responses.create(model=MODEL, input="Hello", store=False)
    kept = client.responses.create(model=MODEL, input="Hello")

    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(fleeting.id)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model=MODEL, input="And?", previous_response_id=fleeting.id)
    assert refused.value.code == "previous_response_not_found"
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(kept.id)


def test_another_tenant_finds_nothing(client: openai.OpenAI, dogs: httpx.Client) -> None:
    made = client.responses.create(model=MODEL, input="Hello").id

    answers = [dogs.get(f"/v1/responses/{made}"), dogs.delete(f"/v1/responses/{made}")]

    assert {answer.status_code for answer in answers} == {404}
    assert client.responses.retrieve(made).id == made


def test_a_batch_of_responses_has_responses_in_its_output(client: openai.OpenAI) -> None:
    lines = [
        b'{"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"model": "default", "input": "Hello"}}',
        b'{"custom_id": "b", "method": "POST", "url": "/v1/chat/completions", "body": {}}',
    ]
    file = client.files.create(file=("lines.jsonl", b"\n".join(lines)), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
    give_up = time.monotonic() + 20
    while batch.status not in ("completed", "failed"):
        assert time.monotonic() < give_up
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)

    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (1, 1)
    assert batch.output_file_id is not None
    line = httpx.Response(200, content=client.files.content(batch.output_file_id).content).json()
    assert Response.model_validate(line["response"]["body"]).output_text


def test_the_asynchronous_client_does_the_same(wire: Wire) -> None:
    async def ask() -> tuple[str, str]:
        async with openai.AsyncOpenAI(base_url=f"{wire.url}/v1", api_key=wire.cats, max_retries=0) as client:
            made = await client.responses.create(model=MODEL, input="Hello")
            async with client.responses.stream(model=MODEL, input="Hello") as stream:
                final = await stream.get_final_response()
            return made.output_text, final.output_text

    made, streamed = asyncio.run(ask())
    assert made
    assert made == streamed
