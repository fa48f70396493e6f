"""LLaVA and what came of it: image features in place of image tokens, nothing else."""

from collections.abc import Sequence

import torch
from torch import Generator
from transformers import LlavaConfig, LlavaNextConfig, Mistral3Config

from tiny_families.family import IMAGE, TEXT, VISION, Family, Inputs, Maker, around, build, kinds_of, noise

CLIP = {**VISION, "model_type": "clip_vision_model", "num_hidden_layers": 3}
PIXTRAL = {**VISION, "model_type": "pixtral", "head_dim": 8, "image_size": 56}


def llava() -> Family:
    config = LlavaConfig(
        text_config={"model_type": "llama", **TEXT},
        vision_config=CLIP,
        image_token_index=IMAGE,
        image_seq_length=16,
    )

    def pictures(num_images: int) -> Maker:
        def request(generator: Generator, count: int) -> Inputs:
            ids = around(generator, count, *[[IMAGE] * 16] * num_images)
            return {"input_ids": ids, "pixel_values": noise(generator, num_images, 3, 28, 28)}

        return request

    return Family(build(config), kinds_of(image=pictures(1), images=pictures(2)))


def llava_next() -> Family:
    """A whole view of 16 tokens, then tiles of 4 x 4 tokens, and a token at the end of each row of tokens."""
    config = LlavaNextConfig(
        text_config={"model_type": "llama", **TEXT},
        vision_config=CLIP,
        image_token_index=IMAGE,
        image_grid_pinpoints=[[28, 56], [56, 28], [56, 56]],
        image_seq_length=16,
    )
    num_tokens = {(28, 56): 16 + 4 * 9, (56, 28): 16 + 8 * 5, (56, 56): 16 + 8 * 9}

    def pictures(generator: Generator, count: int, sizes: Sequence[tuple[int, int]]) -> Inputs:
        num_views = 1 + max(height * width // (28 * 28) for height, width in sizes)
        return {
            "input_ids": around(generator, count, *[[IMAGE] * num_tokens[size] for size in sizes]),
            "pixel_values": noise(generator, len(sizes), num_views, 3, 28, 28),
            "image_sizes": torch.tensor(sizes),
        }

    def image(generator: Generator, count: int) -> Inputs:
        return pictures(generator, count, [(28, 56) if count % 2 else (56, 28)])

    def images(generator: Generator, count: int) -> Inputs:
        return pictures(generator, count, [(28, 56), (56, 56)])

    return Family(build(config), kinds_of(image=image, images=images))


def pixtral() -> Family:
    """LLaVA with Pixtral's tower: pictures of any size, a token for each patch."""
    config = LlavaConfig(
        text_config={"model_type": "mistral", **TEXT, "sliding_window": None},
        vision_config=PIXTRAL,
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_token_index=IMAGE,
    )
    return Family(build(config), _pictures_of_any_size(patches_per_token=1))


def mistral3() -> Family:
    config = Mistral3Config(
        text_config={"model_type": "mistral", **TEXT, "sliding_window": None},
        vision_config=PIXTRAL,
        image_token_index=IMAGE,
        spatial_merge_size=2,
    )
    return Family(build(config), _pictures_of_any_size(patches_per_token=4))


def _pictures_of_any_size(patches_per_token: int) -> dict[str, Maker]:
    def pictures(generator: Generator, count: int, sizes: Sequence[tuple[int, int]]) -> Inputs:
        """Padded to the largest, as the processor does."""
        tokens = [[IMAGE] * (height * width // 49 // patches_per_token) for height, width in sizes]
        height, width = max(size[0] for size in sizes), max(size[1] for size in sizes)
        return {
            "input_ids": around(generator, count, *tokens),
            "pixel_values": noise(generator, len(sizes), 3, height, width),
            "image_sizes": torch.tensor(sizes),
        }

    def image(generator: Generator, count: int) -> Inputs:
        return pictures(generator, count, [(28, 28) if count % 2 else (14, 42)])

    def images(generator: Generator, count: int) -> Inputs:
        return pictures(generator, count, [(28, 28), (14, 42)])

    return dict(kinds_of(image=image, images=images))
