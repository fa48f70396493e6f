"""Prompts: messages and decoded media become the tensors of one request."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from queue import Empty, SimpleQueue
from typing import Any

import torch
from transformers import PretrainedConfig

from service.contract.media import MediaKind, MediaNeeds
from service.errors import BadMedia, BadRequest
from workers.media.decoded import Decoded, DecodedImage, DecodedVideo
from workers.model.calling.tools import ToolFormat
from workers.model.grammars.grammar import Grammars
from workers.model.prompting.chat_format import ChatFormat, Message
from workers.model.prompting.content import Content, content_of, media_digest
from workers.model.prompting.detokenize import Detokenizer
from workers.model.prompting.media_parts import (
    KIND_OF,
    named_arrays,
    seconds_per_grid,
    shown_long_enough,
    video_options,
    with_media,
)
from workers.model.prompting.prepared import Prepared, PromptCounts
from workers.model.prompting.processors import (
    Processor,
    media_needs,
    mixes_up_images_and_videos,
    placeholder_ids,
)
from workers.model.prompting.templates import ChatTemplate
from workers.model.prompting.token_bytes import TokenBytes
from workers.model.prompting.visual_budget import image_options
from workers.model.prompting.voxtral_sounds import transcription_ending
from workers.model.special_tokens import special_ids


class Prompter:
    """Renders the chat template and runs the family's processor. Threads may prepare at once.

    A processor is not safe to share between threads, since its tokenizer keeps switches of the call in progress;
    every call borrows one of its own, and as many copies are made as there are calls at a time.
    """

    def __init__(
        self,
        processor: Processor,
        config: PretrainedConfig,
        *,
        template: ChatTemplate | None = None,
        eos_ids: frozenset[int] = frozenset(),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.needs: MediaNeeds = media_needs(processor, config)
        self.eos_ids = eos_ids
        self.vocab_size = _vocab_size(config, processor)
        self.token_bytes = TokenBytes(processor.tokenizer)
        self.grammars = Grammars(processor.tokenizer, eos_ids, self.vocab_size)
        self._dtype = dtype
        self._original = processor
        self._idle: SimpleQueue[Processor] = SimpleQueue()
        self._format = ChatFormat(processor, template)
        self._placeholders = {kind: placeholder_ids(kind, processor, config) for kind in MediaKind}
        self._mixes_up = mixes_up_images_and_videos(processor)
        self._special_ids = special_ids(processor.tokenizer)

    def prepare(
        self,
        messages: Sequence[Message],
        media: Sequence[Decoded],
        *,
        tools: Sequence[Message] | None = None,
        add_generation_prompt: bool = True,
        scope: str = "",
        ending: Sequence[int] = (),
    ) -> Prepared:
        """The tensors of one request, with batch size 1.

        messages: content is text or parts, a medium's part being {"type": "image" | "video" | "audio"}.
        media: what these parts stand for, in their order. tools: what the model may call, and past calls in the
        messages, as `service.contract.tools` makes them for templates. scope: whose they are; nothing that
        is computed for one scope is used for another. ending: tokens that follow all that.
        Errors: BadRequest or BadMedia, with the part's place in the conversation.
        """
        facts = tuple(medium.facts for medium in media)
        media = shown_long_enough(media, self._original)
        conversation = with_media(messages, media, self.needs)
        if self._mixes_up and {DecodedImage, DecodedVideo} <= {type(medium) for medium in media}:
            raise BadRequest(
                "This model takes pictures or videos, but not both in one conversation.",
                param="messages",
                code="unsupported_modality",
            )
        wishes = video_options(media) | image_options(self._original, media)
        options = {"add_generation_prompt": add_generation_prompt, "processor_kwargs": wishes}
        with self._borrowed_processor() as processor:
            try:
                features = self._format.apply(processor, conversation, options, tools)
            except (ValueError, RuntimeError, ArithmeticError, IndexError) as error:
                raise BadMedia(
                    "The model's processor cannot take this combination of text and media.", param="messages"
                ) from error
        features.update(seconds_per_grid(processor, features, media))
        features.update(_continued(features, ending))
        inputs = {
            name: self._cast(value) for name, value in features.items() if isinstance(value, torch.Tensor)
        }
        counts, content = self._count(inputs["input_ids"], media), self._content(inputs, media, scope)
        return Prepared(inputs, counts, content, media=facts)

    @property
    def tool_format(self) -> ToolFormat:
        """How this model calls tools."""
        return self._format.tool_format

    def detokenizer(self, keep_tokens: frozenset[int] = frozenset()) -> Detokenizer:
        """A fresh one, for one answer. keep_tokens: special tokens that its text shows."""
        return Detokenizer(self._original.tokenizer, self._special_ids - keep_tokens)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """Token ids of plain text. add_special_tokens: with those that begin a prompt."""
        with self._borrowed_processor() as processor:
            return list(processor.tokenizer.encode(text, add_special_tokens=add_special_tokens))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of any tokens, special ones among it."""
        with self._borrowed_processor() as processor:
            return str(processor.tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def transcription_ending(self, language: str | None) -> tuple[int, ...] | None:
        """The `ending` that asks a family for a transcription which was made for them; None for all others."""
        with self._borrowed_processor() as processor:
            return transcription_ending(processor.tokenizer, language)

    def spell(self, ids: Sequence[int]) -> list[str]:
        """Each token as the vocabulary writes it; nothing for a number without a token."""
        with self._borrowed_processor() as processor:
            return [token or "" for token in processor.tokenizer.convert_ids_to_tokens(ids)]

    @contextmanager
    def _borrowed_processor(self) -> Iterator[Processor]:
        try:
            processor = self._idle.get_nowait()
        except Empty:
            processor = deepcopy(self._original)
        try:
            yield processor
        finally:
            self._idle.put(processor)

    def _cast(self, value: torch.Tensor) -> torch.Tensor:
        """Pixels and sound features go to the model's precision here, where it costs the device nothing."""
        return value.to(self._dtype) if value.is_floating_point() and value.ndim > 1 else value

    def _content(
        self, inputs: Mapping[str, torch.Tensor], media: Sequence[Decoded], scope: str
    ) -> Content | None:
        return content_of(
            inputs["input_ids"][0].numpy(),
            placeholders=frozenset().union(*self._placeholders.values()),
            media=media_digest(array for medium in media for array in named_arrays(medium)),
            scope=scope,
        )

    def _count(self, input_ids: torch.Tensor, media: Sequence[Decoded]) -> PromptCounts:
        """Tokens by modality; a family that shows a video as many images has them counted as video."""
        ids = input_ids[0].tolist()
        counts = {kind: sum(token in tokens for token in ids) for kind, tokens in self._placeholders.items()}
        kinds = {KIND_OF[type(medium)] for medium in media}
        if MediaKind.VIDEO in kinds and MediaKind.IMAGE not in kinds and not counts[MediaKind.VIDEO]:
            counts[MediaKind.VIDEO], counts[MediaKind.IMAGE] = counts[MediaKind.IMAGE], 0
        return PromptCounts(
            text=len(ids) - sum(counts.values()),
            image=counts[MediaKind.IMAGE],
            video=counts[MediaKind.VIDEO],
            audio=counts[MediaKind.AUDIO],
        )


def _continued(features: Mapping[str, Any], ending: Sequence[int]) -> dict[str, torch.Tensor]:
    """`ending` behind the tokens of a prompt, and what goes with them: attended to, and of the text's type."""
    if not ending:
        return {}
    ids = features["input_ids"]
    tails = {"input_ids": torch.tensor([ending]), "attention_mask": torch.ones(1, len(ending))}
    alongside = [name for name, value in features.items() if getattr(value, "shape", None) == ids.shape]
    nothing = torch.zeros(1, len(ending))
    return {
        name: torch.cat([features[name], tails.get(name, nothing).to(features[name].dtype)], dim=1)
        for name in alongside
    }


def _vocab_size(config: PretrainedConfig, processor: Processor) -> int:
    """How many tokens the model can draw; its table may be longer than the tokenizer's."""
    text = config.get_text_config(decoder=True)
    return int(getattr(text, "vocab_size", None) or len(processor.tokenizer))
