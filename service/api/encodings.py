"""Compressed bodies, decompressed as they arrive: never more than a buffer of them is in memory."""

import io
import sys
import zlib
from collections.abc import Callable
from typing import IO, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from service.errors import BadRequest, TooLarge, UnsupportedBody

READ_BYTES = 1 << 16
# What a body may come to in any case, and how many times its sent size beyond that: manifests compress 10 to 60 times.
HARMLESS_BYTES = 16 << 20
MAX_RATIO = 250
# A sender can ask us to remember this much (2^23 bytes), which all levels but zstd's `--ultra` and `--long` respect.
_WINDOW_LOG = 23


class _Frame(Protocol):
    """One compressed stream; several may follow each other in a body."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _gzip() -> _Frame:
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)


def _zstd() -> _Frame:
    return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})


_ENCODINGS: dict[str, Callable[[], _Frame]] = {"gzip": _gzip, "x-gzip": _gzip, "zstd": _zstd}
ACCEPTED = "gzip, zstd"


class UnknownEncoding(UnsupportedBody):
    """A Content-Encoding that we do not read."""

    code = "unsupported_encoding"


def decoded(raw: IO[bytes], encoding: str | None, max_bytes: int | None) -> IO[bytes]:
    """The body as it was before its sender compressed it. max_bytes: TooLarge once it comes to more."""
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return raw
    if name not in _ENCODINGS:
        raise UnknownEncoding(f"A body's Content-Encoding is one of {ACCEPTED}, or there is none.")
    return io.BufferedReader(_Decoded(raw, _ENCODINGS[name], max_bytes), READ_BYTES)


class _Decoded(io.RawIOBase):
    def __init__(self, raw: IO[bytes], new_frame: Callable[[], _Frame], max_bytes: int | None) -> None:
        self._raw = raw
        self._new_frame = new_frame
        self._max_bytes = max_bytes
        self._frame: _Frame | None = None
        self._waiting = b""
        self._num_read = self._num_decoded = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        out = self._next(len(buffer))
        buffer[: len(out)] = out
        self._count(len(out))
        return len(out)

    def _next(self, max_length: int) -> bytes:
        """Some bytes; none at the end of the last frame."""
        while True:
            if self._frame is None:
                if not (self._waiting or self._fill()):
                    return b""
                self._frame = self._new_frame()
            # Also without anything waiting: the frame may still hold what did not fit the last time.
            if out := self._decompress(self._frame, max_length):
                return out
            if self._frame is not None and not self._waiting and not self._fill():
                raise _broken("The compressed body ends too early.")

    def _fill(self) -> bool:
        self._waiting = self._raw.read(READ_BYTES)
        self._num_read += len(self._waiting)
        return bool(self._waiting)

    def _decompress(self, frame: _Frame, max_length: int) -> bytes:
        try:
            out = frame.decompress(self._waiting, max_length)
        except (zlib.error, zstd.ZstdError):
            raise _broken("The body is not what its Content-Encoding says.") from None
        if frame.eof:
            self._waiting, self._frame = frame.unused_data, None
        else:
            self._waiting = getattr(frame, "unconsumed_tail", b"")
        return out

    def _count(self, num_bytes: int) -> None:
        self._num_decoded += num_bytes
        if self._max_bytes is not None and self._num_decoded > self._max_bytes:
            raise TooLarge(f"The body comes to more than the {self._max_bytes} bytes that are allowed here.")
        if self._num_decoded > max(HARMLESS_BYTES, MAX_RATIO * self._num_read):
            raise TooLarge(
                "The body comes to far more than was sent.",
                code="compression_ratio",
                hint="Send it without a Content-Encoding.",
            )


def _broken(message: str) -> BadRequest:
    return BadRequest(message, code="invalid_encoding", hint="Compress it anew, and send all of it.")
