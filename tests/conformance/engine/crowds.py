"""Ten ragged requests to one family, of every kind that it takes, and what `generate` answers to each alone."""

import random
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import torch
from answers import decided_answer
from tiny_families import FAMILIES, VARIANTS
from tiny_families.family import Family

from workers.model.prompting.prepared import Prepared

SIZE, LONGEST = 10, 28
Request: TypeAlias = tuple[Prepared, int]
_MAX_SKIPPED = 30


@dataclass(frozen=True)
class Crowd:
    """Requests as (prompt, number of tokens to draw) and their answers, of LONGEST tokens each."""

    family: Family
    requests: list[Request]
    full_answers: list[list[int]]

    @property
    def answers(self) -> list[list[int]]:
        """As many tokens as each request asks for."""
        return [answer[:length] for answer, (_, length) in zip(self.full_answers, self.requests, strict=True)]

    @property
    def longest(self) -> list[Request]:
        """The same prompts, each with an answer of LONGEST tokens."""
        return [(prompt, LONGEST) for prompt, _ in self.requests]


@cache
def family_of(name: str) -> Family:
    """A family by its name, built once."""
    return (FAMILIES | VARIANTS)[name]()


@cache
def crowd_of(name: str) -> Crowd:
    """A family's crowd, asked once. Prompts whose answer hangs on a rounding are passed over."""
    family = family_of(name)
    kinds = list(family.kinds)
    generator, lengths = torch.Generator().manual_seed(1), random.Random(0)
    requests: list[Request] = []
    answers: list[list[int]] = []
    for _ in range(SIZE + _MAX_SKIPPED):
        kind = kinds[len(requests) % len(kinds)]
        prompt = family.request(generator, lengths.randint(4, 24), kind)
        length = lengths.randint(3, LONGEST)
        answer = decided_answer(family.model, prompt, LONGEST)
        if answer is not None:
            requests.append((prompt, length))
            answers.append(answer)
        if len(requests) == SIZE:
            return Crowd(family, requests, answers)
    raise AssertionError(f"{name} leaves too many answers undecided")
