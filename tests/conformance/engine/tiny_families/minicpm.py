"""MiniCPM-V: pictures as one long strip of patches, and linear attention."""

import torch
from torch import Generator
from transformers import AutoConfig

from tiny_families.family import IMAGE, TEXT, VIDEO, VISION, Family, Inputs, around, build, kinds_of, noise
from tiny_families.qwen import LINEAR

# In patches; four by four patches become one token.
SIZES = [(8, 8), (4, 8), (8, 4), (8, 12)]


def minicpmv4_6() -> Family:
    config = AutoConfig.for_model(
        "minicpmv4_6",
        text_config={**TEXT, **LINEAR, "model_type": "qwen3_5_text"},
        vision_config=VISION | {"num_hidden_layers": 3},
        insert_layer_id=1,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
    )

    def pictures(generator: Generator, count: int, *sizes: tuple[int, int]) -> Inputs:
        areas = [height * width for height, width in sizes]
        return {
            "input_ids": around(generator, count, *[[IMAGE] * (area // 16) for area in areas]),
            "pixel_values": noise(generator, 1, 3, 7, 7 * sum(areas)),
            "target_sizes": torch.tensor(sizes, dtype=torch.int32),
        }

    def image(generator: Generator, count: int) -> Inputs:
        return pictures(generator, count, SIZES[count % 4])

    def images(generator: Generator, count: int) -> Inputs:
        return pictures(generator, count, SIZES[count % 4], SIZES[(count + 1) % 4])

    def video(generator: Generator, count: int) -> Inputs:
        (height, width), num_frames = SIZES[count % 4], 2 + count % 2
        tokens = [VIDEO] * (height * width // 16)
        return {
            "input_ids": around(generator, count, *[tokens] * num_frames),
            "pixel_values_videos": noise(generator, 1, 3, 7, 7 * num_frames * height * width),
            "target_sizes_videos": torch.tensor([[height, width]] * num_frames, dtype=torch.int32),
        }

    return Family(build(config), kinds_of(image=image, video=video, images=images))
