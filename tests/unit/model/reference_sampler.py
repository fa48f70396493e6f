"""One row's next-token probabilities, slowly and in plain words: what the vectorised sampler is measured by."""

import math
from collections.abc import Collection, Sequence

import torch

from workers.engine.protocol import Sampling


def probabilities(
    logits: torch.Tensor,
    wish: Sampling,
    prompt: Sequence[int] = (),
    answer: Sequence[int] = (),
    eos_ids: Collection[int] = (),
    allowed: Collection[int] | None = None,
) -> torch.Tensor:
    """Probabilities of the next token: [vocabulary]. logits: [vocabulary]; allowed: by the grammar."""
    values = [_edited(token, float(value), wish, prompt, answer) for token, value in enumerate(logits)]
    if len(answer) < wish.min_tokens:
        for token in {*eos_ids, *wish.stop_ids}:
            values[token] = -math.inf
    if allowed is not None:
        values = [value if token in allowed else -math.inf for token, value in enumerate(values)]
    ranked = sorted(range(len(values)), key=lambda token: -values[token])
    if wish.temperature == 0:
        return torch.nn.functional.one_hot(torch.tensor(ranked[0]), len(values)).float()
    ranked = ranked[: wish.top_k or None]
    shares = torch.tensor([values[token] for token in ranked], dtype=torch.float64)
    shares = (shares / wish.temperature).softmax(-1)
    kept, reached = [], 0.0
    for place, share in enumerate(shares.tolist()):
        if reached < wish.top_p and share >= wish.min_p * float(shares[0]):
            kept.append(place)
        reached += share
    wanted = torch.zeros(len(values), dtype=torch.float64)
    wanted[[ranked[place] for place in kept]] = shares[kept] / shares[kept].sum()
    return wanted.float()


def _edited(token: int, value: float, wish: Sampling, prompt: Sequence[int], answer: Sequence[int]) -> float:
    if token in prompt or token in answer:
        value = value / wish.repetition_penalty if value > 0 else value * wish.repetition_penalty
    times = list(answer).count(token)
    value -= times * wish.frequency_penalty + (times > 0) * wish.presence_penalty
    return value + sum(bias for biased, bias in wish.logit_bias if biased == token)
