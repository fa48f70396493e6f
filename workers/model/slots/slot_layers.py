"""What one decoder layer keeps per slot: attention columns, rings, or nothing."""

from typing import Any, TypeAlias

import torch
from transformers.cache_utils import CacheLayerMixin, DummyLayer

# One row's memory of one layer, taken out of its slot.
LayerState: TypeAlias = tuple[torch.Tensor, ...]


class DecodeView:
    """Which rows and columns all layers look at during one decode forward.

    positions: [rows], the column that each row's new token takes. num_columns: how far back any row reaches.
    """

    def __init__(self) -> None:
        self.start = 0
        self.stop = 0
        self.num_columns = 0
        self.positions = torch.empty(0, dtype=torch.long)
        # By heads and capacity: the first column of every row and head, and this step's columns.
        self._first: dict[tuple[int, int], torch.Tensor] = {}
        self._flat: dict[tuple[int, int], torch.Tensor] = {}

    def aim(self, start: int, stop: int, positions: torch.Tensor, num_columns: int) -> None:
        """Look at rows [start, stop) for the next forward."""
        self.start, self.stop, self.positions, self.num_columns = start, stop, positions, num_columns
        self._flat.clear()

    def flat_columns(self, num_slots: int, num_heads: int, capacity: int) -> torch.Tensor:
        """Where the new token of each row and head lands in [slots * heads * capacity]; made once per step."""
        key = (num_heads, capacity)
        found = self._flat.get(key)
        if found is None:
            first = self._first.get(key)
            if first is None:
                every = torch.arange(num_slots * num_heads, device=self.positions.device)
                first = self._first[key] = (every * capacity).view(num_slots, num_heads)
            found = (first[self.start : self.stop] + (self.positions % capacity)[:, None]).view(-1)
            self._flat[key] = found
        return found


class SlotAttention(CacheLayerMixin):  # type: ignore[no-untyped-call]
    """Keys and values of one attention layer: [slots, heads, capacity, dim]. With a window it is a ring."""

    def __init__(self, view: DecodeView, num_slots: int, capacity: int, window: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.view = view
        self.num_slots = num_slots
        self.is_sliding = window is not None
        self.capacity = capacity if window is None else min(window, capacity)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Reserve all slots, shaped after the first prefilled prompt."""
        self.keys = _reserve(self.num_slots, self.capacity, key_states)
        self.values = _reserve(self.num_slots, self.capacity, value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the new token of every row and return what the rows may look at: [rows, heads, columns, dim]."""
        assert self.keys is not None
        assert self.values is not None
        view = self.view
        target = view.flat_columns(self.num_slots, key_states.shape[1], self.capacity)
        _rows_of(self.keys).index_copy_(0, target, key_states.reshape(-1, key_states.shape[-1]))
        _rows_of(self.values).index_copy_(0, target, value_states.reshape(-1, value_states.shape[-1]))
        columns = min(view.num_columns, self.capacity)
        rows = slice(view.start, view.stop)
        return self.keys[rows, :, :columns], self.values[rows, :, :columns]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Columns and offset of the mask."""
        return min(self.view.num_columns, self.capacity), 0

    def get_seq_length(self) -> int:
        """Columns before the new token."""
        return max(self.view.num_columns - 1, 0)

    def get_max_length(self) -> int:
        """Columns of one row."""
        return self.capacity

    def load(self, row: int, source: Any, source_row: int, length: int) -> None:
        """Move one prefilled prompt of `length` tokens into slot `row`. source: the prefill's layer."""
        if not self.is_initialized:
            self.lazy_initialization(source.keys, source.values)
        kept = min(source.keys.shape[2], length, self.capacity)
        state = tuple(kv[source_row, :, kv.shape[2] - kept :] for kv in (source.keys, source.values))
        first = (length - kept) % self.capacity
        head = min(kept, self.capacity - first)
        for kv, part in zip(self._buffers(), state, strict=True):
            kv[row, :, first : first + head] = part[:, :head]
            if head < kept:
                kv[row, :, : kept - head] = part[:, head:]

    def export(self, row: int, length: int) -> LayerState:
        """Copy one row out of its slot."""
        used = min(length, self.capacity)
        return tuple(kv[row, :, :used].clone() for kv in self._buffers())

    def restore(self, row: int, state: LayerState) -> None:
        """Put an exported row into slot `row`."""
        for kv, part in zip(self._buffers(), state, strict=True):
            kv[row, :, : part.shape[1]] = part

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one row's used columns onto another row."""
        used = min(length, self.capacity)
        for kv in self._buffers():
            kv[target, :, :used] = kv[source, :, :used]

    def clear(self, row: int, first: int, last: int) -> None:
        """Zero columns [first, last) of a row."""
        for kv in self._buffers():
            kv[row, :, first : min(last, self.capacity)].zero_()

    def num_bytes(self) -> int:
        """Memory of all slots."""
        return sum(kv.numel() * kv.element_size() for kv in self._buffers())

    def _buffers(self) -> tuple[torch.Tensor, ...]:
        return (self.keys, self.values) if self.keys is not None and self.values is not None else ()


class SlotNothing(DummyLayer):
    """A layer that reads another layer's keys and values, or none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def load(self, row: int, source: Any, source_row: int, length: int) -> None:
        """Nothing to keep."""

    def export(self, row: int, length: int) -> LayerState:
        """Nothing to take out."""
        return ()

    def restore(self, row: int, state: LayerState) -> None:
        """Nothing to put back."""

    def move(self, source: int, target: int, length: int) -> None:
        """Nothing to copy."""

    def clear(self, row: int, first: int, last: int) -> None:
        """Nothing to zero."""

    def num_bytes(self) -> int:
        """No memory."""
        return 0


def _reserve(num_slots: int, capacity: int, like: torch.Tensor) -> torch.Tensor:
    return like.new_zeros((num_slots, like.shape[1], capacity, like.shape[3]))


def _rows_of(kv: torch.Tensor) -> torch.Tensor:
    return kv.view(-1, kv.shape[-1])
