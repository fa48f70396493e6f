"""Checkpoints: where a model's files are, which version they are, and whether we can serve their family."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from transformers import CONFIG_MAPPING, AutoConfig, PretrainedConfig, __version__

from service.errors import ConfigurationError

REMOTE_ONLY = {
    "phi3_v": "Phi-3.5-vision",
    "minicpmo": "MiniCPM-o",
}
_FILES = ["*.json", "*.jinja", "*.safetensors", "*.txt", "*.model"]
_SNAPSHOT = re.compile(r"snapshots/([0-9a-f]{40})$")
_WHOLE_FILE_BYTES = 64 << 20
_NUM_SAMPLES, _SAMPLE_BYTES = 64, 64 << 10


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A folder with everything that a model needs. `revision` is the same for the same files on any machine."""

    name: str
    folder: Path
    revision: str
    config: dict[str, Any]

    @property
    def model_type(self) -> str:
        """The family's name in transformers."""
        return str(self.config.get("model_type"))

    @property
    def is_quantized(self) -> bool:
        """Whether the weights are stored quantized already."""
        return self.config.get("quantization_config") is not None

    @property
    def num_weight_elements(self) -> int:
        """Numbers in all weight files, from their headers alone."""
        try:
            return sum(_num_elements(path) for path in self.folder.glob("*.safetensors"))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise damaged_weights(self.name) from error


def find_checkpoint(model: str, revision: str | None = None, hub_cache: Path | None = None) -> Checkpoint:
    """Resolve a folder or a hub name, and check that transformers knows the family without code from the hub.

    Errors: ConfigurationError with a sentence for everything that an operator can mend.
    """
    folder = _local_folder(model) or _from_hub(model, revision, hub_cache)
    config = _read_config(folder)
    _check_family(config, folder.name if Path(model).exists() else model)
    if not any(folder.glob("*.safetensors")):
        raise ConfigurationError(
            f"{model} has no safetensors weights.",
            hint="Convert its weights to safetensors; pickled weights can run code and are not loaded.",
        )
    return Checkpoint(Path(model).name, folder, _revision(folder), config)


def load_config(folder: Path) -> PretrainedConfig:
    """The configuration of what answers in text; of a family that also talks, of the part that thinks."""
    config: PretrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    return getattr(config, "thinker_config", None) or config


def damaged_weights(name: str) -> ConfigurationError:
    """What to say of weight files that cannot be read."""
    return ConfigurationError(
        f"The weights of {name} are damaged or incomplete.", hint="Copy or download the checkpoint again."
    )


def _local_folder(model: str) -> Path | None:
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve()
    looks_like_a_path = path.is_absolute() or model.startswith((".", "~")) or model.count("/") != 1
    if path.exists() or looks_like_a_path:
        raise ConfigurationError(
            f"There is no model folder {model}.", hint="Give a folder, or a hub name such as org/name."
        )
    return None


def _from_hub(model: str, revision: str | None, cache: Path | None) -> Path:
    try:
        return Path(snapshot_download(model, revision=revision, cache_dir=cache, allow_patterns=_FILES))
    except GatedRepoError as error:
        raise ConfigurationError(
            f"The model {model} asks for its licence to be accepted.",
            hint="Accept it on the hub and set HF_TOKEN.",
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ConfigurationError(
            f"The hub has no model {model}, or it is private.", hint="Check the name, or set HF_TOKEN."
        ) from error
    except (LocalEntryNotFoundError, OSError) as error:
        raise ConfigurationError(
            f"The model {model} is not on this machine and the hub cannot be reached.",
            hint="Give a folder, or fetch the model first where there is a network.",
        ) from error


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict) or "model_type" not in config:
        raise ConfigurationError(
            f"The folder {folder.name} is not a model checkpoint.",
            hint="It needs config.json with a model_type, safetensors weights and a tokenizer.",
        )
    return config


def _check_family(config: dict[str, Any], name: str) -> None:
    family = config["model_type"]
    if family in REMOTE_ONLY:
        raise ConfigurationError(
            f"{REMOTE_ONLY[family]} exists only as code from the hub, which Sluice does not run.",
            hint="Choose a family that transformers has itself, such as Qwen2.5-VL, Gemma 3 or SmolVLM.",
        )
    if family in CONFIG_MAPPING:
        return
    if "auto_map" in config:
        raise ConfigurationError(
            f"{name} needs code from the hub (family '{family}'), which Sluice does not run.",
            hint="Choose a checkpoint of a family that transformers has itself.",
        )
    raise ConfigurationError(
        f"transformers {__version__} does not know the family '{family}' of {name}.",
        hint="Choose another model, or a release of Sluice with a newer transformers.",
    )


def _revision(folder: Path) -> str:
    """The hub's commit, or a hash of the files; of large weight files, of their size, head and even samples."""
    if snapshot := _SNAPSHOT.search(folder.as_posix()):
        return snapshot[1]
    digest = hashlib.sha256()
    files = {path for pattern in _FILES for path in folder.glob(pattern)}
    for path in sorted(files):
        digest.update(f"{path.name}:{path.stat().st_size}\n".encode())
        for block in _blocks(path):
            digest.update(block)
    return digest.hexdigest()[:40]


def _blocks(path: Path) -> Iterator[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE_FILE_BYTES:
            yield file.read()
            return
        for number in range(_NUM_SAMPLES):
            file.seek(number * max(0, size - _SAMPLE_BYTES) // (_NUM_SAMPLES - 1))
            yield file.read(_SAMPLE_BYTES)


def _num_elements(path: Path) -> int:
    """safetensors: eight bytes of header length, then the header as JSON."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    total = 0
    for name, tensor in header.items():
        if name != "__metadata__":
            count = 1
            for size in tensor["shape"]:
                count *= size
            total += count
    return total
