"""The compiled kernels, and threads to run them on."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch

# Multiplications by one call below which a second thread costs more than it gives.
_WORTH_A_THREAD = 1 << 22
Kernel: TypeAlias = Callable[..., int]


class Kernels(NamedTuple):
    """Attention of one new token per row, attention of whole prompts, and linear layers on panels."""

    decode: Kernel
    prefill: Kernel
    linear: Kernel


@cache
def load_kernels() -> Kernels | None:
    """The compiled functions, or None where they were not built for this machine."""
    for path in Path(__file__).parent.glob("_kernels*.so"):
        try:
            library = ctypes.CDLL(str(path))
            return Kernels(
                _typed(library.decode_attention, num_pointers=5, num_numbers=1, num_counts=11),
                _typed(library.prefill_attention, num_pointers=5, num_numbers=1, num_counts=20),
                _typed(library.panel_linear, num_pointers=4, num_numbers=0, num_counts=6),
            )
        except (OSError, AttributeError):
            continue
    return None


def run_in_parts(call: Callable[[int, int], int], num_parts: int, num_products: int) -> None:
    """Divide [0, num_parts) among as many threads as torch may use, if there is enough to do for them.

    Errors: MemoryError if a kernel found none.
    """
    num_threads = min(torch.get_num_threads(), num_parts, 1 + num_products // _WORTH_A_THREAD)
    if num_threads <= 1:
        failed = call(0, num_parts)
    else:
        bounds = [num_parts * thread // num_threads for thread in range(num_threads + 1)]
        others = [
            _pool().submit(call, bounds[thread], bounds[thread + 1]) for thread in range(1, num_threads)
        ]
        failed = sum([call(bounds[0], bounds[1]), *(other.result() for other in others)])
    if failed:
        raise MemoryError("no memory for a kernel")


def _typed(function: Any, num_pointers: int, num_numbers: int, num_counts: int) -> Kernel:
    function.argtypes = [
        *[ctypes.c_void_p] * num_pointers,
        *[ctypes.c_float] * num_numbers,
        *[ctypes.c_int64] * num_counts,
    ]
    function.restype = ctypes.c_int
    typed: Kernel = function
    return typed


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="kernel")
