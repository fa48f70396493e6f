"""Tool calls in what a model writes: text streams on, and a call is told when it is whole."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from service.contract.grammars import GrammarSpec
from service.contract.tools import NamedTool, Tool, ToolChoice


@dataclass(frozen=True, slots=True)
class TextPiece:
    """Some of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One whole call, the index-th of the answer. arguments: the JSON text of an object."""

    index: int
    name: str
    arguments: str


ToolEvent: TypeAlias = TextPiece | ToolCall


@dataclass(frozen=True, slots=True)
class Read:
    """What the first `end` characters of a text are: calls, by name and JSON text of the arguments, or plain text."""

    end: int
    calls: tuple[tuple[str, str], ...] = ()


# The first character begins no call after all; what comes after it may.
NO_CALL = Read(1)
# So many characters of a call show whether it can be one; after that only its end is waited for.
_SURELY_LOOKED_AT = 96
# An answer with more that only looks like calls is not looked at again and again.
_MAX_FAILED = 64


class CallSyntax(ABC):
    """How a family writes its calls. closers: characters without which a call cannot become whole."""

    closers: str

    @abstractmethod
    def find(self, text: str, *, at_start: bool) -> tuple[int, bool]:
        """Where a call begins in `text`, and whether it surely does.

        If not, what comes after may still make a call of the text from there on; its length means there is none.
        at_start: nothing but calls stands before the text.
        """

    @abstractmethod
    def read(self, text: str, *, is_last: bool) -> Read | None:
        """Read the call with which `text` begins; None while it is not whole. is_last: nothing comes after."""

    def reset(self) -> None:  # noqa: B027
        """Another call begins; until the next reset, texts to read only grow."""


class ToolParser:
    """Splits one answer into text and calls. What looks like a call and is none comes out as text.

    Only the white space around calls is dropped, and what marks a call. syntax: this parser's own.
    """

    def __init__(self, syntax: CallSyntax) -> None:
        self._syntax = syntax
        self._held = ""
        self._space = ""
        self._num_calls = 0
        self._num_failed = 0
        self._in_call = False
        self._said = False
        self._follows_call = False

    def push(self, text: str) -> list[ToolEvent]:
        """What this text completes."""
        self._held += text
        is_long = len(self._held) > _SURELY_LOOKED_AT
        if self._in_call and is_long and not any(closer in text for closer in self._syntax.closers):
            return []
        return self._events(is_last=False)

    def finish(self) -> list[ToolEvent]:
        """What was held back, now that nothing comes after it."""
        events = self._events(is_last=True)
        if self._space and not self._follows_call:
            events.append(TextPiece(self._space))
            self._space = ""
        return events

    def _events(self, *, is_last: bool) -> list[ToolEvent]:
        events: list[ToolEvent] = []
        while self._held:
            if self._in_call:
                read = self._syntax.read(self._held, is_last=is_last)
                if read is None and not is_last:
                    break
                self._take(read or NO_CALL, events)
            elif not self._take_text(events, is_last=is_last):
                break
        return events

    def _take_text(self, events: list[ToolEvent], *, is_last: bool) -> bool:
        """Say what stands before the next call; False if it has to be seen how the rest goes on."""
        begin, surely = len(self._held), False
        if self._num_failed < _MAX_FAILED:
            begin, surely = self._syntax.find(self._held, at_start=not self._said)
        if is_last and not surely:
            begin = len(self._held)
        self._say(self._held[:begin], events)
        self._held = self._held[begin:]
        self._in_call = surely
        self._syntax.reset()
        return surely

    def _take(self, read: Read, events: list[ToolEvent]) -> None:
        text, self._held = self._held[: read.end], self._held[read.end :]
        self._in_call = False
        if not read.calls:
            self._num_failed += 1
            self._say(text, events)
        for name, arguments in read.calls:
            events.append(ToolCall(self._num_calls, name, arguments))
            self._num_calls += 1
            self._space, self._follows_call = "", True

    def _say(self, text: str, events: list[ToolEvent]) -> None:
        """Tell text, keeping back the white space at its end, which is dropped if a call follows."""
        text = self._space + text
        if self._follows_call:
            text = text.lstrip()
        told = text.rstrip()
        self._space = text[len(told) :]
        if told:
            events.append(TextPiece(told))
            self._said, self._follows_call = True, False


class ToolFormat(ABC):
    """A family's way of calling tools.

    keep_tokens: special tokens that are part of a call, so that the text of an answer has to hold them.
    is_described: whether the family has no way of its own, so that the prompt has to describe ours.
    """

    keep_tokens: frozenset[int] = frozenset()
    is_described = False

    @abstractmethod
    def parser(self, tools: Sequence[Tool] = ()) -> ToolParser:
        """A fresh one, for one answer. tools: what may be called, where types have to be known."""

    @abstractmethod
    def lark(self, tools: Sequence[Tool], *, must_call: bool, parallel: bool) -> str:
        """A Lark grammar of answers that call these tools, or may also say something instead. Raises BadRequest."""

    def grammar(
        self, tools: Sequence[Tool], choice: ToolChoice | None, *, parallel: bool = True
    ) -> GrammarSpec | None:
        """What an answer must follow: None unless a tool is strict or the choice leaves no other way.

        parallel: whether several calls may stand in one answer. Errors: BadRequest for a schema of a strict tool
        that cannot be enforced.
        """
        offered, must_call = _offered(tools, choice)
        if not offered or not (must_call or any(tool.function.strict for tool in offered)):
            return None
        source = self.lark(
            offered, must_call=must_call, parallel=parallel and not isinstance(choice, NamedTool)
        )
        return GrammarSpec("lark", source, self.keep_tokens)


def _offered(tools: Sequence[Tool], choice: ToolChoice | None) -> tuple[Sequence[Tool], bool]:
    """Tools that may be called, and whether one must be."""
    if isinstance(choice, NamedTool):
        return [tool for tool in tools if tool.function.name == choice.function.name], True
    return ((), False) if choice == "none" else (tools, choice == "required")
