"""Matrix products that read HQQ's four-bit weights as they are: torch's int4 kernels, on a CPU or by tinygemm on CUDA.

HQQ's groups map onto theirs exactly: their zero is a number of the weight's own scale, (8 - zero) * scale.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from workers.model.weights.hqq_linear import HqqLinear
from workers.model.weights.hqq_weight import unpack
from workers.model.weights.timing import fastest

_GROUP_SIZES = (32, 64, 128, 256)
_INNER_TILES = 8
_CUDA_COLUMNS = _INNER_TILES * 16
_ROWS_AT_ONCE = {"cpu": 16, "cuda": 8}
# Numbers of rows at which int4 is compared with rebuilding the weight.
_MEASURED_ROWS = (1, 4, 16, 32, 64, 128)
_SECONDS_EACH = 0.005
# Of the result's norm; the kernels round scales and sums to bfloat16. A wrong layout is off by more than one.
_MAX_ERROR = 0.02


class Int4Linear(nn.Module):
    """y = x Wᵀ + b by an int4 kernel, for up to `max_rows` rows of x; beyond it, and by `stored` itself.

    max_rows None: for any number of rows, so that an answer does not depend on how many share a step.
    """

    def __init__(self, stored: HqqLinear, max_rows: int | None = None) -> None:
        super().__init__()
        self.in_features, self.out_features = stored.in_features, stored.out_features
        self.stored, self.max_rows = stored, max_rows
        self._weight, self._scales_and_zeros = _converted(stored)

    @property
    def bias(self) -> nn.Parameter | None:
        """The stored layer's own."""
        return self.stored.bias

    @property
    def weight(self) -> Tensor:
        """For model code that looks at its layers' weights."""
        return self.stored.weight

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, self.in_features)
        if self.max_rows is not None and rows.shape[0] > self.max_rows:
            y: Tensor = self.stored(x)
            return y
        y = self._multiply(rows.contiguous())
        return (y if self.bias is None else y + self.bias).view(*x.shape[:-1], self.out_features)

    def _multiply(self, rows: Tensor) -> Tensor:
        group_size = self.stored.scheme.group_size
        kernel = torch._weight_int4pack_mm if rows.is_cuda else torch.ops.aten._weight_int4pack_mm_for_cpu
        y: Tensor = kernel(rows, self._weight, group_size, self._scales_and_zeros)
        return y

    def extra_repr(self) -> str:
        return f"in={self.in_features}, out={self.out_features}, max_rows={self.max_rows}"


def fits(layer: nn.Module) -> bool:
    """Whether an int4 kernel can take this layer's weight."""
    if not isinstance(layer, HqqLinear) or layer.scheme.bits != 4:
        return False
    device = layer.packed.device.type
    if device == "cuda" and (layer.dtype != torch.bfloat16 or layer.in_features % _CUDA_COLUMNS):
        return False
    aligned = device in _ROWS_AT_ONCE and layer.out_features % _ROWS_AT_ONCE[device] == 0
    return aligned and layer.scheme.group_size in _GROUP_SIZES


@torch.no_grad()
def agrees(layer: Int4Linear) -> bool:
    """Whether the kernel computes what the stored weight says, on this device and in this version of torch."""
    x = torch.randn(4, layer.in_features, device=layer.stored.packed.device).to(layer.stored.dtype)
    try:
        y = layer._multiply(x)
    except RuntimeError:
        return False
    expected = nn.functional.linear(x, layer.stored.weight)
    return bool((y - expected).norm() < _MAX_ERROR * expected.norm())


@torch.no_grad()
def winning_rows(layer: Int4Linear, candidates: Sequence[int] = _MEASURED_ROWS) -> int:
    """Up to how many rows int4 is faster than rebuilding the weight; 0 for never. On a CPU."""
    winning = 0
    for rows in candidates:
        x = torch.ones(rows, layer.in_features, dtype=layer.stored.dtype)
        int4_seconds = fastest(lambda: layer._multiply(x), _SECONDS_EACH)  # noqa: B023
        if int4_seconds >= fastest(lambda: layer.stored(x), _SECONDS_EACH):  # noqa: B023
            break
        winning = rows
    return winning


def _converted(stored: HqqLinear) -> tuple[Tensor, Tensor]:
    """The weight in the kernel's layout, and [groups of a row, out, 2]: each group's scale and zero."""
    shape = (stored.out_features, stored.in_features)
    levels = unpack(stored.numbers, stored.scheme, torch.uint8).reshape(shape)
    if levels.is_cuda:
        pairs = levels[:, ::2] << 4 | levels[:, 1::2]
        weight = torch._convert_weight_to_int4pack(pairs.contiguous(), _INNER_TILES)
    else:
        weight = torch.ops.aten._convert_weight_to_int4pack_for_cpu(levels.int(), _INNER_TILES)
    scale = stored.scale.float().view(stored.out_features, -1)
    zero = stored.zero.float().view(stored.out_features, -1)
    both = torch.stack([scale, (8 - zero) * scale], dim=-1).transpose(0, 1)
    return weight, both.contiguous().to(stored.dtype)
