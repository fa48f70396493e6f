"""Qwen 3.5's calls, whose arguments are elements: `<function=f><parameter=a>…</parameter></function>`."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from service.contract.tools import Tool
from workers.model.call_text import arguments_text, find_marker, is_name, lark_string, loaded, skip_space
from workers.model.grammar_check import JSON_OPTIONS
from workers.model.json_calls import CLOSE, OPEN, HermesSyntax, end_with
from workers.model.tool_grammar import ANY_TEXT, alternatives, repeated, schema_of
from workers.model.tools import NO_CALL, CallSyntax, Read, ToolFormat, ToolParser

_FUNCTION, _FUNCTION_END = "<function=", "</function>"
_PARAMETER_END = "</parameter>"
_PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)


class XmlSyntax(CallSyntax):
    """Its own calls, and Hermes's, into which models of this family sometimes fall back."""

    closers = ">}"

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._properties = {tool.function.name: _properties(tool) for tool in tools}
        self._hermes = HermesSyntax()

    def reset(self) -> None:
        self._hermes.reset()

    def find(self, text: str, *, at_start: bool) -> tuple[int, bool]:
        return find_marker(text, [OPEN])

    def read(self, text: str, *, is_last: bool) -> Read | None:
        begin = skip_space(text, len(OPEN))
        if _FUNCTION.startswith(text[begin : begin + len(_FUNCTION)]) and len(text) - begin < len(_FUNCTION):
            return None
        if not text.startswith(_FUNCTION, begin):
            return self._hermes.read(text, is_last=is_last)
        end = text.find(_FUNCTION_END, begin)
        if end < 0:
            return None
        call = self._call_of(text[begin + len(_FUNCTION) : end])
        if call is None:
            return NO_CALL
        whole = end_with(text, end + len(_FUNCTION_END), CLOSE, is_last=is_last)
        return None if whole is None else Read(whole, (call,))

    def _call_of(self, body: str) -> tuple[str, str] | None:
        """body: `name>` and the parameters."""
        name, _, elements = body.partition(">")
        name = name.strip()
        if not is_name(name) or _PARAMETER.sub("", elements).strip():
            return None
        known = self._properties.get(name, {})
        arguments = arguments_text(
            {key.strip(): _typed(text, known.get(key.strip())) for key, text in _PARAMETER.findall(elements)}
        )
        return None if arguments is None else (name, arguments)


def _typed(text: str, schema: Any) -> Any:
    """The value that an element's text stands for: text, unless its schema says otherwise."""
    types = _types(schema)
    if not types or types == {"string"}:
        return text
    try:
        value = loaded(text)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(text, text)
    return text if "string" in types and not _fits(value, types) else value


def _fits(value: Any, types: set[str]) -> bool:
    """Whether a parsed value is of one of the types, text aside."""
    kinds: Mapping[type, set[str]] = {
        bool: {"boolean"},
        int: {"integer", "number"},
        float: {"number"},
        type(None): {"null"},
        dict: {"object"},
        list: {"array"},
    }
    return bool(kinds.get(type(value), set()) & types)


def _types(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    declared = schema.get("type")
    own = {declared} if isinstance(declared, str) else set(declared if isinstance(declared, list) else ())
    choices = [choice for key in ("anyOf", "oneOf") for choice in schema.get(key) or []]
    refers = {"object"} if "$ref" in schema else set()
    return own.union(refers, *map(_types, choices))


def _properties(tool: Tool) -> dict[str, Any]:
    properties = schema_of(tool).get("properties")
    return properties if isinstance(properties, dict) else {}


class XmlFormat(ToolFormat):
    """Qwen 3.5 and Qwen 3 Coder; no marker is a special token."""

    def parser(self, tools: Sequence[Tool] = ()) -> ToolParser:
        return ToolParser(XmlSyntax(tools))

    def lark(self, tools: Sequence[Tool], *, must_call: bool, parallel: bool) -> str:
        calls = f"call: {alternatives('call', len(tools))}\n" + "".join(
            _call_rules(i, tool) for i, tool in enumerate(tools)
        )
        if must_call:
            block = f'block: "{OPEN}" call\n'
            start = f"start: {repeated('block', lark_string(chr(10)), parallel=parallel)}\n{ANY_TEXT}"
        else:
            block = f'block: opening call\nopening[lazy]: TEXT "{OPEN}"\n{ANY_TEXT}'
            start = f"start: {'block* end' if parallel else 'block | end'}\nend: TEXT\n"
        return (
            start
            + block
            + calls
            + f"text_end[lazy]: TEXT {lark_string(chr(10) + _PARAMETER_END + chr(10))}\n"
        )


def _call_rules(number: int, tool: Tool) -> str:
    schema = schema_of(tool)
    required = set(schema.get("required") or [])
    parts, rules = [], []
    for place, (key, value) in enumerate(_properties(tool).items()):
        name = f"param_{number}_{place}"
        parts.append(name if key in required else f"{name}?")
        rules.append(f"{name}: {_element(key, value, schema, is_strict=bool(tool.function.strict))}\n")
    head = lark_string(f"\n{_FUNCTION}{tool.function.name}>\n")
    return f'call_{number}: {head} {" ".join(parts)} "{_FUNCTION_END}\\n{CLOSE}"\n' + "".join(rules)


def _element(key: str, schema: Any, root: Mapping[str, Any], *, is_strict: bool) -> str:
    """One parameter. Text is free unless it is one of a few; anything else is JSON."""
    begin, end = lark_string(f"<parameter={key}>\n"), lark_string(f"\n{_PARAMETER_END}\n")
    types = _types(schema)
    if types and "string" not in types:
        wanted = schema | {name: root[name] for name in ("$defs", "definitions") if name in root}
        options = JSON_OPTIONS | {"lenient": not is_strict}
        return f"{begin} %json {json.dumps(wanted | {'x-guidance': options})} {end}"
    choices = schema.get("enum") if isinstance(schema, dict) else None
    if isinstance(choices, list) and choices:
        return f"{begin} ({' | '.join(lark_string(_shown(choice)) for choice in choices)}) {end}"
    # Lazy: the text ends with the first end of a parameter in it.
    return f"{begin} text_end"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
