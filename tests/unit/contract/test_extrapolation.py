"""What a sample says about all of it."""

import random

import pytest

from service.contract.extrapolation import total_of


def test_a_sample_of_everything_leaves_no_doubt() -> None:
    total = total_of([3, 5, 10], 3)

    assert (total.estimated, total.low, total.high) == (18, 18, 18)


def test_equal_lines_are_known_after_a_few() -> None:
    total = total_of([7, 7], 1000)

    assert (total.estimated, total.low, total.high) == (7000, 7000, 7000)


def test_there_is_never_less_than_what_was_measured() -> None:
    total = total_of([0, 1000], 3)

    assert total.low == 1000


def test_nothing_measured_says_nothing() -> None:
    assert total_of([], 10).high == 0


@pytest.mark.parametrize("num_drawn", [50, 400])
def test_the_truth_lies_within_the_bounds_about_as_often_as_they_promise(num_drawn: int) -> None:
    numbers = random.Random(1)
    everything = [int(numbers.lognormvariate(5, 0.5)) for _ in range(1000)]
    hits = 0
    for _ in range(400):
        total = total_of(numbers.sample(everything, num_drawn), len(everything))
        hits += total.low <= sum(everything) <= total.high

    assert 0.9 <= hits / 400 <= 0.99
