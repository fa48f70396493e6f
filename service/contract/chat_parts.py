"""The content of chat messages: text, images, videos and sounds, as OpenAI and mistral.rs spell them."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, model_validator

from service.contract.media import MediaKind, MediaRef
from service.contract.plain_errors import Refused

MAX_PARTS = 1024
MAX_FRAMES = 1024
KINDS_BY_SUFFIX = {
    **dict.fromkeys(("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"), MediaKind.IMAGE),
    **dict.fromkeys(("mp4", "mov", "mkv", "webm", "avi", "m4v", "ts"), MediaKind.VIDEO),
    **dict.fromkeys(("wav", "mp3", "flac", "ogg", "opus", "m4a", "aac"), MediaKind.AUDIO),
}


class Wire(BaseModel):
    """A wire type: values must have their JSON type; fields we do not know are kept aside and named to the caller."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


def _as_url_object(value: Any) -> Any:
    """Some clients send the URL alone."""
    return {"url": value} if isinstance(value, str) else value


Url = Annotated[str, Field(min_length=1)]
MaxPixels = Annotated[int, Field(ge=1, le=1 << 30)]


class ImageUrl(Wire):
    """Where an image lies; `detail` and `max_pixels` bound how much of it the model sees."""

    url: Url
    detail: Literal["auto", "low", "high"] | None = None
    max_pixels: MaxPixels | None = None


class VideoUrl(Wire):
    """Where a video lies, and how many of its frames the model sees."""

    url: Url
    fps: Annotated[float, Field(gt=0, le=120, allow_inf_nan=False)] | None = None
    num_frames: Annotated[int, Field(ge=1, le=MAX_FRAMES)] | None = None
    max_pixels: MaxPixels | None = None


class AudioUrl(Wire):
    """Where a sound lies."""

    url: Url


class InputAudio(Wire):
    """A sound inside the request. data: base64."""

    data: Url
    format: Literal["wav", "mp3", "flac", "ogg", "opus", "m4a", "aac", "webm"]


class FileContent(Wire):
    """A file by id, or inline as a `data:` URI; its kind is read from the data type or the file name."""

    file_id: str | None = None
    file_data: str | None = None
    filename: str | None = None

    @model_validator(mode="after")
    def _has_one_source_and_a_kind(self) -> "FileContent":
        if (self.file_id is None) == (self.file_data is None):
            raise Refused("A file part needs either `file_id` or `file_data`.")
        if self.kind is None:
            raise Refused(
                "We cannot tell what kind of file this is: give `filename` with its ending, or use image_url, "
                "video_url or audio_url with the file's id as the url.",
                code="unknown_media_kind",
            )
        return self

    @property
    def url(self) -> str:
        """The file's id or its `data:` URI."""
        return self.file_id or self.file_data or ""

    @property
    def kind(self) -> MediaKind | None:
        """Image, video or audio, where the request says."""
        if self.file_data is not None and self.file_data.startswith("data:"):
            family = self.file_data[5:20].split("/", 1)[0]
            return MediaKind(family) if family in set(MediaKind) else None
        suffix = (self.filename or "").rpartition(".")[2].lower()
        return KINDS_BY_SUFFIX.get(suffix)


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
        )


class AudioPart(Wire):
    """A sound by URL."""

    type: Literal["audio_url"]
    audio_url: Annotated[AudioUrl, BeforeValidator(_as_url_object, json_schema_input_type=AudioUrl | str)]

    def media(self, param: str) -> MediaRef:
        """What the media room has to load."""
        return MediaRef(MediaKind.AUDIO, self.audio_url.url, f"{param}.audio_url")


class InputAudioPart(Wire):
    """A sound inside the request."""

    type: Literal["input_audio"]
    input_audio: InputAudio

    def media(self, param: str) -> MediaRef:
        """What the media room has to load."""
        url = f"data:audio/{self.input_audio.format};base64,{self.input_audio.data}"
        return MediaRef(MediaKind.AUDIO, url, f"{param}.input_audio")


class FilePart(Wire):
    """An uploaded or inline file."""

    type: Literal["file"]
    file: FileContent

    def media(self, param: str) -> MediaRef:
        """What the media room has to load."""
        kind = self.file.kind
        assert kind is not None, "a file without a kind does not validate"
        return MediaRef(kind, self.file.url, f"{param}.file")


MediaPart: TypeAlias = ImagePart | VideoPart | AudioPart | InputAudioPart | FilePart
Part: TypeAlias = Annotated[TextPart | MediaPart, Discriminator("type")]

# OpenAI's "low" shows the model a thumbnail of 512 × 512 pixels.
LOW_DETAIL_PIXELS = 512 * 512


def _pixel_budget(image: ImageUrl) -> int | None:
    if image.detail != "low":
        return image.max_pixels
    return min(LOW_DETAIL_PIXELS, image.max_pixels or LOW_DETAIL_PIXELS)
