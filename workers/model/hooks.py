"""The one place that leans on unpublished parts of transformers; the exactness suite tells when they change."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, get_layer_types_and_kwargs

from service.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What one decoder layer keeps between tokens. window: ring size of sliding and chunked attention."""

    kind: str
    window: int | None = None
    num_states: int = 1


@dataclass(frozen=True, slots=True)
class Prefilled:
    """A prefilled group. logits: [rows, vocabulary], of each prompt's last token.

    next_positions: [..., rows, 1], the position ids of each row's next token (leading axes are the family's own).
    cross_mask: [rows, images, tiles], the image tiles that further tokens may look at, where a family has them.
    """

    logits: torch.Tensor
    cache: DynamicCache
    next_positions: torch.Tensor
    cross_mask: torch.Tensor | None


def text_config(model: PreTrainedModel) -> Any:
    """The decoder's configuration."""
    return model.config.get_text_config(decoder=True)


def layer_specs(model: PreTrainedModel) -> list[LayerSpec]:
    """What every decoder layer keeps, in order."""
    config = text_config(model)
    cross = set(getattr(config, "cross_attention_layers", None) or ())
    kinds, options = get_layer_types_and_kwargs(config)
    return [
        LayerSpec(
            kind="cross_attention" if index in cross else kind,
            window=option.get("sliding_window"),
            num_states=option.get("number_of_states", 1),
        )
        for index, (kind, option) in enumerate(zip(kinds, options, strict=True))
    ]


def masks_by_layer_type(model: PreTrainedModel) -> frozenset[str]:
    """The layer types for which this decoder wants one mask each; empty if it wants a single mask for all layers."""
    kinds = frozenset(getattr(text_config(model), "layer_types", None) or ())
    return kinds if kinds - {"full_attention"} else frozenset()


def require_dense_attention(model: PreTrainedModel) -> None:
    """Refuse attention kernels that cannot read a mask over slots."""
    kernel = getattr(text_config(model), "_attn_implementation", None)
    if kernel not in (None, "sdpa", "eager"):
        raise ConfigurationError(
            f"The slot engine cannot use the attention implementation '{kernel}'.",
            hint="Load the model with attn_implementation='sdpa'.",
        )


def prefill(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> Prefilled:
    """Run prompts through the model's own generate path.

    inputs: what `generate` takes, left-padded to one length, with its `attention_mask` [rows, tokens].
    """
    ids = inputs["input_ids"]
    kwargs: dict[str, Any] = {name: tensor for name, tensor in inputs.items() if name != "input_ids"}
    kwargs["use_cache"] = True
    kwargs["past_key_values"] = cache = DynamicCache(config=text_config(model))
    kwargs["position_ids"] = model._prepare_position_ids_for_generation(ids, kwargs)  # type: ignore[operator]
    model_inputs = model.prepare_inputs_for_generation(  # type: ignore[operator]
        ids, is_first_iteration=True, logits_to_keep=1, **kwargs
    )
    output = model(**model_inputs, return_dict=True)
    cross_mask = kwargs.get("cross_attention_mask")
    return Prefilled(
        logits=output.logits[:, -1],
        cache=cache,
        next_positions=kwargs["position_ids"][..., -1:] + 1,
        cross_mask=None if cross_mask is None else cross_mask[:, -1],
    )
