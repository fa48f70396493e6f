"""Which kernel each linear layer computes with: measured while the model loads, or pinned by the operator.

In float32 a layer uses one kernel, chosen here once: an answer must not depend on how many rows a step happens to have.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import psutil  # type: ignore[import-untyped]
import torch
from torch import Tensor, nn

from service.errors import ConfigurationError
from service.settings import LINEAR_KERNELS
from workers.model.weights import int4
from workers.model.weights.hqq_experts import HqqExperts
from workers.model.weights.hqq_linear import HqqLinear
from workers.model.weights.int4 import Int4Linear
from workers.model.weights.panels import PanelLinear, can_use_panels
from workers.model.weights.timing import fastest

log = logging.getLogger(__name__)

AUTO, TORCH, PACKED, PANELS, INT4, DEQUANTIZE = LINEAR_KERNELS

# A decode step's rows, and a prefill's.
_MEASURED_ROWS = (16, 128)
_ROWS_HINT = 128
_MAX_MEASURED_WEIGHTS = 1 << 21
_MEASURED_BYTES = 32 << 20
_MEASURING_SECONDS = 0.2
# Share of the free memory that copies may take besides the weights that are there anyway.
_MEMORY_SHARE = 0.4

Layer: TypeAlias = nn.Linear | HqqLinear | HqqExperts


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

    kernel: of layers in full precision and of rebuilt ones, `torch`, `onednn-packed` or `panels`.
    seconds: of each of these, CPU time of one pass through all layers, a decode step and a prefill; empty where
    nothing was measured.
    num_rebuilt: quantized layers that now compute with their weight rebuilt once, in `rebuilt_bytes` more memory.
    num_int4: quantized layers that compute by an int4 kernel, for up to `int4_rows` rows (None: for any number).
    """

    kernel: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    num_rebuilt: int = 0
    rebuilt_bytes: int = 0
    num_int4: int = 0
    int4_rows: int | None = None

    @property
    def quantized_kernel(self) -> str:
        """How quantized layers compute: `rebuilt`, `int4`, `int4 up to N rows` or `dequantize`."""
        if self.num_rebuilt:
            return "rebuilt"
        if not self.num_int4:
            return DEQUANTIZE
        return INT4 if self.int4_rows is None else f"{INT4} up to {self.int4_rows} rows"


def pack(weight: Tensor) -> Tensor:
    """`weight` [out, in] in oneDNN's layout."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), _ROWS_HINT)
    return packed


def packed_linear(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """x [..., in] times a packed weight."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return y


@torch.no_grad()
def choose_linears(model: nn.Module, kernel: str = AUTO) -> KernelChoice:
    """Give a model's linear layers the kernel of that name or, for `auto`, the fastest that memory allows.

    Errors: ConfigurationError for a kernel that does not exist, or not on the model's device.
    """
    if kernel not in LINEAR_KERNELS:
        raise ConfigurationError(
            f"There is no linear kernel '{kernel}'.", hint=f"Use one of {', '.join(LINEAR_KERNELS)}."
        )
    layers = {name: module for name, module in model.named_modules() if _is_linear(module)}
    if kernel == INT4:
        if any(_is_slow_in_int4(layer) for layer in layers.values()):
            log.warning(
                "The int4 kernel is some 30 times slower in float32 on a CPU than any other: use bfloat16"
            )
        return _use_int4(model, layers, KernelChoice(TORCH), max_rows=None)
    on_cpu = all(_device(layer).type == "cpu" for layer in layers.values())
    if kernel == PACKED and not (on_cpu and _can_pack({_dtype(layer) for layer in layers.values()})):
        raise ConfigurationError(
            "The linear kernel 'onednn-packed' does not work on this device in this precision.",
            hint="Use it for float32 or bfloat16 on a CPU with oneDNN, or choose auto.",
        )
    if kernel == PANELS and not (on_cpu and all(can_use_panels(_dtype(layer)) for layer in layers.values())):
        raise ConfigurationError(
            "The linear kernel 'panels' does not work on this device in this precision, or was not built.",
            hint="Use it for float32 on a CPU, with a C compiler at install, or choose auto.",
        )
    # Elsewhere than on a CPU a rebuilt weight would take the memory that quantization was asked to save.
    if kernel == DEQUANTIZE or not on_cpu:
        return KernelChoice(TORCH)
    return _rebuild(model, layers, kernel)


def _rebuild(model: nn.Module, layers: Mapping[str, Layer], kernel: str) -> KernelChoice:
    """Let layers compute on whole weights, in the faster layout, as far as memory allows."""
    copied_bytes = _copied_bytes(model, layers)
    left: dict[str, Layer] = {}
    if sum(copied_bytes.values()) > psutil.virtual_memory().available * _MEMORY_SHARE:
        left = {name: layer for name, layer in layers.items() if copied_bytes[name]}
        layers = {name: layer for name, layer in layers.items() if name not in left}
    seconds = _measure(layers.values()) if kernel == AUTO and layers else {}
    winner = min(seconds, key=seconds.__getitem__) if seconds else TORCH if kernel == AUTO else kernel
    rebuilt = [name for name, layer in layers.items() if not isinstance(layer, nn.Linear)]
    for name, layer in layers.items():
        if isinstance(layer, HqqExperts):
            layer.rebuilt = nn.ModuleList(
                _whole(layer.dequantize(expert), None, None, winner) for expert in range(layer.num_experts)
            )
        elif winner != TORCH or isinstance(layer, HqqLinear):
            stored = layer if isinstance(layer, HqqLinear) else None
            model.set_submodule(name, _whole(layer.weight.detach(), layer.bias, stored, winner))
    choice = KernelChoice(
        winner, seconds, num_rebuilt=len(rebuilt), rebuilt_bytes=sum(copied_bytes[name] for name in rebuilt)
    )
    if kernel == AUTO and any(map(int4.fits, left.values())):
        return _use_int4(model, left, choice, _int4_rows(left.values()))
    return choice


def _whole(weight: Tensor, bias: Tensor | None, stored: HqqLinear | None, kernel: str) -> nn.Module:
    """A layer with a whole weight, which keeps the quantized one, if there is one, as its `stored`."""
    if kernel == PACKED:
        return PackedLinear(weight, bias, stored)
    if kernel == PANELS:
        return PanelLinear(weight, bias, stored)
    out_features, in_features = weight.shape
    linear = nn.Linear(in_features, out_features, bias=False, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    linear.register_parameter("bias", bias)  # type: ignore[arg-type]
    linear.add_module("stored", stored)
    return linear


def _use_int4(
    model: nn.Module, layers: Mapping[str, Layer], choice: KernelChoice, max_rows: int | None
) -> KernelChoice:
    """Let the quantized layers that can compute by an int4 kernel, if it proves right here."""
    names = [name for name, layer in layers.items() if int4.fits(layer)] if max_rows != 0 else []
    for number, name in enumerate(names):
        layer = layers[name]
        assert isinstance(layer, HqqLinear)
        replacement = Int4Linear(layer, max_rows)
        if number == 0 and not int4.agrees(replacement):
            return choice
        model.set_submodule(name, replacement)
    return replace(choice, num_int4=len(names), int4_rows=max_rows)


def _int4_rows(layers: Iterable[Layer]) -> int:
    """Up to how many rows int4 wins over rebuilding the weight on every call.

    Never in float32, where one kernel serves any number of rows.
    """
    sizes = {(layer.out_features, layer.in_features): layer for layer in layers if int4.fits(layer)}
    largest = sizes[max(sizes)]
    assert isinstance(largest, HqqLinear)
    return 0 if _is_slow_in_int4(largest) else int4.winning_rows(Int4Linear(largest))


def _is_slow_in_int4(layer: Layer) -> bool:
    """Whether the kernel multiplies number by number: thirty times slower than rebuilding the weight on every call."""
    return int4.fits(layer) and _dtype(layer) == torch.float32 and _device(layer).type == "cpu"


def _copied_bytes(model: nn.Module, layers: Mapping[str, Layer]) -> dict[str, int]:
    """Memory that a layer's new form takes besides what is there: a quantized or a tied weight stays as it is."""
    uses = Counter(id(p) for module in model.modules() for p in module._parameters.values() if p is not None)
    sizes = {}
    for name, layer in layers.items():
        stays = not isinstance(layer, nn.Linear) or uses[id(layer.weight)] > 1
        num_weights = layer.in_features * layer.out_features
        num_copies = layer.num_experts if isinstance(layer, HqqExperts) else 1
        sizes[name] = num_copies * num_weights * _dtype(layer).itemsize * stays
    return sizes


def _can_pack(dtypes: Iterable[torch.dtype]) -> bool:
    try:
        for dtype in dtypes:
            pack(torch.ones(16, 16, dtype=dtype))
    except RuntimeError:
        return False
    return True


def _measure(layers: Iterable[Layer]) -> dict[str, float]:
    """Seconds of one pass through all layers by each kernel that works here: a decode step and a prefill."""
    shapes = Counter((layer.out_features, layer.in_features, _dtype(layer)) for layer in layers)
    kernels = [TORCH]
    if _can_pack({dtype for _, _, dtype in shapes}):
        kernels.append(PACKED)
    if all(can_use_panels(dtype) for _, _, dtype in shapes):
        kernels.append(PANELS)
    budget = _MEASURING_SECONDS / (len(kernels) * len(shapes) * len(_MEASURED_ROWS))
    seconds = dict.fromkeys(kernels, 0.0)
    for (out_features, in_features, dtype), count in shapes.items():
        # Of a huge weight some rows are enough to compare.
        measured_out = min(out_features, max(1, _MAX_MEASURED_WEIGHTS // in_features))
        # As many weights as the model has of this shape: decoding finds none of them in the processor's cache.
        copies = min(count, max(1, _MEASURED_BYTES // (measured_out * in_features * dtype.itemsize)))
        for kernel in kernels:
            weights = [torch.ones(measured_out, in_features, dtype=dtype) for _ in range(copies)]
            for rows in _MEASURED_ROWS:
                x = torch.ones(rows, in_features, dtype=dtype)
                passing = _pass_of(kernel, weights, x)
                seconds[kernel] += count * out_features / measured_out / copies * fastest(passing, budget)
    return seconds


def _pass_of(kernel: str, weights: list[Tensor], x: Tensor) -> Callable[[], Tensor]:
    """One pass of `x` through layers of these weights."""
    if kernel == TORCH:
        return lambda: [nn.functional.linear(x, weight) for weight in weights][-1]
    layers = [_whole(weight, None, None, kernel) for weight in weights]
    return lambda: [layer(x) for layer in layers][-1]


def _is_linear(module: nn.Module) -> bool:
    return type(module) is nn.Linear or isinstance(module, HqqLinear | HqqExperts)


def _dtype(layer: Layer) -> torch.dtype:
    return layer.weight.dtype if isinstance(layer, nn.Linear) else layer.dtype


def _device(layer: Layer) -> torch.device:
    return layer.weight.device if isinstance(layer, nn.Linear) else layer.packed.device
