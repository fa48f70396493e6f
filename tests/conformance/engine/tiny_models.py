"""Random checkpoints of a few families, small enough to build in a blink, and requests for them as raw tensors."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForMultimodalLM,
    Gemma3Config,
    Gemma4Config,
    Idefics3Config,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen3_5Config,
    SmolVLMConfig,
)

from workers.model.prepared import Prepared

IMAGE, VIDEO, BEGIN, END = 250, 251, 252, 253
TEXT = {
    "vocab_size": 256,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}
MROPE = {"rope_type": "default", "rope_theta": 10000.0}


@dataclass(frozen=True)
class Family:
    """A checkpoint and a way to make requests: `request(generator, words)` with about `words` tokens of text."""

    model: PreTrainedModel
    request: Callable[[torch.Generator, int], Prepared]


def build(config: PretrainedConfig) -> PreTrainedModel:
    """Random weights, spread so that greedy answers vary from token to token."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForMultimodalLM.from_config(config, attn_implementation="sdpa")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(3)
    assert model.generation_config is not None
    model.generation_config.eos_token_id = None
    return model.eval()


def words(generator: torch.Generator, count: int) -> Tensor:
    return torch.randint(5, 240, (1, max(1, count)), generator=generator)


def around(generator: torch.Generator, count: int, *inner: int) -> Tensor:
    """Words, then the given tokens, then words: [1, tokens]."""
    before, after = words(generator, count // 2), words(generator, count - count // 2)
    return torch.cat([before, torch.tensor([inner], dtype=torch.long), after], dim=1)


def gemma3() -> Family:
    text = TEXT | {
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "query_pre_attn_scalar": 16,
    }
    config = Gemma3Config(
        text_config={"model_type": "gemma3_text", **text},
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **VISION},
        mm_tokens_per_image=4,
        image_token_index=IMAGE,
        boi_token_index=BEGIN,
        eoi_token_index=END,
    )

    def request(generator: torch.Generator, count: int) -> Prepared:
        ids = around(generator, count, BEGIN, *[IMAGE] * 4, END)
        pixels = torch.randn(1, 3, 28, 28, generator=generator)
        types = (ids == IMAGE).long()
        return Prepared({"input_ids": ids, "token_type_ids": types, "pixel_values": pixels})

    return Family(build(config), request)


def gemma4() -> Family:
    """Rings, shared keys and values, and per-layer embeddings, which the bundled model has not."""
    text = TEXT | {
        "sliding_window": 16,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "vocab_size_per_layer_input": 256,
        "hidden_size_per_layer_input": 8,
        "global_head_dim": 32,
        "num_kv_shared_layers": 2,
    }
    vision = {
        **{name: size for name, size in VISION.items() if name != "image_size"},
        "num_key_value_heads": 4,
        "head_dim": 8,
        "pooling_kernel_size": 2,
        "position_embedding_size": 64,
        "default_output_length": 4,
    }
    config = Gemma4Config(
        text_config=text,
        vision_config=vision,
        audio_config=None,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        audio_token_id=249,
        boi_token_id=BEGIN,
        eoi_token_id=END,
    )
    grid = torch.stack(torch.meshgrid(torch.arange(4), torch.arange(4), indexing="xy"), -1).reshape(1, 16, 2)

    def request(generator: torch.Generator, count: int) -> Prepared:
        ids = around(generator, count, BEGIN, *[IMAGE] * 4, END)
        pixels = torch.rand(1, 16, 3 * 49, generator=generator)
        types = (ids == IMAGE).long()
        inputs = {
            "input_ids": ids,
            "mm_token_type_ids": types,
            "pixel_values": pixels,
            "image_position_ids": grid,
        }
        return Prepared(inputs)

    return Family(build(config), request)


def idefics3(config_class: type[Any] = Idefics3Config) -> Family:
    config = config_class(
        text_config={"model_type": "llama", **TEXT},
        vision_config=VISION,
        image_token_id=IMAGE,
        scale_factor=2,
    )

    def request(generator: torch.Generator, count: int) -> Prepared:
        num_images = 1 + count % 2
        ids = around(generator, count, *[IMAGE] * (4 * num_images))
        pixels = torch.randn(1, num_images, 3, 28, 28, generator=generator)
        mask = torch.ones(1, num_images, 28, 28, dtype=torch.long)
        return Prepared({"input_ids": ids, "pixel_values": pixels, "pixel_attention_mask": mask})

    return Family(build(config), request)


def smolvlm() -> Family:
    return idefics3(SmolVLMConfig)


def qwen2_5_vl() -> Family:
    return _qwen(
        Qwen2_5_VLConfig,
        TEXT | {"rope_parameters": MROPE | {"mrope_section": [2, 3, 3]}},
        {"window_size": 28, "fullatt_block_indexes": [1]},
    )


def qwen3_5() -> Family:
    """Linear attention: states instead of columns."""
    linear = {
        "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
    }
    rope = MROPE | {"mrope_section": [1, 1, 0], "partial_rotary_factor": 0.25, "mrope_interleaved": True}
    return _qwen(Qwen3_5Config, TEXT | linear | {"rope_parameters": rope}, {"num_position_embeddings": 64})


def _qwen(config_class: type[Any], text: dict[str, Any], vision: dict[str, Any]) -> Family:
    tower = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "patch_size": 7,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 64,
    }
    config = config_class(
        text_config=text,
        vision_config=tower | vision,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=BEGIN,
        vision_end_token_id=END,
    )
    takes_video = config_class is Qwen2_5_VLConfig

    def request(generator: torch.Generator, count: int) -> Prepared:
        height, width = [(4, 4), (4, 6), (6, 4), (8, 4)][count % 4]
        num_frames = 2 if takes_video and count % 5 == 4 else 1
        token = VIDEO if num_frames == 2 else IMAGE
        ids = around(generator, count, BEGIN, *[token] * (height * width // 4 * num_frames), END)
        patches = torch.randn(height * width * num_frames, 3 * 2 * 49, generator=generator)
        grid = torch.tensor([[num_frames, height, width]])
        types = torch.where(ids == IMAGE, 1, torch.where(ids == VIDEO, 2, 0))
        inputs = {"input_ids": ids, "mm_token_type_ids": types}
        if num_frames == 1:
            return Prepared(inputs | {"pixel_values": patches, "image_grid_thw": grid})
        video = {"pixel_values_videos": patches, "video_grid_thw": grid}
        return Prepared(inputs | video | {"second_per_grid_ts": torch.tensor([1.0])})

    return Family(build(config), request)


FAMILIES: dict[str, Callable[[], Family]] = {
    "gemma3": gemma3,
    "gemma4": gemma4,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_5": qwen3_5,
}
