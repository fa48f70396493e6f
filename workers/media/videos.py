"""Videos in a decoder child: only the sampled frames are turned into pixels, one at a time."""

from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from av import VideoFrame
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream
from numpy.typing import NDArray

from service.contract.media import MediaKind
from workers.media.containers import opened
from workers.media.images import check_sides, fit
from workers.media.limits import MediaLimits
from workers.media.refusals import Refusal
from workers.media.wire import DecodeRequest, Output

DEFAULT_FPS = 24.0


@dataclass(slots=True)
class Clock:
    """How many frames there were, and from when to when they show."""

    count: int = 0
    start: float | None = None
    end: float = 0.0

    def tick(self, time: float | None, duration: float) -> None:
        """One more frame, in any order."""
        self.count += 1
        if time is not None:
            self.start = time if self.start is None else min(self.start, time)
            self.end = max(self.end, time + duration)

    def seconds(self, stream_fps: float) -> float:
        """The length; from the frame rate where the file has no times."""
        if self.start is not None and self.end > self.start:
            return self.end - self.start
        return self.count / stream_fps


def decode_video(
    source: BinaryIO, request: DecodeRequest, limits: MediaLimits, out: Output
) -> dict[str, Any]:
    """Write the sampled frames' RGB bytes to `out`; gives their shape, indices and the clip's true length.

    Headers lie about the number of frames. Packets are counted first, which decodes nothing, and almost always
    equals the frames; where the decoder then gives another number, it runs again for the frames of that number.
    """
    expected = _count_packets(source, limits)
    for _ in range(2):
        decoded = _decode_sampled(source, request, expected, limits, out)
        if decoded["total_frames"] == expected.count:
            return decoded
        expected = Clock(decoded["total_frames"], 0.0, decoded["seconds"])
        out.rewind()
    raise Refusal("media_undecodable")


def sample_indices(num_frames: int, count: int) -> list[int]:
    """`count` of `num_frames` frames at even distances, the first included; all when there are fewer."""
    count = min(count, num_frames)
    return [i * num_frames // count for i in range(count)]


def _count_packets(source: BinaryIO, limits: MediaLimits) -> Clock:
    clock = Clock()
    with opened(source, MediaKind.VIDEO, limits) as container:
        stream = _picture_stream(container)
        base = float(stream.time_base or 0)
        stream_fps = float(stream.average_rate or DEFAULT_FPS)
        for packet in container.demux(stream):
            if packet.size:
                time = None if packet.pts is None else packet.pts * base
                clock.tick(time, (packet.duration or 0) * base or 1 / stream_fps)
                _check_length(clock, limits)
        frame_pixels = stream.codec_context.width * stream.codec_context.height
    if not clock.count:
        raise Refusal("media_undecodable")
    # FFmpeg keeps to the limit while it probes, and then knows no size.
    if not 0 < frame_pixels <= limits.max_frame_pixels:
        raise Refusal("video_frame_size", limit_pixels=limits.max_frame_pixels)
    if clock.count * frame_pixels > limits.max_video_work_pixels:
        raise Refusal("video_too_costly", limit_pixels=limits.max_video_work_pixels)
    return clock


def _check_length(clock: Clock, limits: MediaLimits) -> None:
    if clock.count > limits.max_video_frames:
        raise Refusal("video_too_many_frames", limit_frames=limits.max_video_frames)
    if clock.end - (clock.start or 0.0) > limits.max_video_seconds:
        raise Refusal("video_too_long", limit_seconds=limits.max_video_seconds)


def _decode_sampled(
    source: BinaryIO, request: DecodeRequest, expected: Clock, limits: MediaLimits, out: Output
) -> dict[str, Any]:
    """Decode once, keeping the frames that a clip of the expected length is sampled at."""
    clock = Clock()
    with opened(source, MediaKind.VIDEO, limits) as container:
        stream = _picture_stream(container)
        stream_fps = float(stream.average_rate or DEFAULT_FPS)
        wanted = sample_indices(expected.count, _sample_count(request, expected.seconds(stream_fps)))
        canvas = Canvas(request.max_pixels, len(wanted), limits)
        kept = 0
        # The option at opening rules the probing alone: the stream itself may grow midway.
        stream.codec_context.options = {"max_pixels": str(limits.max_frame_pixels)}
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            if kept < len(wanted) and clock.count == wanted[kept]:
                out.write(canvas.paint(frame).data)
                kept += 1
            duration = (frame.duration or 0) * float(frame.time_base or 0)
            clock.tick(frame.time, duration or 1 / stream_fps)
            _check_length(clock, limits)
    if not kept:
        raise Refusal("media_undecodable")
    seconds = clock.seconds(stream_fps)
    return {
        "shape": [kept, *canvas.shape, 3],
        "original_size": canvas.original_size,
        "frame_indices": wanted[:kept],
        "fps": clock.count / seconds,
        "total_frames": clock.count,
        "seconds": seconds,
    }


def _picture_stream(container: InputContainer) -> VideoStream:
    """The first moving picture; a sound's cover is none."""
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            return stream
    raise Refusal("media_wrong_kind")


def _sample_count(request: DecodeRequest, seconds: float) -> int:
    if request.num_frames is not None:
        wanted = request.num_frames
    elif request.fps is not None:
        # Containers round their times: 1.999 seconds at 2 frames a second are 4 frames.
        wanted = int(round(seconds * request.fps, 1))
    else:
        wanted = request.max_frames
    return max(1, min(wanted, request.max_frames))


class Canvas:
    """Makes every sampled frame an upright RGB picture of one size, that of the first."""

    def __init__(self, max_pixels: int, num_frames: int, limits: MediaLimits) -> None:
        self.shape = (0, 0)
        self.original_size = (0, 0)
        self._max_pixels = min(max_pixels, limits.max_decoded_bytes // (3 * num_frames))
        self._limits = limits

    def paint(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """uint8 [height, width, 3], contiguous."""
        quarter_turns = round(frame.rotation / 90) % 4
        if self.shape == (0, 0):
            check_sides(frame.width, frame.height, self._limits)
            width, height = fit(frame.width, frame.height, self._max_pixels, self._limits.min_side_pixels)
            self.shape = (width, height) if quarter_turns % 2 else (height, width)
            upright = (frame.width, frame.height)
            self.original_size = upright[::-1] if quarter_turns % 2 else upright
        height, width = self.shape[::-1] if quarter_turns % 2 else self.shape
        pixels = _on_white(frame, width, height)
        return np.ascontiguousarray(np.rot90(pixels, quarter_turns))


def _on_white(frame: VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    if not any(component.is_alpha for component in frame.format.components):
        rgb = frame.reformat(width, height, "rgb24")
        return rgb.to_ndarray().astype(np.uint8, copy=False)
    layered = frame.reformat(width, height, "rgba").to_ndarray().astype(np.uint16)
    alpha = layered[..., 3:]
    return ((layered[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
