"""Strict tools: whatever is drawn under their grammar is a call that is read again and that the schema allows."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import jsonschema
import pytest
from grammar_walks import allowed_tokens, shown, walk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from tool_models import PARAMETERS, some_tools, template_of, tokenizer_of, tool_processor

from service.contract.grammars import GrammarSpec
from service.contract.tools import Tool, ToolChoice
from service.errors import BadRequest
from workers.model.calling.tools import TextPiece, ToolCall, ToolFormat
from workers.model.grammars.grammar import GrammarConstraint, Grammars
from workers.model.prompting.chat_format import ChatFormat

FAMILIES = ("qwen", "qwen_xml", "gemma", "mistral", "mistral_shipped", "llama", "plain")
NAMED: ToolChoice = TypeAdapter(ToolChoice).validate_python({"type": "function", "function": {"name": "now"}})
OSLO = {
    "qwen": '<tool_call>\n{"name": "weather", "arguments": {"place": "Oslo", "unit": "C"}}\n</tool_call>',
    "qwen_xml": "<tool_call>\n<function=weather>\n<parameter=place>\nOslo\n</parameter>\n<parameter=unit>\nC\n"
    "</parameter>\n</function>\n</tool_call>",
    "gemma": '<|tool_call>call:weather{place:<|"|>Oslo<|"|>,unit:<|"|>C<|"|>}<tool_call|>',
    "mistral": '[TOOL_CALLS]weather[ARGS]{"place": "Oslo", "unit": "C"}',
    "mistral_shipped": '[TOOL_CALLS][{"name": "weather", "arguments": {"place": "Oslo", "unit": "C"}}]',
    "llama": '{"name": "weather", "parameters": {"place": "Oslo", "unit": "C"}}',
    "plain": '<tool_call>\n{"name": "weather", "arguments": {"place": "Oslo", "unit": "C"}}\n</tool_call>',
}


@contextmanager
def suppress_refusal() -> Iterator[None]:
    """A grammar may be refused, in our own way."""
    try:
        yield
    except BadRequest as refusal:
        if refusal.code != "invalid_grammar":
            raise


@cache
def format_of(family: str) -> ToolFormat:
    return ChatFormat(tool_processor(family), template_of(family)).tool_format


@cache
def grammars_of(family: str) -> Grammars:
    chosen = tokenizer_of(family)
    assert isinstance(chosen.eos_token_id, int)
    return Grammars(chosen, frozenset({chosen.eos_token_id}), len(chosen))


def tools_of(family: str) -> list[Tool]:
    return some_tools(**PARAMETERS)


def constraint_of(
    family: str, choice: ToolChoice | None, tools: list[Tool] | None = None, *, parallel: bool = True
) -> GrammarConstraint:
    spec = format_of(family).grammar(tools or tools_of(family), choice, parallel=parallel)
    assert isinstance(spec, GrammarSpec)
    return grammars_of(family).compile(spec, param="tools")


def split(
    family: str, tokens: list[int], tools: list[Tool] | None = None
) -> tuple[str, list[tuple[str, Any]]]:
    """What the desk would tell of an answer: its text and its calls."""
    parser = format_of(family).parser(tools or tools_of(family))
    events = parser.push(shown(tokenizer_of(family), tokens, format_of(family).keep_tokens)) + parser.finish()
    text = "".join(event.text for event in events if isinstance(event, TextPiece))
    return text, [(call.name, json.loads(call.arguments)) for call in events if isinstance(call, ToolCall)]


def allows(family: str, constraint: GrammarConstraint, text: str, *, whole: bool = True) -> bool:
    """Whether a model may write this text, and end there."""
    for token in tokenizer_of(family).encode(text, add_special_tokens=False):
        if token not in allowed_tokens(constraint):
            return False
        constraint.accept(token)
    return not whole or tokenizer_of(family).eos_token_id in allowed_tokens(constraint)


@pytest.mark.parametrize("family", FAMILIES)
@given(seed=st.integers(0, 1 << 30))
@settings(deadline=None, max_examples=12)
def test_whatever_is_drawn_where_a_call_is_required_is_calls_that_the_schema_allows(
    family: str, seed: int
) -> None:
    schema = tools_of(family)[0].function.parameters
    assert schema is not None
    tokens = walk(tokenizer_of(family), constraint_of(family, "required"), seed)

    if tokens is not None:
        text, calls = split(family, tokens)
        assert text == ""
        assert calls
        for name, arguments in calls:
            assert name in ("weather", "now")
            if name == "weather":
                jsonschema.validate(arguments, schema)


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    """Schemas of values, of the kinds that every format can enforce and that a random walk can end."""
    leaves = st.sampled_from(
        [
            {"type": "integer", "minimum": -9, "maximum": 99},
            {"type": "boolean"},
            {"enum": ["a", "b <c>", 'd"e', "", None, 5, True]},
            {"const": {"x": [1, "y"]}},
            {"type": ["integer", "null"], "maximum": 3, "minimum": 0},
            {"anyOf": [{"enum": ["p", 1]}, {"type": "null"}]},
            {"type": "string", "minLength": 1, "maxLength": 4},
            {"$ref": "#/$defs/leaf"},
        ]
    )
    return st.recursive(leaves, _compound, max_leaves=6)


def _compound(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    lists = st.builds(
        lambda items, least: {"type": "array", "items": items, "minItems": least, "maxItems": least + 2},
        inner,
        st.integers(0, 2),
    )
    choices = st.builds(lambda one, other: {"anyOf": [one, other]}, inner, inner)
    return lists | choices | objects(inner)


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[dict[str, Any]]) -> dict[str, Any]:
    properties = draw(st.dictionaries(st.sampled_from(["b", "a", "c_d", "e-f"]), inner, max_size=3))
    required = [name for name in properties if draw(st.booleans())]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


@pytest.mark.parametrize("family", ["gemma", "qwen_xml", "mistral"])
@given(schema=objects(schemas()), seed=st.integers(0, 1 << 20))
@settings(deadline=None, max_examples=10)
def test_calls_follow_whatever_schema_they_are_given(family: str, schema: dict[str, Any], seed: int) -> None:
    parameters = {**schema, "$defs": {"leaf": {"enum": [1, "two"]}}}
    tools = some_tools(**parameters)[:1]
    try:
        constraint = constraint_of(family, "required", tools, parallel=False)
    except BadRequest as refusal:
        # Where text has no quotes, a choice between limited text and something else cannot be told apart.
        assume(family != "qwen_xml" or "cannot enforce" not in refusal.message)
        raise
    tokens = walk(tokenizer_of(family), constraint, seed)

    assert tokens is not None
    text, [(name, arguments)] = split(family, tokens, tools)
    assert (text, name) == ("", "weather")
    jsonschema.validate(arguments, parameters)


@pytest.mark.parametrize("family", FAMILIES)
def test_random_calls_mostly_end_by_themselves(family: str) -> None:
    ended = [walk(tokenizer_of(family), constraint_of(family, "required"), seed) for seed in range(10)]

    assert sum(tokens is not None for tokens in ended) >= 7


@pytest.mark.parametrize("family", FAMILIES)
def test_a_strict_tool_may_be_called_or_not_where_the_choice_is_the_models(family: str) -> None:
    assert allows(family, constraint_of(family, "auto"), OSLO[family])
    assert allows(family, constraint_of(family, None), "It rains, I think: <b> [x] {y}.")
    assert allows(family, constraint_of(family, "required"), OSLO[family])
    assert not allows(family, constraint_of(family, "required"), "It rains.", whole=False)
    if family != "llama":
        assert allows(family, constraint_of(family, "auto"), "I look.\n" + OSLO[family])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("right", "wrong"), [("Oslo", "Osloooooo"), (r"(unit\W+)C", r"\1K")])
def test_a_strict_tool_cannot_be_called_against_its_schema(family: str, right: str, wrong: str) -> None:
    written = re.sub(right, wrong, OSLO[family])

    assert written != OSLO[family]
    assert not allows(family, constraint_of(family, "auto"), written)
    assert not allows(family, constraint_of(family, "required"), written)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_named_function_is_called_once_and_no_other(family: str) -> None:
    for seed in range(5):
        tokens = walk(tokenizer_of(family), constraint_of(family, NAMED), seed)
        if tokens is not None:
            text, calls = split(family, tokens)
            assert (text, [name for name, _ in calls]) == ("", ["now"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("choice", ["required", "auto"])
def test_calls_are_one_where_they_must_not_be_parallel(family: str, choice: ToolChoice) -> None:
    separator = {"mistral": "", "gemma": "", "llama": "; "}.get(family, "\n")
    twice = OSLO[family] + separator + OSLO[family]
    if family == "mistral_shipped":
        twice = OSLO[family][:-1] + ", " + OSLO[family].removeprefix("[TOOL_CALLS][")

    assert allows(family, constraint_of(family, choice, parallel=False), OSLO[family])
    assert not allows(family, constraint_of(family, choice, parallel=False), twice)
    assert allows(family, constraint_of(family, choice), twice)


@pytest.mark.parametrize("family", FAMILIES)
def test_there_is_no_grammar_where_nothing_has_to_be_enforced(family: str) -> None:
    chosen, loose = format_of(family), some_tools(strict=False)

    assert chosen.grammar(loose, None) is None
    assert chosen.grammar(loose, "auto") is None
    assert chosen.grammar(some_tools(), "none") is None
    assert chosen.grammar([], "auto") is None
    assert chosen.grammar(loose, "required") is not None


@pytest.mark.parametrize("family", FAMILIES)
def test_a_schema_that_cannot_be_enforced_is_refused_if_the_tool_is_strict_alone(family: str) -> None:
    properties = {"a": {"type": "array", "uniqueItems": True}}
    tools = {
        strict: some_tools(strict=strict, type="object", properties=properties) for strict in (True, False)
    }

    with pytest.raises(BadRequest, match="uniqueItems") as refused:
        constraint_of(family, "required", tools[True])
    assert (refused.value.param, refused.value.code) == ("tools", "invalid_grammar")
    constraint_of(family, "required", tools[False])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "hostile",
    [
        {"properties": {"a": {"$ref": "#/properties/a"}}, "required": ["a"]},
        {"properties": {"a": {"$ref": "#/$defs/nope"}}},
        {"properties": {"a": {"type": "array", "items": {"type": "integer"}, "minItems": "x"}}},
        {"properties": 5},
        {"properties": {"a": {"type": "string", "maxLength": -1}}},
        {
            "properties": {"a": {"$ref": "#/$defs/d0"}},
            "$defs": {**{f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(1500)}, "d1500": {}},
        },
    ],
)
def test_a_hostile_schema_of_a_tool_ends_in_a_refusal_or_a_grammar(
    family: str, hostile: dict[str, Any]
) -> None:
    with suppress_refusal():
        constraint = constraint_of(family, "required", some_tools(type="object", **hostile))
        assert allowed_tokens(constraint)
