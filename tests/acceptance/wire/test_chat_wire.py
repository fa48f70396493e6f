"""Chat as OpenAI's and Hugging Face's own clients speak it, with a model that looks and listens."""

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
from front_door import QUESTION, REPOSITORY, draw, wait_for
from huggingface_hub import InferenceClient
from pydantic import BaseModel
from wire_server import Wire

MEDIA = REPOSITORY / "manifests" / "media"
CLIP = next(MEDIA.glob("*-moves-*.mp4"))
SOUND = next(MEDIA.glob("*.flac"))
PATH = "/v1/chat/completions"
# An answer that takes a while: nobody waits for its end.
LONG = {"max_tokens": 3000, "ignore_eos": True}


def data_uri(path: Path, type: str) -> str:
    return f"data:{type};base64,{base64.b64encode(path.read_bytes()).decode()}"


def hello(*parts: dict[str, Any]) -> list[Any]:
    text = {"type": "text", "text": QUESTION if parts else "Hello"}
    return [{"role": "user", "content": [*parts, text]}]


def counts(reply: Any) -> dict[str, int]:
    details = reply.usage.prompt_tokens_details.model_dump()
    return {name: details[name] for name in ("text_tokens", "image_tokens", "video_tokens", "audio_tokens")}


@pytest.fixture
def picture(tmp_path: Path) -> tuple[str, str]:
    """A data: URI, and what it shows."""
    drawing = draw(tmp_path, 3)
    return data_uri(drawing.path, "image/png"), drawing.answer


def test_every_kind_of_part_is_seen_or_heard_and_counted(
    client: openai.OpenAI, picture: tuple[str, str]
) -> None:
    uri, answer = picture
    sound = base64.b64encode(SOUND.read_bytes()).decode()
    parts: dict[str, dict[str, Any]] = {
        "image_tokens": {"type": "image_url", "image_url": {"url": uri, "detail": "high"}},
        "video_tokens": {"type": "video_url", "video_url": {"url": data_uri(CLIP, "video/mp4")}},
        "audio_tokens": {"type": "input_audio", "input_audio": {"data": sound, "format": "flac"}},
    }
    for name, part in parts.items():
        reply = client.chat.completions.create(model="default", messages=hello(part), max_tokens=40)
        told = counts(reply)
        assert [kind for kind, count in told.items() if count] == ["text_tokens", name] or (
            name == "image_tokens" and told["image_tokens"]
        )
        assert sum(told.values()) == reply.usage.prompt_tokens
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
        if name == "image_tokens":
            assert reply.choices[0].message.content == answer


def test_rates_say_how_fast_it_was(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="default", messages=hello(), seed=time.time_ns() % 10**6)
    assert reply.usage is not None
    told = reply.usage.model_dump()
    assert told["total_time_sec"] == pytest.approx(
        told["total_prompt_time_sec"] + told["total_completion_time_sec"], abs=1e-5
    )
    for rate in ("avg_tok_per_sec", "avg_prompt_tok_per_sec", "avg_compl_tok_per_sec"):
        assert told[rate] > 0


def test_excerpts_and_sampling_decide_how_much_of_a_clip_is_seen(client: openai.OpenAI) -> None:
    url = data_uri(CLIP, "video/mp4")

    def tokens(**wishes: Any) -> int:
        part = {"type": "video_url", "video_url": {"url": url, **wishes}}
        reply = client.chat.completions.create(model="default", messages=hello(part), max_tokens=1)
        return counts(reply)["video_tokens"]

    whole, one, excerpt = tokens(), tokens(num_frames=1), tokens(start=0.0, end=0.01)
    assert 0 < one == excerpt < whole


@pytest.mark.parametrize(
    ("wishes", "param", "words"),
    [
        ({"start": 2, "end": 1}, "messages[0].content[0].video_url.end", "later than `start`"),
        ({"start": 500}, "messages[0].content[0].video_url", "seconds long"),
        ({"num_frames": 4000}, "messages[0].content[0].video_url.num_frames", "1024"),
        ({"max_pixels": 20_000_000}, "messages[0].content[0].video_url.max_pixels", "16000000"),
        ({"fps": 0}, "messages[0].content[0].video_url.fps", "greater than 0"),
    ],
    ids=str,
)
def test_a_wish_that_cannot_be_is_refused_with_its_field_and_the_limit(
    client: openai.OpenAI, wishes: dict[str, Any], param: str, words: str
) -> None:
    part = {"type": "video_url", "video_url": {"url": data_uri(CLIP, "video/mp4"), **wishes}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="default", messages=hello(part))
    assert refused.value.param == param
    assert words in refused.value.message


def test_a_file_is_known_by_its_name_by_its_bytes_and_inline(
    client: openai.OpenAI, dogs: httpx.Client, picture: tuple[str, str]
) -> None:
    uri, answer = picture
    raw = base64.b64decode(uri.partition(",")[2])
    named = client.files.create(file=("shape.png", raw), purpose="vision")
    nameless = client.files.create(file=("upload", raw), purpose="user_data")
    for file in (
        {"file_id": named.id},
        {"file_id": nameless.id},
        {"file_data": uri},
        {"file_data": uri.partition(",")[2]},
        {"file_data": f"data:application/octet-stream;base64,{uri.partition(',')[2]}", "filename": "x"},
    ):
        reply = client.chat.completions.create(
            model="default", messages=hello({"type": "file", "file": file}), max_tokens=40
        )
        assert reply.choices[0].message.content == answer
    stolen = dogs.post(PATH, json={"messages": hello({"type": "file", "file": {"file_id": nameless.id}})})
    unknown = dogs.post(
        PATH, json={"messages": hello({"type": "file", "file": {"file_id": "file-" + "0" * 24}})}
    )
    assert (stolen.status_code, stolen.json()["error"]["code"]) == (422, "file_not_found")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (422, "file_not_found")


def test_an_upload_that_is_no_medium_is_refused_at_its_place(client: openai.OpenAI) -> None:
    pdf = client.files.create(file=("paper.pdf", b"%PDF-1.7 and so on"), purpose="user_data")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="default", messages=hello({"type": "file", "file": {"file_id": pdf.id}})
        )
    assert (refused.value.code, refused.value.param) == ("media_unrecognized", "messages[0].content[0].file")


def test_what_the_client_may_send_besides_does_no_harm_and_is_named(client: openai.OpenAI) -> None:
    reply = client.chat.completions.with_raw_response.create(
        model="default",
        messages=hello(),
        max_completion_tokens=3,
        max_tokens=500,
        metadata={"a": "b"},
        user="somebody",
        modalities=["text"],
        service_tier="auto",
        store=False,
        prompt_cache_key="k",
        safety_identifier="s",
        reasoning_effort="low",
        verbosity="low",
        prediction={"type": "content", "content": "x"},
        stream_options=None,
        logit_bias={},
        extra_body={"colour": "red"},
    )
    ignored = set(reply.headers["x-sluice-ignored"].split(", "))
    assert ignored == {
        "prompt_cache_key",
        "safety_identifier",
        "reasoning_effort",
        "verbosity",
        "prediction",
        "colour",
    }
    usage = reply.parse().usage
    assert usage is not None
    assert usage.completion_tokens <= 3


class Shape(BaseModel):
    kind: Literal["circle", "square"]
    is_red: bool


def test_parse_gives_an_object_of_the_clients_own_class(client: openai.OpenAI) -> None:
    reply = client.chat.completions.parse(
        model="default", messages=hello(), response_format=Shape, extra_body={"seed": 1}
    )
    assert isinstance(reply.choices[0].message.parsed, Shape)


def test_the_stream_helper_tells_deltas_and_the_whole(
    client: openai.OpenAI, picture: tuple[str, str]
) -> None:
    uri, answer = picture
    with client.chat.completions.stream(
        model="default", messages=hello({"type": "image_url", "image_url": {"url": uri}}), max_tokens=40
    ) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert "".join(deltas) == final.choices[0].message.content == answer
    assert len(deltas) > 2


async def chat_at_once(wire: Wire) -> tuple[str | None, str]:
    async with openai.AsyncOpenAI(
        base_url=f"{wire.url}/v1", api_key=wire.cats, max_retries=0, timeout=60
    ) as client:
        whole = await client.chat.completions.create(model="default", messages=hello())
        stream = await client.chat.completions.create(model="default", messages=hello(), stream=True)
        return whole.choices[0].message.content, "".join(
            [chunk.choices[0].delta.content or "" async for chunk in stream]
        )


def test_the_async_client_hears_the_same(wire: Wire) -> None:
    whole, streamed = asyncio.run(chat_at_once(wire))
    assert whole == streamed != ""


def test_every_answer_of_a_stream_ends_and_the_usage_comes_last(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="default",
            messages=hello(),
            n=3,
            temperature=1,
            max_tokens=4,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    *told, last = chunks
    ends = [choice.index for chunk in told for choice in chunk.choices if choice.finish_reason]
    assert sorted(ends) == [0, 1, 2]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens
    assert all(chunk.usage is None for chunk in told)


def test_a_stream_never_splits_a_character(cats: httpx.Client) -> None:
    words = "日本語 🙂 é"
    body = {"messages": hello(), "stream": True, "grammar": {"type": "regex", "value": words}}
    with cats.stream("POST", PATH, json=body) as response:
        lines = [line for line in response.read().split(b"\n\n") if line.startswith(b"data: {")]
    pieces = [json.loads(line.decode()[6:])["choices"][0]["delta"].get("content", "") for line in lines]
    assert "".join(pieces) == words
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(pieces)


def job_of(chunk: Any) -> str:
    return str(chunk.id).replace("chatcmpl-", "job_")


def test_an_error_in_the_middle_of_a_stream_is_raised_by_the_client(
    client: openai.OpenAI, cats: httpx.Client
) -> None:
    stream = client.chat.completions.create(model="default", messages=hello(), stream=True, extra_body=LONG)
    first = next(stream)
    assert cats.post(f"/v1/jobs/{job_of(first)}/cancel").status_code == 200
    with pytest.raises(openai.APIError, match="cancelled"):
        list(stream)


def test_a_client_that_leaves_frees_its_slot(client: openai.OpenAI, cats: httpx.Client) -> None:
    with client.chat.completions.create(
        model="default", messages=hello(), stream=True, extra_body=LONG
    ) as stream:
        left = job_of(next(stream))
    began = time.monotonic()
    wait_for(lambda: cats.get(f"/v1/jobs/{left}").json()["status"] == "cancelled", seconds=8)
    assert time.monotonic() - began < 6


def test_hugging_faces_client_chats_whole_and_streamed(wire: Wire, picture: tuple[str, str]) -> None:
    uri, answer = picture
    messages = hello({"type": "image_url", "image_url": {"url": uri}})
    with InferenceClient(base_url=wire.url, api_key=wire.cats, timeout=60) as hugging:
        whole = hugging.chat_completion(messages, max_tokens=40)
        streamed = hugging.chat_completion(messages, max_tokens=40, stream=True)
        pieces = [chunk.choices[0].delta.content or "" for chunk in streamed if chunk.choices]
    assert whole.choices[0].message.content == answer == "".join(pieces)


def test_a_stranger_page_in_a_browser_is_told_nothing(cats: httpx.Client) -> None:
    for method in ("OPTIONS", "GET"):
        answer = cats.request(method, "/v1/models", headers={"Origin": "https://example.com"})
        assert not [name for name in answer.headers if name.startswith("access-control-")]
    assert cats.head("/v1/models").status_code == 200
