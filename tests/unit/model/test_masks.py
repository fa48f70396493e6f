"""Masks over slots: which columns of full rows and of rings a new token may look at."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from service.errors import ConfigurationError
from workers.model.hooks import LayerSpec
from workers.model.slots.masks import SlotMasks

CAPACITY = 16


def masks_of(*specs: LayerSpec, layer_types: list[str] | None = None) -> SlotMasks:
    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    config.layer_types = layer_types
    return SlotMasks(LlamaForCausalLM(config), list(specs), num_slots=2, capacity=CAPACITY)


def visible(mask: torch.Tensor | None) -> list[list[int]]:
    """The columns that each row sees."""
    assert mask is not None
    return [(row[0, 0] == 0).nonzero()[:, 0].tolist() for row in mask]


def test_rings_of_different_sizes_live_in_one_model() -> None:
    kinds = ["full_attention", "sliding_attention", "chunked_attention"]
    specs = [LayerSpec(kinds[0]), LayerSpec(kinds[1], window=4), LayerSpec(kinds[2], window=6)]
    masks = masks_of(*specs, layer_types=kinds)
    positions = torch.tensor([3, 8])
    for row, position in enumerate(positions.tolist()):
        masks.open(row, position)
    masks.reveal(0, 2, positions)

    found = masks.of(0, 2, positions, num_columns=CAPACITY)

    assert isinstance(found, dict)
    assert visible(found["full_attention"]) == [list(range(4)), list(range(9))]
    assert visible(found["sliding_attention"]) == [list(range(4)), list(range(4))]
    assert visible(found["chunked_attention"]) == [list(range(4)), list(range(3))]


def test_windows_of_different_sizes_in_layers_of_one_kind_are_refused() -> None:
    specs = [LayerSpec("sliding_attention", window=4), LayerSpec("sliding_attention", window=8)]

    with pytest.raises(ConfigurationError) as refused:
        masks_of(*specs)

    assert refused.value.code == "unsupported_model"
