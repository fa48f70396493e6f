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
    from workers.desk.tool_calls import CallWriter
    from workers.model.prompting.detokenize import Detokenizer, StopChecker


@dataclass(slots=True, eq=False)
class Answer:
    """One of the `n` answers to a job, and the tag of its sequence in the engine.

    number: names the sequence. A job that comes back to us after a lost lease has new answers, while the engine may
    still hold the sequences of the first. stop_ids: tokens that end the answer and are not part of its text.
    probabilities: there if the request wants logprobs. calls: there if it offers tools.
    """

    seat: "Seat"
    index: int
    detokenizer: "Detokenizer"
    stops: "StopChecker | None" = None
    stop_ids: frozenset[int] = frozenset()
    probabilities: "ProbabilityWriter | None" = None
    calls: "CallWriter | None" = None
    number: int = field(default_factory=itertools.count(1).__next__)
    text: list[str] = field(default_factory=list)
    num_tokens: int = 0
    device_seconds: float = 0.0
    finish_reason: FinishReason | None = None

    @property
    def has_ended(self) -> bool:
        """Whether no more tokens of it count."""
        return self.finish_reason is not None

    def take(self, tokens: tuple[int, ...], logprobs: tuple[Logprobs, ...]) -> tuple[Delta | None, bool]:
        """What these tokens let us tell a listener, and whether the answer is over before the model says so."""
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
        if self.probabilities is None and self.calls is None:
            return self._plain(text), stopped
        delta = self._said(text, is_cut=stopped)
        return delta, stopped or (self.calls is not None and self.calls.is_over)

    def finish(self) -> Delta | None:
        """What of the end is left to tell, now that no more tokens come."""
        rest, stopped = self.detokenizer.finish(), False
        if self.stops is not None:
            rest, stopped = self.stops.push(rest)
            rest += "" if stopped else self.stops.finish()
        return self._said(rest, is_cut=stopped, is_last=True)

    def end(self, reason: FinishReason) -> None:
        """No more tokens of it count."""
        has_calls = self.calls is not None and bool(self.calls.written)
        self.finish_reason = "tool_calls" if has_calls and reason == "stop" else reason

    def body(self) -> dict[str, Any]:
        """The answer as a choice of the completion."""
        assert self.finish_reason is not None
        return choice_body(
            index=self.index,
            text="".join(self.text),
            finish_reason=self.finish_reason,
            logprobs=None if self.probabilities is None else self.probabilities.shown,
            tool_calls=() if self.calls is None else self.calls.written,
        )

    def _plain(self, text: str) -> Delta | None:
        """Most answers are text alone, and most tokens pass here."""
        if not text:
            return None
        self.text.append(text)
        return Delta(text, self.index) if self.seat.job.streams else None

    def _said(self, text: str, *, is_cut: bool, is_last: bool = False) -> Delta | None:
        """Text that is shown, with its entries and the calls in it. is_cut: a stop string has ended it."""
        entries: list[dict[str, Any]] = []
        if self.probabilities is not None:
            entries = self.probabilities.take_shown(text, is_last=is_last and not is_cut)
        calls: list[dict[str, Any]] = []
        if self.calls is not None:
            text, calls = self.calls.push(text, is_last=is_last or is_cut)
        if text:
            self.text.append(text)
        if not self.seat.job.streams or not (text or entries or calls):
            return None
        return Delta(text, self.index, tuple(entries), tuple(calls))
