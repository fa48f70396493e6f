"""What every tiny checkpoint is made of: a tokenizer of bytes, small sizes, random weights, and its folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForMultimodalLM, PretrainedConfig, PreTrainedModel, TokenizersBackend

from service.contract.media import MediaKind

Save: TypeAlias = Callable[[Path], None]

IMAGE, VIDEO, AUDIO = MediaKind.IMAGE, MediaKind.VIDEO, MediaKind.AUDIO
PAD = "<pad>"

TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 4096,
}
VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}
ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10000.0}


@dataclass(frozen=True)
class Checkpoint:
    """A family's checkpoint: how its folder is written, and what the family takes.

    placeholder: what its template writes for a medium of the first kind; text must not.
    counts: prompt tokens of the media that every family gets: one picture, one clip, one sound.
    """

    save: Save
    takes: frozenset[MediaKind]
    placeholder: str
    counts: dict[MediaKind, int]


def byte_tokenizer(
    special: Sequence[str], *, eos: str, bos: str | None = None, adds_bos: bool = False, **named: str
) -> TokenizersBackend:
    """One token for each byte, and the special ones. named: attributes such as `image_token`.

    adds_bos: whether the tokenizer itself begins a prompt with it, where the template does not.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    tokens = dict.fromkeys(token for token in (PAD, bos, eos, *special, *named.values()) if token)
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in tokens])
    if adds_bos and bos:
        made.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, made.token_to_id(bos))]
        )
    return TokenizersBackend(
        tokenizer_object=made, bos_token=bos, eos_token=eos, pad_token=PAD, extra_special_tokens=named
    )


def text_sizes(tokenizer: TokenizersBackend, **changes: Any) -> dict[str, Any]:
    """A text configuration for this vocabulary."""
    return {
        **TEXT,
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        **changes,
    }


def random_model(config: PretrainedConfig, model_class: Any = AutoModelForMultimodalLM) -> PreTrainedModel:
    """Random weights, the same each time, spread so that greedy answers vary from token to token."""
    torch.manual_seed(0)
    from_config = getattr(model_class, "from_config", None) or model_class._from_config
    model: PreTrainedModel = from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(3)
    return model


def save(folder: Path, config: PretrainedConfig, processor: Any) -> None:
    """Write the folder as a family's authors would publish it."""
    random_model(config).save_pretrained(folder)
    processor.save_pretrained(folder)
