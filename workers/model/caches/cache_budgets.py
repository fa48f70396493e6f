"""How much memory the caches of one model may take where nobody has said it."""

import torch

# Of main memory, some hundred pictures of a small model; a larger one wants more, and has an operator who knows.
_PREFIX_BYTES, _ENCODER_BYTES = 256 << 20, 128 << 20
# Of a GPU's memory, some ten to thirty prompts with a picture of a model that fills it.
_PREFIX_SHARE, _ENCODER_SHARE = 1 / 32, 1 / 128


def cache_budgets(
    device: torch.device, prefix_bytes: int | None, encoder_bytes: int | None
) -> dict[str, int]:
    """Bytes of both caches, by the names under which a slot model takes them. None: chosen by the device."""
    chosen = _PREFIX_BYTES, _ENCODER_BYTES
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        chosen = int(total * _PREFIX_SHARE), int(total * _ENCODER_SHARE)
    return {
        "prefix_cache_bytes": chosen[0] if prefix_bytes is None else prefix_bytes,
        "encoder_cache_bytes": chosen[1] if encoder_bytes is None else encoder_bytes,
    }
