"""Idefics and SmolVLM: images as a second axis of one request."""

from typing import Any

import torch
from torch import Generator
from transformers import Idefics2Config, Idefics3Config, SmolVLMConfig

from tiny_families.family import IMAGE, TEXT, VISION, Family, Inputs, Maker, around, build, kinds_of, noise


def idefics2() -> Family:
    perceiver = {
        "hidden_size": 64,
        "resampler_n_latents": 4,
        "resampler_depth": 2,
        "resampler_n_heads": 4,
        "resampler_head_dim": 16,
        "num_key_value_heads": 2,
    }
    config = Idefics2Config(
        text_config={"model_type": "mistral", **TEXT, "sliding_window": None},
        vision_config=VISION,
        perceiver_config=perceiver,
        image_token_id=IMAGE,
    )
    return Family(build(config), kinds_of(image=_images(1), images=_images(2)))


def idefics3(config_class: type[Any] = Idefics3Config) -> Family:
    config = config_class(
        text_config={"model_type": "llama", **TEXT},
        vision_config=VISION,
        image_token_id=IMAGE,
        scale_factor=2,
    )
    return Family(build(config), kinds_of(image=_images(1), images=_images(2)))


def smolvlm() -> Family:
    return idefics3(SmolVLMConfig)


def _images(num_images: int) -> Maker:
    """The first picture fills its frame, further ones half of it."""

    def request(generator: Generator, count: int) -> Inputs:
        mask = torch.ones(1, num_images, 28, 28, dtype=torch.long)
        mask[:, 1:, :, 14:] = 0
        return {
            "input_ids": around(generator, count, *[[IMAGE] * 4] * num_images),
            "pixel_values": noise(generator, 1, num_images, 3, 28, 28),
            "pixel_attention_mask": mask,
        }

    return request
