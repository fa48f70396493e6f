"""Ten requests that begin alike: one text before many media, one medium under many questions, a chat that grows."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import torch
from answers import decided_answer, sequences_of, together
from crowds import family_of
from tiny_families.family import FIRST_SPECIAL, VOCABULARY, Family, Inputs, words
from torch import Generator, Tensor
from transformers import PreTrainedModel

from workers.engine.config import EngineConfig
from workers.engine.protocol import Sequence
from workers.model.groups import PER_TOKEN
from workers.model.prompting.content import content_of, media_digest
from workers.model.prompting.prepared import Prepared
from workers.model.slot_model import TorchSlotModel

CACHES = {"prefix_cache_bytes": 1 << 26, "encoder_cache_bytes": 1 << 26}
# So few prompt tokens that every step takes in one prompt.
ONE_A_STEP = EngineConfig(prefill_group=1, max_prefill_tokens=8)
AT_ONCE = EngineConfig(prefill_group=10)
ANSWER_TOKENS = 10
# How many of the ten can be spared something: all but the first of each kind.
NUM_SPARED = 7
_TOWER = re.compile(r"(^|\.)(vision_tower|visual|vision_model|audio_tower|image_embed|audio_embed)$")
# No family's words are among them.
_PLACEHOLDERS = range(FIRST_SPECIAL, VOCABULARY)


# A prompt and what `generate` answers to it.
Asked: TypeAlias = tuple[Prepared, list[int]]


@dataclass(frozen=True)
class Beginnings:
    """Requests of a family in their order, as (prompt, number of tokens to draw), and what `generate` answers."""

    family: Family
    requests: list[tuple[Prepared, int]]
    answers: list[list[int]]


@cache
def beginnings_of(name: str) -> Beginnings:
    """A family's requests, asked once."""
    family = family_of(name)
    # In mllama a text's states depend on the pictures behind it.
    kinds = ["text"] if name == "mllama" else list(family.kinds)
    asked = [*same_text(family, 4, kinds), *same_media(family, 3), *growing_chat(family, 3)]
    lengths = [ANSWER_TOKENS - 2 * number % 7 for number in range(len(asked))]
    return Beginnings(
        family,
        [(prompt, length) for (prompt, _), length in zip(asked, lengths, strict=True)],
        [answer[:length] for (_, answer), length in zip(asked, lengths, strict=True)],
    )


def scoped(inputs: Inputs, scope: str = "ours") -> Prepared:
    """A prompt as the prompter makes it, with its content."""
    media = [(name, tensor.numpy()) for name, tensor in inputs.items() if name not in PER_TOKEN]
    tokens = inputs["input_ids"][0].numpy()
    content = content_of(tokens, placeholders=_PLACEHOLDERS, media=media_digest(media), scope=scope)
    return Prepared(inputs, content=content)


def of_scope(prompt: Prepared, scope: str) -> Prepared:
    """The same prompt, asked by somebody else."""
    return scoped(dict(prompt.inputs), scope)


def after(text: Tensor, inputs: Inputs) -> Inputs:
    """Inputs with more text in front."""
    return inputs | {
        name: _joined(name, text, tensor) for name, tensor in inputs.items() if name in PER_TOKEN
    }


def before(inputs: Inputs, text: Tensor) -> Inputs:
    """Inputs with more text behind."""
    return inputs | {
        name: _joined(name, text, tensor, at_end=True) for name, tensor in inputs.items() if name in PER_TOKEN
    }


def _joined(name: str, text: Tensor, tensor: Tensor, at_end: bool = False) -> Tensor:
    if name == "input_ids":
        added = text
    else:
        # Text looks at the pictures before it, and at none before them.
        last = (
            tensor[:, -1:] if name == "cross_attention_mask" and at_end else torch.zeros_like(tensor[:, :1])
        )
        added = last.expand(-1, text.shape[1], *tensor.shape[2:])
    return torch.cat([tensor, added] if at_end else [added, tensor], dim=1)


def same_text(family: Family, count: int, kinds: list[str]) -> list[Asked]:
    """Prompts of every kind in turn behind one text of 40 words."""
    generator = Generator().manual_seed(3)
    text = words(generator, 40)
    return _decided(
        family,
        count,
        lambda number: after(text, family.kinds[kinds[number % len(kinds)]](generator, 6 + number % 5)),
    )


def same_media(family: Family, count: int, kind: str | None = None) -> list[Asked]:
    """Questions of different lengths under the same media."""
    generator = Generator().manual_seed(4)
    shown = before(family.kinds[kind or list(family.kinds)[-1]](generator, 10), words(generator, 20))
    return _decided(family, count, lambda number: before(shown, words(generator, 3 + number * 5 % 7)))


def media_behind_texts(family: Family, count: int, kind: str) -> list[Asked]:
    """The same media behind texts that differ from the first word on."""
    generator = Generator().manual_seed(6)
    shown = family.kinds[kind](generator, 12)
    return _decided(family, count, lambda number: after(words(generator, 4 + number), shown))


def growing_chat(family: Family, count: int) -> list[Asked]:
    """Each prompt goes on where the one before ended."""
    generator = Generator().manual_seed(5)
    turns = [before(family.kinds[list(family.kinds)[-1]](generator, 10), words(generator, 24))]

    def turn(number: int) -> Inputs:
        if number:
            turns.append(before(turns[-1], words(generator, 5 + number)))
        return turns[-1]

    return _decided(family, count, turn)


def _decided(family: Family, count: int, make: Callable[[int], Inputs]) -> list[Asked]:
    """Prompts and answers; a prompt whose answer hangs on a rounding is passed over."""
    asked: list[Asked] = []
    for _ in range(count + 20):
        prompt = scoped(make(len(asked)))
        answer = decided_answer(family.model, prompt, ANSWER_TOKENS)
        if answer is not None:
            asked.append((prompt, answer))
        if len(asked) == count:
            return asked
    raise AssertionError("this family leaves too many answers undecided")


@contextmanager
def tower_runs(model: PreTrainedModel) -> Iterator[list[str]]:
    """The names of the towers that run meanwhile."""
    runs: list[str] = []
    towers = [(name, module) for name, module in model.named_modules() if _TOWER.search(name)]
    assert towers
    hooks = [module.register_forward_hook(lambda *_, name=name: runs.append(name)) for name, module in towers]
    try:
        yield runs
    finally:
        for hook in hooks:
            hook.remove()


def with_other_media(prompt: Prepared) -> Prepared:
    """The same words about media of the same shapes."""
    inputs = {
        name: tensor.flip(-1) if name not in PER_TOKEN and tensor.is_floating_point() else tensor
        for name, tensor in prompt.inputs.items()
    }
    return scoped(inputs)


def asking(slots: TorchSlotModel, *prompts: Prepared, config: EngineConfig = ONE_A_STEP) -> list[Sequence]:
    """Ask prompts one after the other for six tokens each."""
    sequences = sequences_of([(prompt, 6) for prompt in prompts])
    together(slots, sequences, config)
    # The rows of the last answers are still held: another engine shall find the slots empty.
    slots._order.clear()
    return sequences
