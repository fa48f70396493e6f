"""Qwen: three-axis positions, pictures and videos as flat patches, and linear attention in the newer ones."""

from typing import Any

import torch
from torch import Generator, Tensor
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen3_5Config,
    Qwen3_5MoeConfig,
    Qwen3VLConfig,
    Qwen3VLMoeConfig,
)

from tiny_families.family import (
    BEGIN,
    END,
    IMAGE,
    ROPE,
    TEXT,
    VIDEO,
    Family,
    Inputs,
    Maker,
    around,
    build,
    noise,
    words,
)

TOWER = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "patch_size": 7,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 64,
}
DEEPSTACK = {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
MROPE = {"rope_parameters": ROPE | {"mrope_section": [2, 3, 3]}}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LINEAR = {
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "rope_parameters": ROPE
    | {"mrope_section": [1, 1, 0], "partial_rotary_factor": 0.25, "mrope_interleaved": True},
}
SIZES = [(4, 4), (4, 6), (6, 4), (8, 4)]


def qwen2_vl() -> Family:
    tower = {
        "depth": 2,
        "embed_dim": 32,
        "hidden_size": 64,
        "mlp_ratio": 2,
        "num_heads": 4,
        "patch_size": 7,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    return _family(Qwen2VLConfig, MROPE, tower, whole_video)


def qwen2_5_vl() -> Family:
    tower = TOWER | {"window_size": 28, "fullatt_block_indexes": [1]}
    return _family(Qwen2_5_VLConfig, MROPE, tower, timed_video)


def qwen3_vl() -> Family:
    return _family(Qwen3VLConfig, MROPE, TOWER | DEEPSTACK, video_of_frames)


def qwen3_vl_moe() -> Family:
    return _family(Qwen3VLMoeConfig, MROPE | EXPERTS, TOWER | DEEPSTACK, video_of_frames)


def qwen3_5() -> Family:
    return _family(Qwen3_5Config, LINEAR, TOWER | {"num_position_embeddings": 64}, video_of_frames)


def qwen3_5_moe() -> Family:
    text = LINEAR | EXPERTS | {"shared_expert_intermediate_size": 32}
    return _family(Qwen3_5MoeConfig, text, TOWER | {"num_position_embeddings": 64}, video_of_frames)


def _family(config_class: type[Any], text: dict[str, Any], tower: dict[str, Any], video: Maker) -> Family:
    config = config_class(
        text_config=TEXT | text,
        vision_config=tower,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BEGIN,
        vision_end_token_id=END,
    )

    def image_and_video(generator: Generator, count: int) -> Inputs:
        return joined(image(generator, count), video(generator, count))

    kinds = {
        "image": image,
        "video": video,
        "images": images,
        "everything": image_and_video,
        "ending": ending,
    }
    return Family(build(config), {"text": _text, **kinds})


def typed(ids: Tensor) -> Inputs:
    """Ids, and which of them stand for media."""
    return {
        "input_ids": ids,
        "mm_token_type_ids": torch.where(ids == IMAGE, 1, torch.where(ids == VIDEO, 2, 0)),
    }


def joined(first: Inputs, second: Inputs) -> Inputs:
    """Two requests as one, the second's text and media behind the first's."""
    per_token = ("input_ids", "mm_token_type_ids")
    return {**first, **second} | {
        name: torch.cat([first[name], second[name]], dim=1) for name in per_token if name in first
    }


def _text(generator: Generator, count: int) -> Inputs:
    return typed(words(generator, count))


def image(generator: Generator, count: int) -> Inputs:
    """A picture of one of four sizes."""
    return pictures(generator, count, SIZES[count % 4])


def images(generator: Generator, count: int) -> Inputs:
    """Two pictures of different sizes."""
    return pictures(generator, count, SIZES[count % 4], SIZES[(count + 1) % 4])


def ending(generator: Generator, count: int) -> Inputs:
    """A picture behind all words."""
    inputs = pictures(generator, 2 * count, (4, 8))
    stop = int((inputs["input_ids"] == IMAGE).nonzero()[-1, 1]) + 1
    return inputs | {name: inputs[name][:, :stop] for name in ("input_ids", "mm_token_type_ids")}


def pictures(generator: Generator, count: int, *sizes: tuple[int, int]) -> Inputs:
    """Pictures of (height, width) in patches."""
    areas = [height * width for height, width in sizes]
    blocks = [[BEGIN, *[IMAGE] * (area // 4), END] for area in areas]
    return typed(around(generator, count, *blocks)) | {
        "pixel_values": noise(generator, sum(areas), 3 * 2 * 49),
        "image_grid_thw": torch.tensor([[1, *size] for size in sizes]),
    }


def whole_video(generator: Generator, count: int) -> Inputs:
    """Two or three pairs of frames in one block."""
    (height, width), num_frames = SIZES[count % 4], 2 + count % 2
    ids = around(generator, count, [BEGIN, *[VIDEO] * (num_frames * height * width // 4), END])
    return typed(ids) | _frames(generator, num_frames, height, width)


def timed_video(generator: Generator, count: int) -> Inputs:
    """A block of frames whose positions follow the clock."""
    return whole_video(generator, count) | {"second_per_grid_ts": torch.tensor([1.0])}


def video_of_frames(generator: Generator, count: int) -> Inputs:
    """A block for each pair of frames, with a word between, where the time stands."""
    (height, width), num_frames = SIZES[count % 4], 2 + count % 2
    block = [BEGIN, *[VIDEO] * (height * width // 4), END]
    ids = around(generator, count, *[block] * num_frames)
    return typed(ids) | _frames(generator, num_frames, height, width)


def _frames(generator: Generator, num_frames: int, height: int, width: int) -> Inputs:
    return {
        "pixel_values_videos": noise(generator, num_frames * height * width, 3 * 2 * 49),
        "video_grid_thw": torch.tensor([[num_frames, height, width]]),
    }
