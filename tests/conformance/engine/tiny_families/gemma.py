"""Gemma: rings beside full attention, keys and values shared between layers, per-layer embeddings."""

from typing import Any

import torch
from torch import Generator, Tensor
from transformers import Gemma3Config, Gemma3nConfig, Gemma4Config

from tiny_families.family import (
    BEGIN,
    END,
    FIRST_SPECIAL,
    IMAGE,
    SOUND,
    TEXT,
    VIDEO,
    VISION,
    Family,
    Inputs,
    around,
    build,
    kinds_of,
    noise,
    words,
)

LAYERS = {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2}
PICTURE = [BEGIN, *[IMAGE] * 4, END]


def gemma3() -> Family:
    config = Gemma3Config(
        text_config={"model_type": "gemma3_text", **TEXT, **LAYERS, "query_pre_attn_scalar": 16},
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **VISION},
        mm_tokens_per_image=4,
        image_token_index=IMAGE,
        boi_token_index=BEGIN,
        eoi_token_index=END,
    )

    def without_image(generator: Generator, count: int) -> Inputs:
        ids = words(generator, count)
        return {"input_ids": ids, "token_type_ids": torch.zeros_like(ids)}

    def images(generator: Generator, count: int, num_images: int = 2) -> Inputs:
        ids = around(generator, count, *[PICTURE] * num_images)
        pixels = noise(generator, num_images, 3, 28, 28)
        return {"input_ids": ids, "token_type_ids": (ids == IMAGE).long(), "pixel_values": pixels}

    def image(generator: Generator, count: int) -> Inputs:
        return images(generator, count, num_images=1)

    return Family(build(config), {"text": without_image, "image": image, "images": images})


def gemma3n() -> Family:
    """Ids from 240 on belong to the vision embedder, those from 248 on to the sound embedder."""
    config = Gemma3nConfig(
        text_config={
            **TEXT,
            **LAYERS,
            "intermediate_size": [128] * 4,
            "vocab_size_per_layer_input": FIRST_SPECIAL,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 2,
            "laurel_rank": 4,
            "activation_sparsity_pattern": [0.0] * 4,
            "altup_num_inputs": 2,
        },
        vision_config={
            "architecture": "test_resnet",
            "hidden_size": 96,
            "vocab_size": 8,
            "vocab_offset": FIRST_SPECIAL,
        },
        audio_config={
            "hidden_size": 32,
            "conf_num_attention_heads": 4,
            "conf_num_hidden_layers": 2,
            "vocab_size": 8,
            "vocab_offset": FIRST_SPECIAL + 8,
            "input_feat_size": 32,
            "sscp_conv_channel_size": (8, 4),
        },
        vision_soft_tokens_per_image=4,
        audio_soft_tokens_per_image=4,
        image_token_id=245,
        audio_token_id=SOUND,
    )

    def image(generator: Generator, count: int, num_images: int = 1) -> Inputs:
        ids = around(generator, count, *[[245] * 4] * num_images)
        return {"input_ids": ids, "pixel_values": noise(generator, num_images, 3, 64, 64)}

    def sound(generator: Generator, count: int) -> Inputs:
        num_frames = 40 + count % 3 * 8
        mask = torch.ones(1, num_frames, dtype=torch.bool)
        features = noise(generator, 1, num_frames, 32)
        ids = around(generator, count, [SOUND] * 4)
        return {"input_ids": ids, "input_features": features, "input_features_mask": mask}

    def images(generator: Generator, count: int) -> Inputs:
        return image(generator, count, num_images=2)

    def image_and_sound(generator: Generator, count: int) -> Inputs:
        seen, heard = image(generator, count), sound(generator, count)
        return {**seen, **heard, "input_ids": torch.cat([seen["input_ids"], heard["input_ids"]], dim=1)}

    kinds = kinds_of(image=image, sound=sound, images=images, everything=image_and_sound)
    return Family(build(config), kinds)


def gemma4_experts() -> Family:
    """As the larger ones are: experts, keys that are values too, and pictures that are seen both ways."""
    experts = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 32}
    one_head = {"attention_k_eq_v": True, "num_global_key_value_heads": 1, "num_kv_shared_layers": 0}
    return gemma4(**experts, **one_head, use_bidirectional_attention="vision")


def gemma4(**options: Any) -> Family:
    text = TEXT | LAYERS
    text |= {"vocab_size_per_layer_input": 256, "hidden_size_per_layer_input": 8}
    text |= {"global_head_dim": 32, "num_kv_shared_layers": 2, **options}
    vision = {
        **{name: size for name, size in VISION.items() if name != "image_size"},
        "num_key_value_heads": 4,
        "head_dim": 8,
        "pooling_kernel_size": 2,
        "position_embedding_size": 64,
        "default_output_length": 4,
    }
    audio = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "subsampling_conv_channels": [16, 8],
        "output_proj_dims": 32,
    }
    config = Gemma4Config(
        text_config=text,
        vision_config=vision,
        audio_config=audio,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        audio_token_id=SOUND,
        boi_token_id=BEGIN,
        eoi_token_id=END,
    )
    return Family(
        build(config),
        {
            "text": _gemma4_text,
            "image": lambda generator, count: _gemma4_images(generator, count, 1),
            "video": _gemma4_video,
            "sound": _gemma4_sound,
            "images": lambda generator, count: _gemma4_images(generator, count, 2),
            "everything": _gemma4_image_and_sound,
        },
    )


def _gemma4_types(ids: Tensor) -> Tensor:
    return torch.where(ids == IMAGE, 1, torch.where(ids == VIDEO, 2, torch.where(ids == SOUND, 3, 0)))


def _grids(count: int) -> Tensor:
    grid = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="xy"), -1)
    return grid.reshape(1, 16, 2).repeat(count, 1, 1)


def _gemma4_text(generator: Generator, count: int) -> Inputs:
    ids = words(generator, count)
    return {"input_ids": ids, "mm_token_type_ids": torch.zeros_like(ids)}


def _gemma4_images(generator: Generator, count: int, num_images: int) -> Inputs:
    ids = around(generator, count, *[PICTURE] * num_images)
    return {
        "input_ids": ids,
        "mm_token_type_ids": _gemma4_types(ids),
        "pixel_values": torch.rand(num_images, 16, 3 * 49, generator=generator),
        "image_position_ids": _grids(num_images),
    }


def _gemma4_video(generator: Generator, count: int) -> Inputs:
    num_frames = 2 + count % 2
    ids = around(generator, count, *[[BEGIN, *[VIDEO] * 4, END]] * num_frames)
    return {
        "input_ids": ids,
        "mm_token_type_ids": _gemma4_types(ids),
        "pixel_values_videos": torch.rand(num_frames, 16, 3 * 49, generator=generator),
        "video_position_ids": _grids(num_frames),
        "num_frames_per_video": torch.tensor([num_frames]),
    }


def _gemma4_sound(generator: Generator, count: int) -> Inputs:
    """Padded at its end, as the processor pads; four frames become one token."""
    num_frames, num_padding = 20 + count % 3 * 8, 4
    mask = torch.ones(1, num_frames + num_padding, dtype=torch.bool)
    mask[:, num_frames:] = False
    ids = around(generator, count, [BEGIN, *[SOUND] * (num_frames // 4), END])
    return {
        "input_ids": ids,
        "mm_token_type_ids": _gemma4_types(ids),
        "input_features": noise(generator, 1, num_frames + num_padding, 16),
        "input_features_mask": mask,
    }


def _gemma4_image_and_sound(generator: Generator, count: int) -> Inputs:
    seen, heard = _gemma4_images(generator, count, 1), _gemma4_sound(generator, count)
    per_token = ("input_ids", "mm_token_type_ids")
    joined = {name: torch.cat([seen[name], heard[name]], dim=1) for name in per_token}
    return {**seen, **heard, **joined}
