"""Activations fused into the layers before them, only where the block still says the same."""

import pytest
import torch
from torch import Tensor, nn

from workers.model.weights.fuse import ActivatedLinear, fuse_activations
from workers.model.weights.packed import PackedLinear

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")


def packed(rows: int, columns: int) -> PackedLinear:
    return PackedLinear(torch.randn(rows, columns), torch.randn(rows))


class Block(nn.Module):
    """An MLP as vision towers have it."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.fc1, self.fc2, self.activation_fn = packed(48, 32), packed(32, 48), activation

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation_fn(self.fc1(x)))  # type: ignore[no-any-return]


class Gated(nn.Module):
    """An MLP as decoders have it."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = packed(48, 32), packed(48, 32), packed(32, 48)
        self.act_fn = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))  # type: ignore[no-any-return]


class Elsewhere(Block):
    """A block that has both, but not one behind the other."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.fc1(self.activation_fn(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("block", [Block(nn.GELU("tanh")), Block(nn.GELU()), Block(nn.ReLU()), Gated()])
@torch.inference_mode()
def test_a_fused_block_says_the_same(block: nn.Module) -> None:
    x = torch.randn(3, 5, 32)
    before = block(x)

    assert fuse_activations(block) == 1
    assert any(isinstance(module, ActivatedLinear) for module in block.modules())
    torch.testing.assert_close(block(x), before, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("block", [Elsewhere(nn.ReLU()), Block(nn.Softsign())])
@torch.inference_mode()
def test_a_block_that_would_say_something_else_stays_as_it_is(block: nn.Module) -> None:
    x = torch.randn(3, 32)
    before = block(x)

    assert fuse_activations(block) == 0
    assert torch.equal(block(x), before)
