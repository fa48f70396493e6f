"""Mixtures of experts whose weights are stored by HQQ, each expert's by itself."""

from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from workers.model.weights.hqq_weight import Scheme, Stored, dequantize, quantize

EXPERT_WEIGHTS = ("gate_up_proj", "down_proj")
IMPLEMENTATION = "sluice_hqq"
# A name that no conversion of a family's checkpoints matches.
_PREFIX = "quantized_"
_LLAMA4 = "Llama4TextExperts"


class HqqExperts(nn.Module):
    """One projection of all experts: y = x Wₑᵀ, with Wₑ rebuilt from its groups on every call.

    packed: [experts, *Scheme.packed_shape]. scale, zero: [experts, groups, 1].
    rebuilt: a layer for each expert, where their weights were rebuilt once.
    """

    packed: Tensor
    scale: Tensor
    zero: Tensor

    def __init__(
        self, num_experts: int, out_features: int, in_features: int, scheme: Scheme, dtype: torch.dtype
    ) -> None:
        """As yet without numbers."""
        super().__init__()
        self.num_experts, self.out_features, self.in_features = num_experts, out_features, in_features
        self.scheme, self.dtype = scheme, dtype
        self.rebuilt: nn.ModuleList | None = None
        num_elements = out_features * in_features
        number = scheme.arithmetic_dtype(dtype)
        shape, groups = scheme.packed_shape(num_elements), scheme.group_shape(num_elements)
        with torch.device("meta"):
            self.register_buffer("packed", torch.empty((num_experts, *shape), dtype=scheme.integer))
            self.register_buffer("scale", torch.empty((num_experts, *groups), dtype=number))
            self.register_buffer("zero", torch.empty((num_experts, *groups), dtype=number))

    def quantize_(self, weights: Tensor) -> "HqqExperts":
        """Take `weights` [experts, out, in], on their device, as this projection's own."""
        stored = [quantize(weight, self.scheme, self.dtype) for weight in weights]
        self.packed = torch.stack([one.packed for one in stored])
        self.scale = torch.stack([one.scale for one in stored])
        self.zero = torch.stack([one.zero for one in stored])
        return self

    def dequantize(self, expert: int) -> Tensor:
        """One expert's weight [out, in]."""
        stored = Stored(self.packed[expert], self.scale[expert], self.zero[expert])
        return dequantize(stored, self.scheme, (self.out_features, self.in_features), self.dtype)

    def forward(self, x: Tensor, expert: int) -> Tensor:
        if self.rebuilt is not None:
            y: Tensor = self.rebuilt[expert](x)
            return y
        return nn.functional.linear(x, self.dequantize(expert))

    def extra_repr(self) -> str:
        return f"{self.num_experts} experts, in={self.in_features}, out={self.out_features}, {self.scheme}"


def expert_weights(module: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of a block of experts that we can quantize, by name; empty for any other module."""
    if not (_is_llama4(module) or _is_gated(module)):
        return {}
    found = {name: module._parameters.get(name) for name in EXPERT_WEIGHTS}
    return {name: weight for name, weight in found.items() if weight is not None and weight.dim() == 3}


def experts_like(module: nn.Module, weight: Tensor, scheme: Scheme, dtype: torch.dtype) -> HqqExperts:
    """The quantized form of one weight of `module`, as yet without numbers."""
    num_experts, out_features, in_features = rows_first(module, weight).shape
    return HqqExperts(num_experts, out_features, in_features, scheme, dtype)


def rows_first(module: nn.Module, weight: Tensor) -> Tensor:
    """[experts, out, in]: Llama 4 keeps its experts' weights the other way round."""
    return weight.transpose(1, 2) if _is_llama4(module) else weight


def replace(module: nn.Module, name: str, experts: HqqExperts) -> None:
    """Put the quantized experts in the place of the parameter of that name."""
    del module._parameters[name]
    module.add_module(_PREFIX + name, experts)
    # Families initialize their experts by name, some of them from the block above; this says that it is done.
    done = torch.empty(0)
    done._is_hf_initialized = True  # type: ignore[attr-defined]
    setattr(module, name, done)


def use_quantized_experts(model: PreTrainedModel) -> None:
    """Let all blocks with quantized experts compute with them."""
    blocks = [
        module
        for module in model.modules()
        if any(_PREFIX + name in module._modules for name in EXPERT_WEIGHTS)
    ]
    for block in blocks:
        if _is_llama4(block):
            block.forward = MethodType(_llama4_forward, block)
    if not all(map(_is_llama4, blocks)):
        model.set_experts_implementation(IMPLEMENTATION)


def unquantized_blocks(model: nn.Module) -> Iterator[nn.Module]:
    """Blocks of experts that stay in full precision."""
    for module in model.modules():
        weight = module._parameters.get("down_proj")
        if type(module).__name__.endswith("Experts") and weight is not None:
            yield module


def _is_llama4(module: nn.Module) -> bool:
    return type(module).__name__ == _LLAMA4


def _is_gated(module: nn.Module) -> bool:
    """Whether a block speaks transformers' interface for experts, in the form that our families have."""
    return (
        getattr(module, "has_gate", False)
        and not module.has_bias
        and not module.is_transposed
        and not module.has_post_expert_norm
    )


def _project(block: Any, name: str, x: Tensor, expert: int) -> Tensor:
    """By a quantized projection or, where a rule leaves one as it is, a plain one."""
    quantized = block._modules.get(_PREFIX + name)
    if quantized is not None:
        y: Tensor = quantized(x, expert)
        return y
    return nn.functional.linear(x, rows_first(block, getattr(block, name))[expert])


def _experts_forward(self: Any, hidden_states: Tensor, top_k_index: Tensor, top_k_weights: Tensor) -> Tensor:
    """hidden_states: [tokens, dim]. top_k_index, top_k_weights: [tokens, k], each token's experts and their shares."""
    result = torch.zeros_like(hidden_states)
    for expert in torch.unique(top_k_index).tolist():
        # One past the last expert marks a choice that another device computes.
        if expert >= self.num_experts:
            continue
        token, place = torch.where(top_k_index == expert)
        inner = self._apply_gate(_project(self, "gate_up_proj", hidden_states[token], expert))
        outer = _project(self, "down_proj", inner, expert) * top_k_weights[token, place, None]
        result.index_add_(0, token, outer.to(result.dtype))
    return result


def _llama4_forward(self: Any, hidden_states: Tensor) -> Tensor:
    """hidden_states: [experts * tokens, dim], each expert's copy of all tokens; zeros where it was not chosen."""
    copies = hidden_states.view(self.num_experts, -1, self.hidden_size)
    result = torch.zeros_like(copies)
    chosen = copies.ne(0).any(-1)
    for expert in chosen.any(-1).nonzero().flatten().tolist():
        token = chosen[expert].nonzero().flatten()
        gate, up = _project(self, "gate_up_proj", copies[expert, token], expert).chunk(2, dim=-1)
        result[expert, token] = _project(self, "down_proj", up * self.act_fn(gate), expert)
    return result.view(-1, self.hidden_size)


ALL_EXPERTS_FUNCTIONS.register(IMPLEMENTATION, _experts_forward)
