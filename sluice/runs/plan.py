"""What one run is: its manifest, its model and its options, and the fingerprint by which it is found again."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.errors import ConfigurationError
from sluice.launcher.options import ModelOptions

FINGERPRINT_DIGITS = 12
_UNFIT_FOR_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Plan:
    """One run. num_lines: lines that are not blank. defaults: what lines that do not say take."""

    manifest: Path
    num_lines: int
    fingerprint: str
    defaults: Mapping[str, Any]
    model: ModelOptions

    @property
    def name(self) -> str:
        """The folder of this run: the manifest's name, and what tells it from runs with other words or models."""
        stem = _UNFIT_FOR_A_NAME.sub("-", self.manifest.stem)[:40] or "manifest"
        return f"{stem}-{self.fingerprint}"

    @property
    def base_dir(self) -> Path:
        """Where relative paths start."""
        return self.manifest.parent


def make_plan(manifest: Path, defaults: Mapping[str, Any], model: ModelOptions) -> Plan:
    """Read the manifest once, for its hash and its length."""
    from sluice.launcher.database import settings_from

    digest = hashlib.sha256()
    num_lines = _digest_manifest(manifest, digest)
    if num_lines == 0:
        raise ConfigurationError(
            f"The manifest {manifest} has no lines.",
            hint='Each line is a JSON object such as {"image": "cat.png", "prompt": "What is this?"}.',
        )
    settings = settings_from({**os.environ, **model.environment()})
    template = settings.chat_template
    identity = {
        "base_dir": str(manifest.resolve().parent),
        "defaults": dict(defaults),
        "model": settings.model,
        "weights": _weights_of(Path(settings.model)),
        "served_name": settings.model_name,
        "quant_bits": settings.quant_bits,
        "quant_group_size": settings.quant_group_size,
        "quant_rules": list(settings.quant_rules.items()),
        "quant_organization": settings.quant_organization,
        "quant_skip": settings.quant_skip,
        "dtype": settings.dtype,
        "context": settings.max_context_tokens,
        "template": hashlib.sha256(template.read_bytes()).hexdigest() if template else None,
    }
    digest.update(json.dumps(identity, sort_keys=True).encode())
    return Plan(manifest.resolve(), num_lines, digest.hexdigest()[:FINGERPRINT_DIGITS], defaults, model)


def hub_revision(model: str) -> str | None:
    """The commit of a Hugging Face model in the local cache, or None: not cached, or a folder of one's own."""
    if Path(model).exists():
        return None
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    hub = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    main = hub / f"models--{model.replace('/', '--')}" / "refs" / "main"
    return main.read_text().strip() if main.is_file() else None


def _digest_manifest(manifest: Path, digest: "hashlib._Hash") -> int:
    try:
        with manifest.open("rb") as lines:
            num_lines = 0
            for line in lines:
                digest.update(line)
                num_lines += not line.isspace()
            return num_lines
    except OSError as error:
        raise ConfigurationError(
            f"The manifest {manifest} cannot be read ({(error.strerror or 'unknown reason').lower()}).",
            hint="Check the path; a manifest is a file with one JSON object on each line.",
        ) from None


def _weights_of(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times stand for contents: hashing gigabytes would take longer than loading them."""
    if not folder.is_dir():
        return []
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
