"""When the stepping thread rests for a chat, and that chats cannot keep it from its work."""

from workers.desk.approach import LONGEST_REST_SECONDS, PREPARE_SECONDS, RING_SECONDS, Approach


class Clock:
    """Stands still until it is told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def pass_ring(self) -> None:
        """What a ring is waited for is over."""
        self.now += RING_SECONDS


def test_nobody_rests_while_no_chat_is_on_its_way() -> None:
    assert not Approach(Clock()).rests()


def test_the_engine_rests_from_the_claim_of_a_chat_until_it_comes() -> None:
    approach = Approach(Clock())
    approach.enter(1)
    approach.enter(2)
    assert approach.rests()
    approach.leave(1)
    assert approach.rests()
    approach.leave(2)
    assert not approach.rests()


def test_a_ring_that_brings_no_chat_is_forgotten() -> None:
    approach = Approach(clock := Clock())
    found = []
    for end in (approach.look, clock.pass_ring):
        approach.ring()
        found.append(approach.is_chat_near)
        end()
        found.append(approach.is_chat_near)
    assert found == [True, False, True, False]


def test_a_chat_whose_picture_takes_long_is_not_waited_for() -> None:
    approach = Approach(clock := Clock())
    approach.enter(1)
    clock.now += PREPARE_SECONDS
    assert not approach.is_chat_near


def test_chats_without_end_leave_the_engine_half_of_its_time() -> None:
    approach = Approach(clock := Clock())
    num_rests = num_steps = 0
    for number in range(4000):
        approach.enter(number)
        if approach.rests():
            num_rests += 1
        else:
            num_steps += 1
        clock.now += LONGEST_REST_SECONDS / 50
    assert 0.45 < num_steps / 4000 < 0.55, (num_rests, num_steps)
