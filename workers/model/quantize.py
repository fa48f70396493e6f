"""HQQ while a checkpoint loads: each weight is quantized as it arrives and its full copy is freed.

transformers' own HqqConfig cannot load a model in 5.23, so this registers a quantizer of ours beside it.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name
from transformers.utils.quantization_config import QuantizationConfigMixin

from workers.model.hqq_linear import HqqLinear, Scheme, fitting_scheme

log = logging.getLogger(__name__)

METHOD = "sluice_hqq"
# What little they weigh is not worth what their errors cost: towers, what joins them, heads, embeddings, routers.
DEFAULT_SKIP = (
    r"(^|\.)lm_head$",
    r"embed",
    r"vision|visual|image|audio|speech",
    r"projector|connector|merger",
    r"router|gate$",
)


@register_quantization_config(METHOD)
class HqqOptions(QuantizationConfigMixin):
    """bits and group size of every linear layer; `skip` and `rules` are regular expressions on layer names.

    rules: the first that matches decides: other bits, or None to leave the layer as it is.
    """

    def __init__(
        self,
        bits: int = 8,
        group_size: int = 64,
        skip: tuple[str, ...] | list[str] = DEFAULT_SKIP,
        rules: Mapping[str, int | None] | None = None,
        quant_method: str = METHOD,
    ) -> None:
        self.quant_method = quant_method  # type: ignore[assignment]
        self.bits, self.group_size = bits, group_size
        self.skip = list(skip)
        self.rules = dict(rules or {})

    def scheme(self, name: str, module: nn.Module) -> Scheme | None:
        """How the layer of that name is stored, or None if it keeps its weight."""
        if type(module) is not nn.Linear:
            return None
        bits = self._bits(name)
        if bits is None:
            return None
        return fitting_scheme(bits, self.group_size, module.out_features, module.in_features)

    def replacement(self, name: str, module: nn.Module, dtype: torch.dtype) -> HqqLinear | None:
        """The quantized layer that takes the place of `module`, as yet without numbers, or None."""
        scheme = self.scheme(name, module)
        return HqqLinear(module, scheme, dtype) if scheme and isinstance(module, nn.Linear) else None

    def _bits(self, name: str) -> int | None:
        for pattern, bits in self.rules.items():
            if re.search(pattern, name):
                return bits
        return None if any(re.search(pattern, name) for pattern in self.skip) else self.bits


class QuantizeLinear(ConversionOps):
    """The last step of loading one weight: replaces its layer by a quantized one."""

    def __init__(self, options: HqqOptions, dtype: torch.dtype | None) -> None:
        self._options, self._dtype = options, dtype

    @torch.no_grad()
    def convert(  # type: ignore[override]
        self,
        input_dict: dict[str, Tensor | list[Tensor]],
        *,
        model: PreTrainedModel,
        full_layer_name: str,
        missing_keys: set[str] | None = None,
        **_: Any,
    ) -> dict[str, Tensor]:
        value = next(iter(input_dict.values()))
        weight = value[0] if isinstance(value, list) else value
        name = full_layer_name.removesuffix(".weight")
        layer = self._options.replacement(name, model.get_submodule(name), self._dtype or weight.dtype)
        if layer is None:
            raise RuntimeError(f"{name} was announced for quantization but cannot be quantized")
        layer.quantize_(weight)
        # Otherwise the loader initializes the layer anew, as one that no checkpoint tensor was meant for.
        layer._is_hf_initialized = True  # type: ignore[assignment]
        model.set_submodule(name, layer)
        if missing_keys is not None:
            missing_keys.discard(full_layer_name)
        return {}


@register_quantizer(METHOD)
class HqqInPlace(HfQuantizer):
    """Called by `from_pretrained` for every weight."""

    quantization_config: HqqOptions
    _dtype: torch.dtype | None = None

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        self._dtype = dtype
        return dtype

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **_: Any) -> bool:
        module, parameter = get_module_from_name(model, param_name)
        name = param_name.rpartition(".")[0]
        return parameter == "weight" and self.quantization_config.scheme(name, module) is not None

    def get_quantize_ops(self) -> QuantizeLinear:
        return QuantizeLinear(self.quantization_config, self._dtype)

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        """A checkpoint saved by us brings quantized layers; the skeleton gets their shapes."""
        if not self.pre_quantized:
            return
        for name, module in list(model.named_modules()):
            layer = self.quantization_config.replacement(name, module, self._dtype or torch.float32)
            if layer is not None:
                model.set_submodule(name, layer)

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return False


def describe(model: PreTrainedModel) -> dict[str, Any] | None:
    """What was quantized, for logs and provenance; None for a model in full precision."""
    layers = [module for module in model.modules() if isinstance(module, HqqLinear)]
    if not layers:
        return None
    bits = sorted({layer.scheme.bits for layer in layers})
    stored = sum(buffer.numel() * buffer.element_size() for layer in layers for buffer in layer.buffers())
    return {
        "method": "hqq",
        "bits": bits[0] if len(bits) == 1 else bits,
        "group_size": max(layer.scheme.group_size for layer in layers),
        "num_layers": len(layers),
        "num_weights": sum(layer.in_features * layer.out_features for layer in layers),
        "num_bytes": stored,
    }


def num_unquantized_experts(model: PreTrainedModel) -> int:
    """Fused expert blocks, which stay in full precision."""
    return sum(
        type(module).__name__.endswith("Experts")
        and isinstance(getattr(module, "down_proj", None), nn.Parameter)
        for module in model.modules()
    )
