"""The desk's threads, each by itself."""

import threading
from collections.abc import Iterable, Iterator
from typing import Any, cast

import pytest

from service.channels.streams import Streams
from service.contract.jobs import ClaimedJob
from service.contract.lifecycle import JobClass
from service.contract.streams import Delta, Ended, StreamEvent
from workers.desk.publisher import Publisher
from workers.desk.seats import Seats
from workers.desk.served import Served
from workers.desk.stepper import Stepper
from workers.desk.watchdog import Pulse
from workers.engine.engine import Engine
from workers.engine.protocol import Pending, Sampling, Sequence, StepPlan
from workers.engine.scripted import ScriptedModel, ScriptedPrompt


def job(job_id: int, attempt: int = 1) -> ClaimedJob:
    return ClaimedJob(
        id=job_id,
        attempt=attempt,
        owner="worker_1",
        batch_id=None,
        tenant_id="default",
        key_id=None,
        model="tiny",
        endpoint="/v1/chat/completions",
        job_class=JobClass.CHAT,
        priority=0,
        custom_id=None,
        line_no=None,
        solo=False,
        crashes=0,
        body=b"{}",
        payload=None,
        streams=True,
    )


class Heard(Streams):
    """Streams without Redis that remember what was published, call by call."""

    def __init__(self) -> None:
        super().__init__(None)
        self.calls: list[list[tuple[int, int, StreamEvent]]] = []

    def publish_many(self, events: Iterable[tuple[int, int, StreamEvent]]) -> None:
        self.calls.append(list(events))


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    yield heard
    heard.close()


def test_the_deltas_of_a_job_are_joined_in_order_and_its_end_comes_last(heard: Heard) -> None:
    publisher = Publisher(heard)
    for event in (Delta("Hel"), Delta("lo"), Ended()):
        publisher.say(job(1), event)
    publisher.say(job(2), Delta("Hi"))
    publisher.say(job(1, attempt=2), Delta("Again"))

    publisher.start()
    publisher.close()

    (call,) = heard.calls
    assert call == [
        (1, 1, Delta("Hello")),
        (1, 1, Ended()),
        (2, 1, Delta("Hi")),
        (1, 2, Delta("Again")),
    ]


def served(name: str, model: ScriptedModel) -> Served:
    """A model behind an engine; nothing is prepared for it here."""
    return Served(Pulse(Engine(model), name), model.num_slots, preparer=cast("Any", None), provenance={})


class LostDevice(ScriptedModel):
    """A device that goes away under the model."""

    def launch(self, plan: StepPlan) -> Pending:
        raise RuntimeError("the device is gone")


def test_an_exception_that_no_row_can_be_blamed_for_ends_the_engine_and_is_told_once(heard: Heard) -> None:
    crashed = threading.Event()
    outcomes: list[object] = []
    stepper = Stepper(
        [served("tiny", LostDevice(2))],
        Publisher(heard),
        on_outcome=lambda seat, outcome: outcomes.append(outcome),
        on_crash=lambda sentence: crashed.set(),
    )
    stepper.start()

    stepper.submit("tiny", Sequence(1, ScriptedPrompt((5, 6)), Sampling()))

    assert crashed.wait(5)
    stepper.close()
    assert not stepper.is_alive
    assert outcomes == []


def test_a_seat_is_left_by_its_own_attempt_alone() -> None:
    seats, old, new = Seats(), job(1), job(1, attempt=2)
    seats.take(old)
    seats.take(new)

    seats.leave(old)

    assert [seat.job for seat in seats.all()] == [new]
    assert not seats.wait_empty(0.01)


def test_a_job_that_waits_for_its_record_takes_no_room_but_keeps_its_seat() -> None:
    seats = Seats()
    seat = seats.take(job(1))

    seat.ended = True

    assert seats.num_of("tiny", chat=True) == 0
    assert seats.all() == [seat]
