"""Attention masks over slots: kept on the device and amended by one column per row and step, not rebuilt."""

from typing import TypeAlias

import torch
from transformers import PreTrainedModel

from service.errors import ConfigurationError
from workers.model.hooks import LayerSpec, masks_by_layer_type

Masks: TypeAlias = torch.Tensor | dict[str, torch.Tensor | None]


class SlotMasks:
    """Which columns each slot may look at, as additive numbers: 0 or -inf, [slots, capacity]."""

    def __init__(self, model: PreTrainedModel, specs: list[LayerSpec], num_slots: int, capacity: int) -> None:
        self._by_type = masks_by_layer_type(model)
        self._kinds = {spec.kind for spec in specs}
        self._windows = _windows(specs)
        self._columns = torch.arange(capacity, device=model.device)
        self._full = torch.full((num_slots, capacity), -torch.inf, dtype=model.dtype, device=model.device)
        self._flat = self._full.view(-1)
        self._first = torch.arange(num_slots, device=model.device) * capacity

    def open(self, row: int, length: int) -> None:
        """Let a row see its first `length` columns and no others."""
        self._full[row, :length] = 0
        self._full[row, length:] = -torch.inf

    def move(self, source: int, target: int) -> None:
        """Copy one row's mask onto another row."""
        self._full[target] = self._full[source]

    def reveal(self, start: int, stop: int, positions: torch.Tensor) -> None:
        """Let rows [start, stop) see the column of their new token. positions: [rows]."""
        self._flat.index_fill_(0, self._first[start:stop] + positions, 0)

    def of(self, start: int, stop: int, positions: torch.Tensor, num_columns: int) -> Masks:
        """The masks of rows [start, stop), [rows, 1, 1, columns] each, as this decoder wants them."""
        full = self._full[start:stop, None, None, :num_columns]
        if not self._by_type:
            return (
                full[..., : self._windows.get("sliding_attention")]
                if "sliding_attention" in self._kinds
                else full
            )
        masks: dict[str, torch.Tensor | None] = dict.fromkeys(self._by_type)
        if "full_attention" in self._by_type:
            masks["full_attention"] = full
        if "sliding_attention" in self._by_type:
            masks["sliding_attention"] = full[..., : self._windows.get("sliding_attention")]
        if "chunked_attention" in self._by_type:
            masks["chunked_attention"] = self._chunk(positions, num_columns)
        return masks

    def _chunk(self, positions: torch.Tensor, num_columns: int) -> torch.Tensor:
        """Only the columns of the ring that belong to the chunk of the new token."""
        window = self._windows["chunked_attention"]
        hidden = self._columns[None, : min(window, num_columns)] > (positions % window)[:, None]
        mask = torch.zeros(hidden.shape, dtype=self._full.dtype, device=hidden.device)
        return mask.masked_fill_(hidden, -torch.inf)[:, None, None]


def _windows(specs: list[LayerSpec]) -> dict[str, int]:
    """How far back each kind of layer looks; transformers makes one mask for all layers of a kind."""
    found = {(spec.kind, spec.window) for spec in specs if spec.window is not None}
    windows = {kind: window for kind, window in found if window is not None}
    if len(windows) < len(found):
        raise ConfigurationError(
            "Layers of one kind have windows of different sizes, which the slot engine cannot hold yet.",
            code="unsupported_model",
        )
    return windows
