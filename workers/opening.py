"""Opening a model: load it, check it, and put together what serves it."""

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.actions.parts import Parts
from service.contract.models import ModelFacts
from service.settings import Settings
from workers.desk.served import Served
from workers.desk.watchdog import Pulse
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.identity import identity_of
from workers.media.media import Media

if TYPE_CHECKING:
    from workers.model.loading import Loaded, LoadOptions

log = logging.getLogger(__name__)

# Prompt tokens in one forward. On a CPU a forward of this size is as cheap per token as a larger one, and a chat that
# arrives meanwhile waits for less.
PREFILL_TOKENS = defaultdict(lambda: 4096, cpu=1024)
# While chats come, bulk may take this part of it.
BESIDE_CHAT = 8

Load = Callable[["LoadOptions"], "Loaded"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A model that is ready. close: ends the processes that prepare for it."""

    served: Served
    revision: str
    facts: ModelFacts
    description: str
    close: Callable[[], None]


def open_model(parts: Parts, settings: Settings, media: Media, num_models: int, load: Load | None) -> Opened:
    """Open the model that `settings` names, one of so many on the device.

    Errors: ConfigurationError with a sentence for the operator.
    """
    # Imported here: torch takes seconds, and the process should be seen and stoppable before.
    from workers.desk.prepare import Preparer
    from workers.desk.reuse import Reuse
    from workers.model import loading
    from workers.model.caches.cache_budgets import cache_budgets
    from workers.model.choose_model import Limits, make_slot_model
    from workers.model.prompting.prepare_pool import PreparerPool
    from workers.model.prompting.prompter_source import PrompterSource

    options = loading.LoadOptions.from_settings(settings)
    loaded = (load or loading.load)(options)
    caches = cache_budgets(loaded.model.device, settings.prefix_cache_bytes, settings.encoder_cache_bytes)
    limits = Limits(settings.max_slots, settings.max_context_tokens, num_models=num_models, **caches)
    serving = make_slot_model(loaded, limits, engine_config(loaded.model.device.type))
    pool = None
    if settings.num_preparers:
        pool = PreparerPool(PrompterSource.of(options), settings.num_preparers)
    model = serving.model
    pulse = Pulse(Engine(model, serving.config), settings.model_name, loaded.slowest_seconds_per_token)
    reuse = Reuse(parts, media.content, identity_of(settings, loaded, model.max_context_tokens))
    preparer = Preparer(parts, media, loaded.prompter, model.max_context_tokens, reuse, pool)
    served = Served(pulse, model.num_slots, preparer, loaded.provenance)
    facts = ModelFacts(
        input_modalities=["text", *sorted(loaded.needs.takes)],
        context_length=model.max_context_tokens,
        quantization=loaded.provenance.get("quantization"),
        dtype=loaded.provenance.get("dtype"),
    )
    return Opened(served, loaded.revision, facts, loaded.description, pool.close if pool else lambda: None)


def engine_config(device_type: str) -> EngineConfig:
    """How an engine shares its time on this kind of device."""
    prefill_tokens = PREFILL_TOKENS[device_type]
    return EngineConfig(
        max_prefill_tokens=prefill_tokens, max_bulk_tokens_beside_chat=prefill_tokens // BESIDE_CHAT
    )
