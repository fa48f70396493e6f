"""Which requests are equal: by what decides the answer, and by nothing else."""

from typing import Any

import pytest

from service.contract import equal_requests
from service.contract.chat import ChatRequest, media_refs, read_chat_request
from service.contract.equal_requests import digest_of, is_deterministic

PICTURE = {"type": "image_url", "image_url": {"url": "/pictures/1.png"}}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
REQUEST: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, PICTURE]},
    ]
}


def digest(
    request: dict[str, Any],
    *,
    content: bytes = b"red",
    endpoint: str = "/v1/chat/completions",
    identity: str = "tiny",
) -> bytes:
    read = read_chat_request(request)
    return digest_of(read, [content] * len(media_refs(read)), endpoint=endpoint, identity=identity)


def asking(text: str, *media: dict[str, Any]) -> dict[str, Any]:
    """Fields of a request that asks about these media."""
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": text}, *media]}]}


def test_every_field_of_a_request_is_known_to_change_the_answer_or_not_to() -> None:
    known = [
        *equal_requests.AS_WRITTEN,
        *equal_requests.DRAWING,
        *equal_requests.READ_OUT,
        *equal_requests.OF_THE_TELLING,
    ]

    assert sorted(known) == sorted(ChatRequest.model_fields)


@pytest.mark.parametrize(
    "changed",
    [
        {"max_tokens": 5},
        {"max_completion_tokens": 5},
        {"min_tokens": 5},
        {"presence_penalty": 0.5},
        {"frequency_penalty": 0.5},
        {"repetition_penalty": 1.5},
        {"logit_bias": {"5": 1.0}},
        {"stop": "."},
        {"stop_token_ids": [5]},
        {"ignore_eos": True},
        {"response_format": SCHEMA},
        {"grammar": {"type": "regex", "value": "a+"}},
        {"n": 2},
        {"logprobs": True},
        {"logprobs": True, "top_logprobs": 2},
        {"tools": [WEATHER]},
        {"tools": [WEATHER], "tool_choice": "required"},
        {"tools": [WEATHER], "parallel_tool_calls": False},
        {"temperature": 1.0, "seed": 1},
        asking("What is that?", PICTURE),
        asking("What is this?", {"type": "image_url", "image_url": {"url": "/1.png", "detail": "low"}}),
        asking("What is this?", {"type": "video_url", "video_url": {"url": "/1.mp4"}}),
        asking("What is this?", {"type": "video_url", "video_url": {"url": "/1.mp4", "num_frames": 3}}),
    ],
    ids=str,
)
def test_what_changes_the_answer_makes_another_request(changed: dict[str, Any]) -> None:
    assert digest({**REQUEST, **changed}) != digest(REQUEST)


@pytest.mark.parametrize("field", ["temperature", "top_p", "top_k", "min_p", "seed"])
def test_how_it_is_drawn_counts_where_it_is_drawn_and_not_where_it_is_greedy(field: str) -> None:
    drawn = {**REQUEST, "temperature": 1.0, "top_p": 0.5, "top_k": 5, "min_p": 0.25, "seed": 5}
    other = {**drawn, field: 1 if field in ("top_k", "seed") else 0.125}

    assert digest(other) != digest(drawn)
    if field != "temperature":
        assert digest({**REQUEST, field: drawn[field]}) == digest(REQUEST)


@pytest.mark.parametrize(
    "same",
    [
        {"model": "another name of it"},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"user": "somebody"},
        {"metadata": {"run": "7"}},
        {"temperature": 0},
        {"n": 1},
        {"logprobs": False},
        {"stop": None},
        {"presence_penalty": 0},
        {"tools": [], "tool_choice": "none"},
        {"response_format": None},
        {"a_field_that_nobody_knows": 1},
    ],
    ids=str,
)
def test_how_it_is_told_and_what_says_nothing_changes_nothing(same: dict[str, Any]) -> None:
    assert digest({**REQUEST, **same}) == digest(REQUEST)


def test_text_alone_and_text_in_parts_are_the_same() -> None:
    assert digest({"messages": [{"role": "user", "content": "Hi"}]}) == digest(asking("Hi"))


def test_a_picture_is_its_content_and_not_its_name() -> None:
    renamed = asking("What is this?", {"type": "image_url", "image_url": {"url": "/pictures/2.png"}})
    named = asking("What is this?", PICTURE)

    assert digest(renamed) == digest(named)
    assert digest(named, content=b"blue") != digest(named)


def test_pictures_in_another_order_are_another_request() -> None:
    request = read_chat_request(asking("Compare.", PICTURE, PICTURE))

    def of(*media: bytes) -> bytes:
        return digest_of(request, media, endpoint="/v1/chat/completions", identity="tiny")

    assert of(b"red", b"blue") != of(b"blue", b"red")


def test_another_model_or_endpoint_has_its_own_answers() -> None:
    assert digest(REQUEST, identity="large") != digest(REQUEST)
    assert digest(REQUEST, endpoint="/v1/responses") != digest(REQUEST)


def test_the_order_of_a_schemas_keys_counts_since_templates_show_it() -> None:
    def choosing(*names: str) -> dict[str, Any]:
        properties = {name: {"type": "string"} for name in names}
        function = {"name": "f", "parameters": {"type": "object", "properties": properties}}
        return {**REQUEST, "tools": [{"type": "function", "function": function}]}

    assert digest(choosing("a", "b")) != digest(choosing("b", "a"))


@pytest.mark.parametrize(
    ("drawing", "deterministic"),
    [
        ({}, True),
        ({"temperature": 0}, True),
        ({"top_p": 0.5}, True),
        ({"temperature": 1}, False),
        ({"temperature": 1, "n": 3}, False),
        ({"temperature": 1, "seed": 0}, True),
        ({"temperature": 1, "seed": 5, "n": 3}, True),
    ],
    ids=str,
)
def test_an_answer_is_deterministic_if_it_is_greedy_or_has_a_seed(
    drawing: dict[str, Any], deterministic: bool
) -> None:
    assert is_deterministic(read_chat_request({**REQUEST, **drawing})) is deterministic
