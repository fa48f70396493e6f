"""How a seat's end reaches those who wait for its answer, whatever happens at the same moment. No model, no threads."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from service.actions.parts import Parts
from service.contract.chat import ChatRequest, read_chat_request
from service.contract.jobs import ClaimedJob, Failed, Outcome, Succeeded, Usage
from service.contract.lifecycle import JobClass
from service.contract.replies import choice_body
from service.errors import ModelFailed
from workers.desk.approach import Approach
from workers.desk.desk import Desk
from workers.desk.leaders import Waiting
from workers.desk.reuse import Reuse
from workers.desk.seats import Seat, Seats

pytestmark = pytest.mark.parametrize("dialect", ["sqlite"])


@dataclass
class Room:
    """A desk without a model. recorded: outcomes, each in SQL the moment that it is known."""

    parts: Parts
    seats: Seats = field(default_factory=Seats)
    recorded: list[Outcome] = field(default_factory=list)
    resumed: list[Seat] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reuse = Reuse(self.parts, lambda ref, tenant_id: None, "tiny")
        served: Any = SimpleNamespace(name="tiny", num_slots=4, provenance={}, reuse=self.reuse)
        stepper: Any = SimpleNamespace(cancel=lambda number: None)
        self.desk = Desk(
            self.parts,
            served=[served],
            stepper=stepper,
            recorder=cast("Any", self),
            seats=self.seats,
            approach=Approach(),
        )
        self.reuse.on_resume(self.resumed.append)

    def record(self, outcome: Outcome) -> None:
        self.recorded.append(outcome)
        self.seats.leave(outcome.job)

    def sit(self, job_id: int) -> Seat:
        return self.seats.take(job(job_id))


@pytest.fixture
def room(parts: Parts) -> Room:
    return Room(parts)


@pytest.fixture
def hello() -> ChatRequest:
    return read_chat_request({"messages": [{"role": "user", "content": "Hello"}]})


def job(job_id: int) -> ClaimedJob:
    return ClaimedJob(
        id=job_id,
        attempt=1,
        owner="worker_1",
        batch_id=None,
        tenant_id="default",
        key_id=None,
        model="tiny",
        endpoint="/v1/chat/completions",
        job_class=JobClass.BULK,
        priority=0,
        custom_id=None,
        line_no=None,
        solo=False,
        crashes=0,
        body=b"{}",
        payload=None,
        reuse=True,
    )


def answered(seat: Seat) -> Succeeded:
    return Succeeded(
        seat.job, {"choices": [choice_body(index=0, text="Hi", finish_reason="stop")]}, Usage(3, 1)
    )


Leading = Callable[[], tuple[Seat, Seat]]


@pytest.fixture
def leading(room: Room, hello: ChatRequest) -> Leading:
    """Makes two equal requests sit down, of which the first is to be computed and the second waits."""

    def sit_down() -> tuple[Seat, Seat]:
        first, second = room.sit(1), room.sit(2)
        assert room.reuse.look(first, hello) is None
        assert isinstance(room.reuse.look(second, hello), Waiting)
        return first, second

    return sit_down


def test_who_waits_is_answered_even_if_the_first_is_recorded_at_once(room: Room, leading: Leading) -> None:
    first, second = leading()

    room.desk.settle(first, answered(first))

    assert [outcome.job.id for outcome in room.recorded] == [1, 2]
    shared = room.recorded[1]
    assert isinstance(shared, Succeeded)
    assert shared.provenance["reused_from"] == "job_1"
    assert shared.is_reused
    assert second.ended


def test_who_waits_is_computed_if_the_first_fails(room: Room, leading: Leading) -> None:
    first, second = leading()

    room.desk.settle(first, Failed(first.job, ModelFailed("It broke.")))

    assert room.resumed == [second]
    assert [outcome.job.id for outcome in room.recorded] == [1]


def test_who_sat_down_while_the_others_were_dropped_is_computed(room: Room, leading: Leading) -> None:
    _, second = leading()
    # Claimed under the new name already: it is not among those that a lost lease drops.
    room.seats.leave(second.job)

    room.desk.change_owner("worker_2")

    assert room.resumed == [second]
