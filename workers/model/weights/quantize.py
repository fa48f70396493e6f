"""HQQ while a checkpoint loads: each weight is quantized as it arrives and its full copy is freed.

transformers' own HqqConfig cannot load a model in 5.23, so this registers a quantizer of ours beside it.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.quantizers.quantizers_utils import get_module_from_name
from transformers.utils.quantization_config import QuantizationConfigMixin

from workers.model.weights import hqq_experts
from workers.model.weights.hqq_experts import HqqExperts
from workers.model.weights.hqq_linear import HqqLinear
from workers.model.weights.hqq_weight import Scheme, fitting_scheme

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


_EXPERT = re.compile(r"(^|\.)experts(\.|$)")


@register_quantization_config(METHOD)
class HqqOptions(QuantizationConfigMixin):
    """bits and group size of every linear layer; `skip` and `rules` are regular expressions on layer names.

    rules: the first that matches decides: other bits, or None to leave the layer as it is. They are kept as pairs,
    since a configuration that is saved does not keep the order of names.
    organization: `moqe` quantizes experts alone, and what a rule names.
    """

    def __init__(
        self,
        bits: int = 8,
        group_size: int = 64,
        skip: tuple[str, ...] | list[str] = DEFAULT_SKIP,
        rules: Mapping[str, int | None] | Iterable[tuple[str, int | None]] = (),
        organization: str = "default",
        quant_method: str = METHOD,
    ) -> None:
        self.quant_method = quant_method  # type: ignore[assignment]
        self.bits, self.group_size = bits, group_size
        self.skip = list(skip)
        pairs = rules.items() if isinstance(rules, Mapping) else rules
        self.rules: list[tuple[str, int | None]] = [(pattern, bits) for pattern, bits in pairs]
        self.organization = organization

    def linear(self, name: str, module: nn.Module, dtype: torch.dtype) -> HqqLinear | None:
        """The quantized layer that takes the place of `module`, as yet without numbers; None if it stays."""
        if type(module) is not nn.Linear:
            return None
        scheme = self._scheme(name, module.out_features, module.in_features)
        return HqqLinear(module, scheme, dtype) if scheme else None

    def experts(self, name: str, module: nn.Module, dtype: torch.dtype) -> HqqExperts | None:
        """The quantized form of the experts' weight of that full name, as yet without numbers; None if it stays."""
        weight = hqq_experts.expert_weights(module).get(name.rpartition(".")[2])
        if weight is None:
            return None
        scheme = self._scheme(name, *hqq_experts.rows_first(module, weight).shape[1:])
        return hqq_experts.experts_like(module, weight, scheme, dtype) if scheme else None

    def _scheme(self, name: str, out_features: int, in_features: int) -> Scheme | None:
        bits = self._bits(name)
        return fitting_scheme(bits, self.group_size, out_features, in_features) if bits else None

    def _bits(self, name: str) -> int | None:
        for pattern, bits in self.rules:
            if re.search(pattern, name):
                return bits
        left_out = any(re.search(pattern, name) for pattern in self.skip)
        if left_out or (self.organization == "moqe" and not _EXPERT.search(name)):
            return None
        return self.bits


class QuantizeWeight(ConversionOps):
    """The last step of loading: replaces the layers of weights that have arrived by quantized ones."""

    def __init__(self, quantizer: "HqqInPlace") -> None:
        self._quantizer = quantizer

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
        """Returns the weights that stay as they are: one stored tensor may be several layers'."""
        left = {}
        for key, value in input_dict.items():
            name = full_layer_name if len(input_dict) == 1 else key
            weight = value[0] if isinstance(value, list) else value
            if self._quantizer.replace(model, name, weight):
                if missing_keys is not None:
                    missing_keys.discard(name)
            else:
                left[name] = weight
        return left


@register_quantizer(METHOD)
class HqqInPlace(HfQuantizer):
    """Called by `from_pretrained` for every weight."""

    quantization_config: HqqOptions
    _dtype: torch.dtype | None = None

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        self._dtype = dtype
        return dtype

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **_: Any) -> bool:
        return self._form(model, param_name) is not None

    def get_quantize_ops(self) -> QuantizeWeight:
        return QuantizeWeight(self)

    def replace(self, model: PreTrainedModel, param_name: str, weight: Tensor | None = None) -> bool:
        """Put a quantized layer in the place of the parameter's, with its numbers if `weight` is given."""
        form = self._form(model, param_name)
        if form is None:
            return False
        owner = param_name.rpartition(".")[0]
        module = model.get_submodule(owner)
        if weight is not None:
            form.quantize_(hqq_experts.rows_first(module, weight) if isinstance(form, HqqExperts) else weight)
            # Otherwise the loader initializes the layer anew, as one that no checkpoint tensor was meant for.
            module._is_hf_initialized = form._is_hf_initialized = True  # type: ignore[assignment]
        if isinstance(form, HqqExperts):
            hqq_experts.replace(module, param_name.rpartition(".")[2], form)
        else:
            model.set_submodule(owner, form)
        return True

    def _form(self, model: PreTrainedModel, param_name: str) -> HqqLinear | HqqExperts | None:
        tied = model.all_tied_weights_keys
        if param_name in tied or param_name in tied.values():
            return None
        module, parameter = get_module_from_name(model, param_name)
        dtype = self._dtype or torch.float32
        if parameter == "weight":
            return self.quantization_config.linear(param_name.rpartition(".")[0], module, dtype)
        return self.quantization_config.experts(param_name, module, dtype)

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **_: Any) -> None:
        """A checkpoint saved by us brings quantized layers; the skeleton gets their shapes."""
        names = [name for name, _ in model.named_parameters()]
        for pattern, _bits in self.quantization_config.rules:
            if not any(re.search(pattern, name.removesuffix(".weight")) for name in names):
                log.warning("The quantization rule '%s' matches no layer", pattern)
        if self.pre_quantized:
            for name in names:
                self.replace(model, name)

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **_: Any) -> PreTrainedModel:
        hqq_experts.use_quantized_experts(model)
        return model

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return False


def describe(model: PreTrainedModel) -> dict[str, Any] | None:
    """What was quantized, for logs and provenance; None for a model in full precision.

    num_layers: linear layers and, of every block of experts, two projections.
    """
    layers = [module for module in model.modules() if isinstance(module, HqqLinear | HqqExperts)]
    if not layers:
        return None
    bits = sorted({layer.scheme.bits for layer in layers})
    stored = [buffer for layer in layers for buffer in (layer.packed, layer.scale, layer.zero)]
    return {
        "method": "hqq",
        "bits": bits[0] if len(bits) == 1 else bits,
        "group_size": max(layer.scheme.group_size for layer in layers),
        "num_layers": len(layers),
        "num_expert_projections": sum(isinstance(layer, HqqExperts) for layer in layers),
        "num_weights": sum(_num_weights(layer) for layer in layers),
        "num_bytes": sum(buffer.numel() * buffer.element_size() for buffer in stored),
    }


def num_unquantized_experts(model: PreTrainedModel) -> int:
    """Fused expert blocks, which stay in full precision."""
    return sum(1 for _ in hqq_experts.unquantized_blocks(model))


def _num_weights(layer: HqqLinear | HqqExperts) -> int:
    experts = layer.num_experts if isinstance(layer, HqqExperts) else 1
    return experts * layer.in_features * layer.out_features
