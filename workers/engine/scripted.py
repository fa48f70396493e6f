"""A slot model without a model: every prompt brings its answer along. It passes the suite of the real one."""

from collections.abc import Sequence as Ordered
from dataclasses import dataclass, replace

from workers.engine.protocol import Handle, Parked, Pending, RowFailed, RowResult, StepPlan, Token

SCRIPTED_EOS = 2


@dataclass(frozen=True, slots=True)
class ScriptedPrompt:
    """A prompt and what will be drawn after it, then the end-of-answer token for ever.

    drawn: tokens already drawn. fails_at: the draw that fails, 0 being the prefill's.
    """

    answer: tuple[int, ...]
    num_tokens: int = 1
    num_bytes: int = 0
    drawn: int = 0
    fails_at: int | None = None

    def draw(self) -> int:
        """The next token."""
        return self.answer[self.drawn] if self.drawn < len(self.answer) else SCRIPTED_EOS


@dataclass(frozen=True, slots=True)
class ScriptedPending:
    """A launched step; nothing is left to wait for."""

    results: tuple[RowResult, ...]


class ScriptedModel:
    """Runs plans over scripted prompts and refuses plans that no device could run. `plans`: all that it was given."""

    def __init__(self, num_slots: int, max_context_tokens: int = 1024, *, runs_ahead: bool = False) -> None:
        self.num_slots = num_slots
        self.max_context_tokens = max_context_tokens
        self.eos_ids = frozenset({SCRIPTED_EOS})
        self.runs_ahead = runs_ahead
        self.can_park = True
        self.plans: list[StepPlan] = []
        self._rows: dict[int, ScriptedPrompt] = {}

    def launch(self, plan: StepPlan) -> Pending:
        """Run a step at once."""
        self.plans.append(plan)
        results: list[RowResult] = []
        for row in plan.free:
            self._rows.pop(row, None)
        for row in plan.park:
            held = self._rows.pop(row)
            results.append(Parked(row, replace(held, num_tokens=held.num_tokens + held.drawn - 1)))
        for row, handle in plan.restore:
            assert isinstance(handle, ScriptedPrompt)
            self._take(row, replace(handle, num_tokens=handle.num_tokens - handle.drawn + 1))
        if not set(plan.decode) <= set(self._rows):
            raise ValueError("the plan decodes a row that holds nothing")
        for prefill in plan.prefill:
            self._take(prefill.row, prefill.prompt)
            results.append(self._draw(prefill.row))
        results += [self._draw(row) for row in plan.decode]
        return ScriptedPending(tuple(results))

    def collect(self, pending: Pending) -> Ordered[RowResult]:
        """What the step's rows drew."""
        assert isinstance(pending, ScriptedPending)
        return pending.results

    def _take(self, row: int, prompt: Handle) -> None:
        assert isinstance(prompt, ScriptedPrompt)
        if row in self._rows:
            raise ValueError(f"row {row} is already held")
        if not 0 <= row < self.num_slots:
            raise ValueError(f"there is no row {row}")
        self._rows[row] = prompt

    def _draw(self, row: int) -> RowResult:
        held = self._rows[row]
        self._rows[row] = replace(held, drawn=held.drawn + 1)
        if held.fails_at is not None and held.drawn >= held.fails_at:
            return RowFailed(row, "model_failed", "The script says so.")
        return Token(row, held.draw())
