"""Two ways to get answers: alone through `generate`, and together through the slots."""

from collections.abc import Iterable

import torch
from transformers import PreTrainedModel

from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Broken, EngineEvent, Sampling, Sequence
from workers.model.prepared import Prepared
from workers.model.slot_model import TorchSlotModel

EAGER = EngineConfig(prefill_group=1)


def alone(model: PreTrainedModel, prompt: Prepared, num_tokens: int) -> list[int]:
    """What `generate` answers to one request, greedily."""
    inputs = {**prompt.inputs, "attention_mask": torch.ones_like(prompt.inputs["input_ids"])}
    output = model.generate(**inputs, max_new_tokens=num_tokens, do_sample=False)  # type: ignore[operator]
    tokens: list[int] = output[0, prompt.num_tokens :].tolist()
    return tokens


def slots_of(model: PreTrainedModel, num_slots: int = 4, **options: int) -> TorchSlotModel:
    """Slots that never stop early."""
    return TorchSlotModel(model, num_slots=num_slots, max_context_tokens=160, eos_ids=frozenset(), **options)


def sequences_of(requests: Iterable[tuple[Prepared, int]], **sampling: float) -> list[Sequence]:
    """Bulk sequences, numbered in order, for (prompt, number of tokens)."""
    return [
        Sequence(number, prompt, Sampling(max_tokens=num_tokens, **sampling))  # type: ignore[arg-type]
        for number, (prompt, num_tokens) in enumerate(requests)
    ]


def together(
    slots: TorchSlotModel, sequences: list[Sequence], config: EngineConfig = EAGER
) -> list[EngineEvent]:
    """Run sequences to their ends; their tokens are in them."""
    engine = Engine(slots, config)
    for sequence in sequences:
        engine.submit(sequence)
    events: list[EngineEvent] = []
    while engine.has_work:
        events += engine.step()
    return events


def broken(events: list[EngineEvent]) -> dict[int, str]:
    """Codes of the sequences that failed."""
    return {event.sequence.id: event.code for event in events if isinstance(event, Broken)}
