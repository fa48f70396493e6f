"""JSON schemas as Lark rules for Gemma 4's notation of arguments: bare keys, strings between quote tokens."""

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

from service.errors import BadRequest
from workers.model.calling.call_text import lark_string
from workers.model.grammars.grammar_check import JSON_OPTIONS

# A string holds no "<|", so that it cannot spell its own end.
_STRING_LETTERS = r"([^<]|<+[^<|])*<*"
_ANNOTATIONS = frozenset(
    {
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "nullable",
        "readOnly",
        "writeOnly",
        "$comment",
    }
    | {"$schema", "$id", "$defs", "definitions"}
)
_SHAPES = frozenset(
    {"type", "enum", "const", "anyOf", "oneOf", "$ref", "properties", "required", "additionalProperties"}
    | {"items", "minItems", "maxItems", "minLength", "maxLength"}
)
_SCALAR_LIMITS = frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"})


def shared_rules(quote: str) -> str:
    """Rules for values of any shape, once a grammar. quote: the quote token, as Lark."""
    return (
        f"any_value: any_string | any_scalar | any_list | any_object\n"
        f"any_string: {quote} STRING {quote}\n"
        f"any_scalar: %json {json.dumps({'type': ['number', 'boolean', 'null']})}\n"
        f'any_list: "[" (any_value ("," any_value)*)? "]"\n'
        f'any_object: "{{" (any_pair ("," any_pair)*)? "}}"\n'
        f'any_pair: KEY ":" any_value\n'
        f"STRING: /{_STRING_LETTERS}/\n"
        f"KEY: /[A-Za-z_][A-Za-z0-9_-]*/\n"
    )


class GemmaRules:
    """Rules for one tool's arguments. prefix: begins every rule's name; is_strict: refuse what cannot be enforced."""

    def __init__(self, schema: Mapping[str, Any], quote: str, prefix: str, *, is_strict: bool) -> None:
        self._root = schema
        self._quote = quote
        self._prefix = prefix
        self._is_strict = is_strict
        self._rules: list[str] = []
        self._numbers = itertools.count()
        self._by_pointer: dict[str, str] = {}

    def text(self) -> str:
        """All rules; the one named `prefix` is the whole value. Errors: BadRequest."""
        try:
            whole = self._rule(self._root)
        except RecursionError:
            raise _refused("is nested too deeply") from None
        except (TypeError, ValueError, AttributeError) as error:
            raise _refused("has a keyword with a value of a wrong type") from error
        return "".join([f"{self._prefix}: {whole}\n", *self._rules])

    def _rule(self, schema: Any) -> str:
        """The name of a rule for the values of a schema."""
        if not isinstance(schema, dict):
            return "any_value"
        pointer = schema.get("$ref")
        if not isinstance(pointer, str):
            return self._define(self._body(schema))
        if pointer not in self._by_pointer:
            # Named before it is written, since it may refer to itself.
            name = self._by_pointer[pointer] = self._name()
            self._rules.append(f"{name}: {self._body(self._target(pointer))}\n")
        return self._by_pointer[pointer]

    def _body(self, schema: dict[str, Any]) -> str:
        self._refuse_unknown(schema)
        if "$ref" in schema:
            return self._rule(schema)
        if "const" in schema:
            return self._literal(schema["const"])
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return " | ".join(map(self._literal, schema["enum"]))
        for key in ("anyOf", "oneOf"):
            if isinstance(schema.get(key), list) and schema[key]:
                return " | ".join(map(self._rule, schema[key]))
        return self._body_of_type(schema)

    def _body_of_type(self, schema: dict[str, Any]) -> str:
        kind = schema.get("type", "object" if schema.get("properties") else None)
        if isinstance(kind, list):
            return " | ".join(self._rule(schema | {"type": one}) for one in kind) or "any_value"
        bodies: dict[Any, Callable[[dict[str, Any]], str]] = {
            "string": self._string,
            "array": self._array,
            "object": self._object,
            **dict.fromkeys(("integer", "number", "boolean", "null"), _scalar),
        }
        return bodies[kind](schema) if isinstance(kind, str) and kind in bodies else "any_value"

    def _string(self, schema: dict[str, Any]) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if not least and most is None:
            return "any_string"
        letters = self._define(f"/[^<]{{{int(least)},{'' if most is None else int(most)}}}/")
        return f"{self._quote} {letters} {self._quote}"

    def _array(self, schema: dict[str, Any]) -> str:
        item = self._rule(schema.get("items"))
        least, most = int(schema.get("minItems", 0)), schema.get("maxItems")
        if most == 0:
            return '"[" "]"'
        times = f"{{{max(least - 1, 0)},{'' if most is None else int(most) - 1}}}"
        items = f'{item} ("," {item}){times}'
        return f'"[" {items} "]"' if least else f'"[" ({items})? "]"'

    def _object(self, schema: dict[str, Any]) -> str:
        """Properties in the order of their names, as the family's own template writes them."""
        properties = schema.get("properties") or {}
        if not properties:
            return '"{" "}"' if schema.get("additionalProperties") is False else "any_object"
        required = set(schema.get("required") or [])
        # From the last to the first: what may come next if nothing stands before it, and what if something does.
        first = after = '""'
        for key in sorted(properties, reverse=True):
            pair = f"{lark_string(key + ':')} {self._rule(properties[key])} {after}"
            first = self._define(pair if key in required else f"{pair} | {first}")
            after = self._define(f'"," {pair}' if key in required else f'"," {pair} | {after}')
        return f'"{{" {first} "}}"'

    def _literal(self, value: Any) -> str:
        """This very value."""
        match value:
            case str():
                return f"{self._quote} {lark_string(value)} {self._quote}"
            case dict():
                pairs = [f"{lark_string(key + ':')} {self._literal(value[key])}" for key in sorted(value)]
                return '"{" ' + ' "," '.join(pairs) + ' "}"'
            case list():
                return '"[" ' + ' "," '.join(map(self._literal, value)) + ' "]"'
            case _:
                return lark_string(json.dumps(value))

    def _define(self, body: str) -> str:
        name = self._name()
        self._rules.append(f"{name}: {body}\n")
        return name

    def _name(self) -> str:
        return f"{self._prefix}_{next(self._numbers)}"

    def _target(self, pointer: str) -> dict[str, Any]:
        found: Any = self._root
        for step in pointer.removeprefix("#").split("/")[1:]:
            found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
        if not pointer.startswith("#") or not isinstance(found, dict):
            raise _refused(f"refers to '{pointer[:100]}', which it does not contain")
        return found

    def _refuse_unknown(self, schema: dict[str, Any]) -> None:
        unknown = sorted(set(schema) - _ANNOTATIONS - _SHAPES - _SCALAR_LIMITS)
        if self._is_strict and unknown:
            raise _refused(
                f"uses '{unknown[0][:100]}', which cannot be enforced in this model's format of calls"
            )


def _scalar(schema: dict[str, Any]) -> str:
    wanted = {key: value for key, value in schema.items() if key in _SCALAR_LIMITS | {"type"}}
    return f"%json {json.dumps(wanted | {'x-guidance': JSON_OPTIONS})}"


def _refused(what: str) -> BadRequest:
    return BadRequest(f"The schema of a tool {what}.", param="tools", code="invalid_grammar")
