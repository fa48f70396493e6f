"""Families whose calls hold their arguments as JSON: Qwen and Hermes, Mistral, Llama."""

import ast
import re
from collections.abc import Sequence
from typing import Any

from service.contract.tools import Tool
from workers.model.calling.call_text import (
    JSON_PIECE,
    PYTHON_PIECE,
    Span,
    arguments_text,
    call_of,
    call_of_value,
    find_marker,
    is_name,
    lark_string,
    loaded,
    name_at,
    skip_space,
)
from workers.model.calling.tool_grammar import ANY_TEXT, alternatives, json_rule, repeated
from workers.model.calling.tools import NO_CALL, CallSyntax, Read, ToolFormat, ToolParser

OPEN, CLOSE = "<tool_call>", "</tool_call>"


def end_with(text: str, end: int, closer: str, *, is_last: bool) -> int | None:
    """Where a call ends whose `closer` may follow after white space; None while it may still come."""
    place = skip_space(text, end)
    if text.startswith(closer, place):
        return place + len(closer)
    may_come = closer.startswith(text[place:]) and not is_last
    return None if may_come else end


class HermesSyntax(CallSyntax):
    """`<tool_call>{"name": …, "arguments": {…}}</tool_call>`"""

    closers = "}>"

    def __init__(self) -> None:
        self._span = Span(JSON_PIECE)

    def reset(self) -> None:
        self._span.reset()

    def find(self, text: str, *, at_start: bool) -> tuple[int, bool]:
        return find_marker(text, [OPEN])

    def read(self, text: str, *, is_last: bool) -> Read | None:
        begin = skip_space(text, len(OPEN))
        if begin == len(text):
            return None
        if text[begin] != "{":
            return NO_CALL
        end = self._span.end(text, begin)
        if end is None:
            return None
        call = call_of(text[begin:end])
        if call is None:
            return NO_CALL
        whole = end_with(text, end, CLOSE, is_last=is_last)
        return None if whole is None else Read(whole, (call,))


class HermesFormat(ToolFormat):
    """Qwen 2, 2.5 and 3, Hermes, and what we describe to families without a format."""

    def __init__(self, *, is_described: bool = False) -> None:
        self.is_described = is_described

    def parser(self, tools: Sequence[Tool] = ()) -> ToolParser:
        return ToolParser(HermesSyntax())

    def lark(self, tools: Sequence[Tool], *, must_call: bool, parallel: bool) -> str:
        rules = [
            f'call_{i}: {lark_string(_head(tool, "arguments"))} args_{i} "}}\\n{CLOSE}"\n'
            + json_rule(f"args_{i}", tool)
            for i, tool in enumerate(tools)
        ]
        call = f"call: {alternatives('call', len(tools))}\n"
        if must_call:
            block = f'block: "{OPEN}\\n" call\n'
            start = f"start: {repeated('block', lark_string(chr(10)), parallel=parallel)}\n"
        else:
            # Lazy: the text ends with the first marker in it.
            block = f'block: opening "\\n" call\nopening[lazy]: TEXT "{OPEN}"\n{ANY_TEXT}'
            start = f"start: {'block* end' if parallel else 'block | end'}\nend: TEXT\n"
        return start + block + call + "".join(rules)


def _head(tool: Tool, arguments: str) -> str:
    return f'{{"name": "{tool.function.name}", "{arguments}": '


class MistralSyntax(CallSyntax):
    """`[TOOL_CALLS]name[ARGS]{…}`, with `[CALL_ID]…` before the arguments or not, or `[TOOL_CALLS][{…}, …]`."""

    closers = "}]"
    marker, call_id, args = "[TOOL_CALLS]", "[CALL_ID]", "[ARGS]"

    def __init__(self) -> None:
        self._span = Span(JSON_PIECE)

    def reset(self) -> None:
        self._span.reset()

    def find(self, text: str, *, at_start: bool) -> tuple[int, bool]:
        return find_marker(text, [self.marker])

    def read(self, text: str, *, is_last: bool) -> Read | None:
        begin = skip_space(text, len(self.marker))
        if begin == len(text):
            return None
        if text[begin] == "[":
            return self._read_list(text, begin)
        return self._read_named(text, begin)

    def _read_list(self, text: str, begin: int) -> Read | None:
        end = self._span.end(text, begin)
        if end is None:
            return None
        try:
            calls = [call_of_value(value) for value in loaded(text[begin:end])]
        except ValueError:
            return NO_CALL
        whole = tuple(call for call in calls if call is not None)
        return Read(end, whole) if whole and len(whole) == len(calls) else NO_CALL

    def _read_named(self, text: str, begin: int) -> Read | None:
        name = name_at(text, begin)
        brace = text.find("{", begin)
        if brace < 0:
            return None
        between = text[begin + len(name) : brace].strip()
        if not name or not re.fullmatch(r"(\[CALL_ID\]\w*)?\s*(\[ARGS\])?", between):
            return NO_CALL
        end = self._span.end(text, brace)
        if end is None:
            return None
        arguments = arguments_text(text[brace:end])
        return NO_CALL if arguments is None else Read(end, ((name, arguments),))


class MistralFormat(ToolFormat):
    """Mistral Small 3 and what came after: markers are special tokens.

    markers: token ids of [TOOL_CALLS], [CALL_ID] and [ARGS], where the tokenizer has them.
    """

    def __init__(self, markers: dict[str, int]) -> None:
        self._markers = markers
        self.keep_tokens = frozenset(markers.values())

    def parser(self, tools: Sequence[Tool] = ()) -> ToolParser:
        return ToolParser(MistralSyntax())

    def lark(self, tools: Sequence[Tool], *, must_call: bool, parallel: bool) -> str:
        marker = f"<[{self._markers[MistralSyntax.marker]}]>"
        args = self._markers.get(MistralSyntax.args)
        calls = f"calls: {alternatives('call', len(tools))}\n"
        if args is None:
            rules = [
                f'call_{i}: {lark_string(_head(tool, "arguments"))} args_{i} "}}"\n'
                for i, tool in enumerate(tools)
            ]
            inner = repeated("calls", lark_string(", "), parallel=parallel)
            block = f'block: {marker} "[" {inner} "]"\n'
        else:
            rules = [
                f'call_{i}: "{tool.function.name}" <[{args}]> args_{i}\n' for i, tool in enumerate(tools)
            ]
            block = f"block: ({marker} calls){'+' if parallel else ''}\n"
        schemas = [json_rule(f"args_{i}", tool) for i, tool in enumerate(tools)]
        start = "start: block\n" if must_call else f"start: TEXT block?\n{ANY_TEXT}"
        return start + block + calls + "".join(rules + schemas)


class LlamaSyntax(CallSyntax):
    """`[f(a=1), g(b="x")]`, or `{"name": …, "parameters": {…}}`, as the whole answer or between its two marks."""

    closers = "])}>"
    begins, ends, separators = "<|python_start|>", "<|python_end|>", " \n\t;,"

    def __init__(self) -> None:
        self._json, self._python = Span(JSON_PIECE), Span(PYTHON_PIECE)

    def reset(self) -> None:
        self._json.reset()
        self._python.reset()

    def find(self, text: str, *, at_start: bool) -> tuple[int, bool]:
        if not at_start:
            return find_marker(text, [self.begins])
        rest = text.lstrip(self.separators)
        if rest[:1] in ("[", "{") or rest.startswith(self.begins):
            return 0, True
        return (0, False) if self.begins.startswith(rest) else find_marker(text, [self.begins])

    def read(self, text: str, *, is_last: bool) -> Read | None:
        begin = len(text) - len(text.lstrip(self.separators))
        if text.startswith(self.begins, begin):
            begin = skip_space(text, begin + len(self.begins))
        if begin == len(text):
            return None
        if text[begin] not in "[{" or not _may_be_call(text[begin:]):
            return NO_CALL
        end = (self._python if text[begin] == "[" else self._json).end(text, begin)
        if end is None:
            return None
        calls = _python_calls(text[begin:end]) if text[begin] == "[" else _json_calls(text[begin:end])
        if not calls:
            return NO_CALL
        whole = end_with(text, end, self.ends, is_last=is_last)
        return None if whole is None else Read(whole, calls)


def _may_be_call(text: str) -> bool:
    """Whether what begins here can still become a call, so that other lists and objects stream on."""
    if text[0] == "[":
        return re.fullmatch(r"\[\s*([A-Za-z_][\w.-]*\s*(\(.*)?)?", text, re.DOTALL) is not None
    begin = "".join(text[:64].split())
    return any(
        begin.startswith(key[: len(begin)]) for key in ('{"name"', '{"type":"function"', '{"function"')
    )


def _json_calls(text: str) -> tuple[tuple[str, str], ...]:
    call = call_of(text)
    return () if call is None else (call,)


_CONSTANTS = {"true": True, "false": False, "null": None}


def _python_calls(text: str) -> tuple[tuple[str, str], ...]:
    try:
        body = ast.parse(text.strip(), mode="eval").body
        assert isinstance(body, ast.List)
        return tuple(_python_call(element) for element in body.elts)
    except (SyntaxError, ValueError, TypeError, AssertionError, RecursionError, MemoryError):
        return ()


def _python_call(node: ast.expr) -> tuple[str, str]:
    """Raises ValueError for anything but a function called with named literals."""
    if not isinstance(node, ast.Call) or node.args or not is_name(name := ast.unparse(node.func)):
        raise ValueError
    arguments = arguments_text({str(word.arg): _literal(word.value) for word in node.keywords if word.arg})
    if arguments is None or any(word.arg is None for word in node.keywords):
        raise ValueError
    return name, arguments


def _literal(node: ast.expr) -> Any:
    """A Python literal, in which JSON's constants may stand."""
    match node:
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.List() | ast.Tuple():
            return [_literal(element) for element in node.elts]
        case ast.Dict():
            if None in node.keys:
                raise ValueError
            return {
                _literal(key): _literal(value)
                for key, value in zip(node.keys, node.values, strict=True)
                if key
            }
        case _:
            return ast.literal_eval(node)


class LlamaFormat(ToolFormat):
    """Llama 3.2 and 4. markers: token ids of what may stand around calls."""

    def __init__(self, markers: frozenset[int]) -> None:
        self.keep_tokens = markers

    def parser(self, tools: Sequence[Tool] = ()) -> ToolParser:
        return ToolParser(LlamaSyntax())

    def lark(self, tools: Sequence[Tool], *, must_call: bool, parallel: bool) -> str:
        rules = [
            f'call_{i}: {lark_string(_head(tool, "parameters"))} args_{i} "}}"\n'
            + json_rule(f"args_{i}", tool)
            for i, tool in enumerate(tools)
        ]
        calls = f"calls: {repeated('call', lark_string('; '), parallel=parallel)}\n"
        start = "start: calls\n" if must_call else "start: calls | TEXT\nTEXT: /([^\\[{\\s](.|\\n)*)?/\n"
        return start + calls + f"call: {alternatives('call', len(tools))}\n" + "".join(rules)
