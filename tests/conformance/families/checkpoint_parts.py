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
    """A family's checkpoint: how its folder is written, and what the family makes of it.

    counts: prompt tokens of one picture, one clip and one sound of `family_conversations`, where it takes them.
    placeholder: what its template writes for a medium; text must not. turn_marks: what begins or ends a turn.
    limits: frames of one video and seconds of one sound.
    """

    save: Save
    counts: dict[MediaKind, int]
    placeholder: str
    turn_marks: tuple[str, ...]
    limits: tuple[int, float] = (32, 30.0)

    @property
    def takes(self) -> frozenset[MediaKind]:
        """The media that it takes."""
        return frozenset(self.counts)


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
    """Random weights, the same each time, under which answers depend on every medium and vary from token to token."""
    torch.manual_seed(0)
    from_config = getattr(model_class, "from_config", None) or model_class._from_config
    model: PreTrainedModel = from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2 and not name.endswith("embed_tokens.weight"):
                num_inputs = parameter.shape[1] if parameter.dim() == 3 else parameter[0].numel()
                parameter.normal_(std=2 / num_inputs**0.5)
            elif "norm" in name:
                parameter.add_(0.5 * torch.randn_like(parameter))
            elif parameter.numel() == 1 and not parameter.any():
                # Closed gates would keep pictures out.
                parameter.fill_(1.0)
    return model


def save(folder: Path, config: PretrainedConfig, processor: Any) -> None:
    """Write the folder as a family's authors would publish it."""
    random_model(config).save_pretrained(folder)
    processor.save_pretrained(folder)
