"""Ways to break the slots that a check has to notice."""

import pytest
import torch

from workers.model.slots.masks import Masks, SlotMasks
from workers.model.slots.rows import Rows


def see_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every row look at every column, and at what earlier occupants left there."""

    def of(self: SlotMasks, *arguments: object) -> Masks:
        masks = truth(self, *arguments)  # type: ignore[arg-type]
        if isinstance(masks, dict):
            return {kind: mask if mask is None else torch.zeros_like(mask) for kind, mask in masks.items()}
        return torch.zeros_like(masks)

    truth = SlotMasks.of
    monkeypatch.setattr(SlotMasks, "of", of)
    monkeypatch.setattr("workers.model.slots.slot_cache.SlotCache.clear", lambda *ignored: None)


def hide_new_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let rows see their prompts alone."""
    monkeypatch.setattr(SlotMasks, "reveal", lambda *ignored: None)


def stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every token the position of the one before."""

    def advance(self: Rows, start: int, stop: int, tokens: torch.Tensor) -> None:
        truth(self, start, stop, tokens)
        assert self._positions is not None
        self._positions[..., start:stop, :] -= 1

    truth = Rows.advance
    monkeypatch.setattr(Rows, "advance", advance)


def do_not_move_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what a row has read behind when the row moves."""
    monkeypatch.setattr("workers.model.slots.slot_cache.SlotCache.move", lambda *ignored: None)
