"""The bundled model, loaded once for each precision."""

from collections.abc import Callable

import pytest
import torch
from drawn_media import Request, ask, clip, picture, tone

from service.settings import BUNDLED_MODEL
from workers.model.loading import Loaded, LoadOptions, load


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
