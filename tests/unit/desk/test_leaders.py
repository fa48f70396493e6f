"""Of equal requests one is computed and the others wait, and nobody waits for one that will not answer."""

from dataclasses import replace

import pytest

from service.contract.jobs import ClaimedJob, Usage
from service.contract.lifecycle import JobClass
from workers.desk.leaders import Given, Leaders, Waiting
from workers.desk.seats import Seat

DIGEST = b"equal"
ANSWER = Given({"choices": []}, Usage(), {})
BULK = ClaimedJob(
    id=1,
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


def seat(job_id: int, *, chat: bool = False, streams: bool = False, tenant: str = "default") -> Seat:
    job_class = JobClass.CHAT if chat else JobClass.BULK
    job = replace(BULK, id=job_id, job_class=job_class, streams=streams, tenant_id=tenant)
    return Seat(job, digest=DIGEST)


@pytest.fixture
def leaders() -> Leaders:
    return Leaders()


def goes_on(leaders: Leaders, one: Seat) -> bool:
    """Whether the seat is to be prepared; if not, it waits."""
    joined = leaders.join(one)
    assert joined is None or isinstance(joined, Waiting)
    return joined is None


def ids(seats: list[Seat]) -> list[int]:
    return [each.job.id for each in seats]


def test_the_first_leads_and_the_others_wait_in_their_order(leaders: Leaders) -> None:
    first, *others = (seat(number) for number in range(5))

    assert goes_on(leaders, first)
    assert not any(goes_on(leaders, other) for other in others)

    assert ids(leaders.answer(first, ANSWER)) == [1, 2, 3, 4]
    assert leaders.answer(first, ANSWER) == [], "they have been told"


def test_an_answer_is_there_for_those_who_come_until_it_is_recorded(leaders: Leaders) -> None:
    first = seat(1)
    leaders.join(first)
    leaders.answer(first, ANSWER)
    first.ended = True

    assert leaders.join(seat(2)) is ANSWER
    assert leaders.join(seat(3, chat=True, streams=True)) is ANSWER
    assert leaders.hand_on(first) is None

    leaders.forget(first)
    assert goes_on(leaders, seat(4))


def test_another_tenants_equal_request_is_another_request(leaders: Leaders) -> None:
    assert goes_on(leaders, seat(1))
    assert goes_on(leaders, seat(2, tenant="another"))


@pytest.mark.parametrize(
    ("leader", "follower", "waits"),
    [
        (seat(1), seat(2), True),
        (seat(1, chat=True), seat(2), True),
        (seat(1, chat=True, streams=True), seat(2, chat=True), True),
        (seat(1), seat(2, chat=True), False),
        (seat(1, chat=True), seat(2, chat=True, streams=True), False),
    ],
)
def test_a_chat_waits_for_no_bulk_and_a_stream_for_nobody(leader: Seat, follower: Seat, waits: bool) -> None:
    leaders = Leaders()
    leaders.join(leader)

    assert goes_on(leaders, follower) is not waits
    assert leaders.answer(leader, ANSWER) == ([follower] if waits else [])


def test_the_next_one_leads_where_there_will_be_no_answer(leaders: Leaders) -> None:
    first, second, third = (seat(number) for number in range(3))
    for each in (first, second, third):
        leaders.join(each)

    assert leaders.hand_on(first) is second
    assert goes_on(leaders, second), "it is to be prepared now"
    assert ids(leaders.answer(second, ANSWER)) == [2]


def test_a_chat_that_waits_leads_before_the_bulk_that_came_earlier(leaders: Leaders) -> None:
    first, bulk, chat = seat(1, chat=True), seat(2), seat(3, chat=True)
    for each in (first, bulk, chat):
        leaders.join(each)

    assert leaders.hand_on(first) is chat


def test_a_leader_without_followers_leaves_nothing_behind(leaders: Leaders) -> None:
    first = seat(1)
    leaders.join(first)

    assert leaders.hand_on(first) is None
    assert goes_on(leaders, seat(2))


def test_who_stops_waiting_is_not_told(leaders: Leaders) -> None:
    first, second, third = (seat(number) for number in range(3))
    for each in (first, second, third):
        leaders.join(each)

    assert leaders.stop_waiting(second)
    assert not leaders.stop_waiting(second)
    assert not leaders.stop_waiting(first), "it leads"
    assert leaders.hand_on(third) is None

    assert leaders.answer(first, ANSWER) == []


@pytest.mark.parametrize("how", ["ended", "cancelled"])
def test_one_that_was_dropped_meanwhile_neither_leads_nor_waits(leaders: Leaders, how: str) -> None:
    dropped = seat(1)
    setattr(dropped, how, True)

    assert goes_on(leaders, dropped)
    assert goes_on(leaders, seat(2)), "the dropped one does not lead"
    if how == "cancelled":
        assert goes_on(leaders, dropped)


def test_who_comes_between_a_leaders_end_and_its_answer_is_answered_too(leaders: Leaders) -> None:
    leader, late = seat(1), seat(2)
    leaders.join(leader)
    leader.ended = True

    assert not goes_on(leaders, late)
    assert leaders.answer(leader, ANSWER) == [late]
