"""Families that would read one position for all rows of a forward read each row's own."""

import pytest
import torch
from answers import alone, sequences_of, slots_of, together
from crowds import crowd_of
from tiny_families import llama4
from tiny_families.speech import phi4_multimodal

from workers.engine.config import EngineConfig

LONG_AFTER = 40
NUM_WORDS = [60, 12, 45, 20, 52]


@pytest.mark.parametrize("prefill_group", [1, 5])
def test_long_and_short_prompts_of_phi4_share_a_batch(prefill_group: int) -> None:
    family = phi4_multimodal(long_after=LONG_AFTER)
    generator = torch.Generator().manual_seed(1)
    requests = [(family.request(generator, words, "text"), 16) for words in NUM_WORDS]
    answers = [alone(family.model, prompt, num_tokens) for prompt, num_tokens in requests]
    sequences = sequences_of(requests)

    together(slots_of(family.model, num_slots=5), sequences, EngineConfig(prefill_group=prefill_group))

    assert [sequence.tokens for sequence in sequences] == answers


@pytest.mark.parametrize("name", ["llama4", "phi4_multimodal"])
def test_without_its_note_such_a_family_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.model.slot_model.read_own_positions", lambda model: None)
    if name == "llama4":
        model, requests, answers = llama4().model, crowd_of(name).requests, crowd_of(name).answers
    else:
        family = phi4_multimodal(long_after=LONG_AFTER)
        generator = torch.Generator().manual_seed(1)
        requests = [(family.request(generator, words, "text"), 16) for words in NUM_WORDS]
        model, answers = family.model, [alone(family.model, prompt, 16) for prompt, _ in requests]
    sequences = sequences_of(requests)

    together(slots_of(model, num_slots=5), sequences)

    assert [sequence.tokens for sequence in sequences] != answers
