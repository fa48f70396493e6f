"""Answers in a prescribed form: JSON, JSON of a schema, a regular expression, a Lark grammar."""

import json
import re
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel
from transformers import PreTrainedTokenizerBase

BIASES = {"red": 12, '"': 12, ":": 12, "}": 11}
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
IMPOSSIBLE = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 4}},
    "required": ["a"],
}


class Shape(BaseModel):
    """Short, since the bundled model has nothing to say about it."""

    color: Literal["red", "green", "blue"]
    is_round: bool
    corners: list[Literal[1, 2, 3]]


class Pair(BaseModel):
    """Ends by itself."""

    color: Literal["red", "green"]
    is_round: bool


def ask(client: OpenAI, **wishes: Any) -> str:
    reply = client.chat.completions.create(
        model="default", messages=HELLO, extra_body={"max_tokens": 60, **wishes}
    )
    return reply.choices[0].message.content or ""


def test_the_clients_parse_helper_gets_the_object_that_it_wants(client: OpenAI) -> None:
    completion = client.chat.completions.parse(
        model="default", messages=HELLO, response_format=Pair, n=2, seed=3
    )
    assert all(isinstance(choice.message.parsed, Pair) for choice in completion.choices)
    assert {choice.finish_reason for choice in completion.choices} == {"stop"}


def test_a_stream_of_a_schema_joins_to_its_object(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model="default", messages=HELLO, response_format=Pair, temperature=2, seed=5
    ) as stream:
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Pair)


def test_a_json_object_is_one_whatever_the_model_would_rather_say(
    client: OpenAI, tokenizer: PreTrainedTokenizerBase
) -> None:
    # Left to itself the bundled model writes endless numbers.
    wanted = {tokenizer.encode(text, add_special_tokens=False)[0]: bias for text, bias in BIASES.items()}
    reply = client.chat.completions.create(
        model="default",
        messages=HELLO,
        n=4,
        seed=0,
        temperature=1,
        max_tokens=60,
        logit_bias={str(token): bias for token, bias in wanted.items()},
        response_format={"type": "json_object"},
    )
    objects = [json.loads(choice.message.content or "") for choice in reply.choices]
    assert all(isinstance(value, dict) for value in objects)
    assert any(objects)


@pytest.mark.parametrize(
    ("kind", "value", "pattern"),
    [
        ("regex", "(red|green) [0-9]{3}", "(red|green) [0-9]{3}"),
        ("lark", 'start: ("a" | "b") "c" "!"', "[ab]c!"),
        ("json_schema", {"enum": ["yes", "no"]}, '"(yes|no)"'),
    ],
)
def test_a_grammar_is_followed_to_its_end(client: OpenAI, kind: str, value: Any, pattern: str) -> None:
    text = ask(client, grammar={"type": kind, "value": value}, temperature=1, seed=4)
    assert re.fullmatch(pattern, text)


def test_a_form_holds_for_each_of_n_answers_and_leaves_the_neighbours_alone(client: OpenAI) -> None:
    free = ask(client)
    reply = client.chat.completions.create(
        model="default",
        messages=HELLO,
        n=4,
        seed=1,
        temperature=2,
        logprobs=True,
        extra_body={"grammar": {"type": "regex", "value": "[a-c]{2,6}"}},
    )
    texts = [choice.message.content or "" for choice in reply.choices]
    assert all(re.fullmatch("[a-c]{2,6}", text) for text in texts)
    assert len(set(texts)) > 1
    assert ask(client) == free


@pytest.mark.parametrize(
    ("wishes", "param"),
    [
        ({"grammar": {"type": "regex", "value": "(["}}, "grammar"),
        ({"grammar": {"type": "lark", "value": "start: nothing"}}, "grammar"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": IMPOSSIBLE}}},
            "response_format",
        ),
    ],
    ids=["regex", "lark", "impossible schema"],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_grammar_that_cannot_be_followed_is_refused_with_its_field(
    client: OpenAI, wishes: dict[str, Any], param: str, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="default", messages=HELLO, stream=stream, extra_body=wishes)
    assert refused.value.param == param
    assert refused.value.code == "invalid_grammar"
