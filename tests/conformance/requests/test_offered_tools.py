"""Tools, as the official client offers them and reads the calls."""

import json
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageFunctionToolCall

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
PAINT = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "green", "blue"]}, "is_round": {"type": "boolean"}},
    "required": ["color", "is_round"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {"name": "paint", "description": "Paint.", "parameters": PAINT, "strict": True},
    },
    {
        "type": "function",
        "function": {
            "name": "stop",
            "parameters": {"type": "object", "properties": {}, "additionalProperties": False},
        },
    },
]
NAMED: Any = {"type": "function", "function": {"name": "paint"}}


def calls_in(message: Any) -> list[ChatCompletionMessageFunctionToolCall]:
    return [call for call in message.tool_calls or () if call.type == "function"]


def check_call(call: ChatCompletionMessageFunctionToolCall) -> None:
    arguments = json.loads(call.function.arguments)
    assert call.id.startswith("call_")
    if call.function.name == "paint":
        assert arguments.keys() == {"color", "is_round"}
        assert arguments["color"] in ("red", "green", "blue")
        assert isinstance(arguments["is_round"], bool)
    else:
        assert (call.function.name, arguments) == ("stop", {})


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
def test_a_call_that_must_be_made_is_made_with_arguments_of_its_schema(client: OpenAI, choice: Any) -> None:
    reply = client.chat.completions.create(
        model="default",
        messages=HELLO,
        tools=TOOLS,
        tool_choice=choice,
        parallel_tool_calls=False,
        temperature=1,
        n=2,
        seed=3,
    )
    for answer in reply.choices:
        (call,) = calls_in(answer.message)
        check_call(call)
        assert choice == "required" or call.function.name == "paint"
        assert answer.finish_reason == "tool_calls"
        assert answer.message.content is None
    ids = [call.id for answer in reply.choices for call in calls_in(answer.message)]
    assert len(set(ids)) == 2


def test_a_stream_tells_the_calls_of_the_whole_reply(client: OpenAI) -> None:
    wishes: dict[str, Any] = {"tools": TOOLS[1:], "tool_choice": "required", "parallel_tool_calls": False}
    whole = client.chat.completions.create(model="default", messages=HELLO, **wishes)
    with client.chat.completions.stream(model="default", messages=HELLO, **wishes) as stream:
        final = stream.get_final_completion()

    told, said = calls_in(final.choices[0].message), calls_in(whole.choices[0].message)
    assert [call.function.arguments for call in told] == [call.function.arguments for call in said]
    assert final.choices[0].finish_reason == "tool_calls"


def test_the_results_of_calls_go_back_into_the_conversation(client: OpenAI) -> None:
    first = client.chat.completions.create(
        model="default",
        messages=HELLO,
        tools=TOOLS[1:],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    message = first.choices[0].message
    (call,) = calls_in(message)
    conversation = [
        *HELLO,
        message.model_dump(),
        {"role": "tool", "tool_call_id": call.id, "content": "It is painted."},
    ]

    second = client.chat.completions.create(
        model="default", messages=conversation, tools=TOOLS, tool_choice="none", max_tokens=5
    )

    assert second.choices[0].message.tool_calls is None
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.prompt_tokens > 0


def test_tools_that_may_be_left_alone_leave_plain_answers_plain(client: OpenAI) -> None:
    reply = client.chat.completions.create(model="default", messages=HELLO, tools=TOOLS[1:], max_tokens=30)
    assert reply.choices[0].message.tool_calls is None
    assert reply.choices[0].message.content


def test_a_schema_that_cannot_be_enforced_is_refused(client: OpenAI) -> None:
    impossible = {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 4}},
        "required": ["a"],
    }
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": impossible, "strict": True}}
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="default", messages=HELLO, tools=[tool], tool_choice="required")
    assert (refused.value.code, (refused.value.param or "").startswith("tools")) == ("invalid_grammar", True)
