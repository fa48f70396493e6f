"""Llama with pictures: cross attention to them (mllama), or chunked attention and experts (Llama 4)."""

import torch
from torch import Generator
from transformers import Llama4Config, MllamaConfig

from tiny_families.family import (
    BEGIN,
    END,
    IMAGE,
    ROPE,
    TEXT,
    VISION,
    Family,
    Inputs,
    Maker,
    around,
    build,
    kinds_of,
    noise,
)

MLLAMA_IMAGE = 248


def mllama() -> Family:
    """Pictures of one or two tiles; the tiles of a picture and the pictures of a request are ragged."""
    text = {name: size for name, size in TEXT.items() if name != "head_dim"}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_global_layers": 1,
        "attention_heads": 4,
        "image_size": 28,
        "patch_size": 14,
        "max_num_tiles": 2,
        "intermediate_layers_indices": [0, 1],
        "vision_output_dim": 32 * 3,
        "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
    }
    config = MllamaConfig(
        text_config={**text, "cross_attention_layers": [1, 3], "rope_parameters": ROPE, "vocab_size": 248},
        vision_config=vision,
        image_token_index=MLLAMA_IMAGE,
    )
    model = build(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("cross_attn_attn_gate", "cross_attn_mlp_gate")):
                parameter.fill_(0.7)
    kinds = kinds_of(image=_mllama_pictures(1), images=_mllama_pictures(2), pictures=_mllama_pictures(3))
    return Family(model, kinds)


def _mllama_pictures(num_images: int) -> Maker:
    def request(generator: Generator, count: int) -> Inputs:
        blocks = [[MLLAMA_IMAGE]] * num_images
        ids = around(generator, count, *blocks)
        tiles = [1 + (count + image) % 2 for image in range(num_images)]
        mask = torch.zeros(1, ids.shape[1], num_images, 2, dtype=torch.long)
        tile_mask = torch.zeros(1, num_images, 2, dtype=torch.long)
        for image, position in enumerate((ids[0] == MLLAMA_IMAGE).nonzero()[:, 0].tolist()):
            mask[:, position:, image, : tiles[image]] = 1
            tile_mask[:, image, : tiles[image]] = 1
        return {
            "input_ids": ids,
            "pixel_values": noise(generator, 1, num_images, 2, 3, 28, 28),
            "aspect_ratio_ids": torch.tensor([tiles]),
            "aspect_ratio_mask": tile_mask,
            "cross_attention_mask": mask,
        }

    return request


def llama4() -> Family:
    """The scale of attention that grows with the position changes every 8 tokens here, every 8192 in earnest."""
    text = {
        **TEXT,
        "intermediate_size_mlp": 128,
        "num_local_experts": 4,
        "num_experts_per_tok": 1,
        "attention_chunk_size": 16,
        "no_rope_layers": [1, 1, 1, 0],
        "attn_temperature_tuning": True,
        "floor_scale": 8,
        "attn_scale": 0.8,
    }
    vision = {
        **VISION,
        "intermediate_size": 128,
        "pixel_shuffle_ratio": 0.5,
        "projector_input_dim": 64,
        "projector_output_dim": 64,
        "vision_output_dim": 64,
    }
    config = Llama4Config(
        text_config=text,
        vision_config=vision,
        image_token_index=IMAGE,
        boi_token_index=BEGIN,
        eoi_token_index=END,
    )

    def pictures(num_images: int) -> Maker:
        def request(generator: Generator, count: int) -> Inputs:
            ids = around(generator, count, *[[BEGIN, *[IMAGE] * 4, END]] * num_images)
            return {"input_ids": ids, "pixel_values": noise(generator, num_images, 3, 28, 28)}

        return request

    return Family(build(config), kinds_of(image=pictures(1), images=pictures(2)))
