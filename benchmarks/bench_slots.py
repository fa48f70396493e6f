"""Slots against the plain loop: useful tokens per CPU-second on ragged outputs, float32, one thread.

    python -m benchmarks.bench_slots [--workload bundled|idefics3] [--requests 128] [--repetitions 3]

The plain loop is what a person would write: open 16 pictures with PIL, run the processor, `generate` the left-padded
batch until its longest answer is done. The slots do the same preparation one request at a time. Both answer each
request with a fixed number of tokens, so that the useful tokens are known. Repetitions are interleaved; the figure is
the median of process CPU-seconds.
"""

import argparse
import copy
import io
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

# Before transformers, which cannot import torchvision beside a CPU torch by itself.
import workers.model  # noqa: F401

# isort: split
import torch
from PIL import Image, ImageDraw
from transformers import (
    AutoModelForMultimodalLM,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import AttentionInterface

from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Sampling, Sequence
from workers.media.decoded import DecodedImage
from workers.model.kernels import attention
from workers.model.loading import LoadOptions, load
from workers.model.prompting.prepared import Prepared
from workers.model.prompting.processors import load_processor
from workers.model.slot_model import TorchSlotModel
from workers.model.weights.packed import choose_linears

BATCH = 16
LENGTHS = (8, 16, 32, 128)
BUNDLED = Path(__file__).resolve().parent.parent / "models" / "tiny-gemma4"
WORDS = (
    "what",
    "is",
    "in",
    "the",
    "picture",
    "and",
    "where",
    "does",
    "it",
    "stand",
    "more",
    "about",
    "each",
    "shape",
)


@dataclass(frozen=True)
class Item:
    """One request: a JPEG, words, and how many tokens it wants."""

    jpeg: bytes
    prompt: str
    num_tokens: int


class Workload(Protocol):
    """A model and the two ways to prepare items for it. plain: the same weights, loaded as a person would."""

    model: PreTrainedModel
    plain: PreTrainedModel

    def one(self, item: Item) -> Prepared:
        """One request's tensors."""

    def batch(self, items: list[Item]) -> dict[str, torch.Tensor]:
        """A left-padded batch, as a person would make it."""


class Bundled:
    """The bundled model with its own processor."""

    def __init__(self) -> None:
        loaded = load(LoadOptions(str(BUNDLED), device="cpu", dtype="float32"))
        self.model, self._prompter = loaded.model, loaded.prompter
        self.plain: PreTrainedModel = AutoModelForMultimodalLM.from_pretrained(BUNDLED, dtype=torch.float32)
        self._processor = load_processor(BUNDLED, self.model.config)

    def one(self, item: Item) -> Prepared:
        """Through the prompter, as the desk does it."""
        with Image.open(io.BytesIO(item.jpeg)) as image:
            pixels = np.asarray(image.convert("RGB"))
        picture = DecodedImage(pixels, (pixels.shape[1], pixels.shape[0]))
        return self._prompter.prepare(_message(item, {"type": "image"}), [picture])

    def batch(self, items: list[Item]) -> dict[str, torch.Tensor]:
        """Through the processor, all at once."""
        images = [Image.open(io.BytesIO(item.jpeg)).convert("RGB") for item in items]
        messages = [
            _message(item, {"type": "image", "image": image})
            for item, image in zip(items, images, strict=True)
        ]
        features = self._processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
        return dict(features)


class Idefics3:
    """A random Idefics3 of 32M parameters and 64 tokens per picture; PIL alone prepares its pictures."""

    side = 128
    image_token = 1000

    def __init__(self) -> None:
        text = {
            "model_type": "llama",
            "vocab_size": 1024,
            "hidden_size": 512,
            "intermediate_size": 1408,
            "num_hidden_layers": 8,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "pad_token_id": 0,
        }
        vision = {
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_hidden_layers": 6,
            "num_attention_heads": 4,
            "image_size": self.side,
            "patch_size": 8,
        }
        config = Idefics3Config(
            text_config=text, vision_config=vision, image_token_id=self.image_token, scale_factor=2
        )
        torch.manual_seed(0)
        self.plain: PreTrainedModel = Idefics3ForConditionalGeneration(config)
        self.plain.eval()  # type: ignore[no-untyped-call]
        self.model: PreTrainedModel = copy.deepcopy(self.plain)
        choose_linears(self.model)

    def one(self, item: Item) -> Prepared:
        """A batch of one."""
        inputs = self.batch([item])
        del inputs["attention_mask"]
        return Prepared(inputs)

    def batch(self, items: list[Item]) -> dict[str, torch.Tensor]:
        """Pictures scaled by PIL; words hashed to tokens."""
        prompts = [
            [self.image_token] * 64 + [len(word) * 31 % 900 + 3 for word in item.prompt.split()]
            for item in items
        ]
        longest = max(map(len, prompts))
        pixels = torch.from_numpy(np.stack([self._pixels(item.jpeg) for item in items]))[:, None]
        return {
            "input_ids": torch.tensor([[0] * (longest - len(ids)) + ids for ids in prompts]),
            "attention_mask": torch.tensor([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts]),
            "pixel_values": pixels,
            "pixel_attention_mask": torch.ones(len(items), 1, self.side, self.side, dtype=torch.long),
        }

    def _pixels(self, jpeg: bytes) -> Any:
        with Image.open(io.BytesIO(jpeg)) as image:
            scaled = image.convert("RGB").resize((self.side, self.side), Image.Resampling.BICUBIC)
        return (np.asarray(scaled, dtype=np.float32) / 127.5 - 1).transpose(2, 0, 1)


def make_items(count: int, seed: int) -> list[Item]:
    """Pictures nobody has seen before, 8 to 39 words, answers of mixed lengths in random order."""
    rng = random.Random(seed)
    items = []
    for _ in range(count):
        image = Image.new("RGB", (320, 240), _colour(rng))
        for _ in range(rng.randint(1, 4)):
            x, y = rng.randint(0, 240), rng.randint(0, 160)
            ImageDraw.Draw(image).ellipse(
                (x, y, x + rng.randint(20, 80), y + rng.randint(20, 80)), _colour(rng)
            )
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        words = " ".join(rng.choices(WORDS, k=rng.randint(8, 39)))
        items.append(Item(buffer.getvalue(), words, rng.choice(LENGTHS)))
    return items


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255)


def _message(item: Item, picture: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [picture, {"type": "text", "text": item.prompt}]}]


def run_plain_loop(workload: Workload, items: list[Item]) -> list[list[int]]:
    """`generate` on batches of 16, each until its longest answer is done."""
    answers = []
    for start in range(0, len(items), BATCH):
        group = items[start : start + BATCH]
        inputs = workload.batch(group)
        longest = max(item.num_tokens for item in group)
        with torch.inference_mode():
            output = workload.plain.generate(**inputs, max_new_tokens=longest, do_sample=False)  # type: ignore[operator]
        new = output[:, inputs["input_ids"].shape[1] :].tolist()
        answers += [tokens[: item.num_tokens] for tokens, item in zip(new, group, strict=True)]
    return answers


def run_slots(
    workload: Workload,
    model: PreTrainedModel,
    items: list[Item],
    config: EngineConfig,
    num_slots: int = BATCH,
) -> list[list[int]]:
    """The engine, fed ahead by as many as it has slots."""
    slots = TorchSlotModel(
        model, num_slots=num_slots, max_context_tokens=512, prefill_token_budget=1024, eos_ids=frozenset()
    )
    engine = Engine(slots, config)
    sequences: list[Sequence] = []
    waiting = iter(enumerate(items))
    while True:
        while engine.num_waiting < num_slots and (entry := next(waiting, None)) is not None:
            number, item = entry
            sequences.append(Sequence(number, workload.one(item), Sampling(max_tokens=item.num_tokens)))
            engine.submit(sequences[-1])
        if not engine.has_work:
            return [sequence.tokens for sequence in sequences]
        engine.step()


def with_torchs_attention(run: Callable[[], list[list[int]]]) -> list[list[int]]:
    """As transformers has it, without our kernels, which a loaded model brings into the whole process."""
    AttentionInterface.register("sdpa", sdpa_attention_forward)
    try:
        return run()
    finally:
        attention.install()


def cpu_seconds(run: Callable[[], object]) -> float:
    """CPU time of this process for one run."""
    started = time.process_time()
    run()
    return time.process_time() - started


def main() -> None:
    """Print one line per way and the ratio."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", choices=("bundled", "idefics3"), default="bundled")
    parser.add_argument("--requests", type=int, default=128)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--prefill-group", type=int, default=EngineConfig().prefill_group)
    options = parser.parse_args()
    torch.set_num_threads(1)
    workload: Workload = Bundled() if options.workload == "bundled" else Idefics3()
    for model in (workload.model, workload.plain):
        model.generation_config.eos_token_id = None
    config = EngineConfig(prefill_group=options.prefill_group)
    items = make_items(options.requests, seed=1)
    useful = sum(item.num_tokens for item in items)
    ways: dict[str, Callable[[], list[list[int]]]] = {
        "plain loop, batches of 16": lambda: with_torchs_attention(lambda: run_plain_loop(workload, items)),
        "16 slots, torch's kernels": lambda: with_torchs_attention(
            lambda: run_slots(workload, workload.plain, items, config)
        ),
        "16 slots, as we load it": lambda: run_slots(workload, workload.model, items, config),
    }
    answers = [run() for run in ways.values()]
    for name, given in zip(ways, answers, strict=True):
        same = sum(one == other for one, other in zip(given, answers[0], strict=True))
        print(f"{name:28s} same text as the plain loop {same}/{len(items)}")
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.repetitions):
        for name, run in ways.items():
            seconds[name].append(cpu_seconds(run))
    medians = {name: statistics.median(measured) for name, measured in seconds.items()}
    plain = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"{name:28s} {median:7.2f} CPU-s  {useful / median:7.0f} tokens/CPU-s  {plain / median:5.2f}x")


if __name__ == "__main__":
    main()
