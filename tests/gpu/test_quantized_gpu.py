"""HQQ on a CUDA device: tinygemm reads four-bit weights as they are, and weights solved there are as good."""

import pytest

# Before transformers, which would otherwise load HQQ with torch's whole compiler.
import workers.model  # noqa: F401

# isort: split
import torch
from torch import nn

from workers.model.weights.hqq_linear import HqqLinear
from workers.model.weights.hqq_weight import Scheme
from workers.model.weights.int4 import Int4Linear, agrees, fits
from workers.model.weights.packed import choose_linears

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


def layer(bits: int = 4, group_size: int = 64, dtype: torch.dtype = torch.bfloat16) -> HqqLinear:
    torch.manual_seed(0)
    linear = nn.Linear(256, 128, dtype=dtype, device="cuda").requires_grad_(False)
    return HqqLinear(linear, Scheme(bits, group_size), dtype).quantize_(linear.weight)


@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("rows", [1, 7, 64, 300])
def test_tinygemm_computes_with_the_stored_weight(group_size: int, rows: int) -> None:
    stored = layer(group_size=group_size)
    assert fits(stored)
    pinned = Int4Linear(stored)
    x = torch.randn(rows, 256, dtype=torch.bfloat16, device="cuda")

    assert agrees(pinned)
    expected = nn.functional.linear(x.double(), stored.dequantize().double(), stored.bias.double())
    assert (pinned(x) - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize(("bits", "most"), [(8, 0.006), (4, 0.09), (3, 0.19), (2, 0.45), (1, 0.6)])
def test_weights_that_are_quantized_on_the_device_are_as_close(bits: int, most: float) -> None:
    weight = torch.randn(128, 256, device="cuda") * 0.02
    linear = nn.Linear(256, 128, device="cuda")

    stored = HqqLinear(linear, Scheme(bits, 64), torch.float32).quantize_(weight)

    assert stored.packed.is_cuda
    assert (stored.dequantize() - weight).norm() < most * weight.norm()


def test_the_kernel_is_used_only_when_it_is_asked_for() -> None:
    """Quantized weights stay small on a device, and are rebuilt on every call unless told otherwise."""
    automatic, pinned = nn.Sequential(layer()), nn.Sequential(layer())

    assert choose_linears(automatic).quantized_kernel == "dequantize"
    assert choose_linears(pinned, "int4").quantized_kernel == "int4"
    assert (type(automatic[0]), type(pinned[0])) == (HqqLinear, Int4Linear)
