"""Finding a checkpoint: versions, and a sentence for everything that can be wrong."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from service.errors import ConfigurationError
from workers.model.weights import checkpoints
from workers.model.weights.checkpoints import find_checkpoint

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The least that counts as a checkpoint."""
    made = tmp_path / "some-model"
    made.mkdir()
    (made / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    save_file({"a": torch.zeros(3, 5), "b": torch.zeros(2)}, made / "model.safetensors")
    return made


def test_the_revision_is_of_the_files_and_not_of_their_place(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "other-name")

    assert find_checkpoint(str(folder)).revision == find_checkpoint(str(copy)).revision


@pytest.mark.parametrize("limit", [1 << 30, 0])
def test_any_change_of_weights_or_settings_is_a_new_revision(
    limit: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "_WHOLE_FILE_BYTES", limit)
    seen = {find_checkpoint(str(folder)).revision}

    save_file({"a": torch.zeros(3, 5), "b": torch.ones(2)}, folder / "model.safetensors")
    seen.add(find_checkpoint(str(folder)).revision)
    (folder / "chat_template.jinja").write_text("x")
    seen.add(find_checkpoint(str(folder)).revision)

    assert len(seen) == 3


def test_weights_are_counted_from_headers(folder: Path) -> None:
    assert find_checkpoint(str(folder)).num_weight_elements == 17


def test_a_hub_snapshot_is_its_commit(folder: Path, tmp_path: Path) -> None:
    """The hub's own cache layout, as a machine without a network has it."""
    cached = tmp_path / "hub" / "models--org--name"
    shutil.copytree(folder, cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)

    found = find_checkpoint("org/name", hub_cache=tmp_path / "hub")

    assert found.revision == COMMIT
    assert found.name == "name"


def test_a_hub_model_that_is_neither_here_nor_reachable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"org/absent .*(not on this machine|no model)"):
        find_checkpoint("org/absent", hub_cache=tmp_path)


@pytest.mark.parametrize("model", ["/no/such/folder", "./nothing", "plainname", "a/b/c"])
def test_a_missing_folder_is_refused(model: str) -> None:
    with pytest.raises(ConfigurationError, match="no model folder"):
        find_checkpoint(model)


def test_a_file_in_place_of_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="no model folder"):
        find_checkpoint(str(folder / "config.json"))


@pytest.mark.parametrize("config", [None, "{", "[]", "{}"])
def test_a_folder_that_is_no_checkpoint_is_refused(config: str | None, tmp_path: Path) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)

    with pytest.raises(ConfigurationError, match="not a model checkpoint"):
        find_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"model_type": "phi3_v", "auto_map": {}}, "Phi-3.5-vision exists only as code from the hub"),
        ({"model_type": "minicpmo", "auto_map": {}}, "MiniCPM-o exists only as code from the hub"),
        ({"model_type": "someones", "auto_map": {}}, "needs code from the hub (family 'someones')"),
        ({"model_type": "someones"}, "does not know the family 'someones'"),
    ],
)
def test_families_that_we_cannot_serve_are_refused_by_name(
    config: dict[str, object], sentence: str, folder: Path
) -> None:
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(ConfigurationError) as refused:
        find_checkpoint(str(folder))

    assert sentence in refused.value.message
    assert refused.value.hint


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")

    with pytest.raises(ConfigurationError, match="no safetensors weights"):
        find_checkpoint(str(folder))
