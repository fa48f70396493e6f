"""Loading: from a folder or a hub name to a model that is ready to run, and the prompter that feeds it."""

import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils.logging import disable_progress_bar

from service.contract.media import MediaNeeds
from service.errors import ConfigurationError
from service.settings import QUANT_BITS, Settings
from workers.model.kernels import attention
from workers.model.prompting.processors import load_processor, processor_backend
from workers.model.prompting.prompts import Prompter
from workers.model.prompting.templates import load_template
from workers.model.weights.checkpoints import Checkpoint, find_checkpoint, load_config
from workers.model.weights.devices import check_memory, choose_device, choose_dtype, refuse_what_cannot_load
from workers.model.weights.fuse import fuse_activations
from workers.model.weights.packed import KernelChoice, choose_linears
from workers.model.weights.quantize import DEFAULT_SKIP, HqqOptions, describe, num_unquantized_experts
from workers.model.weights.quantized_cache import QuantizedCache, entry_name

log = logging.getLogger(__name__)

SMALL_PARAMETERS = 10_000_000

# A machine that computes more slowly than this is taken for one that hangs.
_SLOWEST_OPERATIONS_PER_SECOND = defaultdict(lambda: 1e12, cpu=1e10)

# Of a family whose positions have no limit of their own.
_UNKNOWN_CONTEXT = 1 << 17


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What to load, and how. `auto`: a CUDA device where there is one; float32 on a CPU, bfloat16 on CUDA.

    model: a folder or a hub name. quant_bits: 8, 4, 3, 2, 1, or None for full precision; the other `quant_` options
    are `HqqOptions`'. quant_cache: the folder in which quantized checkpoints are kept, up to `quant_cache_bytes`.
    linear_kernel: one of `service.settings.LINEAR_KERNELS`.
    """

    model: str
    device: str = "auto"
    dtype: str = "auto"
    quant_bits: int | None = None
    quant_group_size: int = 64
    quant_skip: tuple[str, ...] = DEFAULT_SKIP
    quant_rules: Mapping[str, int | None] = field(default_factory=dict)
    quant_organization: str = "default"
    quant_cache: Path | None = None
    quant_cache_bytes: int = 50 << 30
    linear_kernel: str = "auto"
    chat_template: Path | None = None
    num_threads: int | None = None
    revision: str | None = None
    hub_cache: Path | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> "LoadOptions":
        """What the operator has set."""
        return cls(
            model=settings.model,
            device=settings.device,
            dtype=settings.dtype,
            quant_bits=settings.quant_bits,
            quant_group_size=settings.quant_group_size,
            quant_skip=DEFAULT_SKIP if settings.quant_skip is None else settings.quant_skip,
            quant_rules=settings.quant_rules,
            quant_organization=settings.quant_organization,
            quant_cache=settings.quant_cache_dir,
            quant_cache_bytes=settings.quant_cache_bytes,
            linear_kernel=settings.linear_kernel,
            chat_template=settings.chat_template,
            num_threads=settings.num_torch_threads,
        )


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in eval mode on its device, and its prompter. `provenance` goes into every result."""

    model: PreTrainedModel
    prompter: Prompter
    revision: str
    seconds: float
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def needs(self) -> MediaNeeds:
        """What media it takes."""
        return self.prompter.needs

    @property
    def max_context_tokens(self) -> int:
        """Positions that the decoder was made for, prompt and answer together."""
        text = self.model.config.get_text_config(decoder=True)
        return int(getattr(text, "max_position_embeddings", None) or _UNKNOWN_CONTEXT)

    @property
    def slowest_seconds_per_token(self) -> float:
        """What a prompt token may cost on the weakest machine that we would call alive, two operations a weight."""
        return 2 * _num_weights(self.model) / _SLOWEST_OPERATIONS_PER_SECOND[self.model.device.type]

    @property
    def description(self) -> str:
        """One line for a log: precision, quantization, kernel, time."""
        facts = self.provenance
        stored = facts["quantization"]
        bits = f"HQQ {stored['bits']} bits in {stored['num_layers']} layers" if stored else "not quantized"
        where = f"{facts['dtype']} on {facts['device']}"
        return f"{where}, {bits}, {facts['linear_kernel']} linears, loaded in {self.seconds:.1f} s"


def load(options: LoadOptions) -> Loaded:
    """Load one model for serving.

    Errors: ConfigurationError, whose sentence says what to change.
    """
    started = time.perf_counter()
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    template = load_template(options.chat_template) if options.chat_template else None
    checkpoint = find_checkpoint(options.model, options.revision, options.hub_cache)
    config = load_config(checkpoint.folder)
    processor = load_processor(checkpoint.folder, config)
    model = load_model(checkpoint, config, options)
    _use_cores(model, options.num_threads)
    linears = choose_linears(model, options.linear_kernel)
    fuse_activations(model)
    has_kernels = device.type == "cpu" and attention.install()
    prompter = Prompter(processor, config, template=template, eos_ids=_eos_ids(model, processor), dtype=dtype)
    seconds = time.perf_counter() - started
    provenance = {
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        "device": str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "quantization": describe(model),
        "linear_kernel": linears.kernel,
        "quantized_kernel": linears.quantized_kernel if describe(model) else None,
        "rebuilt_layers": linears.num_rebuilt,
        "attention_kernel": "sluice" if has_kernels else "torch",
        "processor": processor_backend(),
    }
    _log_loaded(model, linears, provenance, seconds)
    return Loaded(model, prompter, checkpoint.revision, seconds, provenance)


def load_model(checkpoint: Checkpoint, config: PretrainedConfig, options: LoadOptions) -> PreTrainedModel:
    """The model alone, in eval mode on its device."""
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    auto_class = _auto_class(config, checkpoint)
    quantization = None if checkpoint.is_quantized else _quantization(options)
    check_memory(checkpoint, device, dtype, quantization.bits if quantization else None)
    with refuse_what_cannot_load(checkpoint, device):
        return _load_or_quantize(auto_class, checkpoint, config, device, dtype, quantization, options)


def _num_weights(model: PreTrainedModel) -> int:
    """Numbers that a token meets on its way, quantized layers counted by what they stand for."""
    sizes = [
        (getattr(module, "in_features", 0), getattr(module, "out_features", 0)) for module in model.modules()
    ]
    return max(int(model.num_parameters()), sum(int(rows) * int(columns) for rows, columns in sizes))


def _use_cores(model: PreTrainedModel, wanted: int | None) -> None:
    """Let torch use as many cores as asked for, all of them by default, and one for a small model.

    A small model's operators end before a second core has woken: its threads cost more than they give.
    """
    if wanted is None and _num_weights(model) < SMALL_PARAMETERS:
        wanted = 1
    if wanted is not None:
        torch.set_num_threads(wanted)


def _load_or_quantize(
    auto_class: Any,
    checkpoint: Checkpoint,
    config: PretrainedConfig,
    device: torch.device,
    dtype: torch.dtype,
    quantization: HqqOptions | None,
    options: LoadOptions,
) -> PreTrainedModel:
    """The model, quantized now or by an earlier start."""

    def fresh() -> PreTrainedModel:
        # A checkpoint that is stored quantized says so itself; None would unsay it.
        asked: dict[str, Any] = {"quantization_config": quantization} if quantization else {}
        return _load_model(auto_class, checkpoint.folder, device, dtype, config=config, **asked)

    def stored(entry: Path) -> PreTrainedModel:
        return _load_model(auto_class, entry, device, dtype, complete=True)

    if quantization is None or options.quant_cache is None:
        return fresh()
    identity = quantization.to_dict()
    name = entry_name(checkpoint.name, checkpoint.revision, identity, dtype, device.type)
    return QuantizedCache(options.quant_cache, options.quant_cache_bytes).load(name, stored, fresh)


def _load_model(
    auto_class: Any,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    complete: bool = False,
    **asked: Any,
) -> PreTrainedModel:
    """A model from files. complete: refuse (ValueError) to make up a weight that they lack."""
    disable_progress_bar()  # type: ignore[no-untyped-call]
    model: PreTrainedModel
    model, found = auto_class.from_pretrained(
        folder,
        dtype=dtype,
        device_map={"": device},
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        **asked,
    )
    lacking = found["missing_keys"] or found["mismatched_keys"]
    if complete and lacking:
        raise ValueError(f"{len(lacking)} weights are missing or have other shapes")
    model.eval()  # type: ignore[no-untyped-call]
    model.requires_grad_(False)
    return model


def _quantization(options: LoadOptions) -> HqqOptions | None:
    if options.quant_bits is None:
        return None
    if options.quant_bits not in QUANT_BITS:
        raise ConfigurationError(
            f"HQQ cannot store {options.quant_bits} bits.",
            hint=f"Use one of {', '.join(map(str, QUANT_BITS))}, or none.",
        )
    return HqqOptions(
        options.quant_bits,
        options.quant_group_size,
        options.quant_skip,
        options.quant_rules,
        options.quant_organization,
    )


def _log_loaded(
    model: PreTrainedModel, linears: KernelChoice, provenance: dict[str, Any], seconds: float
) -> None:
    log.info("Loaded %s in %.1f s: %s", provenance["model"], seconds, provenance)
    log.debug("Linear layers use the kernel %s: %s", linears.kernel, linears)
    if provenance["quantization"] and (experts := num_unquantized_experts(model)):
        log.info("%d blocks of experts stay in full precision", experts)


def _auto_class(config: PretrainedConfig, checkpoint: Checkpoint) -> Any:
    for auto in (AutoModelForMultimodalLM, AutoModelForImageTextToText):
        if type(config) in auto._model_mapping:
            return auto
    raise ConfigurationError(
        f"{checkpoint.name} is of the family '{checkpoint.model_type}', which does not turn media into text.",
        hint="Choose a vision-language or audio-language model.",
    )


def _eos_ids(model: PreTrainedModel, processor: Any) -> frozenset[int]:
    """Tokens that end an answer, by the model's generation settings and its tokenizer."""
    settings = model.generation_config
    named = settings.eos_token_id if settings is not None else None
    ids = {processor.tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])}
    return frozenset(number for number in ids if isinstance(number, int))
