"""Activations that oneDNN computes while it multiplies, instead of reading the product once more."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.model.weights.packed import PackedLinear

# What oneDNN calls them: (name, algorithm).
_FUSABLE: dict[tuple[str, str], Callable[[Tensor], Tensor]] = {
    ("gelu", "tanh"): lambda x: functional.gelu(x, approximate="tanh"),
    ("gelu", "none"): functional.gelu,
    ("swish", ""): functional.silu,
    ("relu", ""): functional.relu,
}
# A layer and the activation that follows it, as the families name them inside one block.
_PAIRS = tuple(
    (layer, activation)
    for layer in ("fc1", "linear_fc1", "gate_proj")
    for activation in ("activation_fn", "act_fn", "act")
)
_TOLERANCE = 1e-5


class ActivatedLinear(nn.Module):
    """A packed layer with its activation: act(x Wᵀ + b)."""

    def __init__(self, linear: PackedLinear, activation: tuple[str, str]) -> None:
        super().__init__()
        self.linear = linear
        self._name, self._algorithm = activation

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self.linear._packed, self.linear.bias, self._name, [], self._algorithm
        )
        return y


@torch.no_grad()
def fuse_activations(model: nn.Module) -> int:
    """Fuse packed layers with the activations behind them, wherever the block still says the same; returns how many."""
    return sum(_fuse(block, *pair) for block in model.modules() for pair in _PAIRS)


def _fuse(block: nn.Module, layer_name: str, activation_name: str) -> bool:
    linear, activation = getattr(block, layer_name, None), getattr(block, activation_name, None)
    if not isinstance(linear, PackedLinear) or not isinstance(activation, nn.Module):
        return False
    name = _fusable(activation)
    if name is None:
        return False
    # That a block has both does not mean that one follows the other: it has to answer as before.
    probe = torch.linspace(-3, 3, 2 * linear.in_features, dtype=_dtype(linear)).view(1, 2, -1)
    try:
        before = block(probe)
        setattr(block, layer_name, ActivatedLinear(linear, name))
        setattr(block, activation_name, nn.Identity())
        same = torch.allclose(
            block(probe), before, rtol=_TOLERANCE, atol=_TOLERANCE * float(before.abs().max())
        )
    except (TypeError, ValueError, RuntimeError, AttributeError):
        same = False
    if not same:
        setattr(block, layer_name, linear)
        setattr(block, activation_name, activation)
    return same


def _fusable(activation: nn.Module) -> tuple[str, str] | None:
    """What oneDNN calls this activation, told by what it does."""
    probe = torch.linspace(-6, 6, 64)
    try:
        wanted = activation(probe)
    except (TypeError, ValueError, RuntimeError):
        return None
    return next((name for name, known in _FUSABLE.items() if torch.equal(known(probe), wanted)), None)


def _dtype(linear: PackedLinear) -> torch.dtype:
    dtype: torch.dtype = linear._packed.dtype
    return dtype
