"""A note on Llama 4: the scale of its attention that grows with the position, by each row's own positions.

Its layers without rotary positions take the position from the length of the cache, which rows of different lengths
share. Here it comes from the position ids, to the same numbers for a prompt that runs alone.
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.models.llama4.modeling_llama4 import Llama4TextModel


def scale_by_own_positions(model: PreTrainedModel) -> None:
    """Let a Llama 4 decoder scale each row's queries by that row's positions; other models stay as they are."""
    for module in model.modules():
        if isinstance(module, Llama4TextModel):
            _amend(module)


def _amend(decoder: Llama4TextModel) -> None:
    attentions: list[Any] = [layer.self_attn for layer in decoder.layers]
    scaled = [attention for attention in attentions if _is_scaled(attention)]
    if not scaled:
        return
    scale = _QueryScale(scaled[0].floor_scale, scaled[0].attn_scale)
    decoder.register_forward_pre_hook(scale.note_positions, with_kwargs=True)
    for attention in scaled:
        attention.attn_temperature_tuning = False
        attention.q_proj.register_forward_hook(scale.apply)


def _is_scaled(attention: Any) -> bool:
    return bool(attention.attn_temperature_tuning) and not attention.use_rope


class _QueryScale:
    """log1p(floor((position + 1) / floor_scale)) * attn_scale + 1, of the forward that is running."""

    def __init__(self, floor_scale: float, attn_scale: float) -> None:
        self._floor_scale = floor_scale
        self._attn_scale = attn_scale
        self._scale: torch.Tensor | None = None

    def note_positions(self, decoder: nn.Module, arguments: Any, inputs: dict[str, Any]) -> None:
        """Before the decoder runs: read the position ids [rows, tokens]."""
        positions = inputs.get("position_ids")
        if positions is None:
            seen = inputs["past_key_values"].get_seq_length() if inputs.get("past_key_values") else 0
            tokens = inputs["inputs_embeds"] if inputs.get("input_ids") is None else inputs["input_ids"]
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None] + seen
        steps = torch.floor((positions.float() + 1.0) / self._floor_scale)
        self._scale = (torch.log1p(steps) * self._attn_scale + 1.0)[..., None]

    def apply(self, projection: nn.Module, arguments: Any, queries: torch.Tensor) -> torch.Tensor:
        """After the projection: scale its queries [rows, tokens, heads * dim]."""
        assert self._scale is not None
        return (queries * self._scale).to(queries.dtype)
