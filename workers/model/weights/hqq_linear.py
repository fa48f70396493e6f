"""A linear layer whose weight is stored by HQQ."""

import torch
from torch import Tensor, nn

from workers.model.weights.hqq_weight import Scheme, Stored, dequantize, quantize


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
        number = scheme.arithmetic_dtype(dtype)
        with torch.device("meta"):
            self.register_buffer(
                "packed", torch.empty(scheme.packed_shape(num_elements), dtype=scheme.integer)
            )
            self.register_buffer("scale", torch.empty(scheme.group_shape(num_elements), dtype=number))
            self.register_buffer("zero", torch.empty(scheme.group_shape(num_elements), dtype=number))
        self.bias: nn.Parameter | None = linear.bias

    def quantize_(self, weight: Tensor) -> "HqqLinear":
        """Take `weight` [out, in], on its device, as this layer's own."""
        stored = quantize(weight, self.scheme, self.dtype)
        self.packed, self.scale, self.zero = stored.packed, stored.scale, stored.zero
        return self

    @property
    def numbers(self) -> Stored:
        """The weight as it is kept."""
        return Stored(self.packed, self.scale, self.zero)

    def dequantize(self) -> Tensor:
        """The weight [out, in] in the layer's precision."""
        return dequantize(self.numbers, self.scheme, (self.out_features, self.in_features), self.dtype)

    @property
    def weight(self) -> Tensor:
        """For model code that looks at its layers' weights."""
        return self.dequantize()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.dequantize(), self.bias)

    def extra_repr(self) -> str:
        return f"in={self.in_features}, out={self.out_features}, {self.scheme}"
