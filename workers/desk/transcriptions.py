"""A transcription, on its way to become a conversation with a model that hears."""

from collections.abc import Sequence
from dataclasses import replace

from service.contract.chat import ChatRequest
from service.contract.media import MediaKind
from service.contract.transcriptions import TranscriptionRequest
from service.errors import BadRequest
from workers.engine.protocol import Sampling
from workers.model.prompting.prompts import Prompter


def hearing(
    prompter: Prompter, wanted: TranscriptionRequest, instruction: str, model: str
) -> tuple[ChatRequest, tuple[int, ...]]:
    """The conversation, and the tokens that end its prompt. A model that was made for transcribing is told nothing.

    instruction: for all others. model: the name that it is served under. BadRequest if it cannot hear.
    """
    if MediaKind.AUDIO not in prompter.needs.takes:
        raise BadRequest(
            f"The model {model!r} cannot hear.",
            param="model",
            code="unsupported_modality",
            hint="Name one whose `input_modalities` at /v1/models have audio.",
        )
    ending = prompter.transcription_ending(wanted.language)
    return wanted.conversation(instruction if ending is None else None), ending or ()


def at_length(drawn_by: Sequence[Sampling], num_sound_tokens: int, room: int) -> tuple[Sampling, ...]:
    """The same with room for all that was said: speech has fewer tokens as text than as sound."""
    return tuple(
        replace(sampling, max_tokens=min(room, max(sampling.max_tokens, num_sound_tokens)))
        for sampling in drawn_by
    )
