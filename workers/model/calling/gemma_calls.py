"""Gemma 4's calls: `<|tool_call>call:name{key:<|"|>text<|"|>,other:[1,true]}<tool_call|>`, marked by special tokens."""

from collections.abc import Sequence
from typing import Any

from service.contract.tools import Tool
from workers.model.calling.call_text import arguments_text, find_marker, loaded, name_at, skip_space
from workers.model.calling.gemma_rules import GemmaRules, shared_rules
from workers.model.calling.tool_grammar import ANY_TEXT, alternatives, schema_of
from workers.model.calling.tools import NO_CALL, CallSyntax, Read, ToolFormat, ToolParser

OPEN, CLOSE, QUOTE = "<|tool_call>", "<tool_call|>", '<|"|>'
_HEAD = "call:"
_MAX_DEPTH = 32


class GemmaSyntax(CallSyntax):
    """A call ends with its closing token, which no string of a call can contain."""

    closers = ">"

    def find(self, text: str, *, at_start: bool) -> tuple[int, bool]:
        return find_marker(text, [OPEN])

    def read(self, text: str, *, is_last: bool) -> Read | None:
        close = text.find(CLOSE)
        if close < 0 and not is_last:
            return None
        body = text[len(OPEN) : close if close >= 0 else len(text)]
        call = _call_of(body.strip())
        if call is None:
            return NO_CALL
        return Read(close + len(CLOSE) if close >= 0 else len(text), (call,))


def _call_of(body: str) -> tuple[str, str] | None:
    begin = skip_space(body, len(_HEAD))
    name = name_at(body, begin)
    brace = skip_space(body, begin + len(name))
    if not body.startswith(_HEAD) or not name or not body.startswith("{", brace):
        return None
    try:
        value, end = _Reader(body).value(brace, 0)
    except ValueError:
        return None
    arguments = arguments_text(value)
    return (name, arguments) if arguments is not None and end == len(body) else None


class _Reader:
    """Reads Gemma's notation of values. Each method returns a value and the place after it, or raises ValueError."""

    def __init__(self, text: str) -> None:
        self._text = text

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        if depth > _MAX_DEPTH:
            raise ValueError
        at = skip_space(self._text, at)
        if self._text.startswith(QUOTE, at):
            return self._string(at)
        if self._text.startswith("{", at):
            return self._object(at + 1, depth)
        if self._text.startswith("[", at):
            return self._list(at + 1, depth)
        return self._bare(at)

    def _string(self, at: int) -> tuple[str, int]:
        begin = at + len(QUOTE)
        end = self._text.index(QUOTE, begin)
        return self._text[begin:end], end + len(QUOTE)

    def _object(self, at: int, depth: int) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        at = skip_space(self._text, at)
        while not self._text.startswith("}", at):
            key, at = self._key(at)
            found[key], at = self.value(at, depth + 1)
            at = self._next(at, "}")
        return found, at + 1

    def _list(self, at: int, depth: int) -> tuple[list[Any], int]:
        found: list[Any] = []
        at = skip_space(self._text, at)
        while not self._text.startswith("]", at):
            value, at = self.value(at, depth + 1)
            found.append(value)
            at = self._next(at, "]")
        return found, at + 1

    def _key(self, at: int) -> tuple[str, int]:
        if self._text.startswith(QUOTE, at):
            key, at = self._string(at)
            return key, self._text.index(":", at) + 1
        end = self._text.index(":", at)
        return self._text[at:end].strip().strip('"'), end + 1

    def _next(self, at: int, closer: str) -> int:
        """Past a comma, or at the closer."""
        at = skip_space(self._text, at)
        if self._text.startswith(",", at):
            return skip_space(self._text, at + 1)
        if not self._text.startswith(closer, at):
            raise ValueError
        return at

    def _bare(self, at: int) -> tuple[Any, int]:
        """A number or a constant; other bare words are taken for text."""
        end = at
        while end < len(self._text) and self._text[end] not in ",}]":
            end += 1
        word = self._text[at:end].strip()
        if not word:
            raise ValueError
        try:
            return loaded(word), end
        except ValueError:
            return (None if word == "None" else word), end


class GemmaFormat(ToolFormat):
    """open_id, close_id, quote_id: token ids of the three markers."""

    def __init__(self, open_id: int, close_id: int, quote_id: int) -> None:
        self._open, self._close, self._quote = (f"<[{token}]>" for token in (open_id, close_id, quote_id))
        self.keep_tokens = frozenset({open_id, close_id, quote_id})

    def parser(self, tools: Sequence[Tool] = ()) -> ToolParser:
        return ToolParser(GemmaSyntax())

    def lark(self, tools: Sequence[Tool], *, must_call: bool, parallel: bool) -> str:
        rules = [
            f'call_{i}: {self._open} "call:{tool.function.name}" args_{i} {self._close}\n'
            + GemmaRules(
                schema_of(tool), self._quote, f"args_{i}", is_strict=bool(tool.function.strict)
            ).text()
            for i, tool in enumerate(tools)
        ]
        calls = f"calls: call{'+' if parallel else ''}\ncall: {alternatives('call', len(tools))}\n"
        start = "start: calls\n" if must_call else f"start: TEXT calls?\n{ANY_TEXT}"
        return start + calls + "".join(rules) + shared_rules(self._quote)
