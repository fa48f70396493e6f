"""`detail` and `max_pixels` bound what a model sees: fewer tokens in every family whose processor can make fewer."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from family_checkpoints import Family
from family_conversations import ask, picture

from workers.media.decoded import DecodedImage
from workers.media.images import fit
from workers.model.prompting.prepared import Prepared
from workers.model.prompting.prompts import Prompter
from workers.model.prompting.visual_budget import image_options

FLEXIBLE = (
    "idefics3",
    "smolvlm",
    "llama4",
    "mistral3",
    "pixtral",
    "minicpmv4_6",
    "qwen2_vl",
    "qwen2_5_vl",
    "qwen3_vl",
)


def seen_within(max_pixels: int) -> DecodedImage:
    """A picture as the decoders deliver it to somebody who may see so much."""
    whole = picture()
    height, width, _ = whole.pixels.shape
    width, height = fit(width, height, max_pixels, 8)
    return DecodedImage(whole.pixels[:height, :width].copy(), whole.original_size, max_pixels)


def shown(family: Family, image: DecodedImage) -> Prepared:
    return family.loaded.prompter.prepare(*ask(image, "What is it?"))


@pytest.mark.parametrize("name", FLEXIBLE)
def test_a_smaller_budget_is_fewer_tokens_which_the_model_takes(
    family_of: Callable[[str], Family], name: str
) -> None:
    family = family_of(name)
    whole, thumbnail = shown(family, picture()), shown(family, seen_within(400))

    assert thumbnail.counts.image < whole.counts.image
    with torch.inference_mode():
        family.loaded.model.generate(**thumbnail.inputs, max_new_tokens=2, do_sample=False)


def test_a_budget_that_is_never_reached_changes_nothing(family: Family) -> None:
    if "image" not in family.checkpoint.takes:
        return
    plain, generous = (shown(family, replace(picture(), max_pixels=most)) for most in (None, 10**9))

    assert generous.counts == plain.counts
    assert all(torch.equal(generous.inputs[name], tensor) for name, tensor in plain.inputs.items())


@pytest.mark.parametrize(
    ("max_pixels", "num_tokens"), [(10**9, 280), (512 * 512, 70), (400_000, 140), (1, 70)]
)
def test_gemma4_makes_as_many_tokens_as_the_pixels_are_worth(
    family_of: Callable[[str], Family], max_pixels: int, num_tokens: int
) -> None:
    processor = deepcopy(family_of("gemma4").loaded.prompter._original)
    processor.image_processor.patch_size, processor.image_processor.pooling_kernel_size = 16, 3
    processor.image_processor.max_soft_tokens = 280
    media = [replace(picture(), max_pixels=max_pixels)]
    assert image_options(processor, media) == {"max_soft_tokens": num_tokens}


def test_gemma4s_thumbnails_are_fewer_tokens(family_of: Callable[[str], Family]) -> None:
    loaded = family_of("gemma4").loaded
    processor = deepcopy(loaded.prompter._original)
    processor.image_processor.max_soft_tokens = 280
    prompter = Prompter(processor, loaded.model.config)
    whole, thumbnail = (
        prompter.prepare(*ask(replace(picture(), max_pixels=most), "Eh?")) for most in (None, 400)
    )
    assert thumbnail.counts.image <= 70 < whole.counts.image
    with torch.inference_mode():
        loaded.model.generate(**thumbnail.inputs, max_new_tokens=2, do_sample=False)


def test_one_picture_that_may_be_seen_whole_is(family_of: Callable[[str], Family]) -> None:
    """One call of a processor has one budget."""
    processor = family_of("idefics3").loaded.prompter._original
    modest = replace(picture(), max_pixels=400)
    assert image_options(processor, [modest, modest]) == {"do_image_splitting": False}
    assert image_options(processor, [modest, picture()]) == {}
