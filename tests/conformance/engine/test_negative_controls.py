"""The exactness suite can fail: an engine that was spoiled in one place is found out, in every family."""

from collections.abc import Callable
from typing import TypeAlias

import pytest
import torch
from answers import sequences_of, slots_of, together
from crowds import Crowd

from workers.model.masks import Masks, SlotMasks
from workers.model.rows import Rows

Spoil: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def see_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    def of(self: SlotMasks, start: int, stop: int, positions: torch.Tensor, num_columns: int) -> Masks:
        masks = truth(self, start, stop, positions, num_columns)
        if isinstance(masks, dict):
            return {kind: mask if mask is None else torch.zeros_like(mask) for kind, mask in masks.items()}
        return torch.zeros_like(masks)

    truth = SlotMasks.of
    monkeypatch.setattr(SlotMasks, "of", of)
    monkeypatch.setattr("workers.model.slots.SlotCache.clear", lambda *ignored: None)


def hide_new_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SlotMasks, "reveal", lambda *ignored: None)


def do_not_move_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.model.slots.SlotCache.move", lambda *ignored: None)


def count_positions_from_another_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def advance(self: Rows, start: int, stop: int, tokens: torch.Tensor) -> None:
        truth(self, start, stop, tokens)
        assert self._positions is not None
        self._positions[..., start:stop, 0] = self._columns[start:stop] - 3

    truth = Rows.advance
    monkeypatch.setattr(Rows, "advance", advance)


@pytest.mark.parametrize(
    "spoil", [see_everything, hide_new_tokens, do_not_move_rows, count_positions_from_another_place]
)
def test_a_spoiled_engine_is_found_out(crowd: Crowd, spoil: Spoil, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = sequences_of(crowd.requests)
    spoil(monkeypatch)

    together(slots_of(crowd.family.model, num_slots=4), sequences)

    assert [sequence.tokens for sequence in sequences] != crowd.answers
