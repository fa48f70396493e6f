"""In float32 an answer from the slots is, token for token, what `generate` says to that request alone."""

import random
from collections.abc import Callable

import pytest
import torch
from answers import alone, broken, sequences_of, slots_of, together
from tiny_models import Family

from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Prefill, Sampling, Sequence, StepPlan, Token
from workers.model import groups
from workers.model.masks import Masks, SlotMasks
from workers.model.prepared import Prepared
from workers.model.rows import Rows

Request = tuple[Prepared, int]


def ragged_requests(family: Family, count: int = 8) -> list[Request]:
    """Prompts and answers of many lengths; some answers run past the sliding windows."""
    generator, lengths = torch.Generator().manual_seed(1), random.Random(0)
    return [(family.request(generator, lengths.randint(4, 24)), lengths.randint(3, 30)) for _ in range(count)]


def expected(family: Family, requests: list[Request]) -> list[list[int]]:
    return [alone(family.model, prompt, num_tokens) for prompt, num_tokens in requests]


def test_ragged_requests_share_slots_and_stay_exact(family: Family) -> None:
    requests = ragged_requests(family)
    sequences = sequences_of(requests)

    events = together(slots_of(family.model, num_slots=3), sequences)

    assert broken(events) == {}
    assert [sequence.tokens for sequence in sequences] == expected(family, requests)


def test_prompts_that_share_a_prefill_stay_exact(family: Family) -> None:
    requests = ragged_requests(family)
    sizes = [len(members) for members in groups.split([prompt for prompt, _ in requests], 10_000)]
    sequences = sequences_of(requests)

    together(slots_of(family.model, num_slots=8), sequences, EngineConfig(prefill_group=8))

    assert max(sizes) > 1
    assert [sequence.tokens for sequence in sequences] == expected(family, requests)


def test_parked_rows_go_on_exactly(family: Family) -> None:
    requests = [(prompt, 30) for prompt, _ in ragged_requests(family, 5)]
    sequences = sequences_of(requests)
    for chat in sequences[3:]:
        chat.priority = 0
    engine = Engine(slots_of(family.model, num_slots=2), EngineConfig(prefill_group=1))
    for bulk in sequences[:3]:
        engine.submit(bulk)
    for _ in range(7):
        engine.step()
    for chat in sequences[3:]:
        engine.submit(chat)
    engine.step()
    assert engine.num_waiting == 3

    while engine.has_work:
        engine.step()

    assert [sequence.tokens for sequence in sequences] == expected(family, requests)


def test_neighbours_of_a_cancelled_row_stay_exact(family: Family) -> None:
    requests = [(prompt, 20) for prompt, _ in ragged_requests(family, 4)]
    sequences = sequences_of(requests)
    engine = Engine(slots_of(family.model, num_slots=3), EngineConfig(prefill_group=1))
    for sequence in sequences:
        engine.submit(sequence)
    for _ in range(6):
        engine.step()
    engine.cancel(0)
    while engine.has_work:
        engine.step()

    answers = expected(family, requests)
    assert [sequence.tokens for sequence in sequences[1:]] == answers[1:]
    assert sequences[0].tokens == answers[0][: len(sequences[0].tokens)]
    assert len(sequences[0].tokens) < 20


def test_a_row_left_out_of_a_step_loses_nothing(family: Family) -> None:
    """The engine need not decode all its rows; the others move behind, and back."""
    requests = [(prompt, 9) for prompt, _ in ragged_requests(family, 3)]
    slots = slots_of(family.model)
    drawn: dict[int, list[int]] = {0: [], 1: [], 2: []}
    prefills = tuple(Prefill(row, row, prompt, Sampling()) for row, (prompt, _) in enumerate(requests))
    plans = [StepPlan(prefill=prefills)]
    plans += [StepPlan(decode=rows) for rows in [(2,), (0, 2), (1,), (0, 1, 2)]]
    for plan in plans:
        for result in slots.collect(slots.launch(plan)):
            assert isinstance(result, Token)
            drawn[result.row].append(result.token)

    for answer, tokens in zip(expected(family, requests), drawn.values(), strict=True):
        assert tokens == answer[: len(tokens)]
        assert len(tokens) > 2


def run_with(
    family: Family, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[pytest.MonkeyPatch], None]
) -> int:
    """How many of the answers are still exact after the engine was spoiled."""
    requests = ragged_requests(family)
    answers = expected(family, requests)
    sequences = sequences_of(requests)
    spoil(monkeypatch)
    together(slots_of(family.model, num_slots=3), sequences)
    return sum(sequence.tokens == answer for sequence, answer in zip(sequences, answers, strict=True))


def see_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(self: SlotMasks, start: int, stop: int, positions: torch.Tensor, num_columns: int) -> Masks:
        masks = truth(self, start, stop, positions, num_columns)
        if isinstance(masks, dict):
            return {kind: mask if mask is None else torch.zeros_like(mask) for kind, mask in masks.items()}
        return torch.zeros_like(masks)

    truth = SlotMasks.of
    monkeypatch.setattr(SlotMasks, "of", of)


def do_not_move_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.model.slots.SlotCache.move", lambda *ignored: None)


def forget_position_shifts(monkeypatch: pytest.MonkeyPatch) -> None:
    def advance(self: Rows, start: int, stop: int, tokens: torch.Tensor) -> None:
        truth(self, start, stop, tokens)
        assert self._positions is not None
        self._positions[..., start:stop, 0] = self._columns[start:stop]

    truth = Rows.advance
    monkeypatch.setattr(Rows, "advance", advance)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("idefics3", see_everything),
        ("gemma3", see_everything),
        ("qwen2_5_vl", forget_position_shifts),
        ("idefics3", do_not_move_rows),
    ],
)
def test_a_spoiled_engine_is_found_out(
    name: str,
    spoil: Callable[[pytest.MonkeyPatch], None],
    family_of: Callable[[str], Family],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run_with(family_of(name), monkeypatch, spoil) < 8


def test_a_row_whose_numbers_are_not_finite_fails_alone_and_poisons_nobody(
    family_of: Callable[[str], Family], monkeypatch: pytest.MonkeyPatch
) -> None:
    family = family_of("idefics3")
    requests = [(prompt, 12) for prompt, _ in ragged_requests(family, 8)]
    poisoned, numbers = requests[1][0].inputs["pixel_values"], requests[1][0]
    answers = expected(family, requests)
    sequences = sequences_of(requests)
    sequences[1].prompt = Prepared({**numbers.inputs, "pixel_values": torch.full_like(poisoned, torch.nan)})

    events = together(slots_of(family.model, num_slots=3), sequences, EngineConfig(prefill_group=3))

    assert broken(events) == {1: "model_failed"}
    assert [s.tokens for s in sequences if s.id != 1] == [a for n, a in enumerate(answers) if n != 1]


@pytest.mark.parametrize("cleans_up", [True, False])
def test_a_row_that_turns_infinite_while_decoding_poisons_no_later_occupant(
    family_of: Callable[[str], Family], monkeypatch: pytest.MonkeyPatch, cleans_up: bool
) -> None:
    family = family_of("idefics3")
    requests = [(prompt, 12) for prompt, _ in ragged_requests(family, 6)]
    requests.sort(key=lambda request: -request[0].num_tokens)
    answers = expected(family, requests)
    sequences = sequences_of(requests)
    slots = slots_of(family.model, num_slots=2)
    engine = Engine(slots, EngineConfig(prefill_group=1))
    if not cleans_up:
        monkeypatch.setattr("workers.model.slots.SlotCache.clear", lambda *ignored: None)
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
        assert [s.tokens for s in sequences[1:]] == answers[1:]
    else:
        assert len(broken(events)) > 1


@pytest.mark.parametrize(
    ("error", "code"),
    [(torch.OutOfMemoryError("no memory"), "out_of_memory"), (RuntimeError("broken"), "model_failed")],
)
@pytest.mark.parametrize("stage", ["prefill", "decode"])
def test_one_request_that_raises_fails_alone(
    family_of: Callable[[str], Family],
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    error: Exception,
    code: str,
) -> None:
    """The forward raises whenever the third request is part of it, as one that is too large would."""
    family = family_of("idefics3")
    requests = [(prompt, 9) for prompt, _ in ragged_requests(family, 5)]
    answers = expected(family, requests)
    marked = 245
    ids = requests[2][0].inputs["input_ids"]
    ids[0, -1] = marked
    truth = family.model.forward
    steps = {"prefill": lambda n: n > 1, "decode": lambda n: n == 1}

    def forward(*arguments: object, **inputs: torch.Tensor) -> object:
        tokens = inputs["input_ids"]
        if steps[stage](tokens.shape[1]) and bool((tokens[:, -1] == guarded[stage]).any()):
            raise error
        return truth(*arguments, **inputs)

    first = alone(family.model, requests[2][0], 1)[0]
    guarded = {"prefill": marked, "decode": first}
    others = [answer for number, answer in enumerate(answers) if number != 2]
    assert all(first not in answer for answer in others)
    monkeypatch.setattr(family.model, "forward", forward)
    sequences = sequences_of(requests)

    events = together(slots_of(family.model, num_slots=5), sequences, EngineConfig(prefill_group=5))

    assert broken(events) == {2: code}
    assert [s.tokens for s in sequences if s.id != 2] == others


def test_seeded_draws_are_the_same_alone_and_in_a_batch(family: Family) -> None:
    requests = [(prompt, 12) for prompt, _ in ragged_requests(family, 6)]
    wishes = [Sampling(temperature=0.9, top_p=0.9, seed=number, max_tokens=12) for number in range(6)]
    batched = [Sequence(n, prompt, wishes[n]) for n, (prompt, _) in enumerate(requests)]

    together(slots_of(family.model, num_slots=4), batched, EngineConfig(prefill_group=4))
    for number, sequence in enumerate(batched[:3]):
        single = Sequence(0, requests[number][0], wishes[number])
        together(slots_of(family.model, num_slots=1), [single])
        assert single.tokens == sequence.tokens


def test_another_seed_gives_another_answer(family_of: Callable[[str], Family]) -> None:
    family = family_of("idefics3")
    prompt = ragged_requests(family, 1)[0][0]
    sequences = [
        Sequence(seed, prompt, Sampling(temperature=1.0, seed=seed, max_tokens=12)) for seed in range(4)
    ]

    together(slots_of(family.model), sequences)

    assert len({tuple(sequence.tokens) for sequence in sequences}) == 4
