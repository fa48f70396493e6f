"""States of linear attention, one row per slot: replaced as a whole by every token."""

from typing import Any

import torch
from transformers.cache_utils import LinearAttentionLayer

from workers.model.slots.slot_layers import DecodeView, LayerState


class SlotLinear(LinearAttentionLayer):
    """Convolution and recurrent states of one linear-attention layer: [slots, ...].

    A forward leaves its new states beside the old ones until `commit`, so that one that was cut short can be
    repeated.
    """

    def __init__(self, view: DecodeView, num_slots: int, num_states: int) -> None:
        super().__init__(number_of_states=num_states)
        self.view = view
        self.num_slots = num_slots
        self._new_conv: dict[int, torch.Tensor] = {}
        self._new_recurrent: dict[int, torch.Tensor] = {}

    def load(self, row: int, source: Any, source_row: int, length: int) -> None:
        """Move one prefilled prompt's states into slot `row`."""
        self._load_states(self.conv_states, source.conv_states, row, source_row)
        self._load_states(self.recurrent_states, source.recurrent_states, row, source_row)
        for index in range(self.number_of_states):
            self.has_previous_state[index] = True

    def conv_state(self, state_idx: int) -> torch.Tensor:
        """The convolution states of the rows in view, in memory that the model may write the new ones into."""
        new = self._new_conv[state_idx] = self._in_view(self.conv_states, state_idx).clone()
        return new

    def recurrent_state(self, state_idx: int) -> torch.Tensor:
        """The recurrent states of the rows in view, to be read."""
        return self._in_view(self.recurrent_states, state_idx)

    def update_conv_state(
        self,
        conv_states: torch.Tensor,
        state_idx: int = 0,
        conv_kernel_size: int | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Append the new token's columns: returns [rows, channels, kernel + 1], keeps the last kernel columns."""
        held = self._in_view(self.conv_states, state_idx)
        full = torch.cat([held, conv_states], dim=-1)
        self._new_conv[state_idx] = full[..., -held.shape[-1] :]
        return full

    def update_recurrent_state(
        self, recurrent_states: torch.Tensor, state_idx: int = 0, **kwargs: Any
    ) -> torch.Tensor:
        """Note the new states of the rows in view."""
        self._new_recurrent[state_idx] = recurrent_states
        return recurrent_states

    def commit(self) -> None:
        """Let the rows in view hold the states that the last forward left."""
        for held, new in ((self.conv_states, self._new_conv), (self.recurrent_states, self._new_recurrent)):
            for state_idx, states in new.items():
                self._in_view(held, state_idx).copy_(states)
            new.clear()

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

    def _in_view(self, states: Any, state_idx: int) -> torch.Tensor:
        held: torch.Tensor = states[state_idx]
        return held[self.view.start : self.view.stop]

    def _load_states(self, mine: Any, theirs: Any, row: int, source_row: int) -> None:
        for index in range(self.number_of_states):
            if theirs[index] is None:
                continue
            if mine[index] is None:
                mine[index] = theirs[index].new_zeros((self.num_slots, *theirs[index].shape[1:]))
            mine[index][row] = theirs[index][source_row]

    def _buffers(self) -> tuple[torch.Tensor, ...]:
        states = [
            kind[index]
            for kind in (self.conv_states, self.recurrent_states)
            for index in range(self.number_of_states)
        ]
        return tuple(state for state in states if state is not None)
