"""Families with experts, of every form in which they keep them."""

from functools import cache

import crowds
from tiny_families.family import IMAGE, TEXT, VISION, Family, build, kinds_of
from transformers import Gemma4Config

MIXTURES = ("qwen3_vl_moe", "qwen3_5_moe", "qwen3_omni_moe", "llama4", "gemma4_moe")


@cache
def family_of(name: str) -> Family:
    """A family of the table, or Gemma 4 with experts."""
    return gemma4_moe() if name == "gemma4_moe" else crowds.family_of(name)


def gemma4_moe() -> Family:
    """A dense layer and experts side by side, and a router that is a linear layer."""
    text = TEXT | {
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "vocab_size_per_layer_input": 256,
        "hidden_size_per_layer_input": 8,
        "global_head_dim": 32,
        "num_kv_shared_layers": 2,
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 32,
    }
    vision = {
        **{name: size for name, size in VISION.items() if name != "image_size"},
        "num_key_value_heads": 4,
        "head_dim": 8,
        "pooling_kernel_size": 2,
        "position_embedding_size": 64,
        "default_output_length": 4,
    }
    config = Gemma4Config(text_config=text, vision_config=vision, audio_config=None, image_token_id=IMAGE)
    return Family(build(config), kinds_of())
