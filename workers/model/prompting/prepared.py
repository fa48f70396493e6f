"""A request that is ready for the model: tensors of batch size 1, and what they count for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from workers.model.prompting.content import Content


@dataclass(frozen=True, slots=True)
class PromptCounts:
    """How many prompt tokens each modality took; they sum to the prompt's length."""

    text: int = 0
    image: int = 0
    video: int = 0
    audio: int = 0

    @property
    def total(self) -> int:
        """All prompt tokens."""
        return self.text + self.image + self.video + self.audio


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What a processor made of one request; satisfies the engine's `Handle`.

    inputs: keyword arguments of the model's `generate`, each with batch size 1 (or the flat leading dimension that
    the family wants, as Qwen's patches). `input_ids` is [1, tokens].
    content: what decides its states, so that those of a prompt that begins alike can be used again; None forbids it.
    media: the facts of its media, for provenance.
    """

    inputs: Mapping[str, torch.Tensor]
    counts: PromptCounts = field(default_factory=PromptCounts)
    content: Content | None = None
    media: tuple[Mapping[str, Any], ...] = ()

    @property
    def num_tokens(self) -> int:
        """Positions of the prompt."""
        return int(self.inputs["input_ids"].shape[1])

    @property
    def num_bytes(self) -> int:
        """Memory of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.inputs.values())
