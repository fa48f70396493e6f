"""Attention on a CPU in float32 by kernels of our own; torch's where they were not built or do not fit."""

import ctypes
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

log = logging.getLogger(__name__)

_LANES = 16
# Multiplications by one call below which a second thread costs more than it gives.
_WORTH_A_THREAD = 1 << 20
# Keys beyond which turned keys leave the processor's cache, and torch's blocks are better.
_MAX_PREFILL_KEYS = 8192
# What a family may add to attention that the kernels know nothing of.
_UNKNOWN = ("position_bias", "cache", "softcap", "s_aux", "output_attentions")
_Kernel: TypeAlias = Callable[..., int]


class Kernels(NamedTuple):
    """The compiled functions: of one new token per row, and of whole prompts."""

    decode: _Kernel
    prefill: _Kernel


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


@cache
def load_kernels() -> Kernels | None:
    """The compiled functions, or None."""
    for path in Path(__file__).parent.glob("_attention*.so"):
        try:
            library = ctypes.CDLL(str(path))
            kernels = Kernels(library.decode_attention, library.prefill_attention)
        except (OSError, AttributeError):
            continue
        for kernel, num_counts in zip(kernels, (11, 20), strict=True):
            pointers, counts = [ctypes.c_void_p] * 5, [ctypes.c_int64] * num_counts
            kernel.argtypes, kernel.restype = [*pointers, ctypes.c_float, *counts], ctypes.c_int  # type: ignore[attr-defined]
        return kernels
    return None


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


def _decode(kernel: _Kernel, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
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
    _run(call, rows * key_heads, rows * num_heads * count * dim)
    return out


def _prefill(
    kernel: _Kernel,
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
    _run(call, rows * key_heads, rows * num_heads * num_tokens * num_keys * dim)
    return out


def _run(call: Callable[[int, int], int], num_heads: int, num_products: int) -> None:
    """Divide the rows' heads among as many threads as torch may use, if there is enough to do for them."""
    num_parts = min(torch.get_num_threads(), num_heads, 1 + num_products // _WORTH_A_THREAD)
    if num_parts == 1:
        failed = call(0, num_heads)
    else:
        bounds = [num_heads * part // num_parts for part in range(num_parts + 1)]
        others = [_pool().submit(call, bounds[part], bounds[part + 1]) for part in range(1, num_parts)]
        failed = sum([call(bounds[0], bounds[1]), *(other.result() for other in others)])
    if failed:
        raise MemoryError("no memory for attention scores")


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="attention")
