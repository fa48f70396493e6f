"""Where a model goes: its device, its precision, and whether it fits."""

from collections.abc import Iterator
from contextlib import contextmanager

import psutil  # type: ignore[import-untyped]
import torch
from safetensors import SafetensorError

from service.errors import ConfigurationError
from workers.model.weights.checkpoints import Checkpoint, damaged_weights

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """The device of that name, or the best there is for `auto`."""
    if name == "auto":
        name = "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(
            f"There is no device '{name}'.", hint="Use auto, cpu, cuda or cuda:1."
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(
            f"The device {name} is not here: torch sees {torch.cuda.device_count()} CUDA devices.",
            hint="Use --device cpu, or install a CUDA build of torch and its driver.",
        )
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The precision of that name; for `auto` float32 on a CPU and bfloat16 elsewhere."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in _DTYPES:
        raise ConfigurationError(f"There is no dtype '{name}'.", hint=f"Use auto, {', '.join(_DTYPES)}.")
    return _DTYPES[name]


def check_memory(
    checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype, quant_bits: int | None
) -> None:
    """Refuse what certainly does not fit: a CPU's memory is handed out on credit, and the debtor is killed."""
    on_cuda = device.type == "cuda"
    free_bytes = torch.cuda.mem_get_info(device)[0] if on_cuda else psutil.virtual_memory().available
    bytes_each = quant_bits / 8 if quant_bits else dtype.itemsize
    if checkpoint.is_quantized:
        bytes_each = 1
    if checkpoint.num_weight_elements * bytes_each > free_bytes:
        raise _does_not_fit(checkpoint, device)


def _does_not_fit(checkpoint: Checkpoint, device: torch.device) -> ConfigurationError:
    return ConfigurationError(
        f"{checkpoint.name} does not fit the memory of {device}.",
        code="out_of_memory",
        hint="Quantize it to fewer bits, choose a smaller model, or another device.",
    )


@contextmanager
def refuse_what_cannot_load(checkpoint: Checkpoint, device: torch.device) -> Iterator[None]:
    """Turn what can go wrong with weight files into a sentence."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _does_not_fit(checkpoint, device) from error
    except ImportError as error:
        raise ConfigurationError(
            f"{checkpoint.name} needs a package that is not installed.",
            hint="It may be stored in a quantization that other libraries read; take the full checkpoint.",
        ) from error
    except SafetensorError as error:
        raise damaged_weights(checkpoint.name) from error
