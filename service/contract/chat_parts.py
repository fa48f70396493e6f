"""The content of chat messages: text, images, videos and sounds, as OpenAI and mistral.rs spell them."""

import binascii
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from service.contract.file_kinds import HEAD_BYTES, kind_of_bytes, kind_of_name
from service.contract.file_kinds import KINDS_BY_SUFFIX as KINDS_BY_SUFFIX
from service.contract.media import MediaKind, MediaRef
from service.contract.plain_errors import Refused

MAX_PARTS = 1024
MAX_FRAMES = 1024


class Wire(BaseModel):
    """A wire type: values must have their JSON type; fields we do not know are kept aside and named to the caller."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


def _as_url_object(value: Any) -> Any:
    """Some clients send the URL alone."""
    return {"url": value} if isinstance(value, str) else value


Url = Annotated[str, Field(min_length=1)]
MaxPixels = Annotated[int, Field(ge=1, le=1 << 30)]
Seconds = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class Excerpt(Wire):
    """From when to when a clip or a sound is looked at, in seconds; an end beyond its own is its own."""

    start: Seconds | None = None
    end: Seconds | None = None

    @field_validator("end")
    @classmethod
    def _comes_after_the_start(cls, end: float | None, info: ValidationInfo) -> float | None:
        if end is not None and end <= (info.data.get("start") or 0):
            raise Refused("`end` must be later than `start`.")
        return end


class ImageUrl(Wire):
    """Where an image lies; `detail` and `max_pixels` bound how much of it the model sees."""

    url: Url
    detail: Literal["auto", "low", "high"] | None = None
    max_pixels: MaxPixels | None = None


class VideoUrl(Excerpt):
    """Where a video lies, and which and how many of its frames the model sees."""

    url: Url
    fps: Annotated[float, Field(gt=0, le=120, allow_inf_nan=False)] | None = None
    num_frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)] | None = None
    max_pixels: MaxPixels | None = None


class AudioUrl(Excerpt):
    """Where a sound lies."""

    url: Url


class InputAudio(Excerpt):
    """A sound inside the request. data: base64."""

    data: Url
    format: Literal["wav", "mp3", "flac", "ogg", "opus", "m4a", "aac", "webm"]


class FileContent(Wire):
    """A file by id, or inline in base64 or as a `data:` URI.

    kind: what it is. Where it is left out, the data type, the name's ending or the bytes themselves say.
    """

    file_id: Url | None = None
    file_data: Url | None = None
    filename: str | None = None
    kind: Literal["image", "video", "audio"] | None = None

    @model_validator(mode="after")
    def _has_one_source_and_a_kind(self) -> "FileContent":
        if (self.file_id is None) == (self.file_data is None):
            raise Refused("A file part needs either `file_id` or `file_data`.")
        if self.file_data is not None and self.media_kind is None:
            raise Refused(
                "This file is neither an image, nor a video, nor a sound that we know.",
                code="unknown_media_kind",
            )
        return self

    @property
    def url(self) -> str:
        """The file's id or its `data:` URI."""
        if self.file_data is None:
            return self.file_id or ""
        header, base64 = _split_data(self.file_data)
        is_typed = header.startswith(tuple(f"data:{kind}/" for kind in MediaKind))
        return self.file_data if is_typed else f"data:{self.media_kind}/any;base64,{base64}"

    @property
    def media_kind(self) -> MediaKind | None:
        """Image, video or audio; None for an upload of which the request does not say it."""
        if self.kind is not None:
            return MediaKind(self.kind)
        if self.file_data is None:
            return kind_of_name(self.filename)
        header, base64 = _split_data(self.file_data)
        family = header.removeprefix("data:").partition("/")[0]
        if family in set(MediaKind):
            return MediaKind(family)
        return kind_of_name(self.filename) or kind_of_bytes(_decoded_head(base64))


def _split_data(data: str) -> tuple[str, str]:
    """The header of a `data:` URI, in small letters and empty where there is none, and the base64 after it."""
    if data[:5].lower() != "data:":
        return "", data
    header, _, base64 = data.partition(",")
    return header.lower(), base64


def _decoded_head(base64: str) -> bytes:
    try:
        return binascii.a2b_base64(base64[: HEAD_BYTES // 3 * 4])
    except ValueError:
        return b""


class TextPart(Wire):
    """Words."""

    type: Literal["text"]
    text: str


class ImagePart(Wire):
    """An image."""

    type: Literal["image_url"]
    image_url: Annotated[ImageUrl, BeforeValidator(_as_url_object, json_schema_input_type=ImageUrl | str)]

    def media(self, param: str) -> MediaRef:
        """What the media room has to load."""
        wanted = self.image_url
        return MediaRef(MediaKind.IMAGE, wanted.url, f"{param}.image_url", max_pixels=_pixel_budget(wanted))


class VideoPart(Wire):
    """A video."""

    type: Literal["video_url"]
    video_url: Annotated[VideoUrl, BeforeValidator(_as_url_object, json_schema_input_type=VideoUrl | str)]

    def media(self, param: str) -> MediaRef:
        """What the media room has to load."""
        wanted = self.video_url
        return MediaRef(
            MediaKind.VIDEO,
            wanted.url,
            f"{param}.video_url",
            fps=wanted.fps,
            num_frames=wanted.num_frames,
            max_pixels=wanted.max_pixels,
            start=wanted.start,
            end=wanted.end,
        )


class AudioPart(Wire):
    """A sound by URL."""

    type: Literal["audio_url"]
    audio_url: Annotated[AudioUrl, BeforeValidator(_as_url_object, json_schema_input_type=AudioUrl | str)]

    def media(self, param: str) -> MediaRef:
        """What the media room has to load."""
        wanted = self.audio_url
        return MediaRef(MediaKind.AUDIO, wanted.url, f"{param}.audio_url", start=wanted.start, end=wanted.end)


class InputAudioPart(Wire):
    """A sound inside the request."""

    type: Literal["input_audio"]
    input_audio: InputAudio

    def media(self, param: str) -> MediaRef:
        """What the media room has to load."""
        wanted = self.input_audio
        url = f"data:audio/{wanted.format};base64,{wanted.data}"
        return MediaRef(MediaKind.AUDIO, url, f"{param}.input_audio", start=wanted.start, end=wanted.end)


class FilePart(Wire):
    """An uploaded or inline file."""

    type: Literal["file"]
    file: FileContent

    def media(self, param: str) -> MediaRef:
        """What the media room has to load."""
        # An upload of which only its bytes say what it is counts as a picture until the desk has read them.
        kind = self.file.media_kind or MediaKind.IMAGE
        return MediaRef(kind, self.file.url, f"{param}.file")


MediaPart: TypeAlias = ImagePart | VideoPart | AudioPart | InputAudioPart | FilePart
Part: TypeAlias = Annotated[TextPart | MediaPart, Discriminator("type")]

# OpenAI's "low" shows the model a thumbnail of 512 × 512 pixels.
LOW_DETAIL_PIXELS = 512 * 512


def _pixel_budget(image: ImageUrl) -> int | None:
    if image.detail != "low":
        return image.max_pixels
    return min(LOW_DETAIL_PIXELS, image.max_pixels or LOW_DETAIL_PIXELS)
