"""What a family is to the tests, and what all of them are built from."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Generator, Tensor
from transformers import AutoModelForMultimodalLM, PretrainedConfig, PreTrainedModel

from workers.model.prompting.prepared import Prepared

IMAGE, VIDEO, SOUND, BEGIN, END = 250, 251, 249, 252, 253
SOUND_BEGIN, SOUND_END = 247, 248
VOCABULARY, FIRST_SPECIAL = 256, 240
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}

Inputs: TypeAlias = dict[str, Tensor]
Maker: TypeAlias = Callable[[Generator, int], Inputs]


@dataclass(frozen=True)
class Family:
    """A checkpoint and what it can be asked. kinds: by name ("text", "image", ...), how to make such inputs."""

    model: PreTrainedModel
    kinds: Mapping[str, Maker]

    def request(self, generator: Generator, words: int, kind: str | None = None) -> Prepared:
        """A request with about `words` tokens of text. Without a kind, the number of words chooses one."""
        chosen = kind or list(self.kinds)[words % len(self.kinds)]
        return Prepared(self.kinds[chosen](generator, words))


def build(config: PretrainedConfig) -> PreTrainedModel:
    """Random weights, spread so that greedy answers vary from token to token; special tokens are never said."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForMultimodalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() >= 2:
                parameter.mul_(20 if re.search(r"[qk]_proj|qkv", name) else 3)
            elif re.search(r"[qk]_norm", name):
                parameter.add_(4)
        model.get_output_embeddings().weight[FIRST_SPECIAL:] = 0
    assert model.generation_config is not None
    model.generation_config.eos_token_id = None
    return model.eval()


def words(generator: Generator, count: int) -> Tensor:
    """Text: [1, tokens]."""
    return torch.randint(5, FIRST_SPECIAL, (1, max(1, count)), generator=generator)


def text(generator: Generator, count: int) -> Inputs:
    """A request without media."""
    return {"input_ids": words(generator, count)}


def around(generator: Generator, count: int, *blocks: list[int]) -> Tensor:
    """About `count` words in which blocks of other tokens lie, words first and last: [1, tokens]."""
    share, rest = divmod(count, len(blocks) + 1)
    parts = [words(generator, share + rest)]
    for block in blocks:
        parts += [torch.tensor([block], dtype=torch.long), words(generator, share)]
    return torch.cat(parts, dim=1)


def noise(generator: Generator, *shape: int) -> Tensor:
    """Pixels or sound features."""
    return torch.randn(*shape, generator=generator)


def kinds_of(**makers: Any) -> Mapping[str, Maker]:
    """Kinds by name, `text` first."""
    return {"text": text, **makers}
