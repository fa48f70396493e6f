"""Sounds in a decoder child: mono float samples at the model's rate, streamed, so that no length fills the memory."""

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from av import AudioFrame, AudioResampler
from av.container import InputContainer
from numpy.typing import NDArray

from service.contract.media import MediaKind
from workers.media.containers import opened
from workers.media.limits import MediaLimits
from workers.media.refusals import Refusal
from workers.media.wire import DecodeRequest, Output


def decode_sound(
    source: BinaryIO, request: DecodeRequest, limits: MediaLimits, out: Output
) -> dict[str, Any]:
    """Write float32 samples to `out`; gives their number. A sound that is too long is refused, never cut unasked."""
    rate = request.audio_rate
    most = int(request.max_audio_seconds * rate)
    count = 0
    with opened(source, MediaKind.AUDIO, limits) as container:
        for piece in _excerpt(_resampled(container, rate, limits), request):
            count += len(piece)
            if count > most:
                raise Refusal("audio_too_long", limit_seconds=request.max_audio_seconds)
            if not np.isfinite(piece).all():
                raise Refusal("audio_not_finite")
            out.write(piece.data)
    if count < limits.min_audio_seconds * rate:
        raise Refusal("audio_too_short", limit_seconds=limits.min_audio_seconds)
    return {"shape": [count], "rate": rate}


def _excerpt(pieces: Iterator[NDArray[np.float32]], request: DecodeRequest) -> Iterator[NDArray[np.float32]]:
    """The samples between the request's start and end; what comes after is not even decoded."""
    first = round((request.start or 0.0) * request.audio_rate)
    stop = None if request.end is None else round(request.end * request.audio_rate)
    place = 0
    for piece in pieces:
        if stop is not None and place >= stop:
            return
        wanted = piece[max(0, first - place) : None if stop is None else stop - place]
        place += len(piece)
        if len(wanted):
            yield wanted
    if place and place <= first:
        raise Refusal("media_start_beyond_end", limit_seconds=round(place / request.audio_rate, 3))


def _resampled(container: InputContainer, rate: int, limits: MediaLimits) -> Iterator[NDArray[np.float32]]:
    if not container.streams.audio:
        raise Refusal("media_wrong_kind")
    stream = container.streams.audio[0]
    stream.codec_context.thread_count = 1
    resampler = AudioResampler(format="flt", layout="mono", rate=rate)
    for frame in container.decode(stream):
        _check_frame(frame, limits)
        yield from _arrays(resampler.resample(frame))
    yield from _arrays(resampler.resample(None))


def _arrays(frames: list[AudioFrame]) -> Iterator[NDArray[np.float32]]:
    for frame in frames:
        yield np.ascontiguousarray(frame.to_ndarray().reshape(-1), np.float32)


def _check_frame(frame: AudioFrame, limits: MediaLimits) -> None:
    if not limits.min_sample_rate <= frame.sample_rate <= limits.max_sample_rate:
        raise Refusal(
            "audio_sample_rate",
            rate=frame.sample_rate,
            lowest=limits.min_sample_rate,
            highest=limits.max_sample_rate,
        )
    if len(frame.layout.channels) > limits.max_channels:
        raise Refusal("audio_channels", limit_channels=limits.max_channels)
