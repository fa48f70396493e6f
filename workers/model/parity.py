"""The check at load: do the slots say what `generate` says? It is also the model's first forward.

A few ragged prompts of random tokens go through a slot model, greedily, some joining while others run, and what the
model thought of each token is compared with the logits of `generate`. Wrong masks, positions or rows show here;
windows longer than the prompts do not.
"""

import logging
import time
from collections import deque
from collections.abc import Sequence as Ordered
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from service.errors import OutOfMemory
from workers.engine.config import EngineConfig
from workers.engine.engine import Engine
from workers.engine.protocol import (
    Broken,
    EngineEvent,
    Logprobs,
    Progress,
    Sampling,
    Sequence,
    SlotModel,
    StepPlan,
)
from workers.model import generate_hooks
from workers.model.prompting.prepared import Prepared

log = logging.getLogger(__name__)

# Prompt and answer tokens. The third prompt joins the others, and stays when they have left.
_SIZES = ((9, 3), (11, 6), (5, 6))
_NUM_AT_ONCE, _NUM_TOP = 2, 4
# Nats, at most and on average. In half precision the size of a batch moves logits by roundings, and a router's choices
# by more; a wrong mask or position moves most of them.
_EXACT, _ROUNDED = (0.01, 0.01), (1.0, 0.1)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What `generate` said to one prompt. logprobs: [tokens, vocabulary], of the model's own."""

    prompt: Prepared
    tokens: list[int]
    logprobs: torch.Tensor


def references(model: PreTrainedModel, max_seconds: float = 5.0) -> list[Reference]:
    """Ask `generate`. A model too slow for all prompts in `max_seconds` is asked fewer, at least one."""
    words = torch.tensor(generate_hooks.text_token_ids(model))
    generator = torch.Generator().manual_seed(0)
    started, found = time.monotonic(), list[Reference]()
    for num_prompt_tokens, num_tokens in _SIZES:
        ids = words[torch.randint(len(words), (1, num_prompt_tokens), generator=generator)]
        with torch.inference_mode():
            tokens, logits = generate_hooks.greedy(model, ids.to(model.device), num_tokens)
            found.append(
                Reference(Prepared({"input_ids": ids}), tokens, logits.float().log_softmax(-1).cpu())
            )
        if time.monotonic() - started > max_seconds:
            break
    return found


def mismatch(slots: SlotModel, wanted: Ordered[Reference], dtype: torch.dtype) -> str | None:
    """Run the same prompts through a slot model, which holds nothing; a sentence if it says something else.

    Errors: OutOfMemory if its rows cannot be reserved.
    """
    told: list[list[tuple[int, Logprobs]]] = [[] for _ in wanted]
    for event in _run(slots, wanted):
        if isinstance(event, Broken) and event.code == "out_of_memory":
            raise OutOfMemory("The device has no memory for the slots.")
        if isinstance(event, Broken):
            return f"a prompt failed: {event.code}"
        if isinstance(event, Progress):
            told[event.sequence.id] += zip(event.tokens, event.logprobs, strict=True)
    differences = [
        difference
        for reference, heard in zip(wanted, told, strict=True)
        for difference in _differences(reference, heard)
    ]
    worst, mean = max(differences), sum(differences) / len(differences)
    log.debug("The slots differ from generate by %.2g nats at most, by %.2g on average", worst, mean)
    max_worst, max_mean = _EXACT if dtype == torch.float32 else _ROUNDED
    # Written so that numbers that are none are a mismatch, too.
    if worst <= max_worst and mean <= max_mean:
        return None
    return f"its probabilities are not those of generate: {worst:.2g} nats apart, {mean:.2g} on average"


def _run(slots: SlotModel, wanted: Ordered[Reference]) -> list[EngineEvent]:
    """What happens when the prompts share the slots. They are empty again afterwards."""
    engine = Engine(slots, EngineConfig(prefill_group=1))
    waiting = deque(
        Sequence(
            number, each.prompt, Sampling(max_tokens=len(each.tokens), num_logprobs=_NUM_TOP, ignore_eos=True)
        )
        for number, each in enumerate(wanted)
    )
    events: list[EngineEvent] = []
    for _ in range(_NUM_AT_ONCE):
        if waiting:
            engine.submit(waiting.popleft())
    while engine.has_work or waiting:
        events += engine.step()
        if waiting:
            engine.submit(waiting.popleft())
    slots.collect(slots.launch(StepPlan(free=tuple(range(slots.num_slots)))))
    return events


def _differences(reference: Reference, told: list[tuple[int, Logprobs]]) -> list[float]:
    """Differences in nats, up to the first token where roundings may have led the two apart."""
    differences = []
    for wanted, logprobs, (token, heard) in zip(reference.tokens, reference.logprobs, told, strict=True):
        pairs = [(token, heard.chosen), *heard.top]
        differences += [abs(float(logprobs[number]) - logprob) for number, logprob in pairs]
        if token != wanted:
            differences.append(float(logprobs[wanted] - logprobs[token]))
            break
    return differences
