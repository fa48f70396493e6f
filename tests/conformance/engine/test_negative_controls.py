"""The exactness suite can fail: an engine that was spoiled in one place is found out, in every family."""

from collections.abc import Callable

import pytest
from answers import sequences_of, slots_of, together
from crowds import Crowd
from spoiling import do_not_move_rows, hide_new_tokens, see_everything, stand_still


@pytest.mark.parametrize("spoil", [see_everything, hide_new_tokens, do_not_move_rows, stand_still])
def test_a_spoiled_engine_is_found_out(
    crowd: Crowd, spoil: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sequences = sequences_of(crowd.requests)
    spoil(monkeypatch)

    together(slots_of(crowd.family.model, num_slots=4), sequences)

    assert [sequence.tokens for sequence in sequences] != crowd.answers
