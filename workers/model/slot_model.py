"""A Hugging Face model that runs the engine's plans: prompts go into slots, all slots decode in one forward."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from transformers import PreTrainedModel

from workers.engine.protocol import Parked, Pending, Prefill, RowResult, StepPlan, Token
from workers.model import hooks
from workers.model.caches.cache_counters import CacheCounters
from workers.model.caches.reuse import Reuse
from workers.model.decode import decode
from workers.model.prefill import Filled, Prefiller
from workers.model.sampling.draws import Draw
from workers.model.slots.own_positions import read_own_positions
from workers.model.slots.rows import ParkedRow, Rows


@dataclass(slots=True, eq=False)
class TorchPending:
    """A launched step. drawn: the engine's rows, with what they drew on its way to the host.

    filled: the engine's rows that were prefilled.
    """

    results: list[RowResult] = field(default_factory=list)
    drawn: list[tuple[tuple[int, ...], Draw]] = field(default_factory=list)
    filled: dict[int, Filled] = field(default_factory=dict)
    done: torch.cuda.Event | None = None


class TorchSlotModel:
    """Slots over one loaded model; satisfies the engine's `SlotModel`.

    The engine's rows may have gaps; inside, running rows lie at 0..n-1 without gaps (`_order` holds the engine's
    number of each), so that a step computes nothing for empty slots.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        num_slots: int,
        max_context_tokens: int,
        prefill_token_budget: int = 4096,
        eos_ids: frozenset[int] | None = None,
        prefix_cache_bytes: int = 0,
        encoder_cache_bytes: int = 0,
    ) -> None:
        hooks.require_dense_attention(model)
        read_own_positions(model)
        self._model = model
        self.num_slots = num_slots
        self.max_context_tokens = max_context_tokens
        self.eos_ids = _eos_ids(model) if eos_ids is None else eos_ids
        self.runs_ahead = model.device.type == "cuda"
        self.can_park = True
        with torch.inference_mode():
            self._rows = Rows(model, num_slots, max_context_tokens, self.eos_ids)
        self._reuse = Reuse(model, self._rows.cache.specs, prefix_cache_bytes, encoder_cache_bytes)
        self._prefiller = Prefiller(model, self._rows, prefill_token_budget, self._reuse)
        self._order: list[int] = []

    @property
    def num_cache_bytes(self) -> int:
        """Memory that the slots hold."""
        return self._rows.cache.num_bytes

    @property
    def cache_counters(self) -> Mapping[str, CacheCounters]:
        """How often each cache that is on was of use, by its name."""
        caches = {"prefix": self._reuse.prefixes, "encoder": self._reuse.encodings}
        return {name: cache.counters for name, cache in caches.items() if cache is not None}

    def launch(self, plan: StepPlan) -> Pending:
        """Begin a step: free, park, restore, prefill, decode."""
        pending = TorchPending()
        with torch.inference_mode():
            self._free(plan.free)
            self._park(plan.park, pending)
            self._restore(plan.restore)
            self._bring_forward(plan.decode)
            self._prefill(plan.prefill, pending)
            self._decode(plan.decode, pending)
            self._send_to_host(pending)
        return pending

    def collect(self, pending: Pending) -> Sequence[RowResult]:
        """Wait for a step and return what its rows drew."""
        assert isinstance(pending, TorchPending)
        if pending.done is not None:
            pending.done.synchronize()
        results = list(pending.results)
        for rows, draw in pending.drawn:
            results += draw.results(rows)
        return [self._noted(result, pending) for result in results] if pending.filled else results

    def _noted(self, result: RowResult, pending: TorchPending) -> RowResult:
        """A prefilled row's token with what a cache saved; now that its row is known to be finite, the caches learn."""
        filled = pending.filled.get(result.row)
        if filled is None or not isinstance(result, Token):
            return result
        self._reuse.keep(filled.findings)
        return replace(result, num_cached_tokens=filled.num_cached) if filled.num_cached else result

    def _free(self, rows: Sequence[int]) -> None:
        held = [self._order.index(row) for row in rows if row in self._order]
        # From the back, so that a row that is leaving too is never moved into a gap.
        for place in sorted(held, reverse=True):
            self._close_gap(place)

    def _park(self, rows: Sequence[int], pending: TorchPending) -> None:
        for row in rows:
            place = self._order.index(row)
            pending.results.append(Parked(row, self._rows.export(place)))
            self._close_gap(place)

    def _restore(self, restored: Sequence[tuple[int, object]]) -> None:
        for row, handle in restored:
            assert isinstance(handle, ParkedRow)
            self._take(row)
            self._rows.restore(len(self._order) - 1, handle)

    def _prefill(self, prefills: Sequence[Prefill], pending: TorchPending) -> None:
        if not prefills:
            return
        for filled in self._prefiller.fill(prefills, len(self._order)):
            row = filled.prefill.row
            if isinstance(filled.outcome, Draw):
                self._take(row)
                pending.drawn.append(((row,), filled.outcome))
                pending.filled[row] = filled
            else:
                pending.results.append(filled.outcome.told_of(row))

    def _decode(self, rows: Sequence[int], pending: TorchPending) -> None:
        if not rows:
            return
        for outcome in decode(self._model, self._rows, 0, len(rows)):
            if isinstance(outcome, Draw):
                drawn = tuple(self._order[outcome.start : outcome.start + len(outcome.tokens)])
                pending.drawn.append((drawn, outcome))
            else:
                pending.results.append(outcome.told_of(self._order[outcome.row]))

    def _bring_forward(self, rows: Sequence[int]) -> None:
        """Let the rows to decode lie at 0..len(rows)-1. An engine that decodes all its rows costs nothing here."""
        wanted = set(rows)
        if not wanted <= set(self._order):
            raise ValueError("the plan decodes a row that holds nothing")
        if len(wanted) == len(self._order):
            return
        waiting = [place for place in range(len(wanted), len(self._order)) if self._order[place] in wanted]
        for place in range(len(wanted)):
            if self._order[place] not in wanted:
                self._swap(place, waiting.pop())

    def _swap(self, one: int, other: int) -> None:
        parked = self._rows.export(one)
        self._rows.move(other, one)
        self._rows.restore(other, parked)
        self._order[one], self._order[other] = self._order[other], self._order[one]

    def _take(self, row: int) -> None:
        if row in self._order:
            raise ValueError(f"row {row} is already held")
        self._order.append(row)

    def _close_gap(self, place: int) -> None:
        last = len(self._order) - 1
        if place != last:
            self._rows.move(last, place)
            self._order[place] = self._order[last]
        self._order.pop()

    def _send_to_host(self, pending: TorchPending) -> None:
        """Queue the copies now: asked for later, they would wait for the step after this one."""
        if not self.runs_ahead or not pending.drawn:
            return
        pending.drawn = [(rows, draw.moved(_to_host)) for rows, draw in pending.drawn]
        pending.done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        pending.done.record()


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


def _eos_ids(model: PreTrainedModel) -> frozenset[int]:
    config = model.generation_config
    eos = None if config is None else config.eos_token_id
    if eos is None:
        return frozenset()
    return frozenset([eos] if isinstance(eos, int) else eos)
