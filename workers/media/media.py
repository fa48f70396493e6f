"""The room's one door: a part of a request goes in, pixels or samples come out, or one error that says why not."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.contract.file_kinds import HEAD_BYTES, kind_of_bytes
from service.contract.media import MediaKind, MediaNeeds, MediaRef
from service.errors import ConfigurationError, SluiceError
from workers.media.confine import Confinement
from workers.media.contents import Content
from workers.media.decoded import Decoded, DecodedAudio, DecodedImage, DecodedVideo
from workers.media.limits import MediaLimits
from workers.media.pool import DecoderPool, Reply
from workers.media.refusals import Refusal
from workers.media.sources import ReadUpload, Sources
from workers.media.wire import DecodeRequest


class Media:
    """Reads and decodes media for any number of threads; at most `num_decoders` files are decoded at a time.

    roots: resolved folders under which local files may be read; none: local files are refused.
    read_upload: (tenant_id, file_id) -> the upload's local path or open stream.
    """

    def __init__(
        self,
        limits: MediaLimits,
        roots: Sequence[Path] = (),
        read_upload: ReadUpload | None = None,
        *,
        num_decoders: int = 2,
    ) -> None:
        self._limits = limits
        self._sources = Sources(limits, roots, read_upload)
        self._pool = DecoderPool(limits, num_decoders)

    def start(self) -> None:
        """Start the decoder processes; takes about half a second."""
        try:
            self._pool.start()
        except Refusal:
            raise ConfigurationError(
                "The media decoders do not start.", hint="Look for the reason in the worker's error output."
            ) from None

    def close(self) -> None:
        """End the decoder processes."""
        self._pool.close()

    def __enter__(self) -> "Media":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def confinement(self) -> Confinement | None:
        """Which walls the decoder children stand behind on this machine; None before the start."""
        return self._pool.confinement

    @property
    def server_pid(self) -> int | None:
        """The fork server's process; None where none runs."""
        return self._pool.server_pid

    def decoder_pids(self) -> list[int]:
        """The decoder children that wait for work."""
        return self._pool.idle_pids()

    def kind_of(self, file_id: str, tenant_id: str, param: str) -> MediaKind:
        """What an uploaded file is, by its first bytes. Raises BadMedia or MediaUnavailable with `param`."""
        with _told_where(param):
            kind = kind_of_bytes(self._sources.head_of_upload(file_id, tenant_id, HEAD_BYTES))
            if kind is None:
                raise Refusal("media_unrecognized")
            return kind

    def load(self, ref: MediaRef, needs: MediaNeeds, tenant_id: str, *, is_chat: bool = False) -> Decoded:
        """Read and decode one medium; blocks, but a chat's never behind bulk alone.

        Raises BadMedia, MediaUnavailable or BadRequest with `ref.param`.
        """
        with _told_where(ref.param):
            if ref.kind not in needs.takes:
                raise Refusal("media_kind_unsupported")
            source = self._sources.open(ref, tenant_id)
            try:
                reply = self._pool.decode(DecodeRequest.of(ref, needs, self._limits), source, is_chat=is_chat)
            finally:
                os.close(source)
            medium = decoded(ref.kind, reply)
            return replace(medium, max_pixels=ref.max_pixels) if isinstance(medium, DecodedImage) else medium

    def content(self, ref: MediaRef, tenant_id: str) -> Content | None:
        """What tells a medium's bytes without decoding them; None where nothing does. Raises as `load`."""
        with _told_where(ref.param):
            return self._sources.content(ref, tenant_id)


@contextmanager
def _told_where(param: str) -> Iterator[None]:
    """Refusals as errors that name the place in the request."""
    try:
        yield
    except Refusal as refusal:
        raise refusal.as_error(param) from None
    except SluiceError as error:
        error.param = error.param or param
        raise


def decoded(kind: MediaKind, reply: Reply) -> Decoded:
    """Arrays over the child's memory, without a copy. What does not fit together means a broken child."""
    facts = reply.facts
    try:
        if kind is MediaKind.IMAGE:
            width, height = facts["original_size"]
            return DecodedImage(_pixels(reply, 3), (int(width), int(height)))
        if kind is MediaKind.VIDEO:
            return _video(_pixels(reply, 4), facts)
        samples = np.frombuffer(reply.data, np.float32)
        rate = int(facts["rate"])
        return DecodedAudio(samples, rate, len(samples) / rate)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        raise Refusal("media_decode_crashed") from None


def _pixels(reply: Reply, num_axes: int) -> NDArray[np.uint8]:
    shape = [int(length) for length in reply.facts["shape"]]
    if len(shape) != num_axes or shape[-1] != 3 or min(shape) < 1:
        raise ValueError(shape)
    return np.frombuffer(reply.data, np.uint8).reshape(shape)


def _video(frames: NDArray[np.uint8], facts: Any) -> DecodedVideo:
    indices = tuple(int(index) for index in facts["frame_indices"])
    fps, seconds = float(facts["fps"]), float(facts["seconds"])
    if len(indices) != len(frames) or not (math.isfinite(fps) and math.isfinite(seconds)):
        raise ValueError(indices)
    width, height = facts["original_size"]
    original_size = (int(width), int(height))
    return DecodedVideo(frames, indices, fps, int(facts["total_frames"]), seconds, original_size)
