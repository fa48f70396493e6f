"""One request that breaks fails alone, and what it left behind harms nobody."""

import pytest
import torch
from answers import alone, broken, sequences_of, slots_of, together
from crowds import Crowd, Request, crowd_of
from tiny_families.family import FIRST_SPECIAL
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Sampling, Sequence
from workers.model.prompting.prepared import Prepared

# Attention columns alone, and linear states beside them.
KINDS_OF_MEMORY = ["idefics3", "qwen3_5"]


@pytest.fixture(scope="module")
def pictures() -> Crowd:
    """Idefics alone; its second request shows a picture."""
    return crowd_of("idefics3")


def test_a_row_whose_numbers_are_not_finite_fails_alone_and_poisons_nobody(pictures: Crowd) -> None:
    sequences = sequences_of(pictures.requests)
    inputs = sequences[1].prompt.inputs  # type: ignore[attr-defined]
    poisoned = torch.full_like(inputs["pixel_values"], torch.nan)
    sequences[1].prompt = Prepared({**inputs, "pixel_values": poisoned})

    events = together(slots_of(pictures.family.model, num_slots=3), sequences, EngineConfig(prefill_group=3))

    assert broken(events) == {1: "model_failed"}
    expected = [answer for number, answer in enumerate(pictures.answers) if number != 1]
    assert [sequence.tokens for sequence in sequences if sequence.id != 1] == expected


@pytest.mark.parametrize("cleans_up", [True, False])
def test_a_row_that_turns_infinite_while_decoding_poisons_no_later_occupant(
    pictures: Crowd, monkeypatch: pytest.MonkeyPatch, cleans_up: bool
) -> None:
    """Under torch's attention, which multiplies what is masked by zero; our kernels never read it."""
    monkeypatch.setitem(AttentionInterface._global_mapping, "sdpa", sdpa_attention_forward)
    family, generator = pictures.family, torch.Generator().manual_seed(0)
    prompts = [family.request(generator, words, "text") for words in (30, 18, 17, 16, 15)]
    expected = [alone(family.model, prompt, 12) for prompt in prompts]
    sequences = sequences_of([(prompt, 12) for prompt in prompts])
    slots = slots_of(family.model, num_slots=2)
    engine = Engine(slots, EngineConfig(prefill_group=1))
    if not cleans_up:
        monkeypatch.setattr("workers.model.slots.slot_cache.SlotCache.clear", lambda *ignored: None)
    for sequence in sequences:
        engine.submit(sequence)
    for _ in range(4):
        engine.step()
    place = slots._order.index(0)
    with torch.inference_mode():
        for layer in slots._rows.cache.slots:
            assert layer.keys is not None
            layer.keys[place, :, : slots._rows.lengths[place]] = torch.nan
            layer.values[place, :, : slots._rows.lengths[place]] = torch.nan
    events = []
    while engine.has_work:
        events += engine.step()

    if cleans_up:
        assert broken(events) == {0: "model_failed"}
        assert [sequence.tokens for sequence in sequences[1:]] == expected[1:]
    else:
        assert len(broken(events)) > 1


def recognisable(crowd: Crowd, others: list[list[int]]) -> tuple[Request, int, int]:
    """The third request with a last token, and so a first answer, that none of the others has."""
    inputs = crowd.requests[2][0].inputs
    for marked in range(5, FIRST_SPECIAL):
        ids = inputs["input_ids"].clone()
        ids[0, -1] = marked
        prompt = Prepared({**inputs, "input_ids": ids})
        first = alone(crowd.family.model, prompt, 1)[0]
        last_tokens = {int(request.inputs["input_ids"][0, -1]) for request, _ in crowd.requests[:5]}
        if marked not in last_tokens and all(first not in answer for answer in others):
            return (prompt, 9), marked, first
    raise AssertionError("every first token is in another answer")


@pytest.mark.parametrize(
    ("error", "code"),
    [(torch.OutOfMemoryError("no memory"), "out_of_memory"), (RuntimeError("broken"), "model_failed")],
)
@pytest.mark.parametrize("stage", ["prefill", "decode"])
@pytest.mark.parametrize("name", KINDS_OF_MEMORY)
def test_one_request_that_raises_fails_alone(
    name: str, monkeypatch: pytest.MonkeyPatch, stage: str, error: Exception, code: str
) -> None:
    """The last layer raises whenever the third request is part of the forward, as one that is too large would."""
    crowd = crowd_of(name)
    model = crowd.family.model
    requests = crowd.longest[:5]
    others = [answer for number, answer in enumerate(crowd.full_answers[:5]) if number != 2]
    requests[2], marked, first = recognisable(crowd, others)
    guarded = {"prefill": marked, "decode": first}
    is_stage = {"prefill": lambda length: length > 1, "decode": lambda length: length == 1}[stage]
    fed: list[torch.Tensor] = []

    def note(module: torch.nn.Module, arguments: object, inputs: dict[str, torch.Tensor]) -> None:
        fed[:] = [inputs["input_ids"]]

    def fail(module: torch.nn.Module, arguments: object) -> None:
        tokens = fed[0]
        if is_stage(tokens.shape[1]) and bool((tokens[:, -1] == guarded[stage]).any()):
            raise error

    last = model.get_decoder().layers[-1]
    hooks = [model.register_forward_pre_hook(note, with_kwargs=True), last.register_forward_pre_hook(fail)]
    sequences = sequences_of(requests)
    try:
        events = together(slots_of(model, num_slots=5), sequences, EngineConfig(prefill_group=5))
    finally:
        for hook in hooks:
            hook.remove()

    assert broken(events) == {2: code}
    assert [sequence.tokens for sequence in sequences if sequence.id != 2] == others


def test_another_seed_gives_another_answer(pictures: Crowd) -> None:
    prompt = pictures.requests[0][0]
    sequences = [
        Sequence(seed, prompt, Sampling(temperature=1.0, seed=seed, max_tokens=12)) for seed in range(4)
    ]

    together(slots_of(pictures.family.model), sequences)

    assert len({tuple(sequence.tokens) for sequence in sequences}) == 4
