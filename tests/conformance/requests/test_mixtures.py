"""Wishes in any mixture: a stream says what the whole reply says, and nothing breaks."""

import random
from collections import defaultdict
from typing import Any

import pytest
from openai import OpenAI

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
PING: dict[str, Any] = {
    "type": "function",
    "function": {"name": "ping", "parameters": {"type": "object", "additionalProperties": False}},
}
WISHES: dict[str, list[Any]] = {
    "temperature": [0, 0.5, 1, 2],
    "top_p": [0.1, 0.9],
    "top_k": [1, 5, 2000],
    "min_p": [0.05, 1],
    "n": [2, 3],
    "presence_penalty": [-2, 2],
    "frequency_penalty": [-2, 1],
    "repetition_penalty": [0.5, 1.3],
    "logit_bias": [{"1": -100}, {"300": 100, "301": 100}],
    "stop": ["e", ["a", "i"]],
    "stop_token_ids": [[300], [1, 2, 3]],
    "ignore_eos": [True],
    "min_tokens": [1, 4],
}
FORMS: list[dict[str, Any]] = [
    {},
    {"grammar": {"type": "regex", "value": "[a-z]*"}},
    {"response_format": {"type": "json_object"}},
    {"tools": [PING]},
    {"tools": [PING], "tool_choice": "required"},
]


def mixture(number: int) -> dict[str, Any]:
    """The same wishes every time for one number."""
    drawn = random.Random(number)
    wishes = {name: drawn.choice(values) for name, values in WISHES.items() if drawn.random() < 0.4}
    if drawn.random() < 0.5:
        wishes |= {"logprobs": True, "top_logprobs": drawn.choice([0, 1, 20])}
    return wishes | FORMS[number % len(FORMS)] | {"max_tokens": 12, "seed": number}


@pytest.mark.parametrize("number", range(10))
def test_a_stream_of_any_mixture_joins_to_the_whole_reply(client: OpenAI, number: int) -> None:
    wishes = mixture(number)
    asked: dict[str, Any] = {"model": "default", "messages": HELLO, "extra_body": wishes}
    whole = client.chat.completions.create(**asked)

    texts: dict[int, str] = defaultdict(str)
    entries: dict[int, list[Any]] = defaultdict(list)
    calls: dict[int, list[tuple[int, Any, Any]]] = defaultdict(list)
    reasons = {}
    for chunk in client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            entries[choice.index] += (choice.logprobs and choice.logprobs.content) or []
            for call in choice.delta.tool_calls or ():
                assert call.function is not None
                calls[choice.index].append((call.index, call.function.name, call.function.arguments))
            reasons[choice.index] = choice.finish_reason

    assert len(whole.choices) == wishes.get("n", 1)
    for answer in whole.choices:
        functions = [call.function for call in answer.message.tool_calls or () if call.type == "function"]
        assert texts[answer.index] == (answer.message.content or "")
        assert entries[answer.index] == ((answer.logprobs and answer.logprobs.content) or [])
        assert calls[answer.index] == [(i, f.name, f.arguments) for i, f in enumerate(functions)]
        assert reasons[answer.index] == answer.finish_reason
