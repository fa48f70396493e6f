"""Calls in what a model writes: every family's way, however the text is cut, and nothing else lost."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from service.contract.tools import Tool
from workers.model.calling.gemma_calls import GemmaSyntax
from workers.model.calling.json_calls import HermesSyntax, LlamaSyntax, MistralSyntax
from workers.model.calling.tools import CallSyntax, TextPiece, ToolCall, ToolEvent, ToolParser
from workers.model.calling.xml_calls import XmlSyntax
from workers.model.calling.xml_values import value_of

TOOLS = TypeAdapter(list[Tool]).validate_python(
    [
        {
            "type": "function",
            "function": {
                "name": "weather",
                "parameters": {
                    "type": "object",
                    "properties": {
                        "city": {"type": "string"},
                        "days": {"type": "integer"},
                        "exact": {"type": "boolean"},
                        "at": {"type": "object"},
                        "note": {"type": ["string", "null"]},
                        "list": {"type": "array"},
                    },
                },
            },
        },
        {"type": "function", "function": {"name": "now"}},
    ]
)
SYNTAXES: dict[str, Callable[[], CallSyntax]] = {
    "hermes": HermesSyntax,
    "mistral": MistralSyntax,
    "llama": LlamaSyntax,
    "gemma": GemmaSyntax,
    "xml": lambda: XmlSyntax(TOOLS),
}
OSLO: list[tuple[str, Any]] = [("weather", {"city": "Oslo", "days": 2})]
TWO: list[tuple[str, Any]] = [*OSLO, ("now", {})]


def events_of(syntax: str, pieces: Sequence[str]) -> list[ToolEvent]:
    parser = ToolParser(SYNTAXES[syntax]())
    return [*(event for piece in pieces for event in parser.push(piece)), *parser.finish()]


def split(events: Sequence[ToolEvent]) -> tuple[str, list[tuple[str, Any]]]:
    """The text and the calls; the calls' numbers must count up."""
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert [call.index for call in calls] == list(range(len(calls)))
    text = "".join(event.text for event in events if isinstance(event, TextPiece))
    return text, [(call.name, json.loads(call.arguments)) for call in calls]


WRITTEN: list[tuple[str, str, str, list[tuple[str, Any]]]] = [
    (
        "hermes",
        'Let me see.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}\n</tool_call>',
        "Let me see.",
        OSLO,
    ),
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"city": "Oslo", "days": 2}}</tool_call>\n'
        '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>\n',
        "",
        TWO,
    ),
    ("hermes", '<tool_call>{"name": "now", "arguments": "{}"}', "", [("now", {})]),
    (
        "hermes",
        '<tool_call>{"name": "weather", "arguments": {"city": "}</tool_call>{\\"", "n": 123456789012345678901234}}'
        "</tool_call> Done.",
        "Done.",
        [("weather", {"city": '}</tool_call>{"', "n": 123456789012345678901234})],
    ),
    ("mistral", 'Well, [TOOL_CALLS]weather[ARGS]{"city": "Oslo", "days": 2}', "Well,", OSLO),
    (
        "mistral",
        '[TOOL_CALLS]weather[CALL_ID]a1B2c3D4e[ARGS]{"city": "Oslo", "days": 2}[TOOL_CALLS]now[ARGS]{}',
        "",
        TWO,
    ),
    ("mistral", '[TOOL_CALLS]weather{"city": "Oslo", "days": 2}', "", OSLO),
    (
        "mistral",
        '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Oslo", "days": 2}, "id": "a"}, '
        '{"name": "now", "arguments": {}}]',
        "",
        TWO,
    ),
    ("llama", '[weather(city="Oslo", days=2), now()]', "", TWO),
    ("llama", "<|python_start|>[weather(city='Oslo', days=2)]<|python_end|>", "", OSLO),
    ("llama", '{"name": "weather", "parameters": {"city": "Oslo", "days": 2}}', "", OSLO),
    (
        "llama",
        '{"name": "weather", "parameters": {"city": "Oslo", "days": 2}}; {"name": "now", "parameters": {}}',
        "",
        TWO,
    ),
    (
        "llama",
        '[weather(city="a)]\\"", at={"x": [1, -2.5, None]}, exact=true, list=(1, 2))]',
        "",
        [("weather", {"city": 'a)]"', "at": {"x": [1, -2.5, None]}, "exact": True, "list": [1, 2]})],
    ),
    ("gemma", 'Hm.<|tool_call>call:weather{city:<|"|>Oslo<|"|>,days:2}<tool_call|>', "Hm.", OSLO),
    (
        "gemma",
        '<|tool_call>call:weather{city:<|"|>Oslo<|"|>,days:2}<tool_call|><|tool_call>call:now{}<tool_call|>',
        "",
        TWO,
    ),
    (
        "gemma",
        '<|tool_call>call:weather{at:{<|"|>x y<|"|>:[1,-2.5,null,true]},city:<|"|>{a},\n[b]<|"|>,list:[],note:None}'
        "<tool_call|>",
        "",
        [("weather", {"at": {"x y": [1, -2.5, None, True]}, "city": "{a},\n[b]", "list": [], "note": None})],
    ),
    (
        "xml",
        "I look.\n\n<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n2\n"
        "</parameter>\n</function>\n</tool_call>",
        "I look.",
        OSLO,
    ),
    (
        "xml",
        "<tool_call>\n<function=weather>\n<parameter=city>\n2\nlines\n</parameter>\n<parameter=at>\n"
        '{"x": [1]}\n</parameter>\n<parameter=note>\n5\n</parameter>\n<parameter=exact>\nTrue\n</parameter>\n'
        "<parameter=new>\n7\n</parameter>\n</function>\n</tool_call>\n"
        "<tool_call>\n<function=now>\n</function>\n</tool_call>",
        "",
        [
            ("weather", {"city": "2\nlines", "at": {"x": [1]}, "note": "5", "exact": True, "new": "7"}),
            ("now", {}),
        ],
    ),
    ("xml", '<tool_call>{"name": "now", "arguments": {}}</tool_call>', "", [("now", {})]),
]


@pytest.mark.parametrize(("syntax", "written", "text", "calls"), WRITTEN)
def test_calls_are_read_as_each_family_writes_them(
    syntax: str, written: str, text: str, calls: list[tuple[str, Any]]
) -> None:
    assert split(events_of(syntax, [written])) == (text, calls)


@pytest.mark.parametrize(("syntax", "written", "text", "calls"), WRITTEN)
def test_calls_are_the_same_wherever_the_text_is_cut(
    syntax: str, written: str, text: str, calls: list[tuple[str, Any]]
) -> None:
    assert split(events_of(syntax, list(written))) == (text, calls)
    for cut in range(len(written)):
        assert split(events_of(syntax, [written[:cut], written[cut:]])) == (text, calls)


NO_CALLS = [
    ("hermes", "<tool_call>\nnot JSON\n</tool_call>"),
    ("hermes", '<tool_call>{"name": "now", "arguments": {}'),
    ("hermes", '<tool_call>{"name": "no name at all!", "arguments": {}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "now", "arguments": [1]}</tool_call>'),
    ("hermes", '<tool_call>{"name": "now", "arguments": {"x": NaN}}</tool_call>'),
    ("hermes", '<tool_call>{"name": "now", "arguments": {"x": "\\ud800"}}</tool_call>'),
    ("hermes", "a < b and <tool_ca"),
    ("mistral", "[TOOL_CALLS]"),
    ("mistral", "[TOOL_CALLS]weather[ARGS]{city}"),
    ("mistral", "[TOOL_CALLS]two words[ARGS]{}"),
    ("mistral", '[TOOL_CALLS][{"name": "now"}, 5]'),
    ("mistral", "see [1] and [TOOLS"),
    ("llama", "[1, 2, 3]"),
    ("llama", '{"name of it": 5}'),
    ("llama", "[weather(5)]"),
    ("llama", "[weather(city=open('x'))]"),
    ("llama", "[weather(city={1, 2})]"),
    ("llama", "[weather(**{'a': 1})]"),
    ("llama", "[weather(city=" + "(" * 3000 + ")" * 3000 + ")]"),
    ("llama", 'It is {"name": "now", "parameters": {}}.'),
    ("gemma", "<|tool_call>call:weather{city:<tool_call|>"),
    ("gemma", "<|tool_call>weather{}<tool_call|>"),
    ("gemma", '<|tool_call>call:weather{city:<|"|>Oslo}<tool_call|>'),
    ("gemma", "<|tool_call>call:weather{city:" + "[" * 100 + "]" * 100 + "}<tool_call|>"),
    ("xml", "<tool_call>\n<function=weather>\n<parameter=city>Oslo</function>\n</tool_call>"),
    ("xml", "<tool_call>\n<function=a b>\n</function>\n</tool_call>"),
]


@pytest.mark.parametrize(("syntax", "written"), NO_CALLS)
def test_what_is_no_call_comes_out_as_the_text_that_it_is(syntax: str, written: str) -> None:
    for pieces in ([written], list(written)):
        assert split(events_of(syntax, pieces)) == (written, [])


def test_a_broken_call_does_not_hide_the_one_after_it() -> None:
    written = '<tool_call>{"name": "x, "arguments"\n<tool_call>{"name": "now", "arguments": {}}</tool_call>'

    text, calls = split(events_of("hermes", [written]))

    assert calls == [("now", {})]
    assert text == '<tool_call>{"name": "x, "arguments"'


FRAGMENTS = ["<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "<|tool_call>", "<tool_call|>", '<|"|>']
FRAGMENTS += ["call:", "now", "<function=now>", "</function>"]


@pytest.mark.parametrize("syntax", SYNTAXES)
@given(
    pieces=st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
            st.sampled_from([*FRAGMENTS, *'{}[]()<" \n']),
        ),
        max_size=25,
    )
)
@settings(deadline=None, max_examples=60)
def test_no_text_is_lost_and_no_cut_changes_it(syntax: str, pieces: list[str]) -> None:
    written = "".join(pieces)
    text, calls = split(events_of(syntax, pieces))

    assert (text, calls) == split(events_of(syntax, [written])) == split(events_of(syntax, list(written)))
    if not calls:
        assert text == written


_KEYWORDS = ["type", "enum", "const", "anyOf", "oneOf", "$ref", "properties", "items"]
ANY_SCHEMA = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["string", "integer", "null", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYWORDS), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    schema=ANY_SCHEMA,
    text=st.text(max_size=5) | st.sampled_from(["5", "null", "[1]", "True", "1e999", '"x"']),
)
@settings(deadline=None, max_examples=200)
def test_no_schema_keeps_an_element_from_being_read(schema: Any, text: str) -> None:
    value = value_of(text, schema)

    assert value == text or json.dumps(value, allow_nan=False)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_plain_text_streams_as_it_comes(syntax: str) -> None:
    parser = ToolParser(SYNTAXES[syntax]())

    assert parser.push("A cat") == [TextPiece("A cat")]
    assert parser.push(" is") == [TextPiece(" is")]
    assert parser.push(" 3 < 5") == [TextPiece(" 3 < 5")]


@pytest.mark.parametrize(
    ("syntax", "begin"),
    [("hermes", "Yes.<tool_"), ("mistral", "Yes.[TOOL"), ("gemma", "Yes.<|tool"), ("xml", "Yes.<tool_ca")],
)
def test_half_a_marker_is_held_back_until_it_is_known_not_to_be_one(syntax: str, begin: str) -> None:
    parser = ToolParser(SYNTAXES[syntax]())

    assert parser.push(begin) == [TextPiece("Yes.")]
    assert parser.push("!") == [TextPiece(begin.removeprefix("Yes.") + "!")]


def test_a_list_that_is_no_call_streams_once_that_is_clear() -> None:
    parser = ToolParser(SYNTAXES["llama"]())

    assert parser.push("[") == []
    assert split(parser.push("1")) == ("[1", [])
    assert parser.push(", 2]") == [TextPiece(", 2]")]


@pytest.mark.parametrize(
    ("syntax", "begin", "more"),
    [
        ("hermes", '<tool_call>{"name": "now", "arguments": {"x": "', "y"),
        ("hermes", '<tool_call>{"name": "now", "arguments": {"x": [', "[],"),
        ("hermes", "", "<tool_call>{"),
        ("mistral", '[TOOL_CALLS]now[ARGS]{"x": [', "[],"),
        ("llama", "[now(x=[", "[],"),
        ("gemma", "<|tool_call>call:now{x:[", "[],>"),
        ("xml", "<tool_call><function=now>", "<parameter=a>"),
    ],
)
def test_long_answers_take_time_in_proportion_to_their_length(syntax: str, begin: str, more: str) -> None:
    def seconds(times: int) -> float:
        parser = ToolParser(SYNTAXES[syntax]())
        started = time.process_time()
        parser.push(begin)
        for _ in range(times):
            parser.push(more)
        parser.finish()
        return time.process_time() - started

    assert seconds(8000) < 2.0


def test_long_arguments_come_out_whole() -> None:
    parser = ToolParser(SYNTAXES["hermes"]())
    written = '<tool_call>{"name": "now", "arguments": {"x": "' + "y" * 20_000 + '"}}</tool_call>'

    events = [event for at in range(0, len(written), 4) for event in parser.push(written[at : at + 4])]

    assert split(events)[1] == [("now", {"x": "y" * 20_000})]
