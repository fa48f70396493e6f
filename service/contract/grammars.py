"""Grammars that an answer must follow: JSON schemas, regular expressions and Lark, as a request spells them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast, get_args

import orjson

from service.contract.plain_errors import Refused

GrammarKind: TypeAlias = Literal["json_schema", "regex", "lark"]

MAX_SOURCE_BYTES = 64 * 1024
MAX_SCHEMA_DEPTH = 32
ANY_OBJECT = '{"type":"object"}'


@dataclass(frozen=True)
class GrammarSpec:
    """A grammar in its own language, within our limits of size. It may still be wrong: only compiling it tells.

    special_tokens: ids of the model's special tokens that it may write; a request's own grammar writes none.
    """

    kind: GrammarKind
    source: str
    special_tokens: frozenset[int] = frozenset()


def read_response_format(value: Any) -> GrammarSpec | None:
    """OpenAI's `response_format`: None for plain text. Raises Refused with the field that is wrong."""
    if value is None:
        return None
    match _object(value, "response_format").get("type"):
        case "text":
            return None
        case "json_object" if value.get("value") is not None:
            # So huggingface_hub writes a schema, whatever form it was given.
            return schema_spec(value["value"], "response_format.value")
        case "json_object":
            return GrammarSpec("json_schema", ANY_OBJECT)
        case "json_schema":
            wanted = _object(value.get("json_schema"), "response_format.json_schema")
            return schema_spec(wanted.get("schema"), "response_format.json_schema.schema")
    raise Refused(
        "`response_format.type` must be one of 'text', 'json_object' or 'json_schema'.",
        param="response_format.type",
    )


def read_grammar(value: Any) -> GrammarSpec | None:
    """mistral.rs's `grammar`: {"type": "regex" | "lark" | "json_schema", "value": …}. Raises Refused."""
    if value is None:
        return None
    kind = _object(value, "grammar").get("type")
    if kind == "none":
        return None
    if kind not in get_args(GrammarKind):
        raise Refused(
            "`grammar.type` must be one of 'regex', 'lark', 'json_schema' or 'none'.", param="grammar.type"
        )
    if kind == "json_schema":
        return schema_spec(value.get("value"), "grammar.value")
    source = value.get("value")
    if not isinstance(source, str) or not source:
        raise Refused("`grammar.value` must be a string that is not empty.", param="grammar.value")
    return _within_size(GrammarSpec(cast("GrammarKind", kind), source), "grammar.value")


def schema_spec(schema: Any, param: str) -> GrammarSpec:
    """A JSON schema, given as an object or as JSON text. Raises Refused that names `param`."""
    if isinstance(schema, str):
        if len(schema) > MAX_SOURCE_BYTES:
            raise _too_large(param)
        try:
            schema = orjson.loads(schema)
        except orjson.JSONDecodeError:
            raise Refused(f"`{param}` is not valid JSON.", param=param, code="invalid_grammar") from None
    check_depth(_object(schema, param), param)
    return _within_size(GrammarSpec("json_schema", orjson.dumps(schema).decode()), param)


def check_depth(schema: dict[str, Any], param: str) -> None:
    """Raises Refused for a schema that is nested more than MAX_SCHEMA_DEPTH levels."""
    level: list[Any] = [schema]
    for _ in range(MAX_SCHEMA_DEPTH):
        level = [child for node in level for child in _children(node) if isinstance(child, dict | list)]
        if not level:
            return
    raise Refused(
        f"`{param}` is nested deeper than {MAX_SCHEMA_DEPTH} levels.", param=param, code="invalid_grammar"
    )


def _children(node: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node


def _object(value: Any, param: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refused(f"`{param}` must be an object.", param=param)
    return value


def _within_size(spec: GrammarSpec, param: str) -> GrammarSpec:
    if len(spec.source.encode()) > MAX_SOURCE_BYTES:
        raise _too_large(param)
    return spec


def _too_large(param: str) -> Refused:
    sentence = f"`{param}` is larger than {MAX_SOURCE_BYTES // 1024} kB."
    return Refused(sentence, param=param, code="invalid_grammar")
