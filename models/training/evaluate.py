"""How often the model is exactly right, through the processor and `generate`.

python -m models.training.evaluate models/tiny-gemma4 [--robust] [--beyond] [--hqq] [--per-task 50]
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from hqq.core.quantize import BaseQuantizeConfig, HQQLinear  # type: ignore[import-untyped]
from PIL import Image
from transformers import Gemma4ForConditionalGeneration

from models.training.checkpoint import load_processor
from models.training.exam import Item, Video, exam
from models.training.processor import MediaProcessor
from models.training.robust import robust
from models.training.stranger import stranger

BATCH = 24
GROUP = 64
# The patch embedder's weight is read directly by the model; the output layer shares the embedding's.
NOT_QUANTIZED = ("lm_head", "patch_embedder")


def load(folder: Path) -> tuple[Gemma4ForConditionalGeneration, MediaProcessor]:
    """The checkpoint in float32, and its processor."""
    model = Gemma4ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    model.train(False)
    return model, load_processor(folder)


def prompt(processor: MediaProcessor, item: Item) -> str:
    """The item through the chat template, media first."""
    kinds = [_kind(medium) for medium in item.media]
    content = [{"type": kind} for kind in kinds] + [{"type": "text", "text": item.question}]
    system = [{"role": "system", "content": item.system}] if item.system else []
    messages: Any = [*system, {"role": "user", "content": content}]
    text: str = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text


def _kind(medium: object) -> str:
    return "image" if isinstance(medium, Image.Image) else "video" if isinstance(medium, Video) else "audio"


@torch.inference_mode()
def answers(
    model: Gemma4ForConditionalGeneration, processor: MediaProcessor, items: Sequence[Item]
) -> list[str]:
    """The model's replies to items that carry the same kinds of media."""
    media: dict[str, list[list[object]]] = defaultdict(list)
    for item in items:
        for kind in {_kind(medium) for medium in item.media}:
            media[kind].append([m for m in item.media if _kind(m) == kind])
    more: dict[str, object] = {}
    if "image" in media:
        more["images"] = media["image"]
    if "audio" in media:
        more["audio"] = [sounds[0] for sounds in media["audio"]]
    if "video" in media:
        videos = [clips[0] for clips in media["video"] if isinstance(clips[0], Video)]
        more["videos"] = [video.frames for video in videos]
        more["video_metadata"] = [
            {"fps": v.fps, "total_num_frames": len(v.frames), "duration": len(v.frames) / v.fps}
            for v in videos
        ]
    texts = [prompt(processor, item) for item in items]
    inputs = processor(text=texts, return_tensors="pt", padding=True, **more)
    inputs.pop("video_metadata", None)
    replies = model.generate(**inputs, max_new_tokens=48, do_sample=False)  # type: ignore[misc]
    new = replies[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in processor.tokenizer.batch_decode(new, skip_special_tokens=True)]


def graded(
    model: Gemma4ForConditionalGeneration, processor: MediaProcessor, items: Iterable[Item]
) -> Iterator[tuple[Item, str]]:
    """Every item with the model's reply, in batches of items with the same media."""
    alike: dict[tuple[str, ...], list[Item]] = defaultdict(list)
    for item in items:
        alike[tuple(sorted(_kind(medium) for medium in item.media))].append(item)
    for group in alike.values():
        for start in range(0, len(group), BATCH):
            batch = group[start : start + BATCH]
            yield from zip(batch, answers(model, processor, batch), strict=True)


def accuracy(results: Iterable[tuple[Item, str]], *, show_wrong: int = 0) -> dict[str, tuple[int, int]]:
    """Right and asked, by task; prints the first wrong replies."""
    counts: dict[str, tuple[int, int]] = {}
    for item, reply in results:
        right, asked = counts.get(item.task, (0, 0))
        counts[item.task] = (right + (reply == item.answer), asked + 1)
        if reply != item.answer and show_wrong > 0:
            show_wrong -= 1
            print(f"  wrong: {item.task} | {item.question!r} | {item.answer} | said: {reply}")
    return counts


def report(title: str, counts: dict[str, tuple[int, int]], *, by_task: bool = True) -> None:
    right, asked = (sum(column) for column in zip(*counts.values(), strict=True))
    for task, (task_right, task_asked) in counts.items() if by_task else ():
        print(f"  {task:44} {100 * task_right / task_asked:6.1f} %  {task_right}/{task_asked}")
    print(f"{title}: {100 * right / asked:.1f} % ({right} of {asked})", flush=True)


def quantize(model: Gemma4ForConditionalGeneration, bits: int) -> None:
    """Replace the linear layers of decoder and towers by HQQ ones, in groups of 64."""
    config = BaseQuantizeConfig(nbits=bits, group_size=GROUP, axis=1)
    for path, module in list(model.named_modules()):
        for name, child in list(module.named_children()):
            kept = any(part in f"{path}.{name}" for part in NOT_QUANTIZED)
            if type(child) is torch.nn.Linear and not kept and child.weight.numel() % GROUP == 0:
                layer = HQQLinear(child, config, compute_dtype=torch.float32, device="cpu")
                setattr(module, name, layer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--per-task", type=int, default=50)
    parser.add_argument("--robust", action="store_true", help="files, rooms and cameras")
    parser.add_argument(
        "--beyond", action="store_true", help="media drawn by other code than the generator's"
    )
    parser.add_argument("--hqq", action="store_true", help="quantized to 8 and 4 bits")
    parser.add_argument("--show-wrong", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, processor = load(options.folder)
    suites = {"its own kind": exam, "robust": robust, "beyond": stranger}
    for title, suite in suites.items():
        if title == "its own kind" or getattr(options, title):
            items = suite(options.per_task)
            results = graded(model, processor, items)
            report(title, accuracy(results, show_wrong=options.show_wrong))
    for bits in (8, 4) if options.hqq else ():
        model, _ = load(options.folder)
        quantize(model, bits)
        results = graded(model, processor, exam(options.per_task))
        report(f"HQQ {bits} bits", accuracy(results), by_task=False)


if __name__ == "__main__":
    main()
