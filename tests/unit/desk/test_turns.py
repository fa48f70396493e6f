"""Several models on one stepping thread."""

import threading
from collections import Counter

import pytest
from test_threads import Heard, job, served

from service.contract.jobs import Outcome, Succeeded
from workers.desk.answers import Answer
from workers.desk.publisher import Publisher
from workers.desk.seats import Seat
from workers.desk.served import Served
from workers.desk.stepper import Stepper
from workers.desk.turns import Turns
from workers.engine.protocol import Pending, Sampling, Sequence, StepPlan
from workers.engine.scripted import ScriptedModel, ScriptedPrompt
from workers.model.prompting.prepared import PromptCounts


def busy(name: str, num_sequences: int, num_tokens: int = 10_000) -> Served:
    """A model whose engine has so many long sequences."""
    model = served(name, ScriptedModel(4, max_context_tokens=20_000))
    for number in range(num_sequences):
        prompt = ScriptedPrompt((5,) * num_tokens)
        model.engine.submit(Sequence(number, prompt, Sampling(max_tokens=num_tokens)))
    return model


def seconds_of(turns: Turns, cost: dict[str, float], num_turns: int) -> Counter[str]:
    """Who got how much of the thread's time, if a step of each costs so much."""
    spent: Counter[str] = Counter()
    for _ in range(num_turns):
        stepped = turns.next()
        assert stepped is not None
        stepped.engine.step()
        turns.note(stepped, cost[stepped.name])
        spent[stepped.name] += cost[stepped.name]
    return spent


def test_equal_work_gets_equal_time_whatever_a_step_costs() -> None:
    turns = Turns([busy("light", 4), busy("heavy", 4)])

    spent = seconds_of(turns, {"light": 1.0, "heavy": 10.0}, 2000)

    assert spent["light"] == pytest.approx(spent["heavy"], rel=0.05)


def test_more_work_gets_more_time_and_little_work_still_a_quarter() -> None:
    turns = Turns([busy("much", 39), busy("little", 1)])

    spent = seconds_of(turns, {"much": 1.0, "little": 1.0}, 2000)

    assert spent["little"] / spent.total() == pytest.approx(0.25 + 0.5 / 40, abs=0.02)


def test_a_model_without_work_is_never_stepped() -> None:
    turns = Turns([busy("busy", 1), busy("idle", 0)])

    assert set(seconds_of(turns, {"busy": 1.0}, 100)) == {"busy"}
    assert Turns([busy("idle", 0)]).next() is None


def test_who_has_rested_gets_no_more_than_its_share() -> None:
    early, late = busy("early", 4), busy("late", 0)
    turns = Turns([early, late])
    seconds_of(turns, {"early": 1.0}, 1000)

    for number in range(4):
        late.engine.submit(Sequence(number, ScriptedPrompt((5,) * 5000), Sampling(max_tokens=5000)))
    spent = seconds_of(turns, {"early": 1.0, "late": 1.0}, 200)

    assert spent["early"] == pytest.approx(100, abs=5)


class Slow(ScriptedModel):
    """Every step takes a while."""

    def launch(self, plan: StepPlan) -> Pending:
        threading.Event().wait(0.005)
        return super().launch(plan)


class Letters:
    """A detokenizer for scripted tokens."""

    def push(self, ids: tuple[int, ...]) -> str:
        return "".join(chr(number) for number in ids if number > 2)

    def finish(self) -> str:
        return ""


def test_a_model_that_never_rests_does_not_keep_the_other_from_answering() -> None:
    busy_model, quick = served("busy", Slow(4, 20_000)), served("quick", ScriptedModel(2))
    heard, answered = Heard(), threading.Event()
    outcomes: list[Outcome] = []

    def on_outcome(seat: Seat, outcome: Outcome) -> None:
        seat.ended = True
        outcomes.append(outcome)
        answered.set()

    stepper = Stepper(
        [busy_model, quick], Publisher(heard), on_outcome=on_outcome, on_crash=lambda sentence: None
    )

    def submit(model: str, number: int, text: str, num_repeats: int) -> None:
        seat = Seat(job(number), counts=PromptCounts(text=1))
        answer = Answer(seat, 0, Letters(), number=number)  # type: ignore[arg-type]
        seat.answers = (answer,)
        prompt = ScriptedPrompt(tuple(map(ord, text)) * num_repeats)
        stepper.submit(
            model, Sequence(number, prompt, Sampling(max_tokens=num_repeats * len(text)), tag=answer)
        )

    for number in range(8):
        submit("busy", number, "a", 9000)
    stepper.start()
    submit("quick", 100, "Hello", 1)

    assert answered.wait(5)
    stepper.close()
    heard.close()
    (outcome,) = outcomes
    assert isinstance(outcome, Succeeded)
    assert outcome.body["choices"][0]["message"]["content"] == "Hello"
