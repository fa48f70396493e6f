"""What serves a model without slots: static batches, still exact, and one line that says so."""

import logging

import pytest
import torch
from answers import alone, broken, sequences_of, together
from crowds import crowd_of
from hybrid_model import falcon_h1, ragged_prompts
from spoiling import see_everything

from service.errors import ConfigurationError
from service.settings import BUNDLED_MODEL
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Finished, Sampling, Sequence, StepPlan
from workers.model.choose_model import Limits, make_slot_model
from workers.model.loading import Loaded, LoadOptions, load
from workers.model.prompting.prepared import Prepared
from workers.model.slot_model import TorchSlotModel
from workers.model.static_model import StaticModel

LIMITS = Limits(num_slots=4, max_context_tokens=128)


@pytest.fixture(scope="module")
def bundled() -> Loaded:
    return load(LoadOptions(model=str(BUNDLED_MODEL), device="cpu", dtype="float32"))


@pytest.fixture
def unheard_of(bundled: Loaded) -> Loaded:
    """A loaded model of which the slots know nothing."""
    return Loaded(falcon_h1(), bundled.prompter, "1", 0.0, {"model": "falcon"})


# With images, cross-attention, linear states, and positions of their own.
@pytest.mark.parametrize("name", ["gemma3", "idefics3", "mllama", "qwen2_5_vl", "qwen3_5"])
def test_static_batches_stay_exact(name: str) -> None:
    crowd = crowd_of(name)
    sequences = sequences_of(crowd.requests)
    model = StaticModel(crowd.family.model, num_slots=5, max_context_tokens=240)

    events = together(model, sequences, EngineConfig(prefill_group=5))

    assert broken(events) == {}
    assert [sequence.tokens for sequence in sequences] == crowd.answers


def test_a_layer_that_no_slot_can_hold_is_served_in_static_batches_and_one_line_says_so(
    unheard_of: Loaded, caplog: pytest.LogCaptureFixture
) -> None:
    requests = ragged_prompts(8)
    with pytest.raises(ConfigurationError, match="hybrid"):
        TorchSlotModel(unheard_of.model, num_slots=4, max_context_tokens=128)

    with caplog.at_level(logging.WARNING):
        serving = make_slot_model(unheard_of, LIMITS, EngineConfig())

    assert isinstance(serving.model, StaticModel)
    assert [record.getMessage() for record in caplog.records if record.name.startswith("workers")] == [
        "falcon is served in static batches, which are slower: This model keeps memory of the kind 'hybrid', "
        "which the slot engine cannot hold yet."
    ]
    assert unheard_of.provenance["batching"] == "static"
    sequences = sequences_of(requests)
    together(serving.model, sequences, serving.config)
    assert [sequence.tokens for sequence in sequences] == [
        alone(unheard_of.model, prompt, num_tokens) for prompt, num_tokens in requests
    ]


def test_every_wish_about_drawing_holds_in_static_batches_too(unheard_of: Loaded) -> None:
    wish = Sampling(temperature=0.9, top_p=0.95, presence_penalty=0.5, num_logprobs=2, max_tokens=8)
    said = []
    for num_slots in (1, 4):
        sequences = sequences_of(ragged_prompts(4))
        sequences = [Sequence(each.id, each.prompt, wish) for each in sequences]
        together(StaticModel(unheard_of.model, num_slots=num_slots, max_context_tokens=128), sequences)
        said.append([sequence.tokens for sequence in sequences])

    assert said[0] == said[1]
    assert {len(tokens) for tokens in said[0]} == {8}


def test_slots_that_say_something_else_than_generate_are_not_used(
    bundled: Loaded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    see_everything(monkeypatch)
    with caplog.at_level(logging.WARNING):
        serving = make_slot_model(bundled, LIMITS, EngineConfig())

    assert isinstance(serving.model, StaticModel)
    assert serving.fallback is not None
    assert "not those of generate" in serving.fallback
    assert len(caplog.records) == 1
    words = torch.randint(5, 200, (1, 9), generator=torch.Generator().manual_seed(1))
    sequence = Sequence(0, Prepared({"input_ids": words}), Sampling(max_tokens=5, ignore_eos=True))
    together(serving.model, [sequence])
    assert len(sequence.tokens) == 5


def test_slots_that_agree_with_generate_are_used_and_left_empty(bundled: Loaded) -> None:
    serving = make_slot_model(bundled, LIMITS, EngineConfig())

    assert isinstance(serving.model, TorchSlotModel)
    assert serving.fallback is None
    assert bundled.provenance["batching"] == "slots"
    for row in range(4):
        with pytest.raises(ValueError, match="holds nothing"):
            serving.model.launch(StepPlan(decode=(row,)))


def test_a_static_batch_that_breaks_fails_its_rows_and_no_others(
    unheard_of: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = StaticModel(unheard_of.model, num_slots=2, max_context_tokens=128, pads=False)
    engine = Engine(model, EngineConfig(prefill_group=1))
    sequences = sequences_of(ragged_prompts(2))
    wanted = alone(unheard_of.model, sequences[1].prompt, sequences[1].sampling.max_tokens)
    for sequence in sequences:
        engine.submit(sequence)
    events = engine.step()
    truth, poisoned = unheard_of.model.forward, sequences[0].tokens[0]

    def forward(*arguments: object, **inputs: torch.Tensor) -> object:
        if bool((inputs["input_ids"][:, -1] == poisoned).any()):
            raise torch.OutOfMemoryError("no memory")
        return truth(*arguments, **inputs)

    monkeypatch.setattr(unheard_of.model, "forward", forward)
    assert poisoned not in wanted
    while engine.has_work:
        events += engine.step()

    assert broken(events) == {0: "out_of_memory"}
    assert [event.sequence.id for event in events if isinstance(event, Finished)] == [1]
    assert sequences[1].tokens == wanted
