"""Token sequences: one message's media, then several questions side by side, each with its own answer.

The questions do not see each other (block mask) and each starts right behind the media (restarted positions), so
one pass over the media teaches several answers, and every token stands where the chat template would put it.
Some sequences are conversations instead: there every question sees the earlier ones and their answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from models.training.checkpoint import TOKEN_ID
from models.training.samples import Frame, Sample
from models.training.wordings import system_prompt

IGNORED = -100
MASKED = -3e4


@dataclass(frozen=True)
class Packed:
    """A batch of sequences. ids, targets, positions, owner: int64 [rows, tokens]; mask: [rows, 1, tokens, tokens].

    owner: index of the question whose answer is predicted here, or -1. pictures, sounds: which media, in order.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    owner: torch.Tensor
    tasks: list[str]
    pictures: list[int]
    sounds: list[int]


@dataclass
class Media:
    """All media of one training step, in the order in which the towers see them."""

    pictures: list[Image.Image] = field(default_factory=list)
    sounds: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Slot:
    """Where one picture, frame or sound goes: its place in `Media` and the token that stands for it."""

    index: int
    token: str


@dataclass(frozen=True)
class Draft:
    """A sequence whose media do not have their numbers of tokens yet."""

    prefix: tuple[list[int] | Slot, ...]
    sample: Sample
    conversation: bool = False


class Typesetter:
    """Writes samples as token ids, as the chat template and the processor would."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self.tokenizer = tokenizer
        self._known: dict[str, list[int]] = {}
        self.before_answer = self.encode("<turn|>\n<|turn>model\n")
        self.next_turn = self.encode("\n<|turn>user\n")

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens around it."""
        ids = self._known.get(text)
        if ids is None:
            if len(self._known) > 200_000:
                self._known.clear()
            ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
            self._known[text] = ids
        return ids

    def draft(self, sample: Sample, media: Media, rng: np.random.Generator | None = None) -> Draft:
        """Put the sample's media in line; with a generator, some become conversations or get a system prompt."""
        system = system_prompt(rng) if rng is not None and rng.random() < 0.12 else None
        conversation = rng is not None and rng.random() < 0.12
        parts: list[list[int] | Slot] = [self.head(system)]
        frames = 0
        for item in sample.media:
            if isinstance(item, np.ndarray):
                parts.append(Slot(len(media.sounds), "<|audio|>"))
                media.sounds.append(item)
                continue
            if isinstance(item, Frame):
                second = int(item.second)
                stamp = f"{second // 60:02d}:{second % 60:02d} "
                parts.append(self.encode(stamp if frames == 0 else " " + stamp))
                frames += 1
            picture = item.picture if isinstance(item, Frame) else item
            token = "<|video|>" if isinstance(item, Frame) else "<|image|>"
            parts.append(Slot(len(media.pictures), token))
            media.pictures.append(picture)
        return Draft(tuple(parts), sample, conversation)

    def head(self, system: str | None) -> list[int]:
        """The start of the conversation up to the user's first word."""
        turn = self.encode(f"<|turn>system\n{system}") + self.encode("<turn|>\n") if system else []
        return [TOKEN_ID["<bos>"], *turn, *self.encode("<|turn>user\n")]

    def pack(
        self,
        drafts: Sequence[Draft],
        num_tokens: int,
        picture_tokens: Sequence[int],
        sound_tokens: Sequence[int],
    ) -> Packed:
        """Fill rows of `num_tokens` with as many questions as fit."""
        shape = (len(drafts), num_tokens)
        ids, positions = torch.zeros(shape, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
        targets, owner = torch.full(shape, IGNORED), torch.full(shape, -1)
        block = torch.full(shape, -1)
        tasks: list[str] = []
        for row, draft in enumerate(drafts):
            prefix = self._prefix(draft, picture_tokens, sound_tokens)
            start = end = len(prefix)
            ids[row, :start], positions[row, :start] = torch.tensor(prefix), torch.arange(start)
            block[row, :start] = 0
            for number, question in enumerate(draft.sample.questions):
                follows = draft.conversation and number > 0
                opening = self.next_turn if follows else []
                asked = [*opening, *self.encode(question.question), *self.before_answer]
                answer = [*self.encode(question.answer), TOKEN_ID["<turn|>"]]
                here, end = end, end + len(asked) + len(answer)
                if end > num_tokens:
                    break
                ids[row, here:end] = torch.tensor(asked + answer)
                first = here if follows else start
                positions[row, here:end] = torch.arange(first, first + end - here)
                block[row, here:end] = 1 if draft.conversation else number + 1
                predicted = slice(here + len(asked) - 1, end - 1)
                targets[row, predicted] = torch.tensor(answer)
                owner[row, predicted] = len(tasks)
                tasks.append(question.task)
        slots = [part for draft in drafts for part in draft.prefix if isinstance(part, Slot)]
        return Packed(
            ids=ids,
            targets=targets,
            positions=positions,
            mask=_block_mask(block),
            owner=owner,
            tasks=tasks,
            pictures=[slot.index for slot in slots if slot.token != "<|audio|>"],
            sounds=[slot.index for slot in slots if slot.token == "<|audio|>"],
        )

    def _prefix(self, draft: Draft, picture_tokens: Sequence[int], sound_tokens: Sequence[int]) -> list[int]:
        ids: list[int] = []
        for part in draft.prefix:
            if isinstance(part, list):
                ids += part
            elif part.token == "<|audio|>":
                body = [TOKEN_ID["<|audio|>"]] * sound_tokens[part.index]
                ids += [TOKEN_ID["<|audio>"], *body, TOKEN_ID["<audio|>"]]
            else:
                body = [TOKEN_ID[part.token]] * picture_tokens[part.index]
                ids += [TOKEN_ID["<|image>"], *body, TOKEN_ID["<image|>"]]
        return ids


def _block_mask(block: torch.Tensor) -> torch.Tensor:
    """Causal, and every question sees only the media (block 0) and itself. block: [rows, tokens]."""
    num_tokens = block.shape[1]
    same = block[:, :, None] == block[:, None, :]
    seen = torch.ones(num_tokens, num_tokens, dtype=torch.bool).tril() & (same | (block[:, None, :] == 0))
    seen |= torch.eye(num_tokens, dtype=torch.bool)
    return torch.zeros(seen.shape).masked_fill(~seen, MASKED)[:, None]
