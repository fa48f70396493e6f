"""From a folder on disk to tokens: what the slots say is what the library says, for every family and medium."""

from functools import cache
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

_MIB = 1 << 20


@cache
def library_answers(family: Family) -> dict[str, list[int]]:
    """What the library says to each conversation alone, at several lengths."""
    lengths = {name: 4 + 3 * (number % 3) for number, name in enumerate(family.conversations)}
    answers = {
        name: decided_answer(family, plain_features(family, request), lengths[name])
        for name, request in family.conversations.items()
    }
    # Otherwise nothing would be compared, or nothing of the media.
    assert sum(map(len, answers.values())) > sum(lengths.values()) / 2
    assert len({tuple(tokens) for tokens in answers.values()}) > 1
    return answers


def sequences_for(family: Family, answers: dict[str, list[int]]) -> list[Sequence]:
    """The same conversations, for answers as long as these."""
    return [
        Sequence(number, family.loaded.prompter.prepare(*request), Sampling(max_tokens=len(answers[name])))
        for number, (name, request) in enumerate(family.conversations.items())
        if answers[name]
    ]


def engine_of(family: Family, **caches: int) -> Engine:
    """A few slots that never stop early."""
    slots = TorchSlotModel(
        family.loaded.model, num_slots=3, max_context_tokens=2304, eos_ids=frozenset(), **caches
    )
    return Engine(slots, EngineConfig())


def said_by(engine: Engine, sequences: list[Sequence]) -> list[list[int]]:
    """Run sequences to their ends and give their tokens."""
    for sequence in sequences:
        engine.submit(sequence)
    while engine.has_work:
        engine.step()
    return [sequence.tokens for sequence in sequences]


def test_every_medium_is_answered_from_slots_as_the_library_answers_it_alone(family: Family) -> None:
    answers = library_answers(family)

    said = said_by(engine_of(family), sequences_for(family, answers))

    assert said == [tokens for tokens in answers.values() if tokens]


def test_a_conversation_that_was_seen_before_is_answered_the_same_out_of_the_caches(family: Family) -> None:
    answers = library_answers(family)
    engine = engine_of(family, prefix_cache_bytes=128 * _MIB, encoder_cache_bytes=64 * _MIB)
    said_by(engine, sequences_for(family, answers))

    again = said_by(engine, sequences_for(family, answers))

    assert again == [tokens for tokens in answers.values() if tokens]


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
