"""How `generate` itself runs a model: the unpublished parts of transformers that serve where slots cannot.

`workers.model.hooks` has those that serve the slots; no other file calls such parts.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from transformers import GenerationConfig, PreTrainedModel
from transformers.generation.configuration_utils import GenerationMode

from workers.model.hooks import text_config


class StaticBatch:
    """Prompts that `generate` would run together: the cache that the model makes itself, and all it carries along.

    inputs: what `generate` takes, left-padded to one length, with its `attention_mask` [rows, tokens]. num_columns:
    prompt and answer together. logits: [rows, vocabulary], after the last step.
    """

    def __init__(self, model: PreTrainedModel, inputs: Mapping[str, torch.Tensor], num_columns: int) -> None:
        self._model = cast("Any", model)
        self._ids = inputs["input_ids"]
        self._carried: dict[str, Any] = {name: held for name, held in inputs.items() if name != "input_ids"}
        self._carried["use_cache"] = True
        if "position_ids" in inspect.signature(self._model.forward).parameters:
            positions = self._model._prepare_position_ids_for_generation(self._ids, self._carried)
            self._carried["position_ids"] = positions
        if bool((self._carried["attention_mask"] == 1).all()):
            self._carried["attention_mask"] = None
        if self._model._supports_logits_to_keep():
            self._carried["logits_to_keep"] = 1
        settings = GenerationConfig()  # type: ignore[no-untyped-call]
        mode, num_rows = GenerationMode.GREEDY_SEARCH, len(self._ids)
        self._model._prepare_cache_for_generation(settings, self._carried, mode, num_rows, num_columns)
        self.logits = self._forward(is_first_iteration=True)

    def step(self, tokens: torch.Tensor) -> None:
        """Give every row its next token [rows]."""
        self._ids = torch.cat([self._ids, tokens[:, None]], dim=-1)
        self.logits = self._forward(next_sequence_length=1)

    def _forward(self, **stage: Any) -> torch.Tensor:
        inputs = self._model.prepare_inputs_for_generation(self._ids, **stage, **self._carried)
        output = self._model(**inputs, return_dict=True)
        carry = self._model._update_model_kwargs_for_generation
        self._carried = carry(output, self._carried, is_encoder_decoder=False)
        logits: torch.Tensor = output.logits[:, -1]
        return logits


def greedy(model: PreTrainedModel, ids: torch.Tensor, num_tokens: int) -> tuple[list[int], torch.Tensor]:
    """What `generate` says to one prompt [1, tokens], and its logits: [num_tokens, vocabulary]."""
    callee = cast("Any", model)
    usual = model.generation_config
    model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    try:
        output = callee.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=num_tokens,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
    finally:
        model.generation_config = usual
    return output.sequences[0, ids.shape[1] :].tolist(), torch.cat(output.logits)


def pad_id(model: PreTrainedModel) -> int:
    """A token to pad with; masked, so that any would do, but image tokens would ask for images."""
    found = getattr(text_config(model), "pad_token_id", None)
    return found if isinstance(found, int) and found >= 0 else 0


def text_token_ids(model: PreTrainedModel) -> list[int]:
    """Token ids that stand for nothing but themselves: no placeholders of media, no ends."""
    special = {
        token for config in (model.config, text_config(model)) for token in _named_ids(config.to_dict())
    }
    return [token for token in range(text_config(model).vocab_size) if token not in special]


def _named_ids(config: Mapping[str, Any]) -> Iterator[int]:
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _named_ids(value)
        elif str(name).endswith(("token_id", "token_index", "token_ids")):
            yield from (
                token for token in (value if isinstance(value, list) else [value]) if token is not None
            )
