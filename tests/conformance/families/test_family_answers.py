"""From a folder on disk to tokens: what the slots say is what the library says, for every family and medium."""

from typing import Any

import torch
from family_checkpoints import Family
from family_conversations import Request, ask, clip, picture, sound
from plain_way import decided_answer, plain_features

from service.contract.media import MediaKind
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Sampling, Sequence
from workers.media.decoded import Decoded
from workers.model.slot_model import TorchSlotModel

_CONTEXT = 2304


def in_slots(family: Family, sequences: list[Sequence]) -> None:
    """Run sequences to their ends in a few slots; their tokens are in them."""
    slots = TorchSlotModel(family.loaded.model, num_slots=3, max_context_tokens=_CONTEXT, eos_ids=frozenset())
    engine = Engine(slots, EngineConfig())
    for sequence in sequences:
        engine.submit(sequence)
    while engine.has_work:
        engine.step()


def test_every_medium_is_answered_from_slots_as_the_library_answers_it_alone(family: Family) -> None:
    asked = family.conversations
    lengths = {name: 4 + 3 * (number % 3) for number, name in enumerate(asked)}
    expected = {
        name: decided_answer(family, plain_features(family, request), lengths[name])
        for name, request in asked.items()
    }
    sequences = [
        Sequence(number, family.loaded.prompter.prepare(*request), Sampling(max_tokens=lengths[name]))
        for number, (name, request) in enumerate(asked.items())
    ]

    in_slots(family, sequences)

    answers = dict(zip(asked, (sequence.tokens for sequence in sequences), strict=True))
    assert {name: answers[name][: len(tokens)] for name, tokens in expected.items()} == expected
    # Otherwise nothing would have been compared, or nothing of the media.
    assert sum(map(len, expected.values())) > sum(lengths.values()) / 2
    assert len({tuple(tokens) for tokens in expected.values()}) > 1


def test_another_medium_is_another_question_to_the_model(family: Family) -> None:
    """Otherwise the answers above would be equal whatever had become of the media."""
    pairs: dict[MediaKind, tuple[Decoded, Decoded]] = {
        MediaKind.IMAGE: (picture(seed=1), picture(seed=2)),
        MediaKind.VIDEO: (clip(seed=1), clip(seed=20)),
        MediaKind.AUDIO: (sound(hertz=300.0), sound(hertz=2000.0)),
    }
    for kind in family.checkpoint.takes:
        one, other = (first_logits(family, ask(medium, "What is it?")) for medium in pairs[kind])

        assert (one - other).abs().max() > 0.01 * one.std(), kind


def first_logits(family: Family, request: Request) -> torch.Tensor:
    """What the model thinks of each token as the answer's first."""
    prepared = family.loaded.prompter.prepare(*request)
    output: Any = family.loaded.model.generate(  # type: ignore[operator]
        **prepared.inputs, max_new_tokens=1, output_logits=True, return_dict_in_generate=True
    )
    return output.logits[0][0]
