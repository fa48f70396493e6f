"""Activations fused into the layers before them, only where the block still says the same."""

from typing import TypeAlias

import pytest
import torch
from torch import Tensor, nn

from workers.model.weights.fuse import fuse_activations
from workers.model.weights.packed import PackedLinear
from workers.model.weights.panels import PanelLinear

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


Layer: TypeAlias = type[PackedLinear] | type[PanelLinear]


def layer(kind: Layer, rows: int, columns: int) -> nn.Module:
    return kind(torch.randn(rows, columns), torch.randn(rows))


class Block(nn.Module):
    """An MLP as vision towers have it."""

    def __init__(self, activation: nn.Module, kind: Layer = PackedLinear) -> None:
        super().__init__()
        self.fc1, self.fc2, self.activation_fn = layer(kind, 70, 32), layer(kind, 32, 70), activation

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation_fn(self.fc1(x)))  # type: ignore[no-any-return]


class Gated(nn.Module):
    """An MLP as decoders have it."""

    def __init__(self, kind: Layer) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = layer(kind, 70, 32), layer(kind, 70, 32)
        self.down_proj = layer(kind, 32, 70)
        self.act_fn = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Elsewhere(Block):
    """A block that has both, but not one behind the other."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(self.activation_fn(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [PackedLinear, PanelLinear])
@pytest.mark.parametrize("activation", [nn.GELU("tanh"), nn.ReLU(), nn.SiLU(), None], ids=str)
@torch.inference_mode()
def test_a_fused_block_says_the_same(activation: nn.Module | None, kind: Layer) -> None:
    block = Gated(kind) if activation is None else Block(activation, kind)
    x = torch.randn(3, 5, 32) * 4
    before = block(x)

    assert fuse_activations(block) == 1
    assert isinstance(block.act_fn if activation is None else block.activation_fn, nn.Identity)
    torch.testing.assert_close(block(x), before, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("block", [Elsewhere(nn.ReLU()), Block(nn.Softsign()), Block(nn.GELU(), PanelLinear)])
@torch.inference_mode()
def test_a_block_that_would_say_something_else_stays_as_it_is(block: nn.Module) -> None:
    x = torch.randn(3, 32)
    before = block(x)

    assert fuse_activations(block) == 0
    assert torch.equal(block(x), before)
