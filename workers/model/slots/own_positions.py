"""Notes on two families that read one position for all rows of a forward; here each row goes by its own.

Llama 4's layers without rotary positions scale their queries by a position that they take from the cache's length.
Phi-4 turns all rows by its factors for long prompts as soon as one of them is long. To a prompt that runs alone both
notes give the same numbers as transformers does. (A Phi-4 answer that grows past the boundary goes on with the turned
way and its old keys; `generate` forgets the whole prompt there.)
"""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama4.modeling_llama4 import Llama4TextModel
from transformers.models.phi4_multimodal.modeling_phi4_multimodal import Phi4MultimodalRotaryEmbedding


def read_own_positions(model: PreTrainedModel) -> None:
    """Let each row of a forward go by its own positions; families that do so already stay as they are."""
    for module in list(model.modules()):
        if isinstance(module, Llama4TextModel):
            _scale_queries(module)
        turned = getattr(module, "rotary_emb", None)
        if isinstance(turned, Phi4MultimodalRotaryEmbedding) and turned.rope_type == "longrope":
            module.rotary_emb = RowwiseLongRope(turned)


def _scale_queries(decoder: Llama4TextModel) -> None:
    attentions: list[Any] = [layer.self_attn for layer in decoder.layers]
    scaled = [
        attention for attention in attentions if attention.attn_temperature_tuning and not attention.use_rope
    ]
    if not scaled:
        return
    scale = _QueryScale(scaled[0].floor_scale, scaled[0].attn_scale)
    decoder.register_forward_pre_hook(scale.note_positions, with_kwargs=True)
    for attention in scaled:
        attention.attn_temperature_tuning = False
        attention.q_proj.register_forward_hook(scale.apply)


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


class RowwiseLongRope(nn.Module):
    """Rotary angles by the short or the long factors, whichever each row's last position asks for."""

    short: torch.Tensor
    long: torch.Tensor

    def __init__(self, shared: Phi4MultimodalRotaryEmbedding) -> None:
        super().__init__()
        options: Any = shared.config.rope_parameters
        self._boundary = int(options["original_max_position_embeddings"])
        self._scaling = shared.attention_scaling
        short = shared.original_inv_freq
        long, _ = ROPE_INIT_FUNCTIONS["longrope"](shared.config, short.device, seq_len=self._boundary + 1)
        self.register_buffer("short", short, persistent=False)
        self.register_buffer("long", long, persistent=False)

    @torch.no_grad()
    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines [rows, tokens, dim]. position_ids: [rows, tokens]."""
        is_long = position_ids.amax(dim=-1)[:, None, None] >= self._boundary
        angles = position_ids[..., None].float() * torch.where(is_long, self.long, self.short)
        both = torch.cat((angles, angles), dim=-1)
        cos, sin = both.cos() * self._scaling, both.sin() * self._scaling
        return cos.to(x.dtype), sin.to(x.dtype)
