"""Static batches: what serves a model whose memory has no slots. Prompts that come together stay together.

Every batch has a cache of the model's own making and runs as `generate` would run it, until its last row is free.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from transformers import PreTrainedModel

from workers.engine.protocol import Pending, Prefill, RowResult, StepPlan
from workers.model import generate_hooks, groups
from workers.model.decode import Breakage, failure_code
from workers.model.generate_hooks import StaticBatch
from workers.model.prompting.prepared import Prepared
from workers.model.sampling.draws import Draw
from workers.model.sampling.sampler import RowSampler, RowState


@dataclass(slots=True, eq=False)
class StaticPending:
    """A launched step. drawn: the engine's rows, with what each drew."""

    results: list[RowResult] = field(default_factory=list)
    drawn: list[tuple[int, Draw]] = field(default_factory=list)


class Cohort:
    """One batch. rows: the engine's number of each of its rows; None once that has left."""

    def __init__(
        self, model: PreTrainedModel, prefills: Sequence[Prefill], num_columns: int, eos_ids: frozenset[int]
    ) -> None:
        prompts = [_prepared(prefill) for prefill in prefills]
        inputs = groups.collate(prompts, generate_hooks.pad_id(model), model.device)
        self.rows: list[int | None] = [prefill.row for prefill in prefills]
        self._batch = StaticBatch(model, inputs, num_columns)
        self._sampler = RowSampler(len(prompts), eos_ids, model.device)
        for place, (prefill, prompt) in enumerate(zip(prefills, prompts, strict=True)):
            state = RowState.at_start(prefill.sampling, prompt.inputs["input_ids"], self._batch.logits)
            self._sampler.load(place, state)
        self._tokens = torch.empty(0)

    @property
    def held(self) -> set[int]:
        """The engine's rows that are still here."""
        return {row for row in self.rows if row is not None}

    def leave(self, rows: Collection[int]) -> None:
        """Let go of some of the engine's rows."""
        self.rows = [None if row in rows else row for row in self.rows]

    def step(self) -> list[tuple[int, Draw]]:
        """Give every row its last token and draw the next."""
        self._batch.step(self._tokens)
        return self.draw()

    def draw(self) -> list[tuple[int, Draw]]:
        """Draw a token for every row; those that have left are part of the batch until its end."""
        draw = self._sampler.draw(self._batch.logits, 0)
        self._tokens = draw.tokens
        return [(row, draw.of(place)) for place, row in enumerate(self.rows) if row is not None]


class StaticModel:
    """Runs plans in static batches; satisfies the engine's `SlotModel`, but for parking.

    pads: whether prompts of different lengths may share a batch.
    """

    runs_ahead = False
    can_park = False

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        num_slots: int,
        max_context_tokens: int,
        prefill_token_budget: int = 4096,
        eos_ids: frozenset[int] = frozenset(),
        pads: bool = True,
    ) -> None:
        self._model = model
        self.num_slots = num_slots
        self.max_context_tokens = max_context_tokens
        self.eos_ids = eos_ids
        self._max_tokens = prefill_token_budget
        self._pads = pads
        self._cohorts: list[Cohort] = []

    def launch(self, plan: StepPlan) -> Pending:
        """Run a step: free, prefill, decode."""
        if plan.park or plan.restore:
            raise ValueError("a row of a static batch cannot be moved")
        pending = StaticPending()
        self._free(plan.free)
        running = list(self._cohorts)
        with torch.inference_mode():
            for group in self._groups(plan.prefill):
                self._prefill(group, pending)
            self._decode(running, set(plan.decode), pending)
        return pending

    def collect(self, pending: Pending) -> Sequence[RowResult]:
        """What the step's rows drew."""
        assert isinstance(pending, StaticPending)
        results = list(pending.results)
        for row, draw in pending.drawn:
            results += draw.results((row,))
        return results

    def _free(self, rows: Sequence[int]) -> None:
        for cohort in self._cohorts:
            cohort.leave(rows)
        self._cohorts = [cohort for cohort in self._cohorts if cohort.held]

    def _groups(self, prefills: Sequence[Prefill]) -> list[list[Prefill]]:
        """Prompts that become one batch each."""
        held = set[int]().union(*(cohort.held for cohort in self._cohorts))
        for prefill in prefills:
            if prefill.row in held:
                raise ValueError(f"row {prefill.row} is already held")
        together = groups.split([_prepared(prefill) for prefill in prefills], self._max_tokens)
        found = [[prefills[member] for member in members] for members in together]
        if self._pads:
            return found
        return [list(alike) for group in found for _, alike in groupby(group, key=_num_tokens)]

    def _prefill(self, group: list[Prefill], pending: StaticPending) -> None:
        """Begin a batch; one that breaks is halved until one prompt breaks alone."""
        try:
            cohort = Cohort(self._model, group, self.max_context_tokens, self.eos_ids)
            pending.drawn += cohort.draw()
            self._cohorts.append(cohort)
            return
        except Exception as error:
            code = failure_code(error)
        if len(group) == 1:
            pending.results.append(Breakage(0, code).told_of(group[0].row))
            return
        middle = len(group) // 2
        self._prefill(group[:middle], pending)
        self._prefill(group[middle:], pending)

    def _decode(self, running: list[Cohort], rows: set[int], pending: StaticPending) -> None:
        if not rows <= set[int]().union(*(cohort.held for cohort in running)):
            raise ValueError("the plan decodes a row that holds nothing")
        for cohort in running:
            if not cohort.held & rows:
                continue
            if not cohort.held <= rows:
                raise ValueError("the rows of a static batch are decoded together")
            self._step(cohort, pending)

    def _step(self, cohort: Cohort, pending: StaticPending) -> None:
        try:
            pending.drawn += cohort.step()
        except Exception as error:
            # The model's own cache may be half advanced: nothing of it can be used again.
            code = failure_code(error)
            pending.results += [Breakage(0, code).told_of(row) for row in sorted(cohort.held)]
            self._cohorts.remove(cohort)


def _prepared(prefill: Prefill) -> Prepared:
    if not isinstance(prefill.prompt, Prepared):
        raise TypeError("a prompt for this model must be a Prepared")
    return prefill.prompt


def _num_tokens(prefill: Prefill) -> int:
    return prefill.prompt.num_tokens
