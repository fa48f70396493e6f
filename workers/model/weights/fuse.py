"""Activations that a kernel computes while it multiplies, instead of reading the product once more."""

from collections.abc import Callable
from copy import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.model.weights.packed import PackedLinear
from workers.model.weights.panels import ACTIVATIONS, PanelLinear

_KNOWN: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "gelu": functional.gelu,
    "silu": functional.silu,
    "relu": functional.relu,
}
# What oneDNN calls them: name and algorithm.
_ONEDNN_NAMES = {
    "gelu_tanh": ("gelu", "tanh"),
    "gelu": ("gelu", "none"),
    "silu": ("swish", ""),
    "relu": ("relu", ""),
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

    def __init__(self, linear: PackedLinear, activation: str) -> None:
        super().__init__()
        self.linear = linear
        self._name, self._algorithm = _ONEDNN_NAMES[activation]

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
    if not isinstance(linear, PackedLinear | PanelLinear) or not isinstance(activation, nn.Module):
        return False
    fused = _fused(linear, activation)
    if fused is None:
        return False
    # That a block has both does not mean that one follows the other: it has to answer as before.
    probe = torch.linspace(-3, 3, 2 * linear.in_features, dtype=_dtype(linear)).view(1, 2, -1)
    try:
        before = block(probe)
        setattr(block, layer_name, fused)
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


def _fused(linear: PackedLinear | PanelLinear, activation: nn.Module) -> nn.Module | None:
    """The layer with this activation, or None where its kernel does not know it."""
    name = _name_of(activation)
    if name is None:
        return None
    if isinstance(linear, PackedLinear):
        return ActivatedLinear(linear, name)
    if name not in ACTIVATIONS:
        return None
    fused = copy(linear)
    fused.activation = ACTIVATIONS.index(name)
    return fused


def _name_of(activation: nn.Module) -> str | None:
    """What this activation is called, told by what it does."""
    probe = torch.linspace(-6, 6, 64)
    try:
        wanted = activation(probe)
    except (TypeError, ValueError, RuntimeError):
        return None
    return next((name for name, known in _KNOWN.items() if torch.equal(known(probe), wanted)), None)


def _dtype(linear: PackedLinear | PanelLinear) -> torch.dtype:
    dtype: torch.dtype = linear._packed.dtype if isinstance(linear, PackedLinear) else torch.float32
    return dtype
