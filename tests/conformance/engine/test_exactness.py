"""In float32 an answer from the slots is, token for token, what `generate` says to that request alone."""

import pytest
from answers import broken, sequences_of, slots_of, together
from crowds import LONGEST, Crowd

from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Prefill, Sampling, Sequence, StepPlan, Token
from workers.model import groups


def test_ragged_requests_share_slots_and_stay_exact(crowd: Crowd) -> None:
    sequences = sequences_of(crowd.requests)

    events = together(slots_of(crowd.family.model, num_slots=4), sequences)

    assert broken(events) == {}
    assert [sequence.tokens for sequence in sequences] == crowd.answers


def test_prompts_that_share_a_prefill_stay_exact(crowd: Crowd, caplog: pytest.LogCaptureFixture) -> None:
    prompts = [prompt for prompt, _ in crowd.requests]
    sizes = [len(members) for members in groups.split(prompts, 10_000)]
    sequences = sequences_of(crowd.requests)

    together(slots_of(crowd.family.model, num_slots=10), sequences, EngineConfig(prefill_group=10))

    assert max(sizes) > 1
    assert not caplog.records, "a group broke and was halved"
    assert [sequence.tokens for sequence in sequences] == crowd.answers


def test_parked_rows_go_on_exactly(crowd: Crowd) -> None:
    sequences = sequences_of(crowd.longest)
    bulk, chats = sequences[:7], sequences[7:]
    for chat in chats:
        chat.priority = 0
    engine = Engine(slots_of(crowd.family.model, num_slots=3), EngineConfig(prefill_group=1))
    for sequence in bulk:
        engine.submit(sequence)
    for _ in range(7):
        engine.step()
    for chat in chats:
        engine.submit(chat)
    engine.step()
    assert {len(sequence.tokens) for sequence in bulk[:3]} == {7}

    while engine.has_work:
        engine.step()

    assert [sequence.tokens for sequence in sequences] == crowd.full_answers


def test_neighbours_of_a_cancelled_row_stay_exact(crowd: Crowd) -> None:
    sequences = sequences_of(crowd.longest)
    engine = Engine(slots_of(crowd.family.model, num_slots=4), EngineConfig(prefill_group=1))
    for sequence in sequences:
        engine.submit(sequence)
    for _ in range(6):
        engine.step()
    engine.cancel(0)
    while engine.has_work:
        engine.step()

    assert [sequence.tokens for sequence in sequences[1:]] == crowd.full_answers[1:]
    assert sequences[0].tokens == crowd.full_answers[0][: len(sequences[0].tokens)]
    assert len(sequences[0].tokens) < LONGEST


def test_a_row_left_out_of_a_step_loses_nothing(crowd: Crowd) -> None:
    """The engine need not decode all its rows; the others move behind, and back."""
    slots = slots_of(crowd.family.model)
    drawn: dict[int, list[int]] = {0: [], 1: [], 2: []}
    prefills = tuple(
        Prefill(row, row, prompt, Sampling()) for row, (prompt, _) in enumerate(crowd.requests[:3])
    )
    plans = [StepPlan(prefill=prefills)]
    plans += [StepPlan(decode=rows) for rows in [(2,), (0, 2), (1,), (0, 1, 2)]]
    for plan in plans:
        for result in slots.collect(slots.launch(plan)):
            assert isinstance(result, Token)
            drawn[result.row].append(result.token)

    for answer, tokens in zip(crowd.full_answers, drawn.values(), strict=False):
        assert tokens == answer[: len(tokens)]
        assert len(tokens) > 2


def test_seeded_draws_are_the_same_alone_and_in_a_batch(crowd: Crowd) -> None:
    prompts = [prompt for prompt, _ in crowd.requests[:5]]
    wishes = [Sampling(temperature=0.9, top_p=0.9, seed=number, max_tokens=12) for number in range(5)]
    batched = [Sequence(n, prompt, wishes[n]) for n, prompt in enumerate(prompts)]

    together(slots_of(crowd.family.model, num_slots=4), batched, EngineConfig(prefill_group=4))
    for number, sequence in enumerate(batched[:2]):
        single = Sequence(0, prompts[number], wishes[number])
        together(slots_of(crowd.family.model, num_slots=1), [single])
        assert single.tokens == sequence.tokens
