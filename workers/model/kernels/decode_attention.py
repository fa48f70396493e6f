"""Attention of one new token per row on a CPU, by a kernel that streams; torch's own where ours was not built."""

import ctypes
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

log = logging.getLogger(__name__)

_LANES = 16
# Numbers read by one call below which a second thread costs more than it gives.
_WORTH_A_THREAD = 1 << 20
# What a family may add to attention that the kernel knows nothing of.
_UNKNOWN = ("position_bias", "cache", "softcap", "s_aux", "output_attentions")
_Kernel: TypeAlias = Callable[..., int]


def install() -> bool:
    """Let every model of this process decode with the kernel; False where it was not built for this machine.

    It takes the place of transformers' `sdpa` and hands over to it whatever it does not take itself: prefill, other
    precisions, other devices, masks that differ by head.
    """
    kernel = load_kernel()
    if kernel is None:
        log.info(
            "decoding uses torch's attention: our kernel was not built (it needs a C compiler at install)"
        )
        return False
    AttentionInterface.register("sdpa", partial(attention_forward, kernel))
    return True


@cache
def load_kernel() -> _Kernel | None:
    """The compiled function, or None."""
    for path in Path(__file__).parent.glob("_decode_attention*.so"):
        try:
            kernel = ctypes.CDLL(str(path)).decode_attention
        except (OSError, AttributeError):
            continue
        pointers, counts = [ctypes.c_void_p] * 5, [ctypes.c_int64] * 11
        kernel.argtypes, kernel.restype = [*pointers, ctypes.c_float, *counts], ctypes.c_int
        found: _Kernel = kernel
        return found
    return None


def attention_forward(
    kernel: _Kernel,
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: [rows, heads, tokens, dim] in, [rows, tokens, heads, dim] out."""
    if not _takes(query, key, value, attention_mask) or any(
        options.get(name) is not None for name in _UNKNOWN
    ):
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    assert attention_mask is not None
    return decode_attention(kernel, query, key, value, attention_mask, scaling).transpose(1, 2), None


def decode_attention(
    kernel: _Kernel, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None = None
) -> Tensor:
    """query: [rows, heads, 1, dim]. key, value: [rows, key heads, columns, dim]. mask: [rows, 1, 1, columns], added."""
    rows, num_heads, _, dim = query.shape
    key_heads, count = key.shape[1:3]
    query = query.contiguous()
    out = torch.empty_like(query)
    call = partial(
        kernel,
        *(tensor.data_ptr() for tensor in (query, key, value, mask, out)),
        dim**-0.5 if scaling is None else scaling,
        key_heads,
        num_heads // key_heads,
        dim,
        count,
        *key.stride()[:2],
        *value.stride()[:2],
        mask.stride(0),
    )
    if any(_in_parts(call, rows * key_heads, rows * key_heads * count * dim)):
        raise MemoryError("no memory for attention scores")
    return out


def _takes(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    if query.shape[2] != 1 or mask is None or mask.dtype != torch.float32 or query.dtype != torch.float32:
        return False
    dim = query.shape[3]
    return (
        query.device.type == "cpu"
        and dim % _LANES == 0
        and key.shape == value.shape
        and key.shape[3] == dim
        and query.shape[1] % key.shape[1] == 0
        and mask.shape == (query.shape[0], 1, 1, key.shape[2])
        and mask.stride(3) == 1
        and key.stride()[2:] == value.stride()[2:] == (dim, 1)
        and not torch.is_grad_enabled()
    )


def _in_parts(call: Callable[[int, int], int], num_heads: int, num_read: int) -> list[int]:
    """Divide the rows' heads among as many threads as torch may use, if there is enough to do for them."""
    num_parts = min(torch.get_num_threads(), num_heads, 1 + num_read // _WORTH_A_THREAD)
    if num_parts == 1:
        return [call(0, num_heads)]
    bounds = [num_heads * part // num_parts for part in range(num_parts + 1)]
    others = [_pool().submit(call, bounds[part], bounds[part + 1]) for part in range(1, num_parts)]
    return [call(bounds[0], bounds[1]), *(other.result() for other in others)]


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="attention")
