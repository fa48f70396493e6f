"""The bundled model, loaded once for each precision, and media that anybody could draw."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from service.settings import BUNDLED_MODEL
from workers.media.decoded import Decoded, DecodedAudio, DecodedImage, DecodedVideo
from workers.model.loading import Loaded, LoadOptions, load

Request = tuple[list[dict[str, object]], list[Decoded]]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bundled() -> Callable[[int | None], Loaded]:
    """Loads the bundled model at some bits; each once."""
    loaded: dict[int | None, Loaded] = {}

    def get(bits: int | None = None) -> Loaded:
        if bits not in loaded:
            loaded[bits] = load(LoadOptions(model=str(BUNDLED_MODEL), quant_bits=bits))
        return loaded[bits]

    return get


@pytest.fixture(scope="session")
def requests() -> list[Request]:
    """One of every kind: text, a picture, two, a clip, a sound, and a picture with a sound."""
    red, blue = picture("circle", "red"), picture("square", "blue")
    return [
        ask("Hello!"),
        ask("What is in the picture?", red),
        ask("What color is the square?", blue),
        ask("What changed between the two pictures?", red, blue),
        ask("Describe the video.", clip("circle", "green")),
        ask("What do you hear?", tone(880.0)),
        ask("Describe the picture and the sound.", blue, tone(1500.0)),
    ]


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


@pytest.fixture(scope="session")
def answer() -> Callable[[Loaded, Request], str]:
    """The model's greedy answer, by the library's own generate."""

    def run(loaded: Loaded, request: Request) -> str:
        prepared = loaded.prompter.prepare(*request)
        with torch.inference_mode():
            ids = loaded.model.generate(**prepared.inputs, max_new_tokens=32, do_sample=False)
        detokenizer = loaded.prompter.detokenizer()
        return detokenizer.push(ids[0, prepared.num_tokens :].tolist()) + detokenizer.finish()

    return run
