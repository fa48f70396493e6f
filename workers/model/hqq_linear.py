"""A linear layer whose weight is stored by HQQ: a few bits for each number, a scale and a zero for each group."""

from dataclasses import dataclass

import torch
from hqq.core.quantize import Quantizer  # type: ignore[import-untyped]
from torch import Tensor, nn

BITS = (8, 4, 3, 2)
_SMALLEST_GROUP = 8


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one weight is stored. Groups are runs of `group_size` numbers along a row."""

    bits: int
    group_size: int

    @property
    def packing(self) -> str:
        """HQQ's name for how numbers share bytes."""
        return str(Quantizer.bit_to_packing[self.bits])

    def packed_shape(self, num_elements: int) -> tuple[int, int]:
        """Shape of the stored integers: rows are groups, several to a row of bytes (or ten to an int32 at 3 bits)."""
        num_groups = num_elements // self.group_size
        per_row = 10 if self.bits == 3 else 8 // self.bits
        return -(-num_groups // per_row), self.group_size

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


class HqqLinear(nn.Module):
    """y = x Wᵀ + b, with W rebuilt from its groups on every call.

    packed: integers, see `Scheme.packed_shape`. scale, zero: [groups, 1].
    """

    packed: Tensor
    scale: Tensor
    zero: Tensor

    def __init__(self, linear: nn.Linear, scheme: Scheme, dtype: torch.dtype) -> None:
        """A layer in the place of `linear`, with its bias and as yet without numbers."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.scheme, self.dtype = scheme, dtype
        num_elements = self.in_features * self.out_features
        group_shape = (num_elements // scheme.group_size, 1)
        number = scheme.arithmetic_dtype(dtype)
        integer = torch.int32 if scheme.bits == 3 else torch.uint8
        self.register_buffer(
            "packed", torch.empty(scheme.packed_shape(num_elements), dtype=integer, device="meta")
        )
        self.register_buffer("scale", torch.empty(group_shape, dtype=number, device="meta"))
        self.register_buffer("zero", torch.empty(group_shape, dtype=number, device="meta"))
        self.bias: nn.Parameter | None = linear.bias

    @torch.no_grad()
    def quantize_(self, weight: Tensor) -> "HqqLinear":
        """Take `weight` [out, in], on its device, as this layer's own."""
        packed, settings = Quantizer.quantize(
            weight,
            nbits=self.scheme.bits,
            group_size=self.scheme.group_size,
            axis=1,
            # At eight bits HQQ's solver mends a twentieth of an error of half a percent, in 25 times the time.
            optimize=self.scheme.bits < 8,
            device=str(weight.device),
        )
        number = self.scheme.arithmetic_dtype(self.dtype)
        self.packed = packed
        # HQQ solves in inference mode, whose tensors must not leak into a model; copies are ordinary ones.
        self.scale = settings["scale"].to(number, copy=True)
        self.zero = settings["zero"].to(number, copy=True)
        return self

    def dequantize(self) -> Tensor:
        """The weight [out, in] in the layer's precision."""
        levels: Tensor = Quantizer.unpack[self.scheme.packing](self.packed, dtype=self.scale.dtype)
        # Three-bit rows are padded to tens.
        weight = levels[: self.scale.shape[0]].sub_(self.zero).mul_(self.scale)
        return weight.to(self.dtype).view(self.out_features, self.in_features)

    @property
    def weight(self) -> Tensor:
        """For model code that looks at its layers' weights."""
        return self.dequantize()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.dequantize(), self.bias)

    def extra_repr(self) -> str:
        return f"in={self.in_features}, out={self.out_features}, {self.scheme}"
