"""What the engine promises, on a scripted model, reading each step at once and one step late."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import (
    Broken,
    EngineEvent,
    Finished,
    Logprobs,
    Pending,
    Progress,
    RowResult,
    Sampling,
    Sequence,
    Token,
)
from workers.engine.scripted import SCRIPTED_EOS, ScriptedModel, ScriptedPrompt

CHAT, BULK = 0, 1
EAGER = EngineConfig(prefill_group=1)


@pytest.fixture(params=[False, True], ids=["at once", "one step late"])
def runs_ahead(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def sequence(
    number: int,
    *,
    answer: int = 4,
    max_tokens: int = 50,
    num_tokens: int = 10,
    priority: int = BULK,
    fails_at: int | None = None,
    **sampling: object,
) -> Sequence:
    """Sequence `number` answers with `answer` tokens 100 * number, 100 * number + 1, …, then ends."""
    tokens = tuple(100 * (number + 1) + index for index in range(answer))
    prompt = ScriptedPrompt(tokens, num_tokens=num_tokens, fails_at=fails_at)
    return Sequence(number, prompt, Sampling(max_tokens=max_tokens, **sampling), priority)  # type: ignore[arg-type]


def script(run: Sequence) -> list[int]:
    assert isinstance(run.prompt, ScriptedPrompt)
    return [*run.prompt.answer, SCRIPTED_EOS]


def run_to_end(engine: Engine, *sequences: Sequence, max_steps: int = 2000) -> list[EngineEvent]:
    for item in sequences:
        engine.submit(item)
    events: list[EngineEvent] = []
    for _ in range(max_steps):
        if not engine.has_work:
            return events
        events += engine.step()
    raise AssertionError("the engine never came to an end")


def ends(events: list[EngineEvent]) -> dict[int, str]:
    """How each sequence ended; fails if one ended twice."""
    found: dict[int, str] = {}
    for event in events:
        if isinstance(event, Finished | Broken):
            assert event.sequence.id not in found
            found[event.sequence.id] = event.reason if isinstance(event, Finished) else event.code
    return found


def steps_until_first_token(engine: Engine, wanted: Sequence) -> int:
    for step in range(1, 1000):
        engine.step()
        if wanted.tokens:
            return step
    raise AssertionError("no token came")


def test_more_sequences_than_slots_all_answer_in_full(runs_ahead: bool) -> None:
    engine = Engine(ScriptedModel(3, runs_ahead=runs_ahead))
    sequences = [sequence(number, answer=1 + number % 7) for number in range(20)]

    events = run_to_end(engine, *sequences)

    assert ends(events) == dict.fromkeys(range(20), "stop")
    assert [item.tokens for item in sequences] == [script(item) for item in sequences]


def test_progress_adds_up_to_the_answer(runs_ahead: bool) -> None:
    engine = Engine(ScriptedModel(2, runs_ahead=runs_ahead))
    told: dict[int, list[int]] = {0: [], 1: [], 2: []}

    for event in run_to_end(engine, *(sequence(number) for number in told)):
        if isinstance(event, Progress):
            told[event.sequence.id] += event.tokens

    assert told == {number: script(sequence(number)) for number in told}


def test_max_tokens_ends_an_answer_by_length(runs_ahead: bool) -> None:
    engine = Engine(ScriptedModel(2, runs_ahead=runs_ahead))
    short = sequence(0, answer=9, max_tokens=1)
    long = sequence(1, answer=9, max_tokens=5)

    events = run_to_end(engine, short, long)

    assert ends(events) == {0: "length", 1: "length"}
    assert [len(short.tokens), len(long.tokens)] == [1, 5]


def test_no_row_is_decoded_beyond_its_last_token(runs_ahead: bool) -> None:
    model = ScriptedModel(1, runs_ahead=runs_ahead)

    run_to_end(Engine(model), sequence(0, answer=9, max_tokens=5))

    assert sum(len(plan.decode) + len(plan.prefill) for plan in model.plans) == 5


def test_a_stop_id_ends_an_answer(runs_ahead: bool) -> None:
    engine = Engine(ScriptedModel(2, runs_ahead=runs_ahead))
    stopped = sequence(0, answer=9, stop_ids=frozenset({103}))

    events = run_to_end(engine, stopped)

    assert ends(events) == {0: "stop"}
    assert stopped.tokens == [100, 101, 102, 103]


def test_ignore_eos_goes_on_to_max_tokens(runs_ahead: bool) -> None:
    engine = Engine(ScriptedModel(2, runs_ahead=runs_ahead))
    endless = sequence(0, answer=2, max_tokens=6, ignore_eos=True)

    assert ends(run_to_end(engine, endless)) == {0: "length"}
    assert len(endless.tokens) == 6


def test_a_prompt_that_cannot_fit_is_refused_alone() -> None:
    engine = Engine(ScriptedModel(2, max_context_tokens=60))
    fits, too_long = sequence(0, num_tokens=10), sequence(1, num_tokens=11)

    events = run_to_end(engine, fits, too_long)

    assert ends(events) == {0: "stop", 1: "context_length_exceeded"}
    assert "60" in next(event.message for event in events if isinstance(event, Broken))


def test_an_answer_of_no_tokens_is_refused() -> None:
    assert ends(run_to_end(Engine(ScriptedModel(1)), sequence(0, max_tokens=0))) == {0: "invalid_value"}


@pytest.mark.parametrize("fails_at", [0, 1, 3])
def test_a_failing_row_fails_alone(runs_ahead: bool, fails_at: int) -> None:
    engine = Engine(ScriptedModel(3, runs_ahead=runs_ahead))
    sequences = [
        sequence(number, answer=6, fails_at=fails_at if number == 1 else None) for number in range(5)
    ]

    events = run_to_end(engine, *sequences)

    assert ends(events) == {0: "stop", 1: "model_failed", 2: "stop", 3: "stop", 4: "stop"}
    assert all(item.tokens == script(item) for item in sequences if item.id != 1)


def test_a_waiting_sequence_can_be_cancelled(runs_ahead: bool) -> None:
    engine = Engine(ScriptedModel(1, runs_ahead=runs_ahead))
    running, waiting = sequence(0, answer=9), sequence(1)
    engine.submit(running)
    engine.submit(waiting)
    engine.step()

    engine.cancel(1)
    events = run_to_end(engine)

    assert ends(events) == {0: "stop", 1: "cancelled"}
    assert waiting.tokens == []
    assert engine.num_waiting == 0


def test_a_running_sequence_can_be_cancelled_and_frees_its_slot(runs_ahead: bool) -> None:
    engine = Engine(ScriptedModel(1, runs_ahead=runs_ahead), EAGER)
    doomed, waiting = sequence(0, answer=40), sequence(1)
    engine.submit(doomed)
    engine.submit(waiting)
    for _ in range(5):
        engine.step()

    engine.cancel(0)
    events = run_to_end(engine)

    assert ends(events) == {0: "cancelled", 1: "stop"}
    assert doomed.tokens == script(doomed)[: len(doomed.tokens)]
    assert waiting.tokens == script(waiting)


def test_cancelling_what_has_ended_or_never_was_does_nothing() -> None:
    engine = Engine(ScriptedModel(1))
    events = run_to_end(engine, sequence(0))
    engine.cancel(0)
    engine.cancel(7)

    assert engine.step() == []
    assert ends(events) == {0: "stop"}


def test_chat_goes_before_bulk_that_came_earlier(runs_ahead: bool) -> None:
    engine = Engine(ScriptedModel(1, runs_ahead=runs_ahead), EngineConfig(max_parked_rows=0))
    bulk = [sequence(number, answer=5) for number in range(4)]
    chat = sequence(9, answer=5, priority=CHAT)

    events = run_to_end(engine, *bulk, chat)

    order = [event.sequence.id for event in events if isinstance(event, Finished)]
    assert order == [9, 0, 1, 2, 3]


def test_reserved_slots_stay_free_for_chat(runs_ahead: bool) -> None:
    engine = Engine(
        ScriptedModel(4, runs_ahead=runs_ahead), EngineConfig(reserved_chat_slots=1, prefill_group=1)
    )
    for number in range(10):
        engine.submit(sequence(number, answer=50, max_tokens=60))
    for _ in range(5):
        engine.step()

    assert engine.num_free_slots == 1
    chat = sequence(99, priority=CHAT)
    engine.submit(chat)
    assert steps_until_first_token(engine, chat) <= 1 + runs_ahead


def test_one_slot_is_always_left_to_bulk() -> None:
    engine = Engine(ScriptedModel(1), EngineConfig(reserved_chat_slots=4))

    assert ends(run_to_end(engine, sequence(0))) == {0: "stop"}


def test_a_chat_parks_a_bulk_row_whose_answer_stays_the_same(runs_ahead: bool) -> None:
    model = ScriptedModel(2, runs_ahead=runs_ahead)
    engine = Engine(model, EAGER)
    bulk = [sequence(number, answer=30) for number in range(2)]
    chat = sequence(9, answer=3, priority=CHAT)
    for item in bulk:
        engine.submit(item)
    for _ in range(6):
        engine.step()
    engine.submit(chat)

    assert steps_until_first_token(engine, chat) <= 1 + runs_ahead
    events = run_to_end(engine)

    assert sum(len(plan.park) for plan in model.plans) == 1
    assert ends(events) == {0: "stop", 1: "stop", 9: "stop"}
    assert [item.tokens for item in bulk] == [script(item) for item in bulk]


def test_the_bulk_row_that_came_last_is_parked() -> None:
    model = ScriptedModel(2)
    engine = Engine(model, EAGER)
    for number in range(2):
        engine.submit(sequence(number, answer=30))
    engine.step()
    engine.submit(sequence(9, priority=CHAT))
    engine.step()

    assert model.plans[-1].park == (1,)


def test_a_parked_sequence_can_be_cancelled(runs_ahead: bool) -> None:
    model = ScriptedModel(1, runs_ahead=runs_ahead)
    engine = Engine(model, EAGER)
    engine.submit(sequence(0, answer=30))
    for _ in range(4):
        engine.step()
    engine.submit(sequence(9, answer=8, priority=CHAT))
    for _ in range(4):
        engine.step()
    engine.cancel(0)

    events = run_to_end(engine)

    assert ends(events) == {0: "cancelled", 9: "stop"}
    assert sum(len(plan.restore) for plan in model.plans) == 0


def test_a_bulk_row_is_not_parked_for_ever(runs_ahead: bool) -> None:
    model = ScriptedModel(1, runs_ahead=runs_ahead)
    engine = Engine(model, EngineConfig(max_parks=2, max_bulk_wait_steps=10_000))
    bulk = sequence(0, answer=20)
    events: list[EngineEvent] = []
    engine.submit(bulk)
    for number in range(1, 12):
        for _ in range(4):
            events += engine.step()
        engine.submit(sequence(number, answer=1, priority=CHAT))
    events += run_to_end(engine)

    assert sum(len(plan.park) for plan in model.plans) == 2
    assert ends(events) == dict.fromkeys(range(12), "stop")
    assert bulk.tokens == script(bulk)


def test_bulk_gets_through_although_chats_never_stop_coming(runs_ahead: bool) -> None:
    engine = Engine(ScriptedModel(2, runs_ahead=runs_ahead), EngineConfig(max_bulk_wait_steps=30))
    bulk = sequence(0, answer=10)
    engine.submit(sequence(1, priority=CHAT))
    engine.step()
    engine.submit(bulk)
    for number in range(2, 400):
        engine.submit(sequence(number, answer=5, priority=CHAT))
        engine.step()
        if bulk.tokens == script(bulk):
            break

    assert bulk.tokens == script(bulk)
    assert engine.num_waiting > 20


def test_a_step_takes_in_no_more_prompt_tokens_than_its_budget() -> None:
    model = ScriptedModel(8)
    run_to_end(
        Engine(model, EngineConfig(max_prefill_tokens=100, prefill_group=1)),
        *(sequence(number, num_tokens=40) for number in range(8)),
    )

    assert max(len(plan.prefill) for plan in model.plans) == 2


def test_a_prompt_over_the_budget_comes_in_alone() -> None:
    model = ScriptedModel(4)
    engine = Engine(model, EngineConfig(max_prefill_tokens=100, prefill_group=1))

    events = run_to_end(engine, sequence(0, num_tokens=500), sequence(1), sequence(2))

    assert [len(plan.prefill) for plan in model.plans[:2]] == [1, 2]
    assert set(ends(events).values()) == {"stop"}


def test_decoding_goes_on_while_prompts_come_in() -> None:
    model = ScriptedModel(8)
    engine = Engine(model, EngineConfig(max_prefill_tokens=10, prefill_group=1))

    run_to_end(engine, *(sequence(number, answer=12, num_tokens=10) for number in range(8)))

    held = 0
    for plan in model.plans[:8]:
        assert len(plan.decode) == held
        held += len(plan.prefill)
    assert held == 8


def test_bulk_waits_for_a_group_of_slots_but_not_for_long() -> None:
    model = ScriptedModel(4)
    engine = Engine(model, EngineConfig(prefill_group=3, max_group_wait_steps=5))
    answers = [1, 40, 40, 40, 3, 3]

    run_to_end(engine, *(sequence(number, answer=answer) for number, answer in enumerate(answers)))

    prefills = [step for step, plan in enumerate(model.plans) if plan.prefill]
    assert prefills[0] == 0
    assert 4 <= prefills[1] - 2 <= 6


def test_chat_never_waits_for_a_group() -> None:
    engine = Engine(ScriptedModel(4), EngineConfig(prefill_group=4))
    for number in range(3):
        engine.submit(sequence(number, answer=30))
    engine.step()
    chat = sequence(9, priority=CHAT)
    engine.submit(chat)

    assert steps_until_first_token(engine, chat) == 1


def test_running_sequences_stay_within_the_kv_budget() -> None:
    model = ScriptedModel(8)
    engine = Engine(model, EngineConfig(max_kv_tokens=130, prefill_group=1))
    for number in range(6):
        engine.submit(sequence(number, num_tokens=10, max_tokens=50))
    engine.step()

    assert engine.num_running == 2
    assert ends(run_to_end(engine)) == dict.fromkeys(range(6), "stop")


def test_a_step_takes_in_no_more_prepared_bytes_than_its_budget() -> None:
    model = ScriptedModel(8)
    engine = Engine(model, EngineConfig(prefill_group=1, max_prefill_bytes=100))
    for number in range(4):
        big = sequence(number)
        assert isinstance(big.prompt, ScriptedPrompt)
        big.prompt = replace(big.prompt, num_bytes=60 if number else 300)
        engine.submit(big)

    run_to_end(engine)

    assert [len(plan.prefill) for plan in model.plans if plan.prefill] == [1, 1, 1, 1]


def test_a_constrained_row_draws_only_after_its_last_token_was_read(runs_ahead: bool) -> None:
    model = ScriptedModel(2, runs_ahead=runs_ahead)
    free, bound = sequence(0, answer=9), sequence(1, answer=9, constraint=object())

    events = run_to_end(Engine(model, EAGER), free, bound)

    assert ends(events) == {0: "stop", 1: "stop"}
    assert [run.tokens for run in (free, bound)] == [script(free), script(bound)]
    together = [1 in plan.decode for plan in model.plans if 0 in plan.decode]
    in_a_row = sum(one and other for one, other in itertools.pairwise(together))
    assert in_a_row == (0 if runs_ahead else len(together) - 1)


def test_a_model_that_cannot_park_keeps_its_rows_where_they_are(runs_ahead: bool) -> None:
    model = ScriptedModel(1, runs_ahead=runs_ahead)
    model.can_park = False
    engine = Engine(model, EAGER)
    engine.submit(sequence(0))
    engine.step()

    run_to_end(engine, sequence(1, priority=CHAT))

    assert not any(plan.park for plan in model.plans)


def test_logprobs_and_cached_tokens_reach_the_desk() -> None:
    class Telling(ScriptedModel):
        def collect(self, pending: Pending) -> list[RowResult]:
            return [
                replace(result, logprobs=Logprobs(-0.5), num_cached_tokens=7)
                if isinstance(result, Token)
                else result
                for result in super().collect(pending)
            ]

    asked = sequence(0, answer=2)
    events = run_to_end(Engine(Telling(1), EAGER), asked)

    assert asked.num_cached_tokens == 7
    assert [event.logprobs for event in events if isinstance(event, Progress)] == [(Logprobs(-0.5),)] * 3


def test_a_sequence_number_that_is_running_is_refused() -> None:
    engine = Engine(ScriptedModel(2))

    events = run_to_end(engine, sequence(0), sequence(0))

    assert sorted(event.code for event in events if isinstance(event, Broken)) == ["invalid_value"]
    assert [event.reason for event in events if isinstance(event, Finished)] == ["stop"]


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_whatever_happens_every_sequence_ends_once_and_says_what_it_should(data: st.DataObject) -> None:
    num_slots = data.draw(st.integers(1, 4))
    config = EngineConfig(
        reserved_chat_slots=data.draw(st.integers(0, 2)),
        prefill_group=data.draw(st.integers(1, 4)),
        max_group_wait_steps=data.draw(st.integers(0, 5)),
        max_parked_rows=data.draw(st.integers(0, 3)),
        max_bulk_wait_steps=data.draw(st.integers(1, 40)),
        max_prefill_tokens=data.draw(st.sampled_from([10, 30, 1000])),
    )
    engine = Engine(ScriptedModel(num_slots, runs_ahead=data.draw(st.booleans())), config)
    sequences: list[Sequence] = []
    cancelled: set[int] = set()
    events: list[EngineEvent] = []
    for number in range(data.draw(st.integers(1, 14))):
        answer, fails = data.draw(st.integers(0, 12)), data.draw(st.integers(0, 9))
        sequences.append(
            sequence(
                number,
                answer=answer,
                max_tokens=data.draw(st.integers(1, 14)),
                priority=data.draw(st.sampled_from([CHAT, BULK])),
                fails_at=fails if fails < 2 else None,
            )
        )
        engine.submit(sequences[-1])
        if data.draw(st.booleans()):
            cancelled.add(data.draw(st.integers(0, number)))
            engine.cancel(max(cancelled))
        for _ in range(data.draw(st.integers(0, 3))):
            events += engine.step()
    events += run_to_end(engine)

    assert set(ends(events)) == set(range(len(sequences)))
    assert engine.num_free_slots == num_slots
    assert engine.num_waiting == 0
    for item in sequences:
        told = script(item)[: item.sampling.max_tokens]
        assert item.tokens == told[: len(item.tokens)]
        if ends(events)[item.id] in ("stop", "length"):
            assert item.tokens == told


def test_while_chats_come_a_step_takes_in_less_of_bulk() -> None:
    config = EngineConfig(max_prefill_tokens=100, max_bulk_tokens_beside_chat=20, prefill_group=1)
    model = ScriptedModel(8)
    engine = Engine(model, config)
    engine.submit(Sequence(0, ScriptedPrompt((5, 6), num_tokens=10), Sampling(), priority=0))
    for number in range(1, 7):
        engine.submit(Sequence(number, ScriptedPrompt((5, 6), num_tokens=10), Sampling(), priority=1))

    while engine.has_work:
        engine.step()

    assert [len(plan.prefill) for plan in model.plans if plan.prefill][:3] == [1, 2, 2]


def test_a_step_that_takes_in_a_chat_draws_for_nobody_else() -> None:
    model = ScriptedModel(4)
    engine = Engine(model)
    engine.submit(Sequence(0, ScriptedPrompt((5,) * 9), Sampling(), priority=1))
    engine.step()
    engine.step()
    assert model.plans[-1].decode == (0,)

    engine.submit(Sequence(1, ScriptedPrompt((5, 6)), Sampling(), priority=0))
    engine.step()

    assert (len(model.plans[-1].prefill), model.plans[-1].decode) == (1, ())
    engine.step()
    assert model.plans[-1].decode == (0, 1)


def test_no_bulk_comes_in_until_a_chat_has_its_first_words() -> None:
    model = ScriptedModel(4)
    engine = Engine(model, EngineConfig(num_first_tokens=3, prefill_group=1))
    engine.submit(Sequence(0, ScriptedPrompt((5,) * 9), Sampling(), priority=0))
    engine.submit(Sequence(1, ScriptedPrompt((5, 6)), Sampling(), priority=1))

    while engine.has_work:
        engine.step()

    steps_of_prompts = [number for number, plan in enumerate(model.plans) if plan.prefill]
    assert steps_of_prompts == [0, 3]


def test_each_step_is_shared_by_the_rows_that_it_drew_for(runs_ahead: bool) -> None:
    """And the shares sum to the steps that anybody waited for: a first step that runs ahead waits for nothing."""
    engine = Engine(ScriptedModel(2, runs_ahead=runs_ahead), EAGER)
    runs = [sequence(number, answer=3 + number) for number in range(4)]
    for run in runs:
        engine.submit(run)

    num_steps = 0
    while engine.has_work:
        engine.step()
        engine.share(1.0)
        num_steps += 1

    total = sum(run.device_seconds for run in runs)
    assert total == pytest.approx(num_steps - runs_ahead, abs=1.01 if runs_ahead else 0.01)
    assert all(run.device_seconds >= len(run.tokens) / 2 for run in runs)


def test_a_chat_that_is_taken_in_alone_pays_for_that_step_alone() -> None:
    engine = Engine(ScriptedModel(2), EAGER)
    bulk, chat = sequence(0, answer=9), sequence(1, answer=9, priority=CHAT)
    engine.submit(bulk)
    engine.step()
    engine.submit(chat)

    engine.step()
    engine.share(1.0)

    assert (bulk.device_seconds, chat.device_seconds) == (0.0, 1.0)
