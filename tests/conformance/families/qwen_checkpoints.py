"""Qwen-VL: 2, 2.5, 3, 3 with experts, 3.5 and 3.5 with experts."""

from functools import partial
from pathlib import Path
from typing import Any

from checkpoint_parts import IMAGE, ROPE, VIDEO, Checkpoint, byte_tokenizer, save, text_sizes
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3_5Config,
    Qwen3_5MoeConfig,
    Qwen3VLConfig,
    Qwen3VLMoeConfig,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

QWEN_MARKS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
# A system message of its own where the caller has none; media where their parts stand.
QWEN_TURNS = """\
{%- macro shown(content) -%}
  {%- if content is string -%}{{ content }}
  {%- else -%}
    {%- for part in content -%}
      {%- if part.type == 'image' or 'image_url' in part -%}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}
      {%- elif part.type == 'video' or 'video' in part -%}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}
      {%- elif 'text' in part -%}{{ part.text }}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- for message in messages -%}
  {%- if loop.first and message.role != 'system' -%}
    {{ '<|im_start|>system\nYou help.<|im_end|>\n' }}
  {%- endif -%}
  {{ '<|im_start|>' + message.role + '\n' + shown(message.content) + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}
"""
_SIZE = {"shortest_edge": 784, "longest_edge": 12544}
_PATCHES: dict[str, Any] = {"patch_size": 7, "merge_size": 2, "temporal_patch_size": 2}
_TOWER = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 4,
    "patch_size": 7,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "out_hidden_size": 64,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LINEAR = {
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "rope_parameters": ROPE
    | {"mrope_section": [1, 1, 0], "partial_rotary_factor": 0.25, "mrope_interleaved": True},
}
_MROPE = {"rope_parameters": ROPE | {"mrope_section": [2, 3, 3]}}


def _save(
    folder: Path,
    config_class: type[Any],
    processor_class: type[Any],
    video_class: type[Any],
    text: dict[str, Any],
    tower: dict[str, Any],
) -> None:
    words = byte_tokenizer(["<|im_start|>", "<|endoftext|>"], eos="<|im_end|>", **QWEN_MARKS)
    config = config_class(
        text_config=text_sizes(words, **text),
        vision_config=tower,
        image_token_id=words.image_token_id,
        video_token_id=words.video_token_id,
        vision_start_token_id=words.vision_start_token_id,
        vision_end_token_id=words.vision_end_token_id,
    )
    processor = processor_class(
        Qwen2VLImageProcessor(size=_SIZE, **_PATCHES),
        words,
        video_class(size=_SIZE, cap_pixels_per_frame=False, **_PATCHES),
        chat_template=QWEN_TURNS,
    )
    save(folder, config, processor)


save_qwen2_vl = partial(
    _save,
    config_class=Qwen2VLConfig,
    processor_class=Qwen2VLProcessor,
    video_class=Qwen2VLVideoProcessor,
    text=_MROPE,
    tower={
        "depth": 2,
        "embed_dim": 32,
        "hidden_size": 64,
        "mlp_ratio": 2,
        "num_heads": 4,
        "patch_size": 7,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
)
save_qwen2_5_vl = partial(
    _save,
    config_class=Qwen2_5_VLConfig,
    processor_class=Qwen2_5_VLProcessor,
    video_class=Qwen2VLVideoProcessor,
    text=_MROPE,
    tower=_TOWER | {"window_size": 28, "fullatt_block_indexes": [1]},
)
_save_qwen3 = partial(_save, processor_class=Qwen3VLProcessor, video_class=Qwen3VLVideoProcessor)
_DEEP_TOWER = _TOWER | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]}
save_qwen3_vl = partial(_save_qwen3, config_class=Qwen3VLConfig, text=_MROPE, tower=_DEEP_TOWER)
save_qwen3_vl_moe = partial(
    _save_qwen3, config_class=Qwen3VLMoeConfig, text=_MROPE | _EXPERTS, tower=_DEEP_TOWER
)
_FLAT_TOWER = _TOWER | {"num_position_embeddings": 64}
save_qwen3_5 = partial(_save_qwen3, config_class=Qwen3_5Config, text=_LINEAR, tower=_FLAT_TOWER)
save_qwen3_5_moe = partial(
    _save_qwen3,
    config_class=Qwen3_5MoeConfig,
    text=_LINEAR | _EXPERTS | {"shared_expert_intermediate_size": 32},
    tower=_FLAT_TOWER,
)

_SAVES = {
    "qwen2_vl": (save_qwen2_vl, 48),
    "qwen2_5_vl": (save_qwen2_5_vl, 48),
    "qwen3_vl": (save_qwen3_vl, 24),
    "qwen3_vl_moe": (save_qwen3_vl_moe, 24),
    "qwen3_5": (save_qwen3_5, 24),
    "qwen3_5_moe": (save_qwen3_5_moe, 24),
}
_MARKS = ("<|im_end|>", "<|im_start|>")
CHECKPOINTS = {
    name: Checkpoint(saves, {IMAGE: 24, VIDEO: num_video_tokens}, "<|image_pad|>", _MARKS)
    for name, (saves, num_video_tokens) in _SAVES.items()
}
