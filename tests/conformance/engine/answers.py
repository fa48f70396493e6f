"""Two ways to get answers: alone through `generate`, and together through the slots."""

from collections.abc import Iterable

import torch
from transformers import PreTrainedModel

from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import Broken, EngineEvent, Sampling, Sequence
from workers.model.prompting.prepared import Prepared
from workers.model.slot_model import TorchSlotModel

EAGER = EngineConfig(prefill_group=1)
# In standard deviations of a token's logits.
_LEAST_MARGIN = 1e-3


def alone(model: PreTrainedModel, prompt: Prepared, num_tokens: int) -> list[int]:
    """What `generate` answers to one request, greedily."""
    return _generated(model, prompt, num_tokens)[0]


def decided_answer(model: PreTrainedModel, prompt: Prepared, num_tokens: int) -> list[int] | None:
    """What `generate` answers, or None if a rounding on another processor could turn any of its choices."""
    answer, logits = _generated(model, prompt, num_tokens)
    best = logits.topk(2).values
    margins = (best[:, 0] - best[:, 1]) / logits.std(dim=-1)
    return answer if bool((margins > _LEAST_MARGIN).all()) else None


def _generated(model: PreTrainedModel, prompt: Prepared, num_tokens: int) -> tuple[list[int], torch.Tensor]:
    """An answer, and the logits of each of its tokens: [tokens, vocabulary]."""
    inputs = {**prompt.inputs, "attention_mask": torch.ones_like(prompt.inputs["input_ids"])}
    output = model.generate(  # type: ignore[operator]
        **inputs, max_new_tokens=num_tokens, do_sample=False, output_logits=True, return_dict_in_generate=True
    )
    return output.sequences[0, prompt.num_tokens :].tolist(), torch.cat(output.logits)


def slots_of(model: PreTrainedModel, num_slots: int = 4, **options: int) -> TorchSlotModel:
    """Slots that never stop early."""
    return TorchSlotModel(model, num_slots=num_slots, max_context_tokens=240, eos_ids=frozenset(), **options)


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
