"""Drawing the next token of many rows at once: what each row wishes, and the few operations that serve all of them.

The order is: penalties, logit_bias, what would end an answer too early, the grammar, temperature, top_k, top_p, min_p.
"""

from dataclasses import dataclass

import numpy as np
import torch

from workers.engine.protocol import Sampling
from workers.model.sampling import logprobs, penalties
from workers.model.sampling.draw_plan import DrawBatch, DrawPlan, Planner, Wish, is_plain
from workers.model.sampling.drawing import ints_of, reals_of
from workers.model.sampling.draws import Draw
from workers.model.sampling.penalties import Penalties


@dataclass(frozen=True, slots=True, eq=False)
class RowState:
    """What a row's next draw depends on besides its logits.

    drawn: tokens that it has drawn. counts: [2, vocabulary] of its answer and of its prompt, if it penalises them.
    """

    sampling: Sampling
    drawn: int = 0
    counts: torch.Tensor | None = None

    @classmethod
    def at_start(cls, sampling: Sampling, prompt_ids: torch.Tensor, logits: torch.Tensor) -> "RowState":
        """A row that has drawn nothing. prompt_ids: [1, tokens]; logits: [..., vocabulary], for its shape."""
        counts = penalties.counts_at_start(sampling, prompt_ids, logits.shape[-1], logits.device)
        return cls(sampling, counts=counts)

    @property
    def num_bytes(self) -> int:
        """Memory of its counts."""
        return 0 if self.counts is None else self.counts.numel() * self.counts.element_size()


class RowSampler:
    """Sampling settings of every slot, on the device. Rows are physical slot numbers."""

    def __init__(self, num_slots: int, eos_ids: frozenset[int], device: torch.device) -> None:
        self._eos_ids = eos_ids
        self._settings = [Sampling()] * num_slots
        self._drawn = np.zeros(num_slots, dtype=np.int64)
        # Columns: temperature, top_p, min_p.
        self._reals = torch.zeros(num_slots, 3, dtype=torch.float32, device=device)
        # Columns: two words of the seed, tokens drawn so far, top_k.
        self._ints = torch.zeros(num_slots, 4, dtype=torch.long, device=device)
        self._penalties = Penalties(num_slots, device)
        self._planner = Planner(self._penalties, device)
        self._special: set[int] = set()
        self._plans: dict[tuple[int, int], DrawPlan] = {}

    def load(self, row: int, state: RowState) -> None:
        """Set what a row wishes and where it stands."""
        sampling = state.sampling
        self._settings[row] = sampling
        self._drawn[row] = state.drawn
        self._plans.clear()
        if is_plain(sampling):
            self._special.discard(row)
        else:
            self._special.add(row)
        if sampling.temperature > 0:
            self._reals[row] = torch.tensor(reals_of(sampling), dtype=torch.float32)
            self._ints[row] = torch.tensor(ints_of(sampling, state.drawn))
        if state.counts is None:
            self._penalties.forget(row)
        else:
            self._penalties.load(row, sampling, state.counts)

    def export(self, row: int) -> RowState:
        """A row's wishes and where it stands, copied."""
        state = self._state(row)
        counts = None if state.counts is None else state.counts.clone()
        return RowState(state.sampling, state.drawn, counts)

    def move(self, source: int, target: int) -> None:
        """Copy one row's state onto another row."""
        self.load(target, self._state(source))

    def draw(self, logits: torch.Tensor, start: int) -> Draw:
        """Draw one token for each of the rows [start, start + len(logits)). logits: [rows, vocabulary]."""
        stop = start + len(logits)
        plan = self._plan(start, stop, logits.shape[-1])
        best, tokens = logits.max(dim=-1)
        finite = best.isfinite()
        for batch in plan.batches:
            self._draw_batch(batch, logits, tokens, finite)
        drawn = None if plan.asked is None else logprobs.read(logits, tokens, plan.asked)
        if plan.penalised is not None:
            local, here = plan.penalised
            self._penalties.note(here, tokens[local])
        if plan.batches:
            self._ints[start:stop, 2] += 1
        self._drawn[start:stop] += 1
        return Draw(start, tokens, finite, drawn, plan.constraints, plan.failed)

    def _draw_batch(
        self, batch: DrawBatch, logits: torch.Tensor, tokens: torch.Tensor, finite: torch.Tensor
    ) -> None:
        """Draw the tokens of some rows into `tokens` [rows of the range]."""
        gathered = logits[batch.local].float()
        for edit in batch.edits:
            edit(gathered)
        if batch.edits:
            finite[batch.local] &= gathered.amax(dim=-1).isfinite()
        if batch.draw is None:
            tokens[batch.local] = gathered.argmax(dim=-1)
        else:
            tokens[batch.local] = batch.draw(gathered, self._reals[batch.here], self._ints[batch.here])

    def _plan(self, start: int, stop: int, vocabulary: int) -> DrawPlan:
        plan = self._plans.get((start, stop))
        if plan is None or (plan.early and self._may_end(start, plan)):
            special = [row for row in sorted(self._special) if start <= row < stop]
            wishes = [Wish(row - start, self._settings[row], self._banned(row)) for row in special]
            plan = self._plans[start, stop] = self._planner.plan(start, wishes, vocabulary)
        return plan

    def _may_end(self, start: int, plan: DrawPlan) -> bool:
        """Whether a row that could not end its answer when this was planned now can."""
        rows = (start + offset for offset in plan.early)
        return any(self._drawn[row] >= self._settings[row].min_tokens for row in rows)

    def _banned(self, row: int) -> tuple[int, ...]:
        """Tokens that would end a row's answer before its min_tokens."""
        sampling = self._settings[row]
        if self._drawn[row] >= sampling.min_tokens:
            return ()
        return tuple(sorted(self._eos_ids | sampling.stop_ids))

    def _state(self, row: int) -> RowState:
        sampling = self._settings[row]
        counts = self._penalties.counts(row) if penalties.are_wanted(sampling) else None
        return RowState(sampling, int(self._drawn[row]), counts)
