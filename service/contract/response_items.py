"""The input of a response: messages, past calls and their results, as OpenAI's Responses API spells them."""

from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from service.contract.chat_parts import (
    KINDS_BY_SUFFIX,
    MAX_PARTS,
    AudioUrl,
    InputAudio,
    MaxPixels,
    Url,
    VideoUrl,
    Wire,
)
from service.contract.media import MediaKind
from service.contract.plain_errors import Refused
from service.contract.tools import CalledFunction, CallId

MAX_ITEMS = 1024

ItemStatus: TypeAlias = Literal["in_progress", "completed", "incomplete"]


def _as_url_object(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class InputText(Wire):
    """Words of somebody."""

    type: Literal["input_text"]
    text: str


class OutputText(Wire):
    """Words of the model, as an earlier response gave them."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class RefusalText(Wire):
    """What the model would not do."""

    type: Literal["refusal"]
    refusal: str


class InputImage(Wire):
    """An image by URL or file id. `detail` and `max_pixels` (ours) bound how much of it the model sees."""

    type: Literal["input_image"]
    image_url: Url | None = None
    file_id: Url | None = None
    detail: Literal["auto", "low", "high", "original"] | None = None
    max_pixels: MaxPixels | None = None

    @model_validator(mode="after")
    def _lies_in_one_place(self) -> "InputImage":
        if (self.image_url is None) == (self.file_id is None):
            raise Refused("An image needs either `image_url` or `file_id`.")
        return self


class InputVideo(Wire):
    """A video, and how many of its frames the model sees. Ours: OpenAI has none."""

    type: Literal["input_video"]
    video_url: Annotated[VideoUrl, BeforeValidator(_as_url_object, json_schema_input_type=VideoUrl | str)]


class InputSound(Wire):
    """A sound: base64 as OpenAI has it, or (ours) by URL or file id."""

    type: Literal["input_audio"]
    input_audio: InputAudio | None = None
    audio_url: (
        Annotated[AudioUrl, BeforeValidator(_as_url_object, json_schema_input_type=AudioUrl | str)] | None
    ) = None

    @model_validator(mode="after")
    def _lies_in_one_place(self) -> "InputSound":
        if (self.input_audio is None) == (self.audio_url is None):
            raise Refused("A sound needs either `input_audio` or `audio_url`.")
        return self


class InputFile(Wire):
    """A file whose kind its name or its `data:` URI says."""

    type: Literal["input_file"]
    file_id: Url | None = None
    file_data: Url | None = None
    file_url: Url | None = None
    filename: str | None = None
    detail: Literal["auto", "low", "high"] | None = None

    @model_validator(mode="after")
    def _lies_in_one_place(self) -> "InputFile":
        if sum(place is not None for place in (self.file_id, self.file_data, self.file_url)) != 1:
            raise Refused("A file needs one of `file_id`, `file_data` and `file_url`.")
        if self.file_url is not None and self.kind is None:
            raise Refused(
                "We cannot tell what kind of file this is: give `filename` with its ending.",
                code="unknown_media_kind",
            )
        return self

    @property
    def kind(self) -> MediaKind | None:
        """Image, video or audio, where the name or the URL says."""
        name = self.filename or urlsplit(self.file_url or "").path
        return KINDS_BY_SUFFIX.get(name.rpartition(".")[2].lower())


InputMedia: TypeAlias = InputImage | InputVideo | InputSound | InputFile
InputPart: TypeAlias = Annotated[InputText | OutputText | RefusalText | InputMedia, Discriminator("type")]


def _as_parts(value: Any) -> Any:
    if isinstance(value, str):
        return [{"type": "input_text", "text": value}]
    if not isinstance(value, list):
        raise Refused("This must be a string or a list of parts.")
    return value


Parts = Annotated[
    list[InputPart],
    BeforeValidator(_as_parts, json_schema_input_type=str | list[InputPart]),
    Field(max_length=MAX_PARTS),
]


class MessageItem(Wire):
    """What somebody says. id, status, phase: as an earlier response gave them; they change nothing."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Parts
    id: str | None = None
    status: ItemStatus | None = None
    phase: str | None = None


class FunctionCallItem(CalledFunction):
    """A call that the model asked for."""

    type: Literal["function_call"]
    call_id: CallId
    id: str | None = None
    status: ItemStatus | None = None


class FunctionOutputItem(Wire):
    """What a call came to, in words or in media."""

    type: Literal["function_call_output"]
    call_id: CallId
    output: Parts
    id: str | None = None
    status: ItemStatus | None = None


class ReasoningItem(Wire):
    """What a model thought before: our models think nothing aside, so it is passed over."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: list[Any] | None = None
    content: list[Any] | None = None
    encrypted_content: str | None = None
    status: ItemStatus | None = None


def _kind_of(value: Any) -> str | None:
    """An item's type; a message need not name its own."""
    if isinstance(value, dict):
        kind = value.get("type") or ("message" if "role" in value else None)
        return kind if isinstance(kind, str) else None
    return getattr(value, "type", None)


InputItem: TypeAlias = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[FunctionCallItem, Tag("function_call")]
    | Annotated[FunctionOutputItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(_kind_of),
]


def _as_items(value: Any) -> Any:
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    if not isinstance(value, list):
        raise Refused("`input` must be a string or a list of items.")
    return value


InputItems: TypeAlias = Annotated[
    list[InputItem],
    BeforeValidator(_as_items, json_schema_input_type=str | list[InputItem]),
    Field(min_length=1, max_length=MAX_ITEMS),
]
