"""Transcriptions on the wire, as the openai client expects them, and as the desk reads them."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from service.contract.chat import ChatRequest, read_chat_request
from service.contract.chat_parts import Wire
from service.contract.media import MediaKind, MediaRef
from service.contract.plain_errors import bad_request
from service.contract.strict_json import parse_object
from service.errors import SluiceError

MAX_PROMPT_CHARACTERS = 4096
OTHER_FORMATS = ("verbose_json", "diarized_json", "srt", "vtt")

Language = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
Prompt = Annotated[str, Field(max_length=MAX_PROMPT_CHARACTERS)]
Temperature = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class TranscriptionRequest(Wire):
    """What the desk gets: the uploaded sound by its file id, and how its text is wanted.

    language: ISO 639-1. prompt: what the text may be about, and how it is spelt.
    """

    model: str
    file: str
    language: Language | None = None
    prompt: Prompt | None = None
    temperature: Temperature | None = None

    def sound(self) -> MediaRef:
        """What the media room has to load."""
        return MediaRef(MediaKind.AUDIO, self.file, "file")

    def in_own_words(self, error: SluiceError) -> SluiceError:
        """An error about the conversation, which the client never wrote, as one about its sound."""
        if (error.param or "").startswith("messages"):
            error.param = "file"
        return error

    def conversation(self, instruction: str | None) -> ChatRequest:
        """The request as a chat. instruction: what a model has to be told that was not made for this alone."""
        content: list[dict[str, Any]] = [{"type": "audio_url", "audio_url": {"url": self.file}}]
        if instruction is not None:
            words = [instruction]
            words += [f"The language is {self.language!r}."] if self.language else []
            words += [f"What is known of it: {self.prompt}"] if self.prompt else []
            content.append({"type": "text", "text": " ".join(words)})
        body: dict[str, Any] = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        return read_chat_request(body)


class InputTokens(BaseModel):
    """The prompt's tokens by modality."""

    audio_tokens: int
    text_tokens: int


class TranscriptionUsage(BaseModel):
    """OpenAI: usage of a model that is billed by tokens."""

    type: Literal["tokens"] = "tokens"
    input_tokens: int
    input_token_details: InputTokens
    output_tokens: int
    total_tokens: int


class Transcription(BaseModel):
    """OpenAI: the transcription object. finish_reason is ours: `length` where the text had to end too soon."""

    text: str
    usage: TranscriptionUsage
    finish_reason: str


def parse_transcription_request(raw: bytes) -> TranscriptionRequest:
    """Read a job's body; BadRequest names the field and the reason."""
    try:
        return TranscriptionRequest.model_validate(parse_object(raw))
    except ValidationError as error:
        raise bad_request(error) from None


def transcription_of(completion: Mapping[str, Any]) -> Transcription:
    """A chat completion that answers a transcription request, in the words of its endpoint."""
    choice, usage = completion["choices"][0], completion["usage"]
    split = usage["prompt_tokens_details"]
    return Transcription(
        text=(choice["message"]["content"] or "").strip(),
        finish_reason=choice["finish_reason"],
        usage=TranscriptionUsage(
            input_tokens=usage["prompt_tokens"],
            input_token_details=InputTokens(
                audio_tokens=split["audio_tokens"], text_tokens=split["text_tokens"]
            ),
            output_tokens=usage["completion_tokens"],
            total_tokens=usage["total_tokens"],
        ),
    )
