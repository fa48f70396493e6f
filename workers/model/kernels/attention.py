"""Attention on a CPU in float32 by kernels of our own; torch's where they were not built or do not fit."""

import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

from workers.model.kernels.library import Kernel, Kernels, load_kernels, run_in_parts

log = logging.getLogger(__name__)

_LANES = 16
# Keys beyond which turned keys leave the processor's cache, and torch's blocks are better.
_MAX_PREFILL_KEYS = 8192
# What a family may add to attention that the kernels know nothing of.
_UNKNOWN = ("position_bias", "cache", "softcap", "s_aux", "output_attentions")


def install() -> bool:
    """Let every model of this process attend with the kernels; False where they were not built for this machine.

    They take the place of transformers' `sdpa` and hand over to it what they do not take: other precisions, other
    devices, masks that differ by head.
    """
    kernels = load_kernels()
    if kernels is None:
        log.info("attention is torch's: our kernels were not built (they need a C compiler at install)")
        return False
    AttentionInterface.register("sdpa", partial(attention_forward, kernels))
    return True


def attention_forward(
    kernels: Kernels,
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: [rows, heads, tokens, dim] in, [rows, tokens, heads, dim] out."""
    mask, scale = attention_mask, query.shape[3] ** -0.5 if scaling is None else scaling
    if _is_plain(query, key, value, mask, dropout) and all(options.get(name) is None for name in _UNKNOWN):
        if _decodes(query, key, value, mask):
            assert mask is not None
            return _decode(kernels.decode, query, key, value, mask, scale).transpose(1, 2), None
        causal = mask is None and (getattr(module, "is_causal", True) if is_causal is None else is_causal)
        if _prefills(query, key, causal=causal):
            return _prefill(kernels.prefill, query, key, value, mask, scale, causal=causal), None
    return sdpa_attention_forward(
        module, query, key, value, mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **options
    )


def _is_plain(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> bool:
    """Whether all of it is float32 in a CPU's memory, the numbers of a token side by side, one mask for all heads."""
    rows, num_heads, num_tokens, dim = query.shape
    if query.dtype != torch.float32 or query.device.type != "cpu" or dropout or torch.is_grad_enabled():
        return False
    if key.shape != value.shape or key.shape[0] != rows or key.shape[3] != dim or num_heads % key.shape[1]:
        return False
    if mask is not None and (
        mask.dtype not in (torch.float32, torch.bool)
        or mask.ndim != 4
        or mask.shape[0] not in (1, rows)
        or mask.shape[1:] != (1, num_tokens, key.shape[2])
        or mask.stride(3) != 1
    ):
        return False
    return query.stride(3) == key.stride(3) == value.stride(3) == 1


def _decodes(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """Whether this is one token per row over slots."""
    dim = query.shape[3]
    return (
        query.shape[2] == 1
        and mask is not None
        and mask.dtype == torch.float32
        and dim % _LANES == 0
        and key.stride(2) == value.stride(2) == dim
    )


def _prefills(query: Tensor, key: Tensor, *, causal: bool) -> bool:
    num_tokens, num_keys = query.shape[2], key.shape[2]
    return num_tokens > 1 and num_keys <= _MAX_PREFILL_KEYS and (not causal or num_tokens == num_keys)


def _decode(kernel: Kernel, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """One token per row: [rows, heads, 1, dim]. mask: [rows, 1, 1, columns], added."""
    rows, num_heads, _, dim = query.shape
    key_heads, count = key.shape[1:3]
    query = query.contiguous()
    out = torch.empty_like(query)
    call = partial(
        kernel,
        *(tensor.data_ptr() for tensor in (query, key, value, mask, out)),
        *(scale, key_heads, num_heads // key_heads, dim, count),
        *key.stride()[:2],
        *value.stride()[:2],
        mask.stride(0) if mask.shape[0] > 1 else 0,
    )
    run_in_parts(call, rows * key_heads, rows * num_heads * count * dim)
    return out


def _prefill(
    kernel: Kernel,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    *,
    causal: bool,
) -> Tensor:
    """Whole prompts: [rows, tokens, heads, dim]. mask: [rows or 1, 1, tokens, keys], added, or what may be seen."""
    rows, num_heads, num_tokens, dim = query.shape
    key_heads, num_keys = key.shape[1:3]
    out = query.new_empty(rows, num_tokens, num_heads, dim)
    mask_steps, mask_kind = (0, 0), 0
    if mask is not None:
        mask_steps = (mask.stride(0) if mask.shape[0] > 1 else 0, mask.stride(2))
        mask_kind = 2 if mask.dtype == torch.bool else 1
    call = partial(
        kernel,
        *(tensor.data_ptr() for tensor in (query, key, value)),
        *(None if mask is None else mask.data_ptr(), out.data_ptr()),
        *(scale, key_heads, num_heads // key_heads, dim, num_tokens, num_keys),
        *(*query.stride()[:3], *key.stride()[:3], *value.stride()[:3]),
        *(*mask_steps, mask_kind, causal),
    )
    run_in_parts(call, rows * key_heads, rows * num_heads * num_tokens * num_keys * dim)
    return out
