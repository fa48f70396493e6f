"""The committed checkpoint answers right, through the processor and `generate`."""

from pathlib import Path

import pytest
from transformers import Gemma4ForConditionalGeneration

from models.training.demo import MODALITIES, examples
from models.training.evaluate import accuracy, graded, load, quantize
from models.training.exam import Item
from models.training.processor import MediaProcessor
from models.training.stranger import stranger

BUNDLED = Path(__file__).parents[3] / "models" / "tiny-gemma4"
UNSEEN = 5150

Loaded = tuple[Gemma4ForConditionalGeneration, MediaProcessor]


@pytest.fixture(scope="module")
def bundled() -> Loaded:
    return load(BUNDLED)


def _share(bundled: Loaded, items: list[Item]) -> float:
    counts = accuracy(graded(*bundled, items), show_wrong=10)
    right, asked = (sum(column) for column in zip(*counts.values(), strict=True))
    assert asked == len(items)
    return float(right / asked)


def _mixture() -> list[Item]:
    counts = {"image": 14, "pair": 8, "video": 6, "audio": 8, "mixed": 4, "text": 4}
    return [item for modality in MODALITIES for item in examples(modality, counts[modality], UNSEEN)]


def test_the_checkpoint_is_small_enough_to_commit() -> None:
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) < 8_000_000


def test_it_answers_what_it_was_trained_for(bundled: Loaded) -> None:
    assert _share(bundled, _mixture()) >= 0.95


def test_it_answers_about_media_drawn_by_other_code(bundled: Loaded) -> None:
    assert _share(bundled, list(stranger(2, seed=6))) >= 0.9


def test_a_plain_440_hz_tone_is_a_steady_medium_tone(bundled: Loaded) -> None:
    tones = [item for item in stranger(1) if item.task == "stranger: 440 Hz"]

    assert [reply for _, reply in graded(*bundled, tones)] == ["A steady medium tone."]


def test_four_bits_are_enough(bundled: Loaded) -> None:
    model, processor = load(BUNDLED)
    quantize(model, 4)

    assert _share((model, processor), _mixture()) >= 0.93
