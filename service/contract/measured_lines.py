"""What the desk says about a line that was measured instead of run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class MeasuredLine:
    """Tokens of one line. most_answer: what all its answers together may have at most."""

    text: int
    image: int
    video: int
    audio: int
    most_answer: int

    @property
    def prompt(self) -> int:
        """All tokens of the prompt."""
        return self.text + self.image + self.video + self.audio

    def as_body(self) -> dict[str, Any]:
        """The reply that the line's job keeps."""
        return {"object": "preflight.line", **asdict(self)}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> "MeasuredLine":
        """Read what `as_body` wrote."""
        return cls(**{name: int(body[name]) for name in cls.__slots__})
