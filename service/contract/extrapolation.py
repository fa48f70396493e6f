"""From a sample to all of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Of a normal distribution, 95 of 100 lie within so many standard deviations.
Z_95 = 1.96


@dataclass(frozen=True, slots=True)
class Total:
    """The sum over all. low, high: 95 of 100 such estimates are as near to the truth."""

    estimated: float
    low: float
    high: float


def total_of(sample: Sequence[int], population: int) -> Total:
    """The sum over `population` of which `sample` was drawn at random; exact where the sample is all of it."""
    drawn = len(sample)
    if not drawn:
        return Total(0.0, 0.0, 0.0)
    measured, mean = sum(sample), sum(sample) / drawn
    estimated = mean * population
    variance = sum((each - mean) ** 2 for each in sample) / max(1, drawn - 1)
    # One line alone says nothing about how much lines differ; a sample of everything leaves no doubt.
    doubt = Z_95 * population * math.sqrt(variance / drawn * max(0.0, 1 - drawn / population))
    return Total(estimated, max(float(measured), estimated - doubt), estimated + doubt)
