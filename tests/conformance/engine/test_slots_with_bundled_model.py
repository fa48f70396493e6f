"""The bundled model through its own processor: text, pictures, clips and sounds side by side, exact and right."""

import numpy as np
import pytest
from answers import alone, sequences_of, slots_of, together

from service.settings import BUNDLED_MODEL
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Finished, Sampling, Sequence
from workers.media.decoded import Decoded, DecodedAudio, DecodedImage, DecodedVideo
from workers.model.loading import Loaded, LoadOptions, load
from workers.model.prompting.prepared import Prepared
from workers.model.slot_model import TorchSlotModel

COLOURS = {"red": (220, 30, 30), "blue": (30, 60, 220), "green": (30, 160, 60)}
QUESTIONS = ["What is in the picture?", "Describe the picture please.", "What color is the square?"]


@pytest.fixture(scope="session")
def bundled() -> Loaded:
    return load(LoadOptions(model=str(BUNDLED_MODEL), device="cpu", dtype="float32"))


def square(colour: str, left: int = 90) -> DecodedImage:
    pixels = np.full((240, 240, 3), 245, np.uint8)
    pixels[80:160, left : left + 80] = COLOURS[colour]
    return DecodedImage(pixels, (240, 240))


def clip() -> DecodedVideo:
    frames = np.stack([square("red", left).pixels for left in (10, 50, 100, 150)])
    return DecodedVideo(frames, (0, 6, 12, 18), fps=12.0, total_frames=24, seconds=2.0)


def tone(pitch: float, seconds: float = 1.0) -> DecodedAudio:
    samples = 0.4 * np.sin(2 * np.pi * pitch * np.arange(int(16_000 * seconds)) / 16_000)
    return DecodedAudio(samples.astype(np.float32), 16_000, seconds)


def prepared(bundled: Loaded, text: str, *media: Decoded) -> Prepared:
    kinds = {DecodedImage: "image", DecodedVideo: "video", DecodedAudio: "audio"}
    content = [{"type": kinds[type(medium)]} for medium in media] + [{"type": "text", "text": text}]
    return bundled.prompter.prepare([{"role": "user", "content": content}], list(media))


@pytest.fixture(scope="session")
def prompts(bundled: Loaded) -> list[Prepared]:
    """Fourteen requests of every modality, of different lengths."""
    pictures = [prepared(bundled, text, square(colour)) for text in QUESTIONS for colour in COLOURS]
    return [
        *pictures,
        prepared(bundled, "Hello!"),
        prepared(bundled, "What changed between the two pictures?", square("red"), square("blue")),
        prepared(bundled, "Describe the video.", clip()),
        prepared(bundled, "What do you hear?", tone(700.0)),
        prepared(bundled, "What do you see and hear?", square("green"), tone(300.0, seconds=0.6)),
    ]


def test_every_modality_stays_exact_among_the_others(bundled: Loaded, prompts: list[Prepared]) -> None:
    requests = [(prompt, 4 + number * 5 % 17) for number, prompt in enumerate(prompts)]
    config = bundled.model.generation_config
    assert config is not None
    eos, config.eos_token_id = config.eos_token_id, None
    expected = [alone(bundled.model, prompt, num_tokens) for prompt, num_tokens in requests]
    config.eos_token_id = eos
    sequences = sequences_of(requests)

    slots = TorchSlotModel(bundled.model, num_slots=5, max_context_tokens=512, eos_ids=frozenset())
    together(slots, sequences, EngineConfig(prefill_group=2))

    assert [sequence.tokens for sequence in sequences] == expected


def test_answers_end_by_themselves_and_name_the_colour(bundled: Loaded) -> None:
    slots = TorchSlotModel(
        bundled.model, num_slots=3, max_context_tokens=512, eos_ids=bundled.prompter.eos_ids
    )
    engine = Engine(slots)
    for number, colour in enumerate(COLOURS):
        prompt = prepared(bundled, "What color is the square?", square(colour))
        engine.submit(Sequence(number, prompt, Sampling(max_tokens=40), tag=colour))
    ended = []
    while engine.has_work:
        ended += [event for event in engine.step() if isinstance(event, Finished)]

    assert [event.reason for event in ended] == ["stop"] * 3
    for event in ended:
        detokenizer = bundled.prompter.detokenizer()
        text = detokenizer.push(event.sequence.tokens) + detokenizer.finish()
        assert str(event.sequence.tag) in text.lower()


def test_a_seed_says_the_same_alone_and_in_a_batch(bundled: Loaded, prompts: list[Prepared]) -> None:
    wish = Sampling(temperature=1.0, seed=11, max_tokens=16)
    crowd = [
        Sequence(n, prompt, wish if n == 3 else Sampling(max_tokens=20)) for n, prompt in enumerate(prompts)
    ]
    single = Sequence(0, prompts[3], wish)

    for sequences, num_slots in ((crowd, 6), ([single], 1)):
        slots = TorchSlotModel(
            bundled.model, num_slots=num_slots, max_context_tokens=512, eos_ids=frozenset()
        )
        together(slots, sequences)

    assert single.tokens == crowd[3].tokens


def test_a_context_too_long_is_refused_before_it_costs_anything(
    bundled: Loaded, prompts: list[Prepared]
) -> None:
    engine = Engine(slots_of(bundled.model))
    engine.submit(Sequence(0, prompts[0], Sampling(max_tokens=160)))

    assert [getattr(event, "code", None) for event in engine.step()] == ["context_length_exceeded"]
    assert not engine.has_work


def test_the_slots_hold_no_more_memory_than_their_rows(bundled: Loaded, prompts: list[Prepared]) -> None:
    slots = slots_of(bundled.model, num_slots=2)
    together(slots, sequences_of([(prompts[0], 2)]))

    text = bundled.model.config.get_text_config()
    per_token = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * 4
    assert slots.num_cache_bytes == 2 * slots.max_context_tokens * per_token


def test_what_was_seen_before_is_answered_the_same_with_less_work(
    bundled: Loaded, prompts: list[Prepared]
) -> None:
    """Pictures come with several questions here; then everything is asked once more."""
    said, spared = [], []
    for num_bytes in (0, 1 << 26):
        slots = TorchSlotModel(
            bundled.model,
            num_slots=5,
            max_context_tokens=512,
            eos_ids=frozenset(),
            prefix_cache_bytes=num_bytes,
            encoder_cache_bytes=num_bytes,
        )
        sequences = sequences_of([(prompt, 6) for prompt in [*prompts, *prompts]])
        together(slots, sequences, EngineConfig(prefill_group=2))
        said.append([sequence.tokens for sequence in sequences])
        spared.append([sequence.num_cached_tokens for sequence in sequences])

    assert said[0] == said[1]
    assert not any(spared[0])
    again = zip(spared[1][len(prompts) :], prompts, strict=True)
    assert all(num_spared > prompt.num_tokens / 2 for num_spared, prompt in again if prompt.num_tokens > 32)
