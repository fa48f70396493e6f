"""The one place that leans on unpublished parts of transformers; the exactness suite tells when they change."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
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


def rope_boundary(model: PreTrainedModel) -> int | None:
    """The prompt length beyond which this model turns all its positions another way, if it does."""
    config = text_config(model)
    kinds = getattr(config, "rope_parameters", None) or {}
    for options in (kinds, *(value for value in kinds.values() if isinstance(value, dict))):
        if options.get("rope_type") in ("longrope", "dynamic"):
            length = options.get("original_max_position_embeddings") or config.max_position_embeddings
            return int(getattr(config, "original_max_position_embeddings", None) or length)
    return None


def require_dense_attention(model: PreTrainedModel) -> None:
    """Refuse attention kernels that cannot read a mask over slots."""
    kernel = getattr(text_config(model), "_attn_implementation", None)
    if kernel not in (None, "sdpa", "eager"):
        raise ConfigurationError(
            f"The slot engine cannot use the attention implementation '{kernel}'.",
            hint="Load the model with attn_implementation='sdpa'.",
        )


@dataclass(frozen=True, slots=True)
class Encoded:
    """What the towers made of the media of one request. spent: the inputs that stand in it from now on."""

    outputs: Mapping[str, Any]
    spent: frozenset[str]


def can_encode(model: PreTrainedModel) -> bool:
    """Whether this family can run its towers apart from its decoder."""
    model_can: bool = model._supports_mm_encoder_outputs()  # type: ignore[operator]
    return model_can and bool({"image", "video"} & set(model.input_modalities))


def encode(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> Encoded | None:
    """Run only the towers, on the inputs of one request; None where they have nothing to look at."""
    rest = model._prepare_multimodal_encoder_kwargs_for_generation(dict(inputs))  # type: ignore[operator]
    outputs = {kind: _read_by_models(output) for kind, output in rest["mm_encoder_outputs"].items()}
    return Encoded(outputs, frozenset(set(inputs) - set(rest))) if outputs else None


def encoded_together(each: Sequence[Encoded]) -> Encoded:
    """What the towers made of the media of several requests, as if they had seen them at once."""
    if len(each) == 1:
        return each[0]
    kinds = {kind: [encoded.outputs[kind] for encoded in each] for kind in each[0].outputs}
    outputs = {
        kind: SimpleNamespace(
            **{name: _joined([vars(part)[name] for part in parts], name) for name in vars(parts[0])}
        )
        for kind, parts in kinds.items()
    }
    return Encoded(outputs, each[0].spent)


def _joined(parts: Sequence[Any], name: str) -> Any:
    """Features lead with their media, or are listed by them; those of the deepstack are listed by layer."""
    if isinstance(parts[0], torch.Tensor):
        return torch.cat(list(parts))
    if name == "deepstack_features":
        return [_joined(layer, "") for layer in zip(*parts, strict=True)]
    return [features for part in parts for features in part]


def prefill(
    model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], encoded: Encoded | None = None
) -> Prefilled:
    """Run prompts through the model's own generate path.

    inputs: what `generate` takes, left-padded to one length, with its `attention_mask` [rows, tokens].
    encoded: what the towers made of the media of `inputs`; they do not run again.
    """
    positions = _positions(model, inputs)
    return _run(model, _with(inputs, encoded), positions, DynamicCache(config=text_config(model)))


def prefill_on(
    model: PreTrainedModel,
    inputs: Mapping[str, torch.Tensor],
    cache: DynamicCache,
    num_new: int,
    *,
    spent: Collection[str] = (),
    encoded: Encoded | None = None,
) -> Prefilled:
    """Run the last `num_new` columns of prompts whose other columns `cache` holds; it grows by them.

    inputs: as for `prefill`, of the whole prompts; `attention_mask` may have gaps.
    spent: inputs whose media lie in the cached columns, needed here only to count positions.
    """
    positions = _positions(model, inputs)
    rest = {name: tensor for name, tensor in inputs.items() if name not in spent}
    return _run(model, _with(rest, encoded), positions, cache, next_sequence_length=num_new)


def _with(inputs: Mapping[str, torch.Tensor], encoded: Encoded | None) -> Mapping[str, Any]:
    if encoded is None:
        return inputs
    rest = {name: tensor for name, tensor in inputs.items() if name not in encoded.spent}
    return {**rest, "mm_encoder_outputs": dict(encoded.outputs)}


def _positions(model: PreTrainedModel, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    ids = inputs["input_ids"]
    rest = {name: tensor for name, tensor in inputs.items() if name != "input_ids"}
    positions: torch.Tensor = model._prepare_position_ids_for_generation(ids, rest)  # type: ignore[operator]
    return positions


def _run(
    model: PreTrainedModel,
    inputs: Mapping[str, Any],
    positions: torch.Tensor,
    cache: DynamicCache,
    **options: int,
) -> Prefilled:
    rest = {name: value for name, value in inputs.items() if name != "input_ids"}
    model_inputs = model.prepare_inputs_for_generation(  # type: ignore[operator]
        inputs["input_ids"],
        is_first_iteration=True,
        logits_to_keep=1,
        use_cache=True,
        past_key_values=cache,
        position_ids=positions,
        **options,
        **rest,
    )
    if model_inputs.get("past_key_values") is not cache and cache.get_seq_length() > 0:
        raise RuntimeError("this family does not go on from these states with a prompt of this length")
    output = model(**model_inputs, return_dict=True)
    cross_mask = rest.get("cross_attention_mask")
    return Prefilled(
        logits=output.logits[:, -1],
        # Phi-4 puts a cache of its own in the place of ours where a prompt is long.
        cache=getattr(output, "past_key_values", None) or cache,
        next_positions=positions[..., -1:] + 1,
        cross_mask=None if cross_mask is None else cross_mask[:, -1],
    )


def _read_by_models(output: Any) -> SimpleNamespace:
    """What decoders read of a tower's output; its other tensors only take memory."""
    names = ["pooler_output", "deepstack_features"]
    if getattr(output, "pooler_output", None) is None:
        names = ["last_hidden_state"]
    read = {name: value for name in names if (value := getattr(output, name, None)) is not None}
    return SimpleNamespace(**read)
