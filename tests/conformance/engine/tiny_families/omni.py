"""Omni: the part that thinks, with pictures, videos and sounds; the part that talks is left out."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator
from transformers import Qwen2_5OmniThinkerConfig, Qwen3OmniMoeThinkerConfig

from tiny_families.family import (
    BEGIN,
    END,
    IMAGE,
    SOUND,
    SOUND_BEGIN,
    SOUND_END,
    TEXT,
    VIDEO,
    Family,
    Inputs,
    around,
    build,
    kinds_of,
    noise,
)
from tiny_families.qwen import DEEPSTACK, EXPERTS, MROPE, TOWER, image, images, whole_video

EARS = {
    "num_mel_bins": 16,
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "output_dim": 64,
    "max_source_positions": 100,
}
TOKENS = {
    "image_token_id": IMAGE,
    "video_token_id": VIDEO,
    "audio_token_id": SOUND,
    "vision_start_token_id": BEGIN,
    "vision_end_token_id": END,
    "audio_start_token_id": SOUND_BEGIN,
    "audio_end_token_id": SOUND_END,
}


def qwen2_5_omni() -> Family:
    config = Qwen2_5OmniThinkerConfig(
        text_config=TEXT | MROPE,
        vision_config=TOWER | {"window_size": 28, "fullatt_block_indexes": [1]},
        audio_config=EARS | {"n_window": 10},
        **TOKENS,
    )
    return _family(config, lambda num_frames: ((num_frames - 1) // 2 - 1) // 2 + 1)


def qwen3_omni_moe() -> Family:
    rope = {"rope_parameters": MROPE["rope_parameters"] | {"mrope_interleaved": True}}
    config = Qwen3OmniMoeThinkerConfig(
        text_config=TEXT | rope | EXPERTS,
        vision_config=TOWER | DEEPSTACK,
        audio_config=EARS | {"n_window": 50, "downsample_hidden_size": 16, "conv_chunksize": 8},
        **TOKENS,
    )
    return _family(config, _halved_thrice)


def _halved_thrice(num_frames: int) -> int:
    """13 tokens for every whole hundred frames; a rest is halved three times, rounded up."""
    rest = num_frames % 100
    for _ in range(3):
        rest = (rest + 1) // 2
    return num_frames // 100 * 13 + rest


def _family(config: Any, num_tokens: Callable[[int], int]) -> Family:
    def sounds(generator: Generator, count: int, num_sounds: int = 2) -> Inputs:
        lengths = [40 + (count + number) % 3 * 8 for number in range(num_sounds)]
        blocks = [[SOUND_BEGIN, *[SOUND] * num_tokens(length), SOUND_END] for length in lengths]
        mask = torch.zeros(num_sounds, max(lengths), dtype=torch.long)
        for row, length in enumerate(lengths):
            mask[row, :length] = 1
        return {
            "input_ids": around(generator, count, *blocks),
            "input_features": noise(generator, num_sounds, 16, max(lengths)),
            "feature_attention_mask": mask,
        }

    def sound(generator: Generator, count: int) -> Inputs:
        return sounds(generator, count, num_sounds=1)

    def video(generator: Generator, count: int) -> Inputs:
        return _untyped(whole_video(generator, count)) | {"video_second_per_grid": torch.tensor([1.0])}

    def everything(generator: Generator, count: int) -> Inputs:
        parts = [_untyped(image(generator, count)), sound(generator, count), video(generator, count)]
        ids = torch.cat([part["input_ids"] for part in parts], dim=1)
        return {**parts[0], **parts[1], **parts[2], "input_ids": ids}

    kinds = kinds_of(
        image=lambda generator, count: _untyped(image(generator, count)),
        sound=sound,
        video=video,
        images=lambda generator, count: _untyped(images(generator, count)),
        sounds=sounds,
        everything=everything,
    )
    return Family(build(config), kinds)


def _untyped(inputs: Inputs) -> Inputs:
    return {name: tensor for name, tensor in inputs.items() if name != "mm_token_type_ids"}
