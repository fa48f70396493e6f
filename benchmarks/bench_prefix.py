"""What the prefix and encoder caches save where prompts begin alike, and what they cost where none do.

    python -m benchmarks.bench_prefix [--workload bundled|idefics3] [--requests 48] [--repetitions 5]

Prompts are prepared beforehand, and hashed there as the desk does it; each answer has 8 tokens, float32, one thread.
Repetitions with and without the caches are interleaved; the figures are medians of process CPU-seconds.
"""

# Before transformers, which would otherwise load torchvision without its operators.
import workers.model  # noqa: F401

# isort: split
import argparse
import io
import statistics
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedModel

from benchmarks import bench_slots
from benchmarks.bench_slots import Item, cpu_seconds, make_items
from workers.engine.engine import Engine
from workers.engine.protocol import Sampling
from workers.engine.protocol import Sequence as Run
from workers.media.decoded import DecodedImage
from workers.model.groups import PER_TOKEN
from workers.model.loading import LoadOptions, load
from workers.model.prompting.content import content_of, media_digest
from workers.model.prompting.prepared import Prepared
from workers.model.slot_model import TorchSlotModel

NUM_SLOTS, ANSWER_TOKENS = 16, 8
BYTES = {"prefix_cache_bytes": 256 << 20, "encoder_cache_bytes": 128 << 20}
PREAMBLE = "Look at the picture and say where each shape stands and what it does there. " * 6


class Workload(Protocol):
    """A model, and a prompt of a text, a picture and words."""

    model: PreTrainedModel

    def prompt(self, item: Item, preamble: str) -> Prepared:
        """With its content."""


class Bundled:
    """The bundled model and its own prompter."""

    def __init__(self) -> None:
        loaded = load(LoadOptions(str(bench_slots.BUNDLED), device="cpu", dtype="float32"))
        self.model, self._prompter = loaded.model, loaded.prompter

    def prompt(self, item: Item, preamble: str) -> Prepared:
        """As the desk has it made."""
        with Image.open(io.BytesIO(item.jpeg)) as image:
            pixels = np.asarray(image.convert("RGB"))
        system = [{"role": "system", "content": preamble}] if preamble else []
        user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": item.prompt}]}
        picture = DecodedImage(pixels, (pixels.shape[1], pixels.shape[0]))
        return self._prompter.prepare([*system, user], [picture])


class Idefics3(bench_slots.Idefics3):
    """A random Idefics3 of 32M parameters and 64 tokens per picture."""

    def prompt(self, item: Item, preamble: str) -> Prepared:
        """Words hashed to tokens."""
        inputs = self.batch([item])
        del inputs["attention_mask"]
        text = torch.tensor([[len(word) * 37 % 900 + 3 for word in preamble.split()]], dtype=torch.long)
        inputs["input_ids"] = torch.cat([text, inputs["input_ids"]], dim=1)
        media = media_digest((name, inputs[name].numpy()) for name in sorted(inputs) if name not in PER_TOKEN)
        tokens = inputs["input_ids"][0].numpy()
        content = content_of(tokens, placeholders={self.image_token}, media=media, scope="")
        return Prepared(inputs, content=content)


def prompts_of(workload: Workload, items: Sequence[Item]) -> dict[str, list[Prepared]]:
    """Five piles of as many prompts."""
    few = [items[number // 12] for number in range(len(items))]
    return {
        "strangers": [workload.prompt(item, "") for item in items],
        "one long text": [workload.prompt(item, PREAMBLE) for item in items],
        "12 questions to a picture": [
            workload.prompt(Item(one.jpeg, item.prompt, 0), "") for one, item in zip(few, items, strict=True)
        ],
        "12 texts before a picture": [
            workload.prompt(Item(one.jpeg, "", 0), item.prompt) for one, item in zip(few, items, strict=True)
        ],
        "8 answers to a request": [workload.prompt(items[number // 8], "") for number in range(len(items))],
    }


def answers(model: PreTrainedModel, prompts: Sequence[Prepared], **caches: int) -> list[list[int]]:
    """What the slots say, and how."""
    slots = TorchSlotModel(
        model,
        num_slots=NUM_SLOTS,
        max_context_tokens=512,
        prefill_token_budget=1024,
        eos_ids=frozenset(),
        **caches,
    )
    engine = Engine(slots)
    runs = [Run(number, prompt, Sampling(max_tokens=ANSWER_TOKENS)) for number, prompt in enumerate(prompts)]
    for run in runs:
        engine.submit(run)
    while engine.has_work:
        engine.step()
    return [run.tokens for run in runs]


def main() -> None:
    """Print a line for each pile of prompts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", choices=("bundled", "idefics3"), default="bundled")
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    workload: Workload = Bundled() if options.workload == "bundled" else Idefics3()
    for name, prompts in prompts_of(workload, make_items(options.requests, seed=1)).items():
        ways: list[Callable[[], list[list[int]]]] = [
            lambda prompts=prompts: answers(workload.model, prompts),
            lambda prompts=prompts: answers(workload.model, prompts, **BYTES),
        ]
        plain, cached = (way() for way in ways)
        same = sum(one == other for one, other in zip(plain, cached, strict=True))
        seconds: list[list[float]] = [[], []]
        for _ in range(options.repetitions):
            for way, measured in zip(ways, seconds, strict=True):
                measured.append(cpu_seconds(way))
        off, on = map(statistics.median, seconds)
        print(
            f"{name:28s} same {same}/{len(prompts)}  {off:6.2f} -> {on:6.2f} CPU-s  {off / on:5.2f}x",
            flush=True,
        )


if __name__ == "__main__":
    main()
