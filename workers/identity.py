"""What tells a loaded model, and all that its answers depend on, from every other."""

import hashlib
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from service.settings import Settings

if TYPE_CHECKING:
    from workers.model.loading import Loaded

# Another release may make another prompt of the same request, or compute it in another order.
DISTRIBUTIONS = ("sluice", "torch", "transformers")


def identity_of(settings: Settings, loaded: "Loaded", max_context_tokens: int) -> str:
    """Equal for workers whose answers to the same request are equal. settings: of this model."""
    needs = asdict(loaded.needs)
    facts = {
        **loaded.provenance,
        "name": settings.model_name,
        # Which of several devices it is does not matter, but of which kind.
        "device": loaded.model.device.type,
        "quantized": [settings.quant_rules, settings.quant_skip, settings.quant_organization],
        "chat_template": _sha256(settings.chat_template),
        "max_context_tokens": max_context_tokens,
        "needs": needs | {"takes": sorted(needs["takes"])},
        "versions": [version(name) for name in DISTRIBUTIONS],
    }
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _sha256(template: Path | None) -> str | None:
    return None if template is None else hashlib.sha256(template.read_bytes()).hexdigest()
