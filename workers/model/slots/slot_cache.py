"""The slot cache: one row of every layer's memory per running request, read in place by the model's own forward."""

from typing import TypeAlias

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from service.errors import ConfigurationError
from workers.model.hooks import LayerSpec, layer_specs
from workers.model.slots.slot_cross import SlotCrossAttention
from workers.model.slots.slot_layers import DecodeView, LayerState, SlotAttention, SlotNothing
from workers.model.slots.slot_linear import SlotLinear

SlotLayer: TypeAlias = SlotAttention | SlotLinear | SlotNothing


class SlotCache(Cache):
    """All layers' slots, in the shape of a transformers cache."""

    def __init__(self, model: PreTrainedModel, num_slots: int, capacity: int) -> None:
        self.view = DecodeView()
        self.specs = layer_specs(model)
        self.slots: list[SlotLayer] = [
            _slot_layer(spec, self.view, num_slots, capacity) for spec in self.specs
        ]
        self._linear_slots = [layer for layer in self.slots if isinstance(layer, SlotLinear)]
        super().__init__(layers=list(self.slots))

    @property
    def num_bytes(self) -> int:
        """Memory of all slots of all layers."""
        return sum(layer.num_bytes() for layer in self.slots)

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor:
        """Convolution state of the rows in view."""
        return self._linear(layer_idx).conv_state(state_idx)

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor:
        """Recurrent state of the rows in view."""
        return self._linear(layer_idx).recurrent_state(state_idx)

    def commit(self) -> None:
        """Keep what the last forward left, now that it has come to its end."""
        for layer in self._linear_slots:
            layer.commit()

    def load(self, row: int, source: Cache, source_row: int, length: int) -> None:
        """Move one row of a prefilled cache into slot `row`. length: its prompt tokens, without padding."""
        for layer, prefilled in zip(self.slots, source.layers, strict=True):
            layer.load(row, prefilled, source_row, length)

    def export(self, row: int, length: int) -> tuple[LayerState, ...]:
        """Copy one row of all layers out of its slot."""
        return tuple(layer.export(row, length) for layer in self.slots)

    def restore(self, row: int, states: tuple[LayerState, ...]) -> None:
        """Put an exported row into slot `row`."""
        for layer, state in zip(self.slots, states, strict=True):
            layer.restore(row, state)

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one row of all layers onto another row."""
        for layer in self.slots:
            layer.move(source, target, length)

    def clear(self, row: int, first: int, last: int) -> None:
        """Zero columns [first, last) of one row: a masked NaN still poisons its reader, since 0 * NaN is NaN."""
        if first < last:
            for layer in self.slots:
                layer.clear(row, first, last)

    def _linear(self, layer_idx: int) -> SlotLinear:
        layer = self.slots[layer_idx]
        assert isinstance(layer, SlotLinear)
        return layer


def _slot_layer(spec: LayerSpec, view: DecodeView, num_slots: int, capacity: int) -> SlotLayer:
    match spec.kind:
        case "full_attention":
            return SlotAttention(view, num_slots, capacity)
        case "sliding_attention" | "chunked_attention":
            return SlotAttention(view, num_slots, capacity, window=spec.window)
        case "cross_attention":
            return SlotCrossAttention(view, num_slots)
        case "linear_attention" | "conv":
            return SlotLinear(view, num_slots, spec.num_states)
        case "dummy":
            return SlotNothing()
    raise ConfigurationError(
        f"This model keeps memory of the kind '{spec.kind}', which the slot engine cannot hold yet.",
        code="unsupported_model",
    )
