"""A saved checkpoint of every family comes back through the product's own loading, as what it was."""

from pathlib import Path

import pytest
import torch
from answers import alone
from crowds import crowd_of
from safetensors.torch import load_file, save_file
from tiny_families import FAMILIES
from transformers import PreTrainedModel, Qwen2_5OmniConfig, Qwen3OmniMoeConfig

from workers.model.loading import LoadOptions, load_model
from workers.model.weights.checkpoints import find_checkpoint, load_config

WITH_TALKER = {"qwen2_5_omni": Qwen2_5OmniConfig, "qwen3_omni_moe": Qwen3OmniMoeConfig}


def loaded(folder: Path) -> PreTrainedModel:
    checkpoint = find_checkpoint(str(folder))
    options = LoadOptions(model=str(folder), device="cpu", dtype="float32")
    model = load_model(checkpoint, load_config(checkpoint.folder), options)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = None
    return model


def assert_same(model: PreTrainedModel, original: PreTrainedModel) -> None:
    assert type(model) is type(original)
    expected = original.state_dict()
    found = model.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_saved_family_loads_as_what_it_was_and_answers_the_same(name: str, tmp_path: Path) -> None:
    crowd = crowd_of(name)
    crowd.family.model.save_pretrained(tmp_path)

    model = loaded(tmp_path)

    assert_same(model, crowd.family.model)
    for (prompt, _), answer in zip(crowd.requests[:2], crowd.full_answers, strict=False):
        assert alone(model, prompt, 6) == answer[:6]


@pytest.mark.parametrize("name", list(WITH_TALKER))
def test_of_a_family_that_also_talks_only_the_thinker_is_loaded(name: str, tmp_path: Path) -> None:
    thinker = crowd_of(name).family.model
    thinker.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    whole = {f"thinker.{key.removeprefix('thinker.')}": tensor for key, tensor in weights.items()}
    whole["talker.codec_head.weight"] = torch.zeros(8, 8)
    save_file(whole, tmp_path / "model.safetensors", {"format": "pt"})
    WITH_TALKER[name](thinker_config=thinker.config.to_dict()).save_pretrained(tmp_path)

    assert_same(loaded(tmp_path), thinker)
