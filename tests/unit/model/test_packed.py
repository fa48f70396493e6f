"""Linear kernels on the CPU: same numbers, whatever the rows."""

import time

import pytest
import torch
from torch import nn

from service.errors import ConfigurationError
from workers.model.weights import packed
from workers.model.weights.hqq_linear import HqqLinear
from workers.model.weights.hqq_weight import Scheme
from workers.model.weights.packed import KernelChoice, PackedLinear, choose_linears
from workers.model.weights.panels import PanelLinear

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


class Tied(nn.Module):
    """A head that shares its weight with an embedding, and a layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 64)
        self.layer = nn.Linear(64, 64)
        self.head = nn.Linear(64, 50, bias=False)
        self.head.weight = self.embedding.weight
        self.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(x))  # type: ignore[no-any-return]


@pytest.fixture
def quantized_model() -> nn.Sequential:
    torch.manual_seed(0)
    linear = nn.Linear(64, 48).requires_grad_(False)
    return nn.Sequential(HqqLinear(linear, Scheme(8, 64), torch.float32).quantize_(linear.weight), nn.ReLU())


def measure(winner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"torch": 2.0, "onednn-packed": 2.0, "panels": 2.0} | {winner: 1.0}
    monkeypatch.setattr(packed, "_measure", lambda layers: seconds)


@pytest.mark.parametrize("shape", [(192,), (1, 192), (7, 192), (2, 3, 192), (0, 192)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_gives_the_same_numbers_for_any_shape(shape: tuple[int, ...], bias: bool) -> None:
    linear = nn.Linear(192, 80, bias=bias).requires_grad_(False)
    layer = PackedLinear(linear.weight, linear.bias)
    x = torch.randn(*shape)

    torch.testing.assert_close(layer(x), linear(x))
    assert torch.equal(layer.weight, linear.weight)


def test_a_packed_layer_takes_views_that_are_not_contiguous() -> None:
    linear = nn.Linear(64, 32).requires_grad_(False)
    x = torch.randn(64, 5).t()

    torch.testing.assert_close(PackedLinear(linear.weight, linear.bias)(x), linear(x))


KINDS = {"torch": nn.Linear, "onednn-packed": PackedLinear, "panels": PanelLinear}


@pytest.mark.parametrize("winner", KINDS)
def test_the_winner_of_the_measurement_is_used(winner: str, monkeypatch: pytest.MonkeyPatch) -> None:
    measure(winner, monkeypatch)
    model = Tied()
    x = torch.randn(3, 64)
    before = model(x)

    choice = choose_linears(model)

    assert (choice.kernel, choice.seconds[winner]) == (winner, 1.0)
    assert type(model.layer) is KINDS[winner]
    torch.testing.assert_close(model(x), before)


@pytest.mark.parametrize("winner", KINDS)
def test_quantized_weights_are_rebuilt_once_and_stay_what_they_were(
    winner: str, quantized_model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(winner, monkeypatch)
    x = torch.randn(3, 64)
    before = quantized_model(x)

    choice = choose_linears(quantized_model)

    assert choice.num_rebuilt == 1
    assert choice.rebuilt_bytes == 64 * 48 * 4
    assert type(quantized_model[0]) is KINDS[winner]
    assert isinstance(quantized_model[0].stored, HqqLinear)
    torch.testing.assert_close(quantized_model(x), before)


def test_without_memory_quantized_and_tied_weights_keep_their_form(
    quantized_model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure("onednn-packed", monkeypatch)
    monkeypatch.setattr(packed, "_MEMORY_SHARE", 0.0)
    tied = Tied()

    choose_linears(tied)
    choice = choose_linears(quantized_model)

    assert (type(tied.layer), type(tied.head)) == (PackedLinear, nn.Linear)
    assert choice.num_rebuilt == 0
    assert isinstance(quantized_model[0], HqqLinear)


def test_measuring_takes_its_time_and_no_more() -> None:
    choice = choose_linears(Tied())

    assert set(choice.seconds) == set(KINDS)
    assert all(0 < seconds < 1 for seconds in choice.seconds.values())


def test_measuring_counts_this_threads_work_and_not_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that is busy with others the measurement lasts longer and says the same."""
    call = packed.nn.functional.linear

    def interrupted(*arguments: torch.Tensor) -> torch.Tensor:
        time.sleep(0.001)
        return call(*arguments)

    monkeypatch.setattr(packed.nn.functional, "linear", interrupted)

    assert choose_linears(Tied()).seconds["torch"] < 0.001


@pytest.mark.parametrize(
    ("kernel", "kind", "stored"),
    [(name, kind, kind) for name, kind in KINDS.items()],
)
def test_a_pinned_kernel_is_used_and_nothing_is_measured(
    kernel: str, kind: type, stored: type, quantized_model: nn.Sequential, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "_measure", lambda layers: pytest.fail("measured"))
    tied = Tied()

    choice = choose_linears(tied, kernel)
    choose_linears(quantized_model, kernel)

    assert choice == KernelChoice(kernel)
    assert (type(tied.layer), type(quantized_model[0])) == (kind, stored)


def test_quantized_weights_may_be_rebuilt_on_every_call(quantized_model: nn.Sequential) -> None:
    choice = choose_linears(quantized_model, "dequantize")

    assert isinstance(quantized_model[0], HqqLinear)
    assert (choice.kernel, choice.quantized_kernel, choice.num_rebuilt) == ("torch", "dequantize", 0)


def test_a_kernel_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no linear kernel 'fast'"):
        choose_linears(Tied(), "fast")


def test_packing_is_refused_where_it_does_not_work() -> None:
    with pytest.raises(ConfigurationError, match="does not work on this device in this precision"):
        choose_linears(Tied().double(), "onednn-packed")
