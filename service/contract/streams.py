"""What a worker says to a listening client while a chat runs. One stream per (job, attempt)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson


@dataclass(frozen=True, slots=True)
class Delta:
    """More of one of the answers.

    index: which choice. logprobs: OpenAI's entries for the tokens of this text, if they were asked for.
    tool_calls: whole calls, as the reply will hold them.
    """

    text: str
    index: int = 0
    logprobs: tuple[Mapping[str, Any], ...] = ()
    tool_calls: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """The job's last word is in SQL: read the result there. Sent after its transaction has committed."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """Another process answers this attempt from its beginning, the first having given the job back.

    Nobody sends this: a follower concludes it from the numbers of the stream.
    """


StreamEvent: TypeAlias = Delta | Ended
HeardEvent: TypeAlias = StreamEvent | Restarted


def to_fields(event: StreamEvent) -> dict[str, str | bytes | int]:
    """The event as the fields of one Redis Stream entry."""
    if isinstance(event, Ended):
        return {"kind": "ended"}
    fields: dict[str, str | bytes | int] = {"kind": "delta", "text": event.text}
    if event.index:
        fields["index"] = event.index
    if event.logprobs:
        fields["logprobs"] = orjson.dumps(event.logprobs)
    if event.tool_calls:
        fields["tool_calls"] = orjson.dumps(event.tool_calls)
    return fields


def from_fields(fields: Mapping[bytes, bytes]) -> StreamEvent:
    """The inverse of `to_fields`, as Redis hands it back."""
    if fields[b"kind"] != b"delta":
        return Ended()
    return Delta(
        fields[b"text"].decode(),
        int(fields.get(b"index", 0)),
        tuple(orjson.loads(fields.get(b"logprobs", b"[]"))),
        tuple(orjson.loads(fields.get(b"tool_calls", b"[]"))),
    )
