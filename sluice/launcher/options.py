"""What a stack is started with, and how that travels to its processes."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# A private stack keeps everything in its own folder, whatever the shell it was typed in is connected to.
CONNECTIONS = ("DATABASE_URL", "REDIS_URL", "BLOB_URL")
CODE_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class ModelOptions:
    """Which model to serve and how. None: the service's default. quant_bits: 0 for none. quant_rules: JSON.

    more_models: folders or hub names of further ones, each loaded the same way.
    """

    model: str | None = None
    served_name: str | None = None
    quant_bits: int | None = None
    device: str | None = None
    chat_template: Path | None = None
    quant_group_size: int | None = None
    quant_rules: str | None = None
    quant_organization: str | None = None
    linear_kernel: str | None = None
    more_models: tuple[str, ...] = ()

    def environment(self) -> dict[str, str]:
        """The settings that differ from the defaults, as environment variables."""
        more = [{"model": _absolute(model)} for model in self.more_models]
        wanted = {
            "SLUICE_MODEL": _absolute(self.model) if self.model else None,
            "SLUICE_MORE_MODELS": json.dumps(more) if more else None,
            "SLUICE_SERVED_NAME": self.served_name,
            "SLUICE_QUANT_BITS": {None: None, 0: "none"}.get(self.quant_bits, str(self.quant_bits)),
            "SLUICE_QUANT_GROUP_SIZE": str(self.quant_group_size) if self.quant_group_size else None,
            "SLUICE_QUANT_RULES": self.quant_rules,
            "SLUICE_QUANT_ORGANIZATION": self.quant_organization,
            "SLUICE_LINEAR_KERNEL": self.linear_kernel,
            "SLUICE_DEVICE": self.device,
            "SLUICE_CHAT_TEMPLATE": str(self.chat_template.resolve()) if self.chat_template else None,
        }
        return {name: value for name, value in wanted.items() if value is not None}


@dataclass(frozen=True)
class StackOptions:
    """One local stack. port 0: any free one. private: ignore databases and brokers named in the environment.

    with_workers: without them the stack only hands out what is there. quant_cache: where quantized checkpoints are kept
    unless the environment says so; None for the data directory.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    allow_files: tuple[Path, ...] = ()
    private: bool = True
    with_workers: bool = True
    model: ModelOptions = ModelOptions()
    quant_cache: Path | None = None

    def environment(self, redis_url: str | None) -> dict[str, str]:
        """The environment of every process of the stack."""
        environment = {**os.environ, **self.model.environment()}
        if self.private:
            for name in CONNECTIONS:
                environment.pop(name, None)
        environment["SLUICE_DATA_DIR"] = str(self.data_dir.resolve())
        if self.quant_cache is not None:
            environment.setdefault("SLUICE_QUANT_CACHE", str(self.quant_cache.resolve()))
        environment["PYTHONPATH"] = _with_our_code(os.environ)
        environment["PYTHONUNBUFFERED"] = "1"
        if self.allow_files:
            environment["SLUICE_ALLOW_FILES"] = os.pathsep.join(
                str(root.resolve()) for root in self.allow_files
            )
        if redis_url is not None:
            environment["REDIS_URL"] = redis_url
        return environment


def _absolute(model: str) -> str:
    """A folder from the root on, since the processes start elsewhere; a hub name as it is."""
    return str(Path(model).resolve()) if Path(model).exists() else model


def _with_our_code(environment: Mapping[str, str]) -> str:
    paths = [str(CODE_ROOT), environment.get("PYTHONPATH", "")]
    return os.pathsep.join(path for path in paths if path)
