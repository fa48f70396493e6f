"""What the worker and its decoder children say to each other: one JSON message each way, files as descriptors."""

import json
import os
from dataclasses import asdict, dataclass

from service.contract.media import MediaKind, MediaNeeds, MediaRef
from service.errors import BadRequest
from workers.media.limits import MIB, MediaLimits
from workers.media.refusals import Refusal

MAX_MESSAGE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class DecodeRequest:
    """One file to decode, and what the model wants of it.

    fps, num_frames: at most one of them rules the sampling; max_frames bounds both.
    start, end: the seconds of a clip or a sound between which it is looked at.
    """

    kind: MediaKind
    max_pixels: int
    max_frames: int
    num_frames: int | None
    fps: float | None
    audio_rate: int
    max_audio_seconds: float
    start: float | None = None
    end: float | None = None

    @classmethod
    def of(cls, ref: MediaRef, needs: MediaNeeds, limits: MediaLimits) -> "DecodeRequest":
        """Join what the part asks for with what the model takes; the smaller bound wins.

        What the operator forbids to ask for is a BadRequest with the limit.
        """
        _check_wish(ref, "max_pixels", ref.max_pixels, limits.max_pixels)
        _check_wish(ref, "num_frames", ref.num_frames, limits.max_frames)
        fps = ref.fps
        if fps is None and ref.num_frames is None:
            fps = needs.video_fps
        return cls(
            kind=ref.kind,
            max_pixels=min(ref.max_pixels or needs.max_pixels, needs.max_pixels, limits.max_pixels),
            max_frames=min(needs.num_frames, limits.max_frames),
            num_frames=ref.num_frames,
            fps=fps,
            audio_rate=needs.audio_rate,
            max_audio_seconds=min(needs.max_audio_seconds, limits.max_audio_seconds),
            start=ref.start,
            end=ref.end,
        )

    def as_bytes(self) -> bytes:
        """One message for a child."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, message: bytes) -> "DecodeRequest":
        """Read what `as_bytes` wrote."""
        fields = json.loads(message)
        return cls(**{**fields, "kind": MediaKind(fields["kind"])})


def _check_wish(ref: MediaRef, name: str, wanted: int | None, most: int) -> None:
    if wanted is not None and wanted > most:
        raise BadRequest(f"`{name}` must be at most {most} here.", param=f"{ref.param}.{name}")


class Output:
    """The memory file that decoded bytes go to; the parent maps it without a copy."""

    def __init__(self, max_bytes: int) -> None:
        self.fd = os.memfd_create("decoded", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        self.num_bytes = 0
        self._max_bytes = max_bytes

    def write(self, data: bytes | memoryview) -> None:
        """Append; refuses the medium once it holds more than the limit."""
        rest = memoryview(data).cast("B")
        self.num_bytes += len(rest)
        if self.num_bytes > self._max_bytes:
            raise Refusal("media_decoded_too_large", limit_mib=self._max_bytes / MIB)
        while rest:
            rest = rest[os.write(self.fd, rest) :]

    def rewind(self) -> None:
        """Forget what was written."""
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        self.num_bytes = 0

    def close(self) -> None:
        """Let go of our side; what was handed over lives on."""
        os.close(self.fd)
