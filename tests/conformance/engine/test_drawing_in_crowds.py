"""Wishes about drawing through the whole engine: the same alone, in a crowd, parked, and beside one that breaks."""

from dataclasses import replace

import pytest
import torch
from answers import broken, slots_of, together
from crowds import Crowd, crowd_of

from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Pending, Progress, Sampling, Sequence, StepPlan
from workers.model.slot_model import TorchSlotModel

VOCABULARY = 256
NUM_TOKENS = 14


class Alternating:
    """A grammar of even and odd tokens in turn; `refuses` is a token that it allows and cannot bear."""

    def __init__(self, refuses: int | None = None) -> None:
        self.accepted: list[int] = []
        self.refuses = refuses

    def allowed(self) -> torch.Tensor:
        """Every other bit."""
        word = 0x55555555 if len(self.accepted) % 2 == 0 else -0x55555556
        return torch.full((VOCABULARY // 32,), word, dtype=torch.int32)

    def accept(self, token: int) -> None:
        """Go on."""
        if len(self.accepted) == self.refuses:
            raise ValueError("no further")
        assert token % 2 == len(self.accepted) % 2
        self.accepted.append(token)

    def fresh(self) -> "Alternating":
        """From the beginning."""
        return Alternating(self.refuses)


def wishes() -> list[Sampling]:
    """One for each of ten requests, no two alike; the second and the fifth are plain."""
    all_of_them = [
        Sampling(temperature=0.9, presence_penalty=1.2),
        Sampling(),
        Sampling(temperature=1.1, top_p=0.9, repetition_penalty=1.3, logit_bias=((7, 3.0), (9, -100.0))),
        Sampling(temperature=1.0, constraint=Alternating()),
        Sampling(),
        Sampling(frequency_penalty=0.9, num_logprobs=3),
        Sampling(temperature=1.3, top_k=20, min_p=0.02, num_logprobs=1, constraint=Alternating()),
        Sampling(temperature=0.7, frequency_penalty=-0.5, top_p=0.8),
        Sampling(constraint=Alternating(), presence_penalty=0.7),
        Sampling(temperature=2.0),
    ]
    return [with_seed(wish, seed) for seed, wish in enumerate(all_of_them)]


def with_seed(wish: Sampling, seed: int) -> Sampling:
    return replace(wish, seed=seed, max_tokens=NUM_TOKENS)


def sequences_for(crowd: Crowd) -> list[Sequence]:
    pairs = zip(crowd.requests, wishes(), strict=True)
    return [Sequence(number, prompt, wish) for number, ((prompt, _), wish) in enumerate(pairs)]


def said_alone(crowd: Crowd) -> list[list[int]]:
    said = []
    for sequence in sequences_for(crowd):
        together(slots_of(crowd.family.model, num_slots=1), [sequence])
        said.append(sequence.tokens)
    return said


@pytest.fixture(scope="module", params=["idefics3", "qwen3_5"])
def drawn(request: pytest.FixtureRequest) -> tuple[Crowd, list[list[int]]]:
    """Requests with wishes of every kind, and what each says alone."""
    crowd = crowd_of(request.param)
    return crowd, said_alone(crowd)


def test_every_wish_says_the_same_alone_and_in_a_crowd(drawn: tuple[Crowd, list[list[int]]]) -> None:
    crowd, alone = drawn
    sequences = sequences_for(crowd)

    events = together(slots_of(crowd.family.model, num_slots=4), sequences, EngineConfig(prefill_group=4))

    assert broken(events) == {}
    assert [sequence.tokens for sequence in sequences] == alone
    telling = {event.sequence.id for event in events if isinstance(event, Progress) and event.logprobs}
    assert telling == {5, 6}


class Watched(TorchSlotModel):
    """Slots that remember how many rows were parked."""

    num_parked = 0

    def launch(self, plan: StepPlan) -> Pending:
        """Count, and do as asked."""
        self.num_parked += len(plan.park)
        return super().launch(plan)


def test_every_wish_goes_on_after_parking(drawn: tuple[Crowd, list[list[int]]]) -> None:
    crowd, alone = drawn
    sequences = sequences_for(crowd)
    slots = Watched(crowd.family.model, num_slots=2, max_context_tokens=240, eos_ids=frozenset())
    engine = Engine(slots, EngineConfig(prefill_group=1))
    for sequence in sequences:
        engine.submit(sequence)
    num_steps = 0
    while engine.has_work:
        engine.step()
        num_steps += 1
        if num_steps % 5 == 0 and num_steps < 100:
            # A chat for each slot: both bulk rows have to leave.
            for number in (100, 200):
                prompt = crowd.requests[1][0]
                engine.submit(Sequence(number + num_steps, prompt, Sampling(max_tokens=2), priority=0))

    assert slots.num_parked >= len(sequences)
    assert [sequence.tokens for sequence in sequences] == alone


def test_a_grammar_that_breaks_on_the_way_breaks_nobody_else(drawn: tuple[Crowd, list[list[int]]]) -> None:
    crowd, alone = drawn
    sequences = sequences_for(crowd)
    bad = Sampling(max_tokens=NUM_TOKENS, constraint=Alternating(refuses=4))
    sequences[4] = Sequence(4, sequences[4].prompt, bad)

    events = together(slots_of(crowd.family.model, num_slots=4), sequences, EngineConfig(prefill_group=4))

    assert broken(events) == {4: "grammar_failed"}
    assert len(sequences[4].tokens) == 4
    assert [s.tokens for s in sequences if s.id != 4] == [said for n, said in enumerate(alone) if n != 4]


def test_answers_with_a_grammar_follow_it_to_their_end(drawn: tuple[Crowd, list[list[int]]]) -> None:
    _, alone = drawn

    for number in (3, 6, 8):
        assert [token % 2 for token in alone[number]] == [0, 1] * (NUM_TOKENS // 2)


def test_a_bias_of_minus_a_hundred_is_never_said_and_one_of_plus_a_hundred_always() -> None:
    crowd = crowd_of("idefics3")
    prompt = crowd.requests[0][0]
    wish = Sampling(temperature=1.5, seed=3, max_tokens=10, logit_bias=((33, 100.0),))
    sequence = Sequence(0, prompt, wish)
    together(slots_of(crowd.family.model), [sequence])

    assert sequence.tokens == [33] * 10


def test_logprobs_are_those_of_generate() -> None:
    crowd = crowd_of("idefics3")
    prompt = crowd.requests[0][0]
    inputs = {**prompt.inputs, "attention_mask": torch.ones_like(prompt.inputs["input_ids"])}
    output = crowd.family.model.generate(  # type: ignore[operator]
        **inputs, max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    wanted = torch.cat(output.logits).log_softmax(-1)

    sequence = Sequence(0, prompt, Sampling(max_tokens=6, num_logprobs=5))
    events = together(slots_of(crowd.family.model), [sequence])

    told = [logprobs for event in events if isinstance(event, Progress) for logprobs in event.logprobs]
    assert len(told) == 6
    for place, logprobs in enumerate(told):
        best = wanted[place].topk(5)
        assert logprobs.chosen == pytest.approx(float(best.values[0]), abs=1e-4)
        assert [token for token, _ in logprobs.top] == best.indices.tolist()
        assert [value for _, value in logprobs.top] == pytest.approx(best.values.tolist(), abs=1e-4)
