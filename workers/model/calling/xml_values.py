"""What stands in an element of Qwen 3.5's calls: one of a few texts, any text without quotes, or JSON."""

import json
from collections.abc import Mapping
from typing import Any

from service.errors import BadRequest
from workers.model.calling.call_text import lark_string, loaded
from workers.model.grammars.grammar_check import JSON_OPTIONS

_DEFINITIONS = ("$defs", "definitions")
# What may stand beside a string's type without our having to enforce it while the text is written.
_HARMLESS = frozenset(
    {"type", "title", "description", "default", "examples", "nullable", "deprecated", "$comment"}
)
_BRANCH_LIMITS = {"minLength": "minLength in anyOf", "maxLength": "maxLength in anyOf"}
_KINDS: Mapping[type, set[str]] = {
    bool: {"boolean"},
    int: {"integer", "number"},
    float: {"number"},
    type(None): {"null"},
    dict: {"object"},
    list: {"array"},
}


def value_of(text: str, schema: Any) -> Any:
    """The value that an element's text stands for under a schema, which may be anything at all."""
    for choice in _choices(schema):
        if shown(choice) == text:
            return choice
    if _is_text(schema) and not _types(schema) - {"string"}:
        return text
    try:
        value = loaded(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)
    return value if not _is_text(schema) or _KINDS.get(type(value), set()) & _types(schema) else text


def value_rule(schema: Any, root: Mapping[str, Any], end: str, *, is_strict: bool) -> str:
    """What a grammar says of such a text and of `end`, which follows it. Raises BadRequest.

    root: the schema that `schema` is a part of. The grammar has a rule `text_end`: any text up to the first `end`.
    """
    if choices := _choices(schema):
        return f"({' | '.join(lark_string(shown(choice)) for choice in choices)}) {lark_string(end)}"
    if not _is_text(schema):
        wanted = {**schema, **{name: root[name] for name in _DEFINITIONS if name in root}}
        options = JSON_OPTIONS | {"lenient": not is_strict}
        return f"%json {json.dumps(wanted | {'x-guidance': options})} {lark_string(end)}"
    limits = _limits(schema) if is_strict else {}
    if unknown := sorted(set(limits) - {"minLength", "maxLength"}):
        sentence = f"The schema of a tool uses '{unknown[0][:100]}', which this model's format of calls cannot enforce."
        raise BadRequest(sentence, param="tools", code="invalid_grammar")
    if limits:
        least, most = limits.get("minLength", 0), limits.get("maxLength", "")
        # One terminal: a text of its own would take the end's line break for itself.
        after = end.replace("\n", r"\n").replace("/", r"\/")
        return f"/[^<]{{{least},{most}}}{after}/"
    return "text_end"


def shown(value: Any) -> str:
    """A value as an element shows it."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _choices(schema: Any) -> list[Any]:
    if not isinstance(schema, dict):
        return []
    if "const" in schema:
        return [schema["const"]]
    choices = schema.get("enum")
    return choices if isinstance(choices, list) else []


def _is_text(schema: Any) -> bool:
    """Whether a text without quotes is a value: of a schema that allows strings, or says nothing of types."""
    return "string" in (types := _types(schema)) or not types


def _types(schema: Any) -> set[str]:
    """The types that a schema names; `object` stands for what is not looked into."""
    if not isinstance(schema, dict):
        return set()
    declared = schema.get("type")
    named = [declared] if isinstance(declared, str) else declared if isinstance(declared, list) else []
    looked_into = {"object"} if {"$ref", "allOf", "properties"} & set(schema) else set()
    types = looked_into.union(name for name in named if isinstance(name, str))
    for branch in _branches(schema):
        types |= _types(branch) or {"object"}
    return types


def _branches(schema: Mapping[str, Any]) -> list[Any]:
    return [branch for key in ("anyOf", "oneOf") for branch in _list(schema.get(key))]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _limits(schema: Any) -> dict[str, Any]:
    """What a schema that allows text asks of it, beyond its types."""
    if not isinstance(schema, dict):
        return {}
    own = {key: value for key, value in schema.items() if key not in _HARMLESS | {"anyOf", "oneOf"}}
    for branch in _branches(schema):
        # Lengths that hold for one branch alone are no longer lengths of the text.
        own |= {_BRANCH_LIMITS.get(key, key): value for key, value in _limits(branch).items()}
    return own
