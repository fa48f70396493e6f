"""Chat, as the official client speaks it."""

import base64

import openai
import pytest
from live_service import MODEL, Live
from openai import OpenAI

IMAGE = "data:image/png;base64," + base64.b64encode(b"not looked at here").decode()


def say(text: str) -> list[dict]:
    return [{"role": "user", "content": f"say {text}"}]


def test_a_whole_answer_with_its_usage(client: OpenAI):
    reply = client.chat.completions.create(model="default", messages=say("Grüße aus 東京 🙂"), max_tokens=20)
    assert reply.choices[0].message.content == "Grüße aus 東京 🙂"
    assert reply.choices[0].finish_reason == "stop"
    assert reply.model == MODEL
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens == 11


def test_a_stream_says_the_same_in_pieces_and_ends_with_its_usage(client: OpenAI):
    stream = client.chat.completions.create(
        model="default",
        messages=say("Grüße aus 東京 🙂"),
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "Grüße aus 東京 🙂"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 4
    assert {chunk.id for chunk in chunks} == {chunks[0].id}
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_a_stream_that_did_not_ask_for_usage_has_none(client: OpenAI):
    chunks = list(client.chat.completions.create(model=MODEL, messages=say("yes"), stream=True))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_the_clients_stream_helper_puts_the_answer_together(client: OpenAI):
    with client.chat.completions.stream(model=MODEL, messages=say("one two three")) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content == "one two three"


def test_media_of_every_kind_arrive_at_the_worker(client: OpenAI):
    parts = [
        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "high"}},
        {"type": "video_url", "video_url": {"url": "file:///clip.mp4"}},
        {"type": "audio_url", "audio_url": {"url": "file:///sound.wav"}},
        {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
        {"type": "text", "text": "How many?"},
    ]
    reply = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": parts}])
    assert reply.choices[0].message.content == "I see 4 media."


def test_a_body_too_long_for_a_row_arrives_whole(client: OpenAI):
    text = "x" * 300_000
    reply = client.chat.completions.create(model=MODEL, messages=say(text))
    assert reply.choices[0].message.content == text


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_fails_at_the_worker_keeps_its_status_and_its_field(client: OpenAI, stream: bool):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "fail"}], stream=stream
        )
    assert refused.value.code == "invalid_media"
    assert refused.value.param == "messages[0].content[0].image_url"


def test_a_stream_never_joins_two_attempts(client: OpenAI):
    stream = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "lose"}], stream=True
    )
    heard = [next(stream).choices[0].delta.content for _ in range(2)]
    assert heard == ["", "Once"]
    with pytest.raises(openai.APIError, match="went away"):
        next(stream)


def test_a_stream_goes_on_through_an_attempt_that_says_the_same(client: OpenAI):
    stream = client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "resume one two three"}], stream=True
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "one two three"


def test_a_whole_answer_waits_for_the_attempt_that_succeeds(client: OpenAI):
    reply = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "lose"}])
    assert reply.choices[0].message.content == "I see 0 media."


def test_an_unknown_model_is_not_found(client: OpenAI):
    with pytest.raises(openai.NotFoundError) as refused:
        client.chat.completions.create(model="gpt-99", messages=say("hi"))
    assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("field", "value"), [("max_tokens", 0), ("temperature", 3), ("n", 17), ("top_p", 0), ("seed", 1 << 63)]
)
def test_a_wrong_value_is_refused_with_its_field(client: OpenAI, field: str, value: float):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=MODEL, messages=say("hi"), **{field: value})
    assert refused.value.param == field


def test_unknown_fields_are_ignored_by_name(client: OpenAI):
    reply = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=say("hi"), extra_body={"colour": "red"}
    )
    assert reply.headers["x-sluice-ignored"] == "colour"


def test_models_are_listed_and_found_by_name_and_alias(client: OpenAI):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve("default").id == MODEL
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-99")


def test_the_hugging_face_client_streams_too(live: Live):
    from huggingface_hub import InferenceClient

    client = InferenceClient(base_url=f"{live.url}/v1", api_key="EMPTY", timeout=30)
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat_completion(say("hello from the hub"), stream=True)
        if chunk.choices
    ]
    assert "".join(pieces) == "hello from the hub"
    whole = client.chat_completion(say("all at once"), max_tokens=8)
    assert whole.choices[0].message.content == "all at once"
