"""The watchdog and what it takes for a hang."""

import threading
import time

import pytest

from workers.desk.watchdog import Pulse, Watchdog, describe
from workers.engine.engine import Engine
from workers.engine.protocol import Sampling, Sequence
from workers.engine.scripted import ScriptedModel, ScriptedPrompt

SECONDS = 0.2


def busy_engine(num_tokens: int = 7) -> Engine:
    """Has work, and takes in a prompt of so many tokens in its first step."""
    engine = Engine(ScriptedModel(2))
    engine.submit(Sequence(1, ScriptedPrompt((5,) * 500, num_tokens=num_tokens), Sampling(max_tokens=500)))
    return engine


def told_of(pulse: Pulse, *, within_seconds: float) -> str | None:
    """What a watchdog says of this pulse in the given time."""
    told: list[str] = []
    heard = threading.Event()

    def hear(sentence: str) -> None:
        told.append(sentence)
        heard.set()

    watchdog = Watchdog([pulse], SECONDS, hear)
    watchdog.start()
    heard.wait(within_seconds)
    watchdog.close()
    return told[0] if told else None


def test_a_step_that_does_not_end_is_a_hang() -> None:
    pulse = Pulse(busy_engine(), "tiny")

    pulse.begin()

    assert "The engine of tiny made no progress" in (told_of(pulse, within_seconds=5) or "")


def test_an_engine_that_has_no_work_may_rest() -> None:
    pulse = Pulse(Engine(ScriptedModel(2)), "tiny")

    assert told_of(pulse, within_seconds=4 * SECONDS) is None


def test_an_engine_that_waits_for_its_turn_is_not_blamed_for_another() -> None:
    pulse = Pulse(busy_engine(), "tiny")

    assert told_of(pulse, within_seconds=4 * SECONDS) is None


@pytest.mark.parametrize(("moved", "is_stuck"), [(True, False), (False, True)])
def test_steps_that_bring_nothing_are_a_hang_and_steps_that_bring_something_are_not(
    moved: bool, is_stuck: bool
) -> None:
    pulse = Pulse(busy_engine(), "tiny")
    stop = threading.Event()

    def step() -> None:
        while not stop.wait(SECONDS / 50):
            pulse.begin()
            pulse.end(moved=moved)

    stepping = threading.Thread(target=step)
    stepping.start()
    told = told_of(pulse, within_seconds=5 if is_stuck else 4 * SECONDS)
    stop.set()
    stepping.join()

    assert (told is not None) is is_stuck


def test_a_large_prompt_on_a_slow_device_is_given_the_time_that_it_needs() -> None:
    engine = busy_engine(num_tokens=400)
    engine.step()
    patient = Pulse(engine, "large", seconds_per_token=1.0)

    patient.begin()

    assert told_of(patient, within_seconds=4 * SECONDS) is None


def test_a_watchdog_that_is_off_never_barks() -> None:
    pulse = Pulse(busy_engine(), "tiny")
    pulse.begin()
    watchdog = Watchdog([pulse], 0, lambda sentence: pytest.fail(sentence))

    watchdog.start()
    time.sleep(SECONDS)
    watchdog.close()


def test_a_step_is_told_in_rows_and_tokens() -> None:
    engine = busy_engine()
    engine.step()

    assert "takes in 1 prompts (row 0: 7 tokens), decodes 0 rows" in describe(engine.plan)
