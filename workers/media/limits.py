"""Everything that bounds what we read and decode; each limit's error code and sentence stand in refusals.py."""

from dataclasses import dataclass

from service.contract.media import MediaKind
from service.settings import Settings

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """What one medium may cost. Bytes, pixels, seconds, hertz and counts are named as such.

    max_pixels: of one picture or frame as the model sees it. max_frames: of one video, likewise.
    max_decoded_bytes: of one decoded image, of all sampled frames of one video, or of one sound.
    decode_seconds: wall clock of one decode; after it the child is killed.
    max_memory_bytes: address space of one decoder child.
    """

    max_image_bytes: int = 64 * MIB
    max_video_bytes: int = 512 * MIB
    max_audio_bytes: int = 256 * MIB

    min_side_pixels: int = 8
    max_aspect: float = 100.0
    max_image_pixels: int = 100_000_000
    max_frame_pixels: int = 4096 * 2304

    max_video_frames: int = 54_000
    max_video_seconds: float = 1800.0
    max_video_work_pixels: int = 60_000_000_000

    min_audio_seconds: float = 0.025
    max_audio_seconds: float = 1800.0
    min_sample_rate: int = 4_000
    max_sample_rate: int = 384_000
    max_channels: int = 16
    max_streams: int = 32

    max_pixels: int = 16_000_000
    max_frames: int = 1024
    max_decoded_bytes: int = 256 * MIB
    decode_seconds: float = 60.0
    max_memory_bytes: int = 2048 * MIB

    def max_bytes(self, kind: MediaKind) -> int:
        """The largest file of this kind that is opened at all."""
        return {
            MediaKind.IMAGE: self.max_image_bytes,
            MediaKind.VIDEO: self.max_video_bytes,
            MediaKind.AUDIO: self.max_audio_bytes,
        }[kind]


def media_limits(settings: Settings) -> MediaLimits:
    """The limits, as far as the operator sets them."""
    return MediaLimits(
        max_pixels=settings.max_pixels,
        max_frames=settings.max_frames,
        max_video_seconds=settings.max_video_seconds,
        max_audio_seconds=settings.max_audio_seconds,
    )
