"""What a slot takes of the memory, and how many slots of which length fit what is free."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import torch
from transformers import PreTrainedModel

from service.errors import ConfigurationError
from workers.model import generate_hooks, hooks

# Of the free memory; the rest is for forwards, towers and what waits.
_SHARE = {"cuda": 0.75, "cpu": 0.5}
_LEAST_CONTEXT_TOKENS = 512
_CONTEXT_STEP = 64
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class SlotBytes:
    """Memory of one slot. fixed: of any length. columns: (bytes of a column, most columns) of each attention layer."""

    fixed: int
    columns: tuple[tuple[int, int | None], ...]

    def of(self, num_tokens: int) -> int:
        """Bytes of a slot for `num_tokens`."""
        reach = (
            each * (num_tokens if most is None else min(num_tokens, most)) for each, most in self.columns
        )
        return self.fixed + sum(reach)


@dataclass(frozen=True, slots=True)
class Room:
    """What fits. num_parked: rows that may lie outside of their slots besides."""

    num_slots: int
    max_context_tokens: int
    num_parked: int


def measure(model: PreTrainedModel) -> SlotBytes:
    """Look at what one short prompt leaves in the model's own cache."""
    ids = torch.tensor([generate_hooks.text_token_ids(model)[:4]], device=model.device)
    with torch.inference_mode():
        cache = hooks.prefill(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}).cache
    fixed, columns = 0, []
    for spec, layer in zip(hooks.layer_specs(model), cache.layers, strict=True):
        if spec.kind == "cross_attention":
            fixed += _cross_bytes(model)
            continue
        fixed += _state_bytes(layer)
        keys, values = (getattr(layer, name, None) for name in ("keys", "values"))
        if keys is not None and values is not None:
            columns.append(((keys.nbytes + values.nbytes) // keys.shape[2], spec.window))
    return SlotBytes(fixed, tuple(columns))


def fit(slot: SlotBytes, num_bytes: int, num_slots: int, max_context_tokens: int) -> Room:
    """Fewer slots before shorter ones, at least one of them. num_bytes: what they may take.

    Errors: ConfigurationError if not even one short slot fits.
    """
    num_rows = num_bytes // max(slot.of(max_context_tokens), 1)
    if num_rows >= 1:
        return Room(min(num_slots, num_rows), max_context_tokens, max(0, num_rows - num_slots))
    shorter = range(max_context_tokens - 1, min(max_context_tokens, _LEAST_CONTEXT_TOKENS) - 1, -1)
    for num_tokens in shorter:
        if num_tokens % _CONTEXT_STEP == 0 and slot.of(num_tokens) <= num_bytes:
            return Room(1, num_tokens, 0)
    raise no_room()


def no_room() -> ConfigurationError:
    """Not even one request fits."""
    return ConfigurationError(
        "There is no memory left for even one request beside the model.",
        code="out_of_memory",
        hint="Quantize the model to fewer bits, choose a smaller model, or another device.",
    )


def slot_budget(device: torch.device, num_models: int, num_reserved: int) -> int:
    """Bytes that the slots of one of `num_models` models may take. num_reserved: promised to others, as to caches."""
    return max(0, int(free_bytes(device) * _SHARE[device.type] / num_models) - num_reserved)


def free_bytes(device: torch.device) -> int:
    """Memory that can still be had: of the device, or of the host and its container."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return min(int(psutil.virtual_memory().available), _container_room())


def _container_room() -> int:
    """What the container may still take; a container that sets no limit has all that there is."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        held = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return int(psutil.virtual_memory().total)
    if limit == "max":
        return int(psutil.virtual_memory().total)
    # Pages of files that nobody uses are given up when memory is asked for.
    return int(limit) - used + int(held.get("inactive_file", 0))


def _state_bytes(layer: Any) -> int:
    """Memory of what a layer keeps whatever the length."""
    kinds = (getattr(layer, name, {}) for name in ("conv_states", "recurrent_states"))
    return sum(state.nbytes for kind in kinds for state in kind.values() if state is not None)


def _cross_bytes(model: PreTrainedModel) -> int:
    """One picture's keys and values in one layer; no text prompt has any to look at."""
    text, vision = hooks.text_config(model), model.config.vision_config
    num_patches = (vision.image_size // vision.patch_size) ** 2 + 1
    num_tokens = vision.max_num_tiles * num_patches
    head_dim = text.hidden_size // text.num_attention_heads
    return int(2 * num_tokens * text.num_key_value_heads * head_dim * model.dtype.itemsize)
