"""CPU matrix products by oneDNN on weights packed at load, where a measurement says that they win.

In float32 a layer uses one kernel, chosen here once: an answer must not depend on how many rows a step happens to have.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn

from workers.model.hqq_linear import HqqLinear

# A decode step's rows, and a prefill's.
_MEASURED_ROWS = (16, 128)
_ROWS_HINT = 128
_MAX_MEASURED_WEIGHTS = 1 << 21
_MEASURING_SECONDS = 0.2
# Share of the free memory that copies may take besides the weights that are there anyway.
_MEMORY_SHARE = 0.4


class PackedLinear(nn.Module):
    """y = x Wᵀ + b on a weight in oneDNN's own layout.

    `stored` is the quantized layer that the weight was rebuilt from, if there is one: it stays the truth.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, stored: HqqLinear | None = None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.stored = stored
        self.bias = bias
        # Not a buffer: nothing that walks a model's tensors understands this layout.
        self._packed = pack(weight)

    @property
    def weight(self) -> Tensor:
        """For model code that looks at its layers' weights."""
        return self._packed.to_dense()

    def forward(self, x: Tensor) -> Tensor:
        return packed_linear(x, self._packed, self.bias)

    def extra_repr(self) -> str:
        return f"in={self.in_features}, out={self.out_features}"


@dataclass(frozen=True, slots=True)
class KernelChoice:
    """What was measured and decided for a model's linear layers.

    kernel: `onednn-packed` or `torch`. *_seconds: one pass through all of them, a decode step and a prefill.
    num_rebuilt: quantized layers that now compute with their weight rebuilt once, in `rebuilt_bytes` more memory.
    """

    kernel: str
    torch_seconds: float = 0.0
    packed_seconds: float = 0.0
    num_rebuilt: int = 0
    rebuilt_bytes: int = 0


def pack(weight: Tensor) -> Tensor:
    """`weight` [out, in] in oneDNN's layout."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS_HINT)
    return packed


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """x [..., in] times a packed weight."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return y


@torch.no_grad()
def choose_linears(model: nn.Module) -> KernelChoice:
    """Give a CPU model's linear layers the faster kernel, and rebuild quantized weights once if memory allows."""
    layers = {
        name: m for name, m in model.named_modules() if type(m) is nn.Linear or isinstance(m, HqqLinear)
    }
    copied_bytes = _copied_bytes(model, layers)
    if sum(copied_bytes.values()) > psutil.virtual_memory().available * _MEMORY_SHARE:
        layers = {name: layer for name, layer in layers.items() if not copied_bytes[name]}
    if not layers:
        return KernelChoice("torch")
    torch_seconds, packed_seconds = _measure(layers.values())
    packs = packed_seconds < torch_seconds
    rebuilt = [name for name, layer in layers.items() if isinstance(layer, HqqLinear)]
    for name, layer in layers.items():
        if packs:
            stored = layer if isinstance(layer, HqqLinear) else None
            model.set_submodule(name, PackedLinear(layer.weight.detach(), layer.bias, stored))
        elif isinstance(layer, HqqLinear):
            model.set_submodule(name, _plain(layer))
    return KernelChoice(
        "onednn-packed" if packs else "torch",
        torch_seconds,
        packed_seconds,
        len(rebuilt),
        sum(copied_bytes[name] for name in rebuilt),
    )


def _copied_bytes(model: nn.Module, layers: Mapping[str, nn.Linear | HqqLinear]) -> dict[str, int]:
    """Memory that a layer's new form takes besides what is there: a quantized or a tied weight stays as it is."""
    uses = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    sizes = {}
    for name, layer in layers.items():
        stays = isinstance(layer, HqqLinear) or uses[id(layer.weight)] > 1
        sizes[name] = layer.in_features * layer.out_features * _dtype(layer).itemsize * stays
    return sizes


def _plain(layer: HqqLinear) -> nn.Linear:
    """An ordinary layer with the rebuilt weight, which keeps the quantized one as its `stored`."""
    linear = nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
    linear.weight = nn.Parameter(layer.dequantize(), requires_grad=False)
    linear.register_parameter("bias", layer.bias)
    linear.add_module("stored", layer)
    return linear


def _measure(layers: Iterable[nn.Linear | HqqLinear]) -> tuple[float, float]:
    """Seconds of one pass through all layers: torch's kernel, packed. Infinite where packing is not supported."""
    shapes = Counter((layer.out_features, layer.in_features, _dtype(layer)) for layer in layers)
    budget = _MEASURING_SECONDS / (2 * len(shapes) * len(_MEASURED_ROWS))
    torch_seconds = packed_seconds = 0.0
    for (out_features, in_features, dtype), count in shapes.items():
        # Of a huge weight some rows are enough to compare the two.
        measured_out = min(out_features, max(1, _MAX_MEASURED_WEIGHTS // in_features))
        weight = torch.randn(measured_out, in_features).to(dtype)
        try:
            packed = pack(weight)
        except RuntimeError:
            return 0.0, float("inf")
        for rows in _MEASURED_ROWS:
            x = torch.randn(rows, in_features).to(dtype)
            scale = count * out_features / measured_out
            torch_seconds += scale * _fastest(lambda: nn.functional.linear(x, weight), budget)  # noqa: B023
            packed_seconds += scale * _fastest(lambda: packed_linear(x, packed, None), budget)  # noqa: B023
    return torch_seconds, packed_seconds


def _dtype(layer: nn.Linear | HqqLinear) -> torch.dtype:
    return layer.dtype if isinstance(layer, HqqLinear) else layer.weight.dtype


def _fastest(call: Callable[[], Tensor], budget: float) -> float:
    """The best of several calls: noise only ever adds."""
    call()
    best, deadline = float("inf"), time.perf_counter() + budget
    while True:
        started = time.perf_counter()
        call()
        ended = time.perf_counter()
        best = min(best, ended - started)
        if ended >= deadline:
            return best
