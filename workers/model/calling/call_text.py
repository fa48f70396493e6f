"""Pieces of text that calls are made of: where a marker may begin, where JSON ends, and what names a function."""

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
# A string runs to its closing quote, which is the group, or to the end of what there is so far.
JSON_PIECE = re.compile(r'"(?:[^"\\]|\\.)*("?)|[{}\[\]]', re.DOTALL)
PYTHON_PIECE = re.compile(
    r"""(?P<double>"(?:[^"\\]|\\.)*("?))|(?P<single>'(?:[^'\\]|\\.)*('?))|[{}\[\]()]""", re.DOTALL
)

_BEGIN, _END = frozenset("[{("), frozenset("]})")


def find_marker(text: str, markers: Sequence[str]) -> tuple[int, bool]:
    """Where the first marker begins and True; else where one may still begin (or the text's length) and False."""
    found = [at for at in (text.find(marker) for marker in markers) if at >= 0]
    if found:
        return min(found), True
    longest = max(map(len, markers)) - 1
    for begin in range(max(0, len(text) - longest), len(text)):
        if any(marker.startswith(text[begin:]) for marker in markers):
            return begin, False
    return len(text), False


class Span:
    """Finds where a bracketed value ends while its text still grows, looking at every bracket once."""

    def __init__(self, piece: re.Pattern[str]) -> None:
        self._piece = piece
        self.reset()

    def reset(self) -> None:
        """Another value comes."""
        self._end: int | None = None
        self._looked_to = self._depth = 0

    def end(self, text: str, begin: int) -> int | None:
        """Where the value that begins at `begin` ends; None while it has not. text: only ever grows."""
        if self._end is not None:
            return self._end
        for found in self._piece.finditer(text, max(begin, self._looked_to)):
            if "" in found.groups():  # a string without its end
                self._looked_to = found.start()
                return None
            self._looked_to = found.end()
            self._depth += (found[0] in _BEGIN) - (found[0] in _END)
            if found[0] in _END and self._depth <= 0:
                self._end = found.end()
                return self._end
        return None


def skip_space(text: str, begin: int) -> int:
    """The next place that is not white space."""
    while begin < len(text) and text[begin].isspace():
        begin += 1
    return begin


def name_at(text: str, begin: int) -> str:
    """The function's name that begins here; empty if none does."""
    found = _NAME.match(text, begin)
    return found[0] if found else ""


def is_name(value: object) -> bool:
    """Whether a value names a function."""
    return isinstance(value, str) and bool(_NAME.fullmatch(value))


def loaded(text: str) -> Any:
    """A JSON value with its numbers as they are, however long. Raises ValueError."""
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError from None


def _finite(number: str) -> float:
    """JSON allows 1e999, which no float holds."""
    return max(-sys.float_info.max, min(sys.float_info.max, float(number)))


def _no_constant(name: str) -> None:
    raise ValueError(name)


def arguments_text(value: Any) -> str | None:
    """The JSON text of a call's arguments, given as an object or as such a text; None if they are neither."""
    try:
        if isinstance(value, str):
            value = loaded(value)
        if not isinstance(value, dict):
            return None
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()  # half a surrogate pair is no text
    except (ValueError, TypeError, RecursionError):
        return None
    return text


def call_of(text: str) -> tuple[str, str] | None:
    """A call written as JSON: {"name", "arguments" or "parameters"}."""
    try:
        return call_of_value(loaded(text))
    except ValueError:
        return None


def call_of_value(value: Any) -> tuple[str, str] | None:
    """The same, parsed already."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("function"), dict):
        value = value["function"]
    arguments = arguments_text(value.get("arguments", value.get("parameters", {})))
    name = value.get("name")
    return (str(name), arguments) if is_name(name) and arguments is not None else None


def lark_string(text: str) -> str:
    """Text as a literal in a Lark grammar."""
    return json.dumps(text, ensure_ascii=False)
