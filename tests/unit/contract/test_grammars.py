"""What a request may say about the grammar of its answer."""

from typing import Any

import pytest

from service.contract.grammars import (
    ANY_OBJECT,
    MAX_SOURCE_BYTES,
    GrammarSpec,
    read_grammar,
    read_response_format,
)
from service.contract.plain_errors import Refused


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels):
        schema = {"type": "array", "items": schema}
    return schema


def schema_format(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def test_plain_text_asks_for_no_grammar() -> None:
    assert read_response_format(None) is None
    assert read_response_format({"type": "text"}) is None
    assert read_grammar(None) is None
    assert read_grammar({"type": "none"}) is None


def test_json_object_is_the_schema_of_any_object() -> None:
    assert read_response_format({"type": "json_object"}) == GrammarSpec("json_schema", ANY_OBJECT)


def test_a_schema_keeps_the_order_of_its_properties() -> None:
    spec = read_response_format(
        schema_format({"type": "object", "properties": {"b": {}, "a": {"const": "é"}}})
    )

    assert spec == GrammarSpec("json_schema", '{"type":"object","properties":{"b":{},"a":{"const":"é"}}}')


def test_a_grammar_may_be_a_regex_lark_or_a_schema_as_object_or_text() -> None:
    assert read_grammar({"type": "regex", "value": "a+"}) == GrammarSpec("regex", "a+")
    assert read_grammar({"type": "lark", "value": 'start: "a"'}) == GrammarSpec("lark", 'start: "a"')
    as_object = read_grammar({"type": "json_schema", "value": {"type": "integer"}})
    assert as_object == read_grammar({"type": "json_schema", "value": '{"type": "integer"}'})


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("json", "response_format"),
        ({}, "response_format.type"),
        ({"type": "xml"}, "response_format.type"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        (schema_format(None), "response_format.json_schema.schema"),
        (schema_format("{"), "response_format.json_schema.schema"),
        (schema_format("[1]"), "response_format.json_schema.schema"),
        (schema_format(nested(40)), "response_format.json_schema.schema"),
        (schema_format({"const": "x" * MAX_SOURCE_BYTES}), "response_format.json_schema.schema"),
        (schema_format("[" * 200_000), "response_format.json_schema.schema"),
        (schema_format("[" * 60_000), "response_format.json_schema.schema"),
    ],
)
def test_a_wrong_response_format_is_refused_by_the_name_of_its_field(value: Any, param: str) -> None:
    with pytest.raises(Refused) as refused:
        read_response_format(value)

    assert refused.value.param == param


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ([], "grammar"),
        ({"type": "ebnf", "value": "x"}, "grammar.type"),
        ({"type": ["regex"], "value": "x"}, "grammar.type"),
        ({"type": "regex"}, "grammar.value"),
        ({"type": "regex", "value": ""}, "grammar.value"),
        ({"type": "lark", "value": {"a": 1}}, "grammar.value"),
        ({"type": "regex", "value": "ä" * (MAX_SOURCE_BYTES // 2 + 1)}, "grammar.value"),
    ],
)
def test_a_wrong_grammar_is_refused_by_the_name_of_its_field(value: Any, param: str) -> None:
    with pytest.raises(Refused) as refused:
        read_grammar(value)

    assert refused.value.param == param
