"""The check at load finds nothing wrong with any family, and finds what is wrong."""

import copy
from collections.abc import Callable

import pytest
import torch
from crowds import family_of
from spoiling import do_not_move_rows, see_everything, stand_still
from tiny_families.family import Family

from workers.model import parity
from workers.model.slot_model import TorchSlotModel


def found(family: Family, dtype: torch.dtype = torch.float32) -> str | None:
    model = copy.deepcopy(family.model).to(dtype) if dtype != torch.float32 else family.model  # type: ignore[arg-type]
    slots = TorchSlotModel(model, num_slots=3, max_context_tokens=32, eos_ids=frozenset({5}))
    return parity.mismatch(slots, parity.references(model), dtype)


def test_slots_of_every_family_pass(family: Family) -> None:
    assert found(family) is None


def test_half_precision_passes_although_it_rounds() -> None:
    assert found(family_of("qwen3_vl_moe"), torch.bfloat16) is None


@pytest.mark.parametrize("spoil", [see_everything, stand_still, do_not_move_rows])
@pytest.mark.parametrize("name", ["gemma3", "qwen2_5_vl"])
def test_a_spoiled_slot_model_is_found_out(
    name: str, spoil: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)

    assert "not those of generate" in str(found(family_of(name)))


def test_wrong_positions_are_found_out_in_half_precision_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_still(monkeypatch)

    assert "not those of generate" in str(found(family_of("gemma3"), torch.bfloat16))


def test_a_model_that_gives_no_numbers_is_found_out() -> None:
    family = family_of("idefics3")
    model = copy.deepcopy(family.model)
    wanted = parity.references(model)
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(torch.nan)
    slots = TorchSlotModel(model, num_slots=3, max_context_tokens=32)

    assert parity.mismatch(slots, wanted, torch.float32) == "a prompt failed: model_failed"


def test_a_slow_model_is_asked_less() -> None:
    assert len(parity.references(family_of("idefics3").model, max_seconds=0.0)) == 1
