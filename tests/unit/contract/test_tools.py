"""What a request may say about tools, and how chat templates are told of them."""

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from service.contract.plain_errors import Refused, bad_request
from service.contract.tools import (
    MAX_TOOLS,
    Tool,
    ToolCall,
    ToolCalls,
    ToolChoice,
    Tools,
    check_choice,
    template_calls,
    template_tools,
)

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def tool(name: str = "weather", **fields: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **fields}}


def call(arguments: str) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}}


def tools(*values: dict[str, Any]) -> list[Tool]:
    return TypeAdapter(Tools).validate_python(list(values))


def calls(*values: dict[str, Any]) -> list[ToolCall]:
    return TypeAdapter(ToolCalls).validate_python(list(values))


def test_templates_see_a_description_and_a_schema_even_where_a_tool_has_none() -> None:
    bare, full = template_tools(tools(tool("a"), tool("b", description="B", parameters=SCHEMA, strict=True)))

    assert bare["function"] == {
        "name": "a",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
    }
    assert full["function"] == {"name": "b", "description": "B", "parameters": SCHEMA}


def test_templates_see_the_arguments_of_past_calls_as_objects() -> None:
    past = template_calls(calls(call('{"city": "Oslo"}'), call("")))

    assert [entry["function"]["arguments"] for entry in past] == [{"city": "Oslo"}, {}]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ([tool("a b")], "[0].function.name"),
        ([tool("a" * 65)], "[0].function.name"),
        ([tool(), tool()], "Two tools have the name 'weather'."),
        ([tool(f"t{n}") for n in range(MAX_TOOLS + 1)], str(MAX_TOOLS)),
        ([tool(parameters={"type": "array"})], "the JSON schema of an object"),
        ([tool(parameters={"x": "y" * 70_000})], "64 kB"),
        ([tool(f"t{n}", description="x" * 30_000) for n in range(10)], "256 kB together"),
        ([{"type": "retrieval"}], "[0].type"),
        ([{"type": "function"}], "[0].function"),
    ],
)
def test_wrong_tools_are_refused_with_a_sentence_that_says_why(wrong: list[Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        TypeAdapter(Tools).validate_python(wrong)

    assert sentence in bad_request(refused.value).message


@pytest.mark.parametrize("arguments", ["{", "[]", '"x"', "[" * 5000])
def test_past_arguments_that_are_no_object_are_refused(arguments: str) -> None:
    with pytest.raises(ValidationError):
        calls(call(arguments))


def test_a_choice_must_be_among_the_tools() -> None:
    some = tools(tool())
    named = TypeAdapter(ToolChoice).validate_python(tool("other"))

    check_choice(some, None)
    check_choice(some, "required")
    check_choice(some, TypeAdapter(ToolChoice).validate_python(tool()))
    for offered, choice in ((some, named), ([], named), ([], "required")):
        with pytest.raises(Refused) as refused:
            check_choice(offered, choice)
        assert refused.value.param == "tool_choice"
