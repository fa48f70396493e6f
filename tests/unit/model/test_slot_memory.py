"""How many slots of which length fit what is free."""

import pytest

from service.errors import ConfigurationError
from workers.model.slots.slot_memory import Room, SlotBytes, fit

# 1,000 bytes of states, a full layer of 10 bytes a column, and a ring of 64 columns.
SLOT = SlotBytes(1_000, ((10, None), (10, 64)))


def test_a_ring_costs_no_more_than_its_columns() -> None:
    assert SLOT.of(32) == 1_000 + 320 + 320
    assert SLOT.of(4_096) == 1_000 + 40_960 + 640


def test_what_fits_is_left_as_it_was_asked_for() -> None:
    assert fit(SLOT, 20 * SLOT.of(4_096), 16, 4_096) == Room(16, 4_096, num_parked=4)


def test_slots_become_fewer_before_they_become_shorter() -> None:
    assert fit(SLOT, 3 * SLOT.of(4_096), 16, 4_096) == Room(3, 4_096, num_parked=0)
    room = fit(SLOT, SLOT.of(4_096) - 1, 16, 4_096)
    assert (room.num_slots, room.max_context_tokens) == (1, 4_032)


@pytest.mark.parametrize("num_bytes", [0, SLOT.of(512) - 1])
def test_a_memory_without_room_for_one_short_request_is_refused(num_bytes: int) -> None:
    with pytest.raises(ConfigurationError, match="no memory left") as refused:
        fit(SLOT, num_bytes, 16, 4_096)

    assert refused.value.code == "out_of_memory"
    assert fit(SLOT, SLOT.of(512), 16, 4_096) == Room(1, 512, num_parked=0)


def test_a_context_that_was_asked_to_be_short_may_be_short() -> None:
    assert fit(SLOT, SLOT.of(100), 2, 100) == Room(1, 100, num_parked=0)
