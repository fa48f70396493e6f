"""Linear layers on panels: the numbers of torch, and of every row the same in any company."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from workers.model.kernels import library
from workers.model.kernels.library import load_kernels
from workers.model.weights.panels import PanelLinear

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="needs a C compiler at install")


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def pair(inputs: int, outputs: int, *, bias: bool = True) -> tuple[PanelLinear, nn.Linear]:
    torch.manual_seed(inputs + outputs)
    linear = nn.Linear(inputs, outputs, bias=bias)
    return PanelLinear(linear.weight, linear.bias), linear


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 5, 6, 7, 12, 100])
@pytest.mark.parametrize("outputs", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("bias", [True, False])
def test_it_gives_the_numbers_of_torch(rows: int, outputs: int, bias: bool) -> None:
    layer, linear = pair(96, outputs, bias=bias)
    x = torch.randn(rows, 96)

    torch.testing.assert_close(layer(x), linear(x))


@pytest.mark.parametrize("shape", [(40,), (1, 40), (2, 3, 40), (2, 1, 2, 40)])
def test_it_takes_any_shape_and_views(shape: tuple[int, ...]) -> None:
    layer, linear = pair(40, 70)
    x = torch.randn(*shape[:-1], 2 * shape[-1])[..., ::2]

    torch.testing.assert_close(layer(x), linear(x))


def test_more_rows_than_the_cache_holds() -> None:
    layer, linear = pair(2048, 80)
    x = torch.randn(700, 2048)

    torch.testing.assert_close(layer(x), linear(x), rtol=1e-4, atol=1e-4)


def test_a_row_says_the_same_in_any_company_to_the_last_bit() -> None:
    layer, _ = pair(333, 130)
    x = torch.randn(700, 333)
    together = layer(x)

    for first, last in ((0, 1), (3, 10), (5, 21), (50, 700), (699, 700)):
        assert torch.equal(layer(x[first:last]), together[first:last])


def test_threads_divide_the_work_without_changing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, _ = pair(128, 500)
    x = torch.randn(20, 128)
    alone = layer(x)
    monkeypatch.setattr(library, "_WORTH_A_THREAD", 1000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)

    assert torch.equal(layer(x), alone)


def test_a_number_that_is_none_stays_in_its_row() -> None:
    layer, _ = pair(64, 64)
    x = torch.randn(8, 64)
    x[3, 5] = torch.nan

    assert layer(x).isfinite().all(dim=1).tolist() == [row != 3 for row in range(8)]


def test_weight_and_bias_are_what_they_were() -> None:
    layer, linear = pair(70, 90)

    assert torch.equal(layer.weight, linear.weight)
    assert layer.bias is not None
    assert torch.equal(layer.bias, linear.bias)
    assert pair(70, 90, bias=False)[0].bias is None


@pytest.mark.parametrize("x", [torch.ones(2, 63), torch.ones(2, 64, dtype=torch.float64)])
def test_what_it_cannot_read_is_refused(x: torch.Tensor) -> None:
    layer, _ = pair(64, 64)

    with pytest.raises(ValueError, match="64 inputs in float32"):
        layer(x)
