"""Keys and values of the layers that look at a prompt's images across, one row per slot."""

from typing import Any

import torch

from workers.model.slots.slot_layers import DecodeView, LayerState, SlotAttention


class SlotCrossAttention(SlotAttention):  # type: ignore[no-untyped-call]
    """Keys and values that attend to a prompt's images; written at prefill, only read afterwards.

    Wide enough for the prompt with the most images so far. Columns beyond a prompt's own are zero, and masked by the
    family's own mask: a row without images adds nothing to its answer, as if the layer were left out.
    """

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
            self._write(row, ())
            return
        if source.keys.shape[2] > self.capacity:
            self._widen(source.keys, source.values)
        self._write(row, (source.keys[source_row], source.values[source_row]))

    def export(self, row: int, length: int) -> LayerState:
        """Copy one row out of its slot."""
        return super().export(row, self.capacity)

    def restore(self, row: int, state: LayerState) -> None:
        """Put an exported row into slot `row`, which may be wider by now."""
        self._write(row, state)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one row onto another row."""
        super().move(source, target, self.capacity)

    def clear(self, row: int, first: int, last: int) -> None:
        """Nothing to zero: a prompt fills the whole row, with zeros behind its images."""

    def _write(self, row: int, state: LayerState) -> None:
        """Let a row hold these keys and values, and zeros behind them."""
        for index, kv in enumerate(self._buffers()):
            used = 0
            if state:
                used = state[index].shape[1]
                kv[row, :, :used] = state[index]
            kv[row, :, used:].zero_()

    def _widen(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Reserve all slots anew, shaped after the prompt with the most images, and keep what they hold."""
        narrow = self._buffers()
        self.capacity = keys.shape[2]
        self.lazy_initialization(keys, values)
        for held, wide in zip(narrow, self._buffers(), strict=False):
            wide[:, :, : held.shape[2]] = held

    def _in_view(self, name: str) -> torch.Tensor | None:
        held = self._held.get(name)
        return None if held is None else held[self.view.start : self.view.stop]

    def _hold(self, name: str, held: torch.Tensor | None) -> None:
        if held is not None:
            self._held[name] = held

    def _buffers(self) -> tuple[torch.Tensor, ...]:
        return tuple(self._held.values())
