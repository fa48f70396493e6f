"""Slots take the memory that was foreseen for them, and no more slots are made than fit."""

import logging

import pytest
import torch
from answers import sequences_of, slots_of, together
from crowds import crowd_of
from tiny_families import FAMILIES

from service.errors import ConfigurationError
from service.settings import BUNDLED_MODEL
from workers.engine.config import EngineConfig
from workers.model.choose_model import Limits, make_slot_model
from workers.model.loading import Loaded, LoadOptions, load
from workers.model.slots import slot_layers, slot_memory

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bundled() -> Loaded:
    return load(LoadOptions(model=str(BUNDLED_MODEL), device="cpu", dtype="float32"))


# Whose cross-attention is as long as the pictures of its prompts.
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"mllama"}))
def test_the_memory_of_a_slot_is_known_before_it_is_made(name: str) -> None:
    crowd = crowd_of(name)
    slots = slots_of(crowd.family.model, num_slots=3)

    together(slots, sequences_of([(prompt, 1) for prompt, _ in crowd.requests[:2]]))

    assert slots.num_cache_bytes == 3 * slot_memory.measure(crowd.family.model).of(240)


def test_cross_attention_is_foreseen_with_one_picture() -> None:
    family = crowd_of("mllama").family
    slots = slots_of(family.model, num_slots=3)

    together(slots, sequences_of([(family.request(torch.Generator(), 9, "image"), 1)]))

    assert slots.num_cache_bytes == 3 * slot_memory.measure(family.model).of(240)


def test_fewer_slots_are_made_where_the_memory_holds_fewer(
    bundled: Loaded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    slot = slot_memory.measure(bundled.model).of(1024)
    monkeypatch.setattr(slot_memory, "free_bytes", lambda device: 2 * 5 * slot)

    with caplog.at_level(logging.WARNING):
        serving = make_slot_model(bundled, Limits(16, 1024), EngineConfig())
        halved = make_slot_model(
            bundled, Limits(16, 1024, num_models=2, prefix_cache_bytes=slot // 2), EngineConfig()
        )

    assert (serving.model.num_slots, serving.model.max_context_tokens) == (5, 1024)
    assert serving.config.max_parked_rows == 0
    assert halved.model.num_slots == 2
    assert caplog.messages[0] == "The memory holds 5 slots of 1024 tokens, not 16 of 1024"


def test_a_memory_that_holds_no_slot_is_refused(bundled: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slot_memory, "free_bytes", lambda device: 1000)

    with pytest.raises(ConfigurationError, match="no memory left"):
        make_slot_model(bundled, Limits(16, 1024), EngineConfig())


def test_some_memory_is_free() -> None:
    assert 0 < slot_memory.slot_budget(CPU, 1, 0) < slot_memory.free_bytes(CPU)
    assert slot_memory.slot_budget(CPU, 1, 1 << 60) == 0


def test_a_container_has_no_more_than_its_limit(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("cgroup")
    for name, text in (
        ("memory.max", "5000\n"),
        ("memory.current", "4000\n"),
        ("memory.stat", "anon 3000\ninactive_file 700\n"),
    ):
        (folder / name).write_text(text)
    monkeypatch.setattr(slot_memory, "_CGROUP", folder)

    assert slot_memory.free_bytes(CPU) == 1700
    (folder / "memory.max").write_text("max\n")
    assert slot_memory.free_bytes(CPU) > 1700


def test_slots_that_cannot_be_reserved_after_all_become_fewer(
    bundled: Loaded, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = slot_layers._reserve

    def reserve(num_slots: int, *shape: object) -> torch.Tensor:
        if num_slots > 4:
            raise torch.OutOfMemoryError("no memory")
        return truth(num_slots, *shape)  # type: ignore[arg-type]

    monkeypatch.setattr(slot_layers, "_reserve", reserve)

    assert make_slot_model(bundled, Limits(16, 256), EngineConfig()).model.num_slots == 4
