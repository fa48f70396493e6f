"""One weight as HQQ stores it: a few bits for each number, a scale and a zero for each group."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from typing import TypeAlias

import torch
from hqq.core.quantize import Quantizer  # type: ignore[import-untyped]
from torch import Tensor

from service.settings import QUANT_GROUP_SIZES

_SMALLEST_GROUP = min(QUANT_GROUP_SIZES)
# What the solver works on at a time on a CPU: its twenty rounds run four times faster on what fits a core's cache.
_SOLVED_NUMBERS = 1 << 17
_ROUNDS_FOR_TWO_LEVELS = 4

# Integers as bytes [groups, group size], then scale and zero [groups, 1].
Levels: TypeAlias = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one weight is stored. Groups are runs of `group_size` numbers along a row."""

    bits: int
    group_size: int

    @property
    def packing(self) -> str:
        """HQQ's name for how numbers share bytes."""
        return str(Quantizer.bit_to_packing[self.bits])

    @property
    def integer(self) -> torch.dtype:
        """What the packed numbers are stored in."""
        return torch.int32 if self.bits == 3 else torch.uint8

    def packed_shape(self, num_elements: int) -> tuple[int, int]:
        """Shape of the stored integers: rows are groups, several to a row of bytes (or ten to an int32 at 3 bits)."""
        num_groups = num_elements // self.group_size
        per_row = 10 if self.bits == 3 else 8 // self.bits
        return -(-num_groups // per_row), self.group_size

    def group_shape(self, num_elements: int) -> tuple[int, int]:
        """Shape of scale and zero."""
        return num_elements // self.group_size, 1

    def arithmetic_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Precision of scale, zero and their arithmetic: eight bits do not fit bfloat16's mantissa beside a zero."""
        return torch.float32 if self.bits > 4 else dtype


def fitting_scheme(bits: int, group_size: int, out_features: int, in_features: int) -> Scheme | None:
    """The largest group up to `group_size` that divides the rows and fills whole bytes, or None for no group."""
    per_row = 1 if bits == 3 else 8 // bits
    size = group_size
    while size >= _SMALLEST_GROUP:
        if in_features % size == 0 and (out_features * in_features // size) % per_row == 0:
            return Scheme(bits, size)
        size //= 2
    return None


@dataclass(frozen=True, slots=True)
class Stored:
    """A quantized weight. packed: see `Scheme.packed_shape`. scale, zero: [groups, 1]."""

    packed: Tensor
    scale: Tensor
    zero: Tensor


@torch.no_grad()
def quantize(weight: Tensor, scheme: Scheme, dtype: torch.dtype) -> Stored:
    """Store `weight` [out, in], on its device, for a model that computes in `dtype`."""
    parts = _solve_on_cpu(weight, scheme) if weight.device.type == "cpu" else [_solve(weight, scheme)]
    levels, scale, zero = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    number = scheme.arithmetic_dtype(dtype)
    # HQQ solves in inference mode, whose tensors must not leak into a model; copies are ordinary ones.
    return Stored(
        Quantizer.pack[scheme.packing](levels),
        scale.to(number, copy=True),
        zero.to(number, copy=True),
    )


@torch.no_grad()
def dequantize(stored: Stored, scheme: Scheme, shape: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """The weight of that shape [out, in] in `dtype`."""
    levels = unpack(stored, scheme, stored.scale.dtype)
    return levels.sub_(stored.zero).mul_(stored.scale).to(dtype).view(shape)


def unpack(stored: Stored, scheme: Scheme, dtype: torch.dtype) -> Tensor:
    """The stored integers, unpacked to `dtype`: [groups, group size]."""
    levels: Tensor = Quantizer.unpack[scheme.packing](stored.packed, dtype=dtype)
    # Three-bit rows are padded to tens.
    return levels[: stored.scale.shape[0]]


def _solve_on_cpu(weight: Tensor, scheme: Scheme) -> list[Levels]:
    """By blocks of rows, as many at a time as torch has threads.

    Each block has one thread: threads that share one wait for each other after every operation.
    """
    blocks = torch.split(weight, max(1, _SOLVED_NUMBERS // weight.shape[1]))
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(num_threads) as solvers:
            return list(solvers.map(_solve, blocks, repeat(scheme)))
    finally:
        torch.set_num_threads(num_threads)


@torch.no_grad()
def _solve(weight: Tensor, scheme: Scheme) -> Levels:
    """The levels of some rows."""
    if scheme.bits == 1:
        return _two_levels(weight.float().reshape(-1, scheme.group_size))
    levels, solved = Quantizer.quantize(
        weight,
        nbits=scheme.bits,
        group_size=scheme.group_size,
        axis=1,
        # At eight bits HQQ's solver mends a twentieth of an error of half a percent, in 25 times the time.
        optimize=scheme.bits < 8,
        bitpack=False,
        device=str(weight.device),
    )
    return levels.to(torch.uint8), solved["scale"], solved["zero"]


def _two_levels(groups: Tensor) -> Levels:
    """One bit: the two numbers that are closest to each group's numbers (Lloyd's algorithm).

    HQQ's solver leaves the ends of the range as the levels, which is further from the weight than zeros would be.
    """
    split = groups.mean(1, keepdim=True)
    for _ in range(_ROUNDS_FOR_TWO_LEVELS):
        above = groups > split
        num_above = above.sum(1, keepdim=True)
        total_above = (groups * above).sum(1, keepdim=True)
        high = total_above / num_above.clamp_min(1)
        low = (groups.sum(1, keepdim=True) - total_above) / (groups.shape[1] - num_above).clamp_min(1)
        split = (high + low) / 2
    # A group of equal numbers has one level, which a scale of one and its zero still name exactly.
    scale = torch.where(num_above > 0, high - low, 1.0)
    return above.to(torch.uint8), scale, -low / scale
