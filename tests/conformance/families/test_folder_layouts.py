"""Folders are laid out in more than one way; the older one is what most of the published ones have."""

import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest
import torch
from family_checkpoints import Family

from workers.model.loading import LoadOptions, load


def to_older_layout(folder: Path) -> None:
    """A file for each processor, and the chat template inside of JSON."""
    whole = json.loads((folder / "processor_config.json").read_text())
    parts = [whole.pop(name, {}) for name in ("image_processor", "feature_extractor", "audio_processor")]
    (folder / "preprocessor_config.json").write_text(json.dumps(parts[0] | parts[1] | parts[2]))
    if clips := whole.pop("video_processor", None):
        (folder / "video_preprocessor_config.json").write_text(json.dumps(clips))
    (folder / "processor_config.json").write_text(json.dumps(whole))
    template = folder / "chat_template.jinja"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
    template.unlink()


@pytest.mark.parametrize("name", ["gemma4", "llava", "qwen2_5_omni", "smolvlm"])
def test_a_folder_of_the_older_layout_gives_the_same_prompts(
    name: str, family_of: Callable[[str], Family], tmp_path: Path
) -> None:
    family = family_of(name)
    copytree(family.folder, tmp_path / name)
    to_older_layout(tmp_path / name)

    older = load(LoadOptions(model=str(tmp_path / name), device="cpu", dtype="float32"))

    assert older.needs == family.loaded.needs
    for request in family.conversations.values():
        expected, found = (loaded.prompter.prepare(*request) for loaded in (family.loaded, older))
        assert found.counts == expected.counts
        assert found.inputs.keys() == expected.inputs.keys()
        assert all(torch.equal(found.inputs[key], tensor) for key, tensor in expected.inputs.items())
