"""Wishes that cannot be fulfilled: refused with their field, before a job is stored where the service can know."""

from typing import Any

import openai
import pytest
from openai import OpenAI
from served_model import Served
from sqlalchemy import func, select

from service.store.tables import Job

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "other"}}
DEEP: dict[str, Any] = {"type": "string"}
for _ in range(12):
    DEEP = {"type": "object", "properties": {"x": DEEP}}

KNOWN_AT_THE_DOOR = [
    ({"presence_penalty": 2.5}, "presence_penalty"),
    ({"frequency_penalty": -3}, "frequency_penalty"),
    ({"repetition_penalty": 0}, "repetition_penalty"),
    ({"logit_bias": {"5": 101}}, "logit_bias.5"),
    ({"logit_bias": {"five": 1}}, "logit_bias"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"n": 17}, "n"),
    ({"n": 0}, "n"),
    ({"stop_token_ids": ["x"]}, "stop_token_ids[0]"),
    ({"min_tokens": 6, "max_tokens": 5}, "min_tokens"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format.json_schema.schema"),
    ({"grammar": {"type": "regex"}}, "grammar.value"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ({"tools": [TOOL], "tool_choice": OTHER}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"modalities": ["audio"]}, "modalities"),
]
KNOWN_AT_THE_DESK = [
    ({"logit_bias": {"1024": 1}}, "logit_bias"),
    ({"stop_token_ids": [3, 4_000_000]}, "stop_token_ids[1]"),
    ({"max_tokens": 4096}, "max_tokens"),
    ({"max_completion_tokens": 5000}, "max_completion_tokens"),
    ({"min_tokens": 4096}, "min_tokens"),
]


def refusal(client: OpenAI, wishes: dict[str, Any], **others: Any) -> openai.BadRequestError:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            **{"model": "default", "messages": HELLO, "extra_body": wishes, **others}
        )
    return refused.value


def num_jobs(served: Served) -> int:
    with served.parts.database.reading() as db:
        return db.scalar(select(func.count()).select_from(Job)) or 0


@pytest.mark.parametrize(("wishes", "param"), KNOWN_AT_THE_DOOR, ids=str)
def test_what_the_request_itself_shows_is_refused_before_a_job_is_stored(
    client: OpenAI, served: Served, wishes: dict[str, Any], param: str
) -> None:
    before = num_jobs(served)
    assert refusal(client, wishes).param == param
    assert num_jobs(served) == before


@pytest.mark.parametrize(("wishes", "param"), KNOWN_AT_THE_DESK, ids=str)
@pytest.mark.parametrize("stream", [False, True])
def test_what_only_the_model_shows_is_refused_before_it_reaches_a_slot(
    client: OpenAI, wishes: dict[str, Any], param: str, stream: bool
) -> None:
    error = refusal(client, wishes, stream=stream)
    assert error.param == param
    assert error.type == "invalid_request_error"


def test_a_prompt_beyond_the_context_is_refused_with_its_length(client: OpenAI) -> None:
    error = refusal(client, {}, messages=[{"role": "user", "content": "Hello there. " * 3000}])
    assert (error.param, error.code) == ("messages", "context_length_exceeded")
    assert "4096" in error.message
