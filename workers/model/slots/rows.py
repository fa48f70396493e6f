"""Everything that a running row carries, in physical order: cache, mask, position, last token, sampling."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from workers.model.hooks import Prefilled
from workers.model.sampling.sampler import RowSampler, RowState
from workers.model.slots.masks import Masks, SlotMasks
from workers.model.slots.slot_cache import SlotCache
from workers.model.slots.slot_layers import LayerState

# Attention reads columns in steps of this many, so that few different shapes occur.
COLUMN_BUCKET = 16


@dataclass(frozen=True, slots=True, eq=False)
class ParkedRow:
    """A row outside its slot; satisfies the engine's `Handle`."""

    length: int
    states: tuple[LayerState, ...]
    token: torch.Tensor
    next_position: torch.Tensor
    cross_mask: torch.Tensor | None
    drawing: RowState

    @property
    def num_tokens(self) -> int:
        """Columns that it takes in a slot."""
        return self.length

    @property
    def num_bytes(self) -> int:
        """Memory of its copies."""
        held = sum(part.numel() * part.element_size() for state in self.states for part in state)
        return held + self.drawing.num_bytes


class Rows:
    """The rows of the running batch. A row is its physical number: 0 to num_slots - 1.

    tokens: [slots, 1], each row's last token. lengths: columns already written, on the host.
    """

    def __init__(
        self, model: PreTrainedModel, num_slots: int, capacity: int, eos_ids: frozenset[int]
    ) -> None:
        device = model.device
        self.num_slots = num_slots
        self.capacity = -(-capacity // COLUMN_BUCKET) * COLUMN_BUCKET
        self.cache = SlotCache(model, num_slots, self.capacity)
        self.masks = SlotMasks(model, self.cache.specs, num_slots, self.capacity)
        self.sampler = RowSampler(num_slots, eos_ids, device)
        self.tokens = torch.zeros(num_slots, 1, dtype=torch.long, device=device)
        self.lengths = [0] * num_slots
        # Columns that may hold something, whoever wrote them: what lies beyond `lengths` is zeroed on the next load.
        self._written = [0] * num_slots
        self._columns = torch.zeros(num_slots, dtype=torch.long, device=device)
        self._positions: torch.Tensor | None = None
        self._cross_mask: torch.Tensor | None = None

    def load(self, row: int, prefilled: Prefilled, source_row: int, length: int) -> None:
        """Move one prefilled prompt of `length` tokens into a row."""
        self._claim_columns(row, length)
        self.cache.load(row, prefilled.cache, source_row, length)
        self._set(
            row,
            length,
            prefilled.next_positions[..., source_row, :],
            None if prefilled.cross_mask is None else prefilled.cross_mask[source_row],
        )

    def move(self, source: int, target: int) -> None:
        """Copy one row onto another row."""
        self._claim_columns(target, self.lengths[source])
        self.cache.move(source, target, self.lengths[source])
        self.masks.move(source, target)
        self.sampler.move(source, target)
        self.lengths[target] = self.lengths[source]
        for held in (self.tokens, self._columns, self._cross_mask):
            if held is not None:
                held[target] = held[source]
        if self._positions is not None:
            self._positions[..., target, :] = self._positions[..., source, :]

    def export(self, row: int) -> ParkedRow:
        """Copy a row out of its slot."""
        assert self._positions is not None
        return ParkedRow(
            length=self.lengths[row],
            states=self.cache.export(row, self.lengths[row]),
            token=self.tokens[row].clone(),
            next_position=self._positions[..., row, :].clone(),
            cross_mask=None if self._cross_mask is None else self._cross_mask[row].clone(),
            drawing=self.sampler.export(row),
        )

    def restore(self, row: int, parked: ParkedRow) -> None:
        """Put a parked row back."""
        self._claim_columns(row, parked.length)
        self.cache.restore(row, parked.states)
        self._set(row, parked.length, parked.next_position, parked.cross_mask)
        self.tokens[row] = parked.token
        self.sampler.load(row, parked.drawing)

    def aim(self, start: int, stop: int) -> tuple[torch.Tensor, Masks, dict[str, torch.Tensor]]:
        """Point the cache at rows [start, stop) for one more token each.

        Returns position ids [..., rows, 1], masks, and what else the family's forward wants.
        """
        assert self._positions is not None
        columns = self._columns[start:stop]
        for row in range(start, stop):
            self._written[row] = max(self._written[row], self.lengths[row] + 1)
        reach = max(self.lengths[start:stop]) + 1
        num_columns = min(-(-reach // COLUMN_BUCKET) * COLUMN_BUCKET, self.capacity)
        self.masks.reveal(start, stop, columns)
        self.cache.view.aim(start, stop, columns, num_columns)
        extras = {}
        if self._cross_mask is not None:
            extras["cross_attention_mask"] = self._cross_mask[start:stop, None]
        return self._positions[..., start:stop, :], self.masks.of(start, stop, columns, num_columns), extras

    def advance(self, start: int, stop: int, tokens: torch.Tensor) -> None:
        """Note that rows [start, stop) wrote a column and drew `tokens` [rows]."""
        assert self._positions is not None
        self.cache.commit()
        self.tokens[start:stop, 0] = tokens
        self._columns[start:stop] += 1
        self._positions[..., start:stop, :] += 1
        for row in range(start, stop):
            self.lengths[row] += 1

    def _claim_columns(self, row: int, length: int) -> None:
        """Zero what earlier occupants left beyond the first `length` columns, which are about to be written."""
        self.cache.clear(row, length, self._written[row])
        self._written[row] = length

    def _set(
        self, row: int, length: int, next_position: torch.Tensor, cross_mask: torch.Tensor | None
    ) -> None:
        self.masks.open(row, length)
        self.lengths[row] = length
        self._columns[row] = length
        if self._positions is None:
            shape = (*next_position.shape[:-1], self.num_slots, 1)
            self._positions = next_position.new_zeros(shape)
        self._positions[..., row, :] = next_position
        self._show_images(row, cross_mask)

    def _show_images(self, row: int, mask: torch.Tensor | None) -> None:
        """Let a row look at the tiles of its images [images, tiles]; rows may have different numbers of them."""
        shown = self._cross_mask
        if mask is not None and (shown is None or shown.shape[1] < len(mask)):
            self._cross_mask = mask.new_zeros((self.num_slots, *mask.shape))
            if shown is not None:
                self._cross_mask[:, : shown.shape[1]] = shown
        if self._cross_mask is not None:
            self._cross_mask[row] = 0
            if mask is not None:
                self._cross_mask[row, : len(mask)] = mask
