"""Which prompts share a prefill."""

import torch

from workers.model import groups
from workers.model.prompting.prepared import Prepared

CPU = torch.device("cpu")


def prompt(num_tokens: int, *, pixels: tuple[int, ...] | None = None) -> Prepared:
    inputs = {"input_ids": torch.arange(1, num_tokens + 1)[None]}
    if pixels is not None:
        inputs["pixel_values"] = torch.zeros(pixels)
    return Prepared(inputs)


def test_prompts_of_one_kind_go_together_and_others_apart() -> None:
    prompts = [prompt(9), prompt(9, pixels=(1, 3, 8, 8)), prompt(9), prompt(9, pixels=(1, 2, 3, 8, 8))]

    assert groups.split(prompts, max_tokens=1000) == [[0, 2], [1], [3]]


def test_pictures_of_one_shape_go_together_whatever_their_number() -> None:
    prompts = [prompt(9, pixels=(1, 3, 8, 8)), prompt(9, pixels=(4, 3, 8, 8))]

    assert groups.split(prompts, max_tokens=1000) == [[0, 1]]


def test_a_group_stays_within_its_tokens() -> None:
    sizes = [len(group) for group in groups.split([prompt(10)] * 7, max_tokens=35)]

    assert sizes == [3, 3, 1]


def test_a_prompt_over_the_limit_goes_alone() -> None:
    assert groups.split([prompt(50), prompt(50)], max_tokens=40) == [[0], [1]]


def test_short_prompts_are_not_padded_to_a_long_one() -> None:
    prompts = [prompt(length) for length in (10, 200, 11, 12, 190)]

    assert groups.split(prompts, max_tokens=10_000) == [[0, 2, 3], [4, 1]]


def test_prompts_are_padded_on_the_left() -> None:
    inputs = groups.collate([prompt(2), prompt(3)], pad_id=0, device=CPU)

    assert inputs["input_ids"].tolist() == [[0, 1, 2], [1, 2, 3]]
    assert inputs["attention_mask"].tolist() == [[0, 1, 1], [1, 1, 1]]
