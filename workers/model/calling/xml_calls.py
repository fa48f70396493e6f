"""Qwen 3.5's calls, whose arguments are elements: `<function=f><parameter=a>…</parameter></function>`."""

import re
from collections.abc import Sequence
from typing import Any

from service.contract.tools import Tool
from workers.model.calling.call_text import arguments_text, find_marker, is_name, lark_string, skip_space
from workers.model.calling.json_calls import CLOSE, OPEN, HermesSyntax, end_with
from workers.model.calling.tool_grammar import ANY_TEXT, alternatives, repeated, schema_of
from workers.model.calling.tools import NO_CALL, CallSyntax, Read, ToolFormat, ToolParser
from workers.model.calling.xml_values import value_of, value_rule

_FUNCTION, _FUNCTION_END = "<function=", "</function>"
_AFTER_VALUE = "\n</parameter>\n"
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
            {
                key.strip(): value_of(text, known.get(key.strip()))
                for key, text in _PARAMETER.findall(elements)
            }
        )
        return None if arguments is None else (name, arguments)


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
        return start + block + calls + f"text_end[lazy]: TEXT {lark_string(_AFTER_VALUE)}\n"


def _call_rules(number: int, tool: Tool) -> str:
    schema = schema_of(tool)
    required = schema.get("required")
    parts, rules = [], []
    for place, (key, value) in enumerate(_properties(tool).items()):
        name = f"param_{number}_{place}"
        parts.append(name if isinstance(required, list) and key in required else f"{name}?")
        rule = value_rule(value, schema, _AFTER_VALUE, is_strict=bool(tool.function.strict))
        rules.append(f"{name}: {lark_string(f'<parameter={key}>{chr(10)}')} {rule}\n")
    head = lark_string(f"\n{_FUNCTION}{tool.function.name}>\n")
    return f'call_{number}: {head} {" ".join(parts)} "{_FUNCTION_END}\\n{CLOSE}"\n' + "".join(rules)
