"""One answer while it is written: tokens come in; text, probabilities and tool calls go out."""

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from service.contract.replies import FinishReason, choice_body
from service.contract.streams import Delta
from workers.engine.protocol import Logprobs

if TYPE_CHECKING:  # the desk speaks of the model's things, but must not load torch to do so
    from workers.desk.probabilities import ProbabilityWriter
    from workers.desk.seats import Seat
    from workers.model.detokenize import Detokenizer, StopChecker


@dataclass(slots=True, eq=False)
class Answer:
    """One of the `n` answers to a job, and the tag of its sequence in the engine.

    number: names the sequence. A job that comes back to us after a lost lease has new answers, while the engine may
    still hold the sequences of the first. stop_ids: tokens that end the answer and are not part of its text.
    probabilities: there if the request wants logprobs.
    """

    seat: "Seat"
    index: int
    detokenizer: "Detokenizer"
    stops: "StopChecker | None" = None
    stop_ids: frozenset[int] = frozenset()
    probabilities: "ProbabilityWriter | None" = None
    number: int = field(default_factory=itertools.count(1).__next__)
    text: list[str] = field(default_factory=list)
    num_tokens: int = 0
    finish_reason: FinishReason | None = None

    @property
    def has_ended(self) -> bool:
        """Whether no more tokens of it count."""
        return self.finish_reason is not None

    def take(self, tokens: tuple[int, ...], logprobs: tuple[Logprobs, ...]) -> tuple[Delta | None, bool]:
        """What these tokens let us say, and whether a stop string has ended the answer."""
        self.num_tokens += len(tokens)
        if self.stop_ids and tokens[-1] in self.stop_ids:
            tokens, logprobs = tokens[:-1], logprobs[:-1]
        if self.probabilities is None:
            text = self.detokenizer.push(tokens)
        else:
            text = self.probabilities.push(tokens, logprobs, self.detokenizer)
        stopped = False
        if self.stops is not None:
            text, stopped = self.stops.push(text)
        return self._said(text), stopped

    def finish(self) -> Delta | None:
        """What was held back, now that no more tokens come."""
        rest, stopped = self.detokenizer.finish(), False
        if self.stops is not None:
            rest, stopped = self.stops.push(rest)
            rest += "" if stopped else self.stops.finish()
        return self._said(rest, is_last=not stopped)

    def end(self, reason: FinishReason) -> None:
        """No more tokens of it count."""
        self.finish_reason = reason

    def body(self) -> dict[str, Any]:
        """The answer as a choice of the completion."""
        assert self.finish_reason is not None
        return choice_body(
            index=self.index,
            text="".join(self.text),
            finish_reason=self.finish_reason,
            logprobs=None if self.probabilities is None else self.probabilities.shown,
        )

    def _said(self, text: str, *, is_last: bool = False) -> Delta | None:
        if text:
            self.text.append(text)
        if self.probabilities is None:
            return Delta(text, self.index) if text else None
        entries = self.probabilities.take_shown(text, is_last=is_last)
        return Delta(text, self.index, tuple(entries)) if text or entries else None
