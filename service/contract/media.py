"""How a request names its media, and what a model wants to be given."""

from dataclasses import dataclass
from enum import StrEnum


class MediaKind(StrEnum):
    """The modality of one content part."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"


@dataclass(frozen=True, slots=True)
class MediaRef:
    """One media part of a request, in the order of the conversation.

    url: `data:…;base64,…`, `file:///…`, an absolute path, or an uploaded file's id (`file-…`).
    param: where the part stands in the request, for error messages (`messages[0].content[1].image_url`).
    start, end: the seconds of a clip or a sound between which it is looked at.
    """

    kind: MediaKind
    url: str
    param: str
    fps: float | None = None
    num_frames: int | None = None
    max_pixels: int | None = None
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True, slots=True)
class MediaNeeds:
    """What a loaded model wants its media as. None: it cannot take that modality.

    audio_rate: Hz. num_frames: the most frames of one video. max_pixels: of one image, before the processor.
    """

    takes: frozenset[MediaKind]
    audio_rate: int = 16_000
    num_frames: int = 32
    video_fps: float | None = None
    max_pixels: int = 16_000_000
    max_audio_seconds: float = 30.0
