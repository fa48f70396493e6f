"""What one forward drew, and what that means for the engine once it has reached the host."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from workers.engine.protocol import RowFailed, RowResult, Token
from workers.model.sampling.constraints import TokenConstraint, accepts
from workers.model.sampling.logprobs import DrawnLogprobs

_NOT_FINITE = "The model gave numbers that are not finite on this request."
_GRAMMAR_FAILED = "The grammar of this request could not be followed further."


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """What physical rows [start, start + len(tokens)) drew.

    finite: whether each row's numbers were. By offset from `start`: constraints, the grammars that have to hear of
    their token; failed, the rows whose grammar could not go on.
    """

    start: int
    tokens: torch.Tensor
    finite: torch.Tensor
    logprobs: DrawnLogprobs | None = None
    constraints: Mapping[int, TokenConstraint] = field(default_factory=dict)
    failed: frozenset[int] = frozenset()

    def of(self, offset: int) -> "Draw":
        """The draw of one row."""
        here = slice(offset, offset + 1)
        constraint = self.constraints.get(offset)
        return Draw(
            self.start + offset,
            self.tokens[here],
            self.finite[here],
            logprobs=None if self.logprobs is None else self.logprobs.of(offset),
            constraints={} if constraint is None else {0: constraint},
            failed=frozenset({0}) if offset in self.failed else frozenset(),
        )

    def moved(self, move: Callable[[torch.Tensor], torch.Tensor]) -> "Draw":
        """The same with every tensor moved."""
        logprobs = None if self.logprobs is None else self.logprobs.moved(move)
        return replace(self, tokens=move(self.tokens), finite=move(self.finite), logprobs=logprobs)

    def results(self, rows: Sequence[int]) -> Iterator[RowResult]:
        """What the engine's rows drew, told to their grammars. rows: their numbers, in the order of the draw."""
        logprobs = {} if self.logprobs is None else self.logprobs.by_offset()
        drawn = zip(rows, self.tokens.tolist(), self.finite.tolist(), strict=True)
        for offset, (row, token, is_finite) in enumerate(drawn):
            if not is_finite:
                yield RowFailed(row, "model_failed", _NOT_FINITE)
            elif self.constraints and not self._goes_on(offset, token):
                yield RowFailed(row, "grammar_failed", _GRAMMAR_FAILED)
            else:
                yield Token(row, token, logprobs.get(offset))

    def _goes_on(self, offset: int, token: int) -> bool:
        constraint = self.constraints.get(offset)
        return constraint is None or (offset not in self.failed and accepts(constraint, token))
