"""What one decoder layer keeps per slot: attention columns, rings, image columns, linear states, or nothing."""

from typing import Any, TypeAlias

import torch
from transformers.cache_utils import CacheLayerMixin, DummyLayer, LinearAttentionLayer

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


class SlotCrossAttention(SlotAttention):  # type: ignore[no-untyped-call]
    """Keys and values that attend to a prompt's images; written at prefill, only read afterwards."""

    def __init__(self, view: DecodeView, num_slots: int) -> None:
        self._held: dict[str, torch.Tensor] = {}
        super().__init__(view, num_slots, capacity=0)

    # The model reads these two directly instead of calling `update`.
    @property
    def keys(self) -> torch.Tensor | None:
        """[rows, heads, image tokens, dim] of the rows in view."""
        return self._in_view("keys")

    @keys.setter
    def keys(self, held: torch.Tensor | None) -> None:
        self._hold("keys", held)

    @property
    def values(self) -> torch.Tensor | None:
        """[rows, heads, image tokens, dim] of the rows in view."""
        return self._in_view("values")

    @values.setter
    def values(self, held: torch.Tensor | None) -> None:
        self._hold("values", held)

    def load(self, row: int, source: Any, source_row: int, length: int) -> None:
        """Move one prompt's image keys and values into slot `row`."""
        if source.keys is None or source.keys.numel() == 0:
            return
        if not self.is_initialized:
            self.capacity = source.keys.shape[2]
            self.lazy_initialization(source.keys, source.values)
        if source.keys.shape[2] != self.capacity:
            raise ValueError("all prompts of this family must have the same number of image tokens")
        for kv, part in zip(self._buffers(), (source.keys, source.values), strict=True):
            kv[row] = part[source_row]

    def export(self, row: int, length: int) -> LayerState:
        """Copy one row out of its slot."""
        return super().export(row, self.capacity)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one row onto another row."""
        super().move(source, target, self.capacity)

    def clear(self, row: int, first: int, last: int) -> None:
        """Nothing to zero: a prompt's image columns fill the whole row."""

    def _in_view(self, name: str) -> torch.Tensor | None:
        held = self._held.get(name)
        return None if held is None else held[self.view.start : self.view.stop]

    def _hold(self, name: str, held: torch.Tensor | None) -> None:
        if held is not None:
            self._held[name] = held

    def _buffers(self) -> tuple[torch.Tensor, ...]:
        return tuple(self._held.values())


class SlotLinear(LinearAttentionLayer):
    """Convolution and recurrent states of one linear-attention layer: [slots, ...]."""

    def __init__(self, view: DecodeView, num_slots: int, num_states: int) -> None:
        super().__init__(number_of_states=num_states)
        self.view = view
        self.num_slots = num_slots

    def load(self, row: int, source: Any, source_row: int, length: int) -> None:
        """Move one prefilled prompt's states into slot `row`."""
        self._load_states(self.conv_states, source.conv_states, row, source_row)
        self._load_states(self.recurrent_states, source.recurrent_states, row, source_row)
        for index in range(self.number_of_states):
            self.has_previous_state[index] = True

    def update_conv_state(
        self,
        conv_states: torch.Tensor,
        state_idx: int = 0,
        conv_kernel_size: int | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Append the new token's columns: returns [rows, channels, kernel + 1], keeps the last kernel columns."""
        held = self.in_view(self.conv_states, state_idx)
        full = torch.cat([held, conv_states], dim=-1)
        held.copy_(full[..., -held.shape[-1] :])
        return full

    def update_recurrent_state(
        self, recurrent_states: torch.Tensor, state_idx: int = 0, **kwargs: Any
    ) -> torch.Tensor:
        """Replace the states of the rows in view."""
        return self.in_view(self.recurrent_states, state_idx).copy_(recurrent_states)

    def _load_states(self, mine: Any, theirs: Any, row: int, source_row: int) -> None:
        for index in range(self.number_of_states):
            if theirs[index] is None:
                continue
            if mine[index] is None:
                mine[index] = theirs[index].new_zeros((self.num_slots, *theirs[index].shape[1:]))
            mine[index][row] = theirs[index][source_row]

    def in_view(self, states: Any, state_idx: int) -> torch.Tensor:
        """The states of the rows in view."""
        held: torch.Tensor = states[state_idx]
        return held[self.view.start : self.view.stop]

    def export(self, row: int, length: int) -> LayerState:
        """Copy one row out of its slot."""
        return tuple(held[row].clone() for held in self._buffers())

    def restore(self, row: int, state: LayerState) -> None:
        """Put an exported row into slot `row`."""
        for held, part in zip(self._buffers(), state, strict=True):
            held[row] = part

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one row onto another row."""
        for held in self._buffers():
            held[target] = held[source]

    def clear(self, row: int, first: int, last: int) -> None:
        """Nothing to zero: states are replaced as a whole."""

    def num_bytes(self) -> int:
        """Memory of all slots."""
        return sum(held.numel() * held.element_size() for held in self._buffers())

    def _buffers(self) -> tuple[torch.Tensor, ...]:
        states = [
            kind[index]
            for kind in (self.conv_states, self.recurrent_states)
            for index in range(self.number_of_states)
        ]
        return tuple(state for state in states if state is not None)


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


SlotLayer: TypeAlias = SlotAttention | SlotLinear | SlotNothing
