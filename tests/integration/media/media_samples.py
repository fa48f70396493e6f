"""Real media, drawn on the spot: a picture with four known corners, clips that count, pure tones."""

import base64
import io
import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.contract.media import MediaKind, MediaNeeds, MediaRef

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 180, 60), (30, 60, 220), (230, 220, 40)
TONE_HZ = 440
NEEDS = MediaNeeds(takes=frozenset(MediaKind), num_frames=8)
PARAM = "messages[0].content[1]"


def data_uri(data: bytes, type: str) -> str:
    """A data: URI."""
    return f"data:{type};base64,{base64.b64encode(data).decode()}"


def ref_to(kind: MediaKind, source: bytes | str | Path, **wishes: float) -> MediaRef:
    """A part that names `source`; bytes go as a data: URI."""
    url = data_uri(source, f"{kind.value}/x-any") if isinstance(source, bytes) else str(source)
    return MediaRef(kind, url, PARAM, **wishes)  # type: ignore[arg-type]


def corners(width: int = 96, height: int = 64) -> Image.Image:
    """Red, green / blue, yellow: upper left, upper right / lower left, lower right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = RED, GREEN
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = BLUE, YELLOW
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    """The image as a file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds next to nothing."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(64)))
        + chunk(b"IEND", b"")
    )


def seen_corners(pixels: NDArray[np.uint8]) -> list[tuple[int, ...]]:
    """The colours in the middle of the four quarters, in the order of `corners`."""
    height, width, _ = pixels.shape
    rows, columns = (height // 4, height - height // 4), (width // 4, width - width // 4)
    return [tuple(int(v) for v in pixels[row, column]) for row in rows for column in columns]


def grey_of(index: int) -> int:
    """How bright frame `index` of a counting clip is."""
    return 5 * index % 250


def counting(num_frames: int, width: int, height: int) -> Iterator[NDArray[np.uint8]]:
    """Frames that tell their own number by their grey."""
    for index in range(num_frames):
        yield np.full((height, width, 3), grey_of(index), np.uint8)


def clip(
    codec: str = "mpeg4",
    format: str = "mp4",
    *,
    num_frames: int = 24,
    fps: int = 12,
    size: tuple[int, int] = (64, 48),
    pixel_format: str = "yuv420p",
    frames: Iterator[NDArray[np.uint8]] | None = None,
    sound: bool = False,
    times: list[int] | None = None,
) -> bytes:
    """A clip; `times` gives each frame's own moment in milliseconds."""
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        stream.codec_context.thread_count = 1
        if times:
            stream.codec_context.time_base = Fraction(1, 1000)
        speaker = container.add_stream("aac", rate=16_000, layout="mono") if sound else None
        for index, pixels in enumerate(frames or counting(num_frames, *size)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if speaker:
            _mux_tone(container, speaker, tone_samples(num_frames / fps, 16_000), 16_000)
    return file.getvalue()


def tone_samples(seconds: float, rate: int) -> NDArray[np.float32]:
    """A pure tone."""
    moments = np.arange(int(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * TONE_HZ * moments)).astype(np.float32)


def tone(codec: str, format: str, *, seconds: float = 1.0, rate: int = 44_100, layout: str = "mono") -> bytes:
    """A file with a pure tone in every channel."""
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        _mux_tone(container, stream, tone_samples(seconds, rate), rate)
    return file.getvalue()


def _mux_tone(container: Any, stream: Any, samples: NDArray[np.float32], rate: int) -> None:
    frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
    frame.sample_rate = rate
    converter = av.AudioResampler(
        format=stream.format,
        layout=stream.layout,
        rate=rate,
        frame_size=stream.codec_context.frame_size or None,
    )
    for piece in [*converter.resample(frame), *converter.resample(None)]:
        container.mux(stream.encode(piece))
    container.mux(stream.encode(None))


def wav(samples: NDArray[Any], rate: int = 16_000, channels: int = 1) -> bytes:
    """A RIFF file written by hand, so that it can hold what no encoder would write."""
    kind = 3 if samples.dtype == np.float32 else 1
    width = samples.dtype.itemsize
    body = samples.tobytes()
    header = struct.pack(
        "<HHIIHH", kind, channels, rate, rate * channels * width & 0xFFFF_FFFF, channels * width, 8 * width
    )
    chunks = b"fmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def turned(mp4: bytes, degrees: int) -> bytes:
    """The same mp4, with a note to its player: turn me clockwise by so many degrees."""
    one = 0x10000
    cosine, sine = {90: (0, one), 180: (-one, 0), 270: (0, -one)}[degrees]
    matrix = struct.pack(">9i", cosine, sine, 0, -sine, cosine, 0, 0, 0, 0x40000000)
    box = mp4.index(b"tkhd")
    start = box + 4 + 4 + 20 + 16
    return mp4[:start] + matrix + mp4[start + len(matrix) :]


def loudest_hertz(samples: NDArray[np.float32], rate: int) -> float:
    """The frequency that holds the most energy."""
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples))
