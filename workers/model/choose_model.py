"""Which slot model serves a loaded model: slots where they hold all its memory and say what `generate` says.

Anything else is served in static batches, and one line of the log says why.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from service.errors import ConfigurationError, OutOfMemory
from workers.engine.config import EngineConfig
from workers.engine.protocol import SlotModel
from workers.model import parity
from workers.model.loading import Loaded
from workers.model.parity import Reference
from workers.model.slot_model import TorchSlotModel
from workers.model.slots import slot_memory
from workers.model.slots.slot_memory import Room
from workers.model.static_model import StaticModel

log = logging.getLogger(__name__)

_LEAST_PREFILL_BYTES = 16 << 20
# A forward over media takes many times the bytes of its inputs.
_PREFILL_SHARE = 1 / 16
# Bulk waits so many steps for a static batch to end before it opens a smaller one.
_STATIC_WAIT_STEPS = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What an operator allows. num_models: that share the device. *_cache_bytes: what caches beside the slots take."""

    num_slots: int
    max_context_tokens: int
    num_models: int = 1
    prefix_cache_bytes: int = 0
    encoder_cache_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Serving:
    """A slot model, warm and empty, and the engine's limits with it. fallback: why it has no slots, if so."""

    model: SlotModel
    config: EngineConfig
    fallback: str | None = None


def make_slot_model(loaded: Loaded, limits: Limits, config: EngineConfig) -> Serving:
    """Make what serves a loaded model within the memory that is free, and check it.

    Errors: ConfigurationError if the memory does not hold even one request.
    """
    room = _room(loaded, limits)
    free_bytes = slot_memory.free_bytes(loaded.model.device)
    config = replace(
        config,
        max_parked_rows=min(config.max_parked_rows, room.num_parked),
        max_prefill_bytes=min(
            config.max_prefill_bytes, max(_LEAST_PREFILL_BYTES, int(free_bytes * _PREFILL_SHARE))
        ),
    )
    wanted = _references(loaded)
    try:
        slots, reason = _checked(loaded, lambda: _slots(loaded, limits, room, config), wanted)
    except OutOfMemory as error:
        # What else holds memory was not foreseen: half as many slots may find room.
        if room.num_slots == 1:
            raise slot_memory.no_room() from error
        return make_slot_model(loaded, replace(limits, num_slots=room.num_slots // 2), config)
    loaded.provenance["batching"] = "static" if slots is None else "slots"
    if slots is not None:
        return Serving(slots, config)
    log.warning("%s is served in static batches, which are slower: %s", loaded.provenance["model"], reason)
    group = {"prefill_group": room.num_slots, "max_group_wait_steps": _STATIC_WAIT_STEPS}
    return Serving(_static(loaded, room, config, wanted), replace(config, **group), reason)


def _room(loaded: Loaded, limits: Limits) -> Room:
    """What fits the free memory of what was asked for."""
    model, reserved = loaded.model, limits.prefix_cache_bytes + limits.encoder_cache_bytes
    budget = slot_memory.slot_budget(model.device, limits.num_models, reserved)
    max_context_tokens = min(limits.max_context_tokens, loaded.max_context_tokens)
    try:
        slot = slot_memory.measure(model)
    except Exception:
        log.warning("How much memory a slot takes is not known", exc_info=True)
        return Room(limits.num_slots, max_context_tokens, num_parked=0)
    room = slot_memory.fit(slot, budget, limits.num_slots, max_context_tokens)
    if (room.num_slots, room.max_context_tokens) != (limits.num_slots, max_context_tokens):
        log.warning(
            "The memory holds %d slots of %d tokens, not %d of %d",
            room.num_slots,
            room.max_context_tokens,
            limits.num_slots,
            max_context_tokens,
        )
    return room


def _references(loaded: Loaded) -> list[Reference]:
    try:
        return parity.references(loaded.model)
    except torch.AcceleratorError:
        raise
    except Exception:
        log.warning("%s could not be compared with `generate`", loaded.provenance["model"], exc_info=True)
        return []


def _slots(loaded: Loaded, limits: Limits, room: Room, config: EngineConfig) -> SlotModel:
    return TorchSlotModel(
        loaded.model,
        num_slots=room.num_slots,
        max_context_tokens=room.max_context_tokens,
        prefill_token_budget=config.max_prefill_tokens,
        eos_ids=loaded.prompter.eos_ids,
        prefix_cache_bytes=limits.prefix_cache_bytes,
        encoder_cache_bytes=limits.encoder_cache_bytes,
    )


def _static(loaded: Loaded, room: Room, config: EngineConfig, wanted: Sequence[Reference]) -> SlotModel:
    """Batches with padding, where the model can be padded."""

    def make(pads: bool) -> StaticModel:
        return StaticModel(
            loaded.model,
            num_slots=room.num_slots,
            max_context_tokens=room.max_context_tokens,
            prefill_token_budget=config.max_prefill_tokens,
            eos_ids=loaded.prompter.eos_ids,
            pads=pads,
        )

    padded, _ = _checked(loaded, lambda: make(pads=True), wanted)
    return padded or make(pads=False)


def _checked(
    loaded: Loaded, make: Callable[[], SlotModel], wanted: Sequence[Reference]
) -> tuple[SlotModel | None, str]:
    """A model that passes the check, or why none does."""
    try:
        model = make()
        reason = parity.mismatch(model, wanted, loaded.model.dtype) if wanted else None
    except torch.AcceleratorError:
        raise
    except OutOfMemory:
        raise
    except ConfigurationError as error:
        if error.code != "unsupported_model":
            raise
        return None, error.message
    except Exception as error:
        log.warning("The check at load failed", exc_info=True)
        return None, f"the check at load failed with {type(error).__name__}"
    return (model, "") if reason is None else (None, reason)
