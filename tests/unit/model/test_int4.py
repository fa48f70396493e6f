"""The int4 kernel on a CPU: HQQ's four-bit weights as they are."""

import pytest
import torch
from torch import nn

from workers.model.weights import int4, packed
from workers.model.weights.hqq_linear import HqqLinear
from workers.model.weights.hqq_weight import Scheme
from workers.model.weights.int4 import Int4Linear, agrees, fits, winning_rows
from workers.model.weights.packed import choose_linears

# Of the result's norm: the kernel sums in float32, but keeps scales and zeros in the layer's precision.
MAX_ERROR = {torch.float32: 2e-6, torch.bfloat16: 6e-3}


def layer(
    out_features: int = 48,
    in_features: int = 128,
    bits: int = 4,
    group_size: int = 64,
    dtype: torch.dtype = torch.bfloat16,
) -> HqqLinear:
    torch.manual_seed(0)
    linear = nn.Linear(in_features, out_features, dtype=dtype).requires_grad_(False)
    return HqqLinear(linear, Scheme(bits, group_size), dtype).quantize_(linear.weight)


@pytest.mark.parametrize("dtype", MAX_ERROR)
@pytest.mark.parametrize("group_size", [32, 64, 128])
@pytest.mark.parametrize("shape", [(128,), (1, 128), (5, 128), (2, 3, 128), (0, 128)])
def test_the_kernel_computes_with_the_stored_weight(
    dtype: torch.dtype, group_size: int, shape: tuple[int, ...]
) -> None:
    stored = layer(group_size=group_size, dtype=dtype)
    x = torch.randn(shape).to(dtype)

    y = Int4Linear(stored)(x)

    expected = nn.functional.linear(x.double(), stored.dequantize().double(), stored.bias.double())
    assert y.shape == expected.shape
    assert y.dtype == dtype
    assert (y - expected).norm() <= MAX_ERROR[dtype] * expected.norm()


def test_views_that_are_not_contiguous_are_taken() -> None:
    stored = layer(dtype=torch.float32)
    x = torch.randn(128, 5).t()

    torch.testing.assert_close(Int4Linear(stored)(x), stored(x))


def test_a_row_gives_the_same_alone_and_among_others_when_the_kernel_is_pinned() -> None:
    pinned = Int4Linear(layer(dtype=torch.float32))
    x = torch.randn(40, 128)

    assert torch.equal(pinned(x)[7:8], pinned(x[7:8]))


def test_beyond_its_rows_the_stored_layer_computes() -> None:
    stored = layer()
    limited = Int4Linear(stored, max_rows=4)
    few, many = torch.randn(4, 128).bfloat16(), torch.randn(5, 128).bfloat16()

    assert torch.equal(limited(few), Int4Linear(stored)(few))
    assert torch.equal(limited(many), stored(many))
    assert not torch.equal(limited(many), Int4Linear(stored)(many))


@pytest.mark.parametrize(
    "other", [layer(bits=8), layer(bits=3), layer(group_size=16), layer(out_features=24), nn.Linear(8, 8)]
)
def test_what_the_kernel_cannot_take_is_left_alone(other: nn.Module) -> None:
    assert fits(layer())
    assert not fits(other)
    model = nn.Sequential(other)
    assert choose_linears(model, "int4").num_int4 == 0
    assert model[0] is other


def test_a_kernel_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = int4._converted
    monkeypatch.setattr(int4, "_converted", lambda stored: (truth(stored)[0].flip(0), truth(stored)[1]))
    model = nn.Sequential(layer())

    assert not agrees(Int4Linear(layer()))
    assert choose_linears(model, "int4").num_int4 == 0
    assert isinstance(model[0], HqqLinear)


def test_without_memory_the_kernel_is_chosen_for_the_rows_where_it_wins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packed, "_MEMORY_SHARE", 0.0)
    monkeypatch.setattr(int4, "winning_rows", lambda layer: 16)
    half, full = nn.Sequential(layer()), nn.Sequential(layer(dtype=torch.float32))

    choice, other = choose_linears(half), choose_linears(full)

    assert (choice.quantized_kernel, other.quantized_kernel) == ("int4 up to 16 rows", "dequantize")
    assert isinstance(half[0], Int4Linear)
    assert isinstance(full[0], HqqLinear), "in float32 a layer has one kernel for any number of rows"


def test_a_single_row_is_faster_by_int4_than_by_rebuilding_a_large_weight() -> None:
    large = Int4Linear(layer(1024, 1024))

    assert winning_rows(large, (1, 4)) >= 1


def test_whoever_pins_the_kernel_in_float32_is_told_what_it_costs(caplog: pytest.LogCaptureFixture) -> None:
    choose_linears(nn.Sequential(layer()), "int4")
    assert caplog.text == ""

    choice = choose_linears(nn.Sequential(layer(dtype=torch.float32)), "int4")

    assert (choice.num_int4, choice.quantized_kernel) == (1, "int4")
    assert "use bfloat16" in caplog.text
