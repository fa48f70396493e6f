"""Media that anybody could draw, and requests about them."""

import numpy as np
from PIL import Image, ImageDraw

from workers.media.decoded import Decoded, DecodedAudio, DecodedImage, DecodedVideo

Request = tuple[list[dict[str, object]], list[Decoded]]


def picture(shape: str, color: str, left: int = 30, size: int = 96) -> DecodedImage:
    """One shape on white."""
    canvas = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(canvas)
    box = (left, 34, left + 30, 64)
    draw.ellipse(box, fill=color) if shape == "circle" else draw.rectangle(box, fill=color)
    return DecodedImage(np.array(canvas), (size, size))


def clip(shape: str, color: str) -> DecodedVideo:
    """The shape moves to the right: 4 of 24 frames."""
    frames = [picture(shape, color, left).pixels for left in (4, 22, 40, 58)]
    return DecodedVideo(np.stack(frames), (0, 6, 12, 18), 12.0, 24, 2.0)


def tone(hertz: float, seconds: float = 1.5) -> DecodedAudio:
    """A steady tone."""
    times = np.arange(int(16_000 * seconds)) / 16_000
    return DecodedAudio((0.3 * np.sin(2 * np.pi * hertz * times)).astype(np.float32), 16_000, seconds)


def ask(text: str, *media: Decoded) -> Request:
    """A user message with the media first."""
    kinds = {DecodedImage: "image", DecodedVideo: "video", DecodedAudio: "audio"}
    parts: list[dict[str, object]] = [{"type": kinds[type(medium)]} for medium in media]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}], list(media)
