"""JSON from strangers: no NaN, no broken text, no duplicate keys, no towers of brackets."""

import json
from typing import Any

import orjson

from service.errors import BadRequest

MAX_DEPTH = 32


def parse_object(raw: bytes) -> dict[str, Any]:
    """The one JSON object in `raw`, or BadRequest that says what is wrong and where."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise BadRequest(f"The body is not valid JSON ({where}).", code="invalid_json") from None
    if not isinstance(value, dict):
        raise BadRequest("The body must be a JSON object.", code="invalid_json")
    _refuse_depth(value)
    _refuse_duplicates(raw)
    return value


def _refuse_depth(value: dict[str, Any]) -> None:
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in _children(node) if isinstance(child, (dict, list))]
        if not level:
            return
    raise BadRequest(f"The JSON is nested deeper than {MAX_DEPTH} levels.", code="invalid_json")


def _children(node: Any) -> Any:
    return node.values() if isinstance(node, dict) else node


def _refuse_duplicates(raw: bytes) -> None:
    """orjson keeps the last of two equal keys; another reader may keep the first, and then two parts disagree."""
    json.loads(raw, object_pairs_hook=_without_duplicates)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRequest("The JSON has the same key twice.", param=twice[:64], code="invalid_json")
