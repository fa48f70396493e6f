"""What a GPU does with a model of real size: pictures a second, tokens a second, and where a step's time goes.

    python -m benchmarks.gpu [--model qwen3-vl-4b|gemma4-e4b] [--quant 4] [--slots 1 8 16 64 128 256] [--device cuda]

Weights are random, of the published shapes, bfloat16 on the device. A picture is 50 x 80 patches (1,000 tokens) for
Qwen and 280 tokens for Gemma, with 60 tokens of text. Prefill: pictures a second, one and four to a forward. Decode:
steps of N rows with about as many columns each; `host` is the time until a step is launched, `step` until its tokens
are here, one step in flight. The bound: a picture's operations, and the bytes that a step reads, against an H200's
790 TFLOP/s and 4.8 TB/s. `--tiny --device cpu` tries the program itself.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

# Before transformers, which cannot import torchvision beside a CPU torch by itself.
import workers.model  # noqa: F401

# isort: split
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from transformers import (
    AutoModelForMultimodalLM,
    Gemma4Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3VLConfig,
)

from workers.engine.protocol import Prefill, Sampling, StepPlan
from workers.model.prompting.prepared import Prepared
from workers.model.slot_model import TorchSlotModel
from workers.model.weights.packed import choose_linears
from workers.model.weights.quantize import HqqOptions

PEAK_FLOPS, PEAK_BYTES = 790e12, 4.8e12
TEXT_TOKENS = 60
STEPS = 20
CONTEXT = 1536


@dataclass(frozen=True)
class Subject:
    """A configuration and the tensors of one picture with its question."""

    config: PretrainedConfig
    request: Callable[[torch.Generator], dict[str, torch.Tensor]]


def qwen3_vl_4b(*, tiny: bool) -> Subject:
    """Shapes of Qwen3-VL-4B."""
    layers, hidden, vocabulary, grid = (36, 2560, 151_936, (50, 80)) if not tiny else (2, 64, 1000, (4, 8))
    text = {
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "intermediate_size": 9728 if not tiny else 128,
        "num_hidden_layers": layers,
        "num_attention_heads": 32 if not tiny else 4,
        "num_key_value_heads": 8 if not tiny else 2,
        "head_dim": 128 if not tiny else 16,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [24, 20, 20] if not tiny else [2, 3, 3],
        },
    }
    vision = {
        "depth": 24 if not tiny else 2,
        "hidden_size": 1024 if not tiny else 32,
        "intermediate_size": 4096 if not tiny else 64,
        "num_heads": 16 if not tiny else 4,
        "patch_size": 16,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": hidden,
        "num_position_embeddings": 2304,
        "deepstack_visual_indexes": [5, 11, 17] if not tiny else [0, 1],
    }
    image, begin, end = vocabulary - 3, vocabulary - 2, vocabulary - 1
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=image,
        video_token_id=vocabulary - 4,
        vision_start_token_id=begin,
        vision_end_token_id=end,
    )

    def request(generator: torch.Generator) -> dict[str, torch.Tensor]:
        num_patches = grid[0] * grid[1]
        words = torch.randint(5, vocabulary - 10, (1, TEXT_TOKENS), generator=generator)
        picture = torch.tensor([[begin, *[image] * (num_patches // 4), end]])
        ids = torch.cat([picture, words], dim=1)
        return {
            "input_ids": ids,
            "mm_token_type_ids": (ids == image).long(),
            "pixel_values": torch.randn(num_patches, 3 * 2 * 16 * 16, generator=generator),
            "image_grid_thw": torch.tensor([[1, *grid]]),
        }

    return Subject(config, request)


def gemma4_e4b(*, tiny: bool) -> Subject:
    """Shapes of Gemma 4 E4B's decoder and tower."""
    vocabulary, num_tokens = (262_144, 280) if not tiny else (1000, 4)
    layers = ["sliding_attention"] * 5 + ["full_attention"]
    text = {
        "vocab_size": vocabulary,
        "vocab_size_per_layer_input": vocabulary,
        "hidden_size": 2560 if not tiny else 64,
        "intermediate_size": 10_240 if not tiny else 128,
        "num_hidden_layers": 42 if not tiny else 6,
        "layer_types": layers * (7 if not tiny else 1),
        "num_attention_heads": 8 if not tiny else 4,
        "num_key_value_heads": 2,
        "head_dim": 256 if not tiny else 16,
        "global_head_dim": 512 if not tiny else 32,
        "hidden_size_per_layer_input": 256 if not tiny else 8,
        "num_kv_shared_layers": 18 if not tiny else 0,
        "sliding_window": 512 if not tiny else 16,
    }
    vision = {
        "hidden_size": 768 if not tiny else 32,
        "intermediate_size": 3072 if not tiny else 64,
        "num_hidden_layers": 16 if not tiny else 2,
        "num_attention_heads": 12 if not tiny else 4,
        "num_key_value_heads": 12 if not tiny else 4,
        "head_dim": 64 if not tiny else 8,
        "patch_size": 16,
        "pooling_kernel_size": 3 if not tiny else 2,
        "default_output_length": num_tokens,
    }
    image = vocabulary - 3
    config = Gemma4Config(
        text_config=text,
        vision_config=vision,
        audio_config=None,
        image_token_id=image,
        video_token_id=vocabulary - 4,
        audio_token_id=vocabulary - 5,
        boi_token_id=vocabulary - 2,
        eoi_token_id=vocabulary - 1,
    )
    rows, columns = (42, 60) if not tiny else (4, 4)

    def request(generator: torch.Generator) -> dict[str, torch.Tensor]:
        words = torch.randint(5, vocabulary - 10, (1, TEXT_TOKENS), generator=generator)
        picture = torch.tensor([[vocabulary - 2, *[image] * num_tokens, vocabulary - 1]])
        ids = torch.cat([picture, words], dim=1)
        places = torch.meshgrid(torch.arange(columns), torch.arange(rows), indexing="xy")
        return {
            "input_ids": ids,
            "mm_token_type_ids": (ids == image).long(),
            "pixel_values": torch.rand(1, rows * columns, 3 * 16 * 16, generator=generator),
            "image_position_ids": torch.stack(places, dim=-1).reshape(1, -1, 2),
        }

    return Subject(config, request)


SUBJECTS = {"qwen3-vl-4b": qwen3_vl_4b, "gemma4-e4b": gemma4_e4b}


@torch.no_grad()
def build(config: PretrainedConfig, device: torch.device, quant_bits: int | None) -> PreTrainedModel:
    """Random weights, made where they stay; quantized layer by layer if asked."""
    torch.manual_seed(0)
    with device:
        model: PreTrainedModel = AutoModelForMultimodalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation="sdpa"
        )
    model.eval()  # type: ignore[no-untyped-call]
    model.requires_grad_(False)
    if quant_bits is not None:
        options = HqqOptions(bits=quant_bits)
        for name, module in list(model.named_modules()):
            layer = options.linear(name, module, torch.bfloat16)
            if layer is not None and isinstance(module, nn.Linear):
                model.set_submodule(name, layer.quantize_(module.weight))
    choose_linears(model)
    return model


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_prefill(slots: TorchSlotModel, prompts: list[Prepared], device: torch.device) -> float:
    """Pictures a second when these prompts come in one plan."""
    rows = tuple(range(len(prompts)))
    plan = StepPlan(prefill=tuple(Prefill(row, row, prompts[row], Sampling()) for row in rows))
    best = float("inf")
    for _ in range(4):
        synchronize(device)
        started = time.perf_counter()
        slots.collect(slots.launch(plan))
        best = min(best, time.perf_counter() - started)
        slots.collect(slots.launch(StepPlan(free=rows)))
    return len(prompts) / best


def fill(slots: TorchSlotModel, vocabulary: int, num_tokens: int) -> None:
    """Let every row hold a prompt of words."""
    generator = torch.Generator().manual_seed(2)
    for row in range(slots.num_slots):
        ids = torch.randint(5, vocabulary - 10, (1, num_tokens), generator=generator)
        prompt = Prepared({"input_ids": ids, "mm_token_type_ids": torch.zeros_like(ids)})
        slots.collect(slots.launch(StepPlan(prefill=(Prefill(row, row, prompt, Sampling()),))))


def measure_decode(slots: TorchSlotModel) -> tuple[float, float]:
    """Seconds of a step and of its launch, one step in flight."""
    plan = StepPlan(decode=tuple(range(slots.num_slots)))
    for _ in range(3):
        slots.collect(slots.launch(plan))
    launching = 0.0
    started = time.perf_counter()
    pending = slots.launch(plan)
    for _ in range(STEPS):
        before = time.perf_counter()
        following = slots.launch(plan)
        launching += time.perf_counter() - before
        slots.collect(pending)
        pending = following
    slots.collect(pending)
    return (time.perf_counter() - started) / (STEPS + 1), launching / STEPS


def breakdown(slots: TorchSlotModel, device: torch.device) -> str:
    """The kernels that take the most of a step."""
    activities = {
        ProfilerActivity.CPU,
        ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU,
    }
    plan = StepPlan(decode=tuple(range(slots.num_slots)))
    with profile(activities=sorted(activities, key=str)) as trace:
        for _ in range(5):
            slots.collect(slots.launch(plan))
    order = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    return trace.key_averages().table(sort_by=order, row_limit=12, max_name_column_width=60)


def report(
    model: PreTrainedModel, subject: Subject, options: argparse.Namespace, device: torch.device
) -> None:
    """Print prefill, decode and where a step goes."""
    generator = torch.Generator().manual_seed(1)
    prompts = [_prepared(subject.request(generator)) for _ in range(4)]
    weights = sum(p.numel() for p in model.parameters())
    num_tokens = prompts[0].num_tokens
    print(
        f"{options.model}: {weights / 1e9:.2f} B weights, {num_tokens} prompt tokens a picture, quant {options.quant}"
    )
    slots = TorchSlotModel(model, num_slots=4, max_context_tokens=CONTEXT, prefill_token_budget=1 << 14)
    for group in (1, 4):
        rate = measure_prefill(slots, prompts[:group], device)
        share = 2 * weights * num_tokens * rate / PEAK_FLOPS
        print(
            f"prefill, {group} to a forward: {rate:8.2f} pictures/s, decoder alone {share:6.1%} of the peak"
        )
    del slots
    text = model.config.get_text_config(decoder=True)
    for num_slots in options.slots:
        slots = TorchSlotModel(model, num_slots=num_slots, max_context_tokens=CONTEXT)
        fill(slots, text.vocab_size, min(num_tokens, CONTEXT - 2 * STEPS - 40))
        step, host = measure_decode(slots)
        read = sum(p.nbytes for p in model.parameters()) + slots.num_cache_bytes * num_tokens / CONTEXT
        print(
            f"decode, {num_slots:4d} rows: {num_slots / step:9.1f} tokens/s, step {step * 1e3:7.2f} ms, "
            f"host {host * 1e3:6.2f} ms, bound {read / PEAK_BYTES * 1e3:6.2f} ms"
        )
        if num_slots == options.slots[len(options.slots) // 2]:
            print(breakdown(slots, device))
        del slots


def _prepared(inputs: dict[str, torch.Tensor]) -> Prepared:
    return Prepared(
        {name: t.to(torch.bfloat16) if t.is_floating_point() else t for name, t in inputs.items()}
    )


def main() -> None:
    """Measure one model."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(SUBJECTS), default="qwen3-vl-4b")
    parser.add_argument("--quant", type=int, choices=(8, 4, 3, 2, 1))
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 8, 16, 64, 128, 256])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a model of a few thousand weights")
    options = parser.parse_args()
    device = torch.device(options.device)
    subject = SUBJECTS[options.model](tiny=options.tiny)
    with torch.inference_mode():
        report(build(subject.config, device, options.quant), subject, options, device)


if __name__ == "__main__":
    main()
