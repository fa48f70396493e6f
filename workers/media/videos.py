"""Videos in a decoder child: only the sampled frames are turned into pixels, one at a time."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
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
# Containers round the times of frames.
SAME_TIME_SECONDS = 0.001


@dataclass(slots=True)
class Clock:
    """How many frames there were, from when to when they show, and when each began that has a time."""

    count: int = 0
    start: float | None = None
    end: float = 0.0
    times: list[float] = field(default_factory=list)

    def tick(self, time: float | None, duration: float) -> None:
        """One more frame, in any order."""
        self.count += 1
        if time is not None:
            self.start = time if self.start is None else min(self.start, time)
            self.end = max(self.end, time + duration)
            self.times.append(time)

    def seconds(self, stream_fps: float) -> float:
        """The length; from the frame rate where the file has no times."""
        if self.start is not None and self.end > self.start:
            return self.end - self.start
        return self.count / stream_fps

    def shown(self, start: float, end: float, stream_fps: float) -> range:
        """The frames that show between these seconds of the clip, by their places among all."""
        if len(self.times) == self.count:
            times = sorted(self.times)
        else:
            times = [place / stream_fps for place in range(self.count)]
        first = bisect_right(times, times[0] + start + SAME_TIME_SECONDS) - 1
        stop = bisect_left(times, times[0] + end - SAME_TIME_SECONDS)
        return range(first, max(first + 1, stop))


@dataclass(frozen=True, slots=True)
class Cut:
    """What of a clip is looked at. frames: places among all frames; an excerpt is a clip of its own to the model."""

    frames: range
    seconds: float

    @classmethod
    def of(cls, clock: Clock, request: DecodeRequest, stream_fps: float) -> "Cut":
        """The part that a request asks for."""
        seconds = clock.seconds(stream_fps)
        if request.start is None and request.end is None:
            return cls(range(clock.count), seconds)
        start = request.start or 0.0
        if start >= seconds:
            raise Refusal("media_start_beyond_end", limit_seconds=round(seconds, 3))
        end = seconds if request.end is None else min(request.end, seconds)
        return cls(clock.shown(start, end, stream_fps), end - start)


def decode_video(
    source: BinaryIO, request: DecodeRequest, limits: MediaLimits, out: Output
) -> dict[str, Any]:
    """Write the sampled frames' RGB bytes to `out`; gives their shape, indices and the clip's true length.

    Headers lie about the number of frames. Packets are counted first, which decodes nothing, and almost always
    equals the frames; where the decoder then gives another number, it runs again for the frames of that number.
    """
    expected = _count_packets(source, limits)
    for _ in range(2):
        decoded, counted = _decode_sampled(source, request, expected, limits, out)
        if counted.count == expected.count:
            return decoded
        expected = counted
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
) -> tuple[dict[str, Any], Clock]:
    """Decode once, keeping the frames that a clip of the expected length is sampled at; counts all there are."""
    clock = Clock()
    with opened(source, MediaKind.VIDEO, limits) as container:
        stream = _picture_stream(container)
        stream_fps = float(stream.average_rate or DEFAULT_FPS)
        cut = Cut.of(expected, request, stream_fps)
        places = sample_indices(len(cut.frames), _sample_count(request, cut.seconds))
        wanted = [cut.frames[place] for place in places]
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
    facts = {
        "shape": [kept, *canvas.shape, 3],
        "original_size": canvas.original_size,
        "frame_indices": places[:kept],
        "fps": clock.count / clock.seconds(stream_fps),
        "total_frames": len(cut.frames),
        "seconds": cut.seconds,
    }
    return facts, clock


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
