"""What a worker says to a listening client while a chat runs. One stream per (job, attempt)."""

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Delta:
    """More text of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The job's last word is in SQL: read the result there. Sent after its transaction has committed."""


@dataclass(frozen=True, slots=True)
class Restarted:
    """The attempt that wrote this stream was lost; its text must not be joined with another attempt's."""


StreamEvent: TypeAlias = Delta | Ended | Restarted


def to_fields(event: StreamEvent) -> dict[str, str]:
    """The event as the fields of one Redis Stream entry."""
    match event:
        case Delta(text):
            return {"kind": "delta", "text": text}
        case Ended():
            return {"kind": "ended"}
        case Restarted():
            return {"kind": "restarted"}


def from_fields(fields: dict[Any, Any]) -> StreamEvent:
    """The inverse of `to_fields`; keys and values may be bytes."""
    text = {_decoded(key): _decoded(value) for key, value in fields.items()}
    match text.get("kind"):
        case "delta":
            return Delta(text["text"])
        case "ended":
            return Ended()
        case _:
            return Restarted()


def _decoded(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
