"""States of one prompt, taken out of a prefilled cache, and laid side by side again for prompts that begin alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from workers.model.hooks import LayerSpec, Prefilled, text_config

LINEAR_KINDS = frozenset({"linear_attention", "conv"})
RING_KINDS = frozenset({"sliding_attention", "chunked_attention"})

# What one layer keeps of one prompt: keys and values [heads, columns, dim], the last columns only where it is a
# ring; or convolution and recurrent states; or nothing.
PrefixState: TypeAlias = tuple[Tensor | None, ...]


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first `num_cached` tokens of a prompt, computed before. num_tokens: of the prompt that left the states."""

    states: tuple[PrefixState, ...]
    num_tokens: int
    num_cached: int


def take(
    prefilled: Prefilled, specs: Sequence[LayerSpec], row: int, num_tokens: int
) -> tuple[PrefixState, ...]:
    """Copy the states of one prompt of a prefilled group. One that was prefilled alone need not be copied."""
    layers = zip(prefilled.cache.layers, specs, strict=True)
    return tuple(
        tuple(_owned(part) for part in _parts(layer, spec, row, num_tokens)) for layer, spec in layers
    )


def num_bytes(prefilled: Prefilled, specs: Sequence[LayerSpec], row: int, num_tokens: int) -> int:
    """How much memory `take` would give out."""
    layers = zip(prefilled.cache.layers, specs, strict=True)
    parts = (part for layer, spec in layers for part in _parts(layer, spec, row, num_tokens))
    return sum(part.numel() * part.element_size() for part in parts if part is not None)


def cross_shapes(states: Sequence[PrefixState], specs: Sequence[LayerSpec]) -> tuple[torch.Size | None, ...]:
    """What states must share to lie side by side: as many image columns, or none."""
    keys = [
        state[0] if state else None
        for state, spec in zip(states, specs, strict=True)
        if spec.kind == "cross_attention"
    ]
    return tuple(None if part is None else part.shape for part in keys)


def lay_out(
    model: PreTrainedModel, specs: Sequence[LayerSpec], beginnings: Sequence[Beginning]
) -> DynamicCache:
    """A cache of one row per beginning, padded on the left to the longest; a prefill can go on from it."""
    width = max(beginning.num_cached for beginning in beginnings)
    cache = DynamicCache(config=text_config(model))
    for index, (layer, spec) in enumerate(zip(cache.layers, specs, strict=True)):
        states = [beginning.states[index] for beginning in beginnings]
        if spec.kind in LINEAR_KINDS:
            _set_linear(layer, spec, states)
        elif spec.kind != "dummy" and states[0]:
            kv = [_columns(spec, beginning, index, width) for beginning in beginnings]
            _set_attention(layer, _side_by_side(kv, 0), _side_by_side(kv, 1), width)
    return cache


def without_gap(
    model: PreTrainedModel, specs: Sequence[LayerSpec], prefilled: Prefilled, row: int, gap: slice
) -> Prefilled:
    """One row of a prefilled group without its padding between the cached columns and the new ones.

    gap: columns to leave out, none of which a ring has dropped.
    """
    cache = DynamicCache(config=text_config(model))
    sources: list[Any] = prefilled.cache.layers
    for layer, source, spec in zip(cache.layers, sources, specs, strict=True):
        if spec.kind == "dummy" or source.keys is None or source.keys.numel() == 0:
            continue
        keys, values = source.keys[row : row + 1], source.values[row : row + 1]
        if spec.kind != "cross_attention":
            keys, values = _closed(keys, gap), _closed(values, gap)
        _set_attention(layer, keys, values, keys.shape[2])
    return replace(
        prefilled,
        logits=prefilled.logits[row : row + 1],
        cache=cache,
        next_positions=prefilled.next_positions[..., row : row + 1, :],
        cross_mask=None if prefilled.cross_mask is None else prefilled.cross_mask[row : row + 1],
    )


def _closed(kv: Tensor, gap: slice) -> Tensor:
    return torch.cat([kv[:, :, : gap.start], kv[:, :, gap.stop :]], dim=2)


def _parts(layer: Any, spec: LayerSpec, row: int, num_tokens: int) -> PrefixState:
    """Views of what a prefilled layer keeps of one row, without its padding."""
    if spec.kind in LINEAR_KINDS:
        kinds = (layer.conv_states, layer.recurrent_states)
        states = [kind[index] for kind in kinds for index in range(spec.num_states)]
        return tuple(None if state is None else state[row] for state in states)
    if spec.kind == "dummy" or layer.keys is None or layer.keys.numel() == 0:
        return ()
    if spec.kind == "cross_attention":
        return layer.keys[row], layer.values[row]
    first = max(layer.keys.shape[2] - num_tokens, 0)
    return layer.keys[row, :, first:], layer.values[row, :, first:]


def _owned(part: Tensor | None) -> Tensor | None:
    """The same numbers in memory that holds nothing else."""
    if part is None or part.untyped_storage().nbytes() == part.numel() * part.element_size():
        return part
    return part.clone(memory_format=torch.contiguous_format)


def _columns(spec: LayerSpec, beginning: Beginning, index: int, width: int) -> tuple[Tensor, Tensor]:
    """Keys and values of the beginning's last columns, zeros before them: [1, heads, columns, dim]."""
    keys, values = beginning.states[index]
    assert keys is not None
    assert values is not None
    if spec.kind == "cross_attention":
        return keys[None], values[None]
    if spec.window is not None:
        width = min(width, spec.window - 1)
    stop = beginning.num_cached - (beginning.num_tokens - keys.shape[1])
    first = max(stop - width, 0)
    missing = (0, 0, width - (stop - first), 0)
    keys, values = keys[None, :, first:stop], values[None, :, first:stop]
    return (
        (keys, values)
        if missing[2] == 0
        else (functional.pad(keys, missing), functional.pad(values, missing))
    )


def _side_by_side(kv: Sequence[tuple[Tensor, Tensor]], which: int) -> Tensor:
    return kv[0][which] if len(kv) == 1 else torch.cat([pair[which] for pair in kv])


def _set_attention(layer: Any, keys: Tensor, values: Tensor, num_seen: int) -> None:
    layer.lazy_initialization(keys, values)
    layer.keys, layer.values = keys, values
    if layer.is_sliding:
        layer.cumulative_length = num_seen


def _set_linear(layer: Any, spec: LayerSpec, states: Sequence[PrefixState]) -> None:
    for index in range(spec.num_states):
        conv, recurrent = (_stacked(states, index + offset) for offset in (0, spec.num_states))
        layer.lazy_initialization(conv_states=conv, recurrent_states=recurrent, state_idx=index)
        for held, stacked in ((layer.conv_states, conv), (layer.recurrent_states, recurrent)):
            if stacked is not None:
                held[index].copy_(stacked)
        layer.has_previous_state[index] = True


def _stacked(states: Sequence[PrefixState], which: int) -> Tensor | None:
    parts = [part for state in states if (part := state[which]) is not None]
    return torch.stack(parts) if parts else None
