"""Tool calls on their way to the client: split from an answer's text, and given their ids."""

import hashlib
from typing import Any

from workers.model.calling.tools import TextPiece, ToolEvent, ToolParser


class CallWriter:
    """One answer's calls, in order. name: tells this answer from all others, and is the same in every attempt."""

    def __init__(self, parser: ToolParser, name: str, *, only_one: bool = False) -> None:
        self._parser = parser
        self._name = name
        self._only_one = only_one
        self.written: list[dict[str, Any]] = []

    @property
    def is_over(self) -> bool:
        """Whether the answer has all the calls that it may have."""
        return self._only_one and bool(self.written)

    def push(self, text: str, *, is_last: bool) -> tuple[str, list[dict[str, Any]]]:
        """(text to show, whole calls) that this text completes. is_last: no more text comes."""
        events = self._parser.push(text)
        if is_last:
            events += self._parser.finish()
        return self._said(events)

    def _said(self, events: list[ToolEvent]) -> tuple[str, list[dict[str, Any]]]:
        text, calls = "", []
        for event in events:
            if self.is_over:
                break
            if isinstance(event, TextPiece):
                text += event.text
                continue
            function = {"name": event.name, "arguments": event.arguments}
            call = {"id": call_id(self._name, event.index), "type": "function", "function": function}
            calls.append(call)
            self.written.append(call)
        return text, calls


def call_id(name: str, index: int) -> str:
    """The id of one of an answer's calls. name: tells the answer from all others."""
    digest = hashlib.blake2b(f"{name}:{index}".encode(), digest_size=12)
    return f"call_{digest.hexdigest()}"
