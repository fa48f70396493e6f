"""Families that see and hear, and MiniCPM-V: Phi-4 multimodal, Qwen2.5-Omni and Qwen3-Omni (their thinkers)."""

from pathlib import Path
from typing import Any

import torch
from checkpoint_parts import (
    AUDIO,
    IMAGE,
    ROPE,
    VIDEO,
    VISION,
    Checkpoint,
    byte_tokenizer,
    random_model,
    save,
    text_sizes,
)
from safetensors.torch import save_file
from transformers import (
    MiniCPMV4_6Config,
    MiniCPMV4_6ImageProcessor,
    MiniCPMV4_6Processor,
    MiniCPMV4_6VideoProcessor,
    Phi4MultimodalConfig,
    Phi4MultimodalFeatureExtractor,
    Phi4MultimodalImageProcessor,
    Phi4MultimodalProcessor,
    PretrainedConfig,
    Qwen2_5OmniConfig,
    Qwen2_5OmniProcessor,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3OmniMoeConfig,
    Qwen3OmniMoeProcessor,
    Qwen3OmniMoeThinkerForConditionalGeneration,
    TokenizersBackend,
    WhisperFeatureExtractor,
)

_PHI_TURNS = """\
{%- for message in messages -%}
  {{ '<|' + message['role'] + '|>' }}
  {%- if message['content'] is string -%}{{ message['content'] }}
  {%- else -%}
    {%- for part in message['content'] -%}
      {%- if part['type'] == 'image' -%}{{ '<|image|>' }}
      {%- elif part['type'] == 'audio' -%}{{ '<|audio|>' }}
      {%- elif part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{ '<|end|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}
"""
_CHATML = """\
{%- for message in messages -%}
  {{ '<|im_start|>' + message.role + '\n' }}
  {%- if message.content is string -%}{{ message.content }}
  {%- else -%}
    {%- for part in message.content -%}
      {%- if part.type == 'image' -%}{{ 'IMAGE_MARK' }}
      {%- elif part.type == 'video' -%}{{ 'VIDEO_MARK' }}
      {%- elif part.type == 'audio' -%}{{ 'AUDIO_MARK' }}
      {%- elif 'text' in part -%}{{ part.text }}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{ '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}
"""
_MROPE = {"rope_parameters": ROPE | {"mrope_section": [2, 3, 3]}}
# Large patches, since these processors show every clip with many pixels, whatever its checkpoint says.
_PATCHES: dict[str, Any] = {"patch_size": 28, "merge_size": 2, "temporal_patch_size": 2}
_SIZE = {"shortest_edge": 784, "longest_edge": 12544}


def save_phi4_multimodal(folder: Path) -> None:
    words = byte_tokenizer(
        ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"],
        bos="<|endoftext|>",
        eos="<|endoftext|>",
        image_token="<|image|>",
        audio_token="<|audio|>",
    )
    rope = ROPE | {"partial_rotary_factor": 1.0}
    text = text_sizes(words, sliding_window=None, partial_rotary_factor=1.0, rope_parameters=rope)
    config = Phi4MultimodalConfig(
        **{name: size for name, size in text.items() if name != "head_dim"},
        # The processor reckons with 32 patches a side, whatever the picture's size.
        vision_config=VISION
        | {"image_size": 64, "crop_size": 64, "patch_size": 2, "image_token_id": words.image_token_id},
        audio_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_blocks": 2,
            "num_attention_heads": 4,
            "input_size": 16,
            "audio_token_id": words.audio_token_id,
            "nemo_conv_channels": 32,
            "ext_pw_out_channel": 32,
            "depthwise_separable_out_channel": 32,
        },
    )
    processor = Phi4MultimodalProcessor(
        Phi4MultimodalImageProcessor(size={"height": 64, "width": 64}, patch_size=2, dynamic_hd=2),
        Phi4MultimodalFeatureExtractor(feature_size=16),
        words,
        chat_template=_PHI_TURNS,
    )
    save(folder, config, processor)


def save_minicpmv4_6(folder: Path) -> None:
    words = byte_tokenizer(
        ["<|im_start|>"],
        eos="<|im_end|>",
        image_token="<|image_pad|>",
        video_token="<|video_pad|>",
        image_start_token="<image>",
        image_end_token="</image>",
        slice_start_token="<slice>",
        slice_end_token="</slice>",
        image_id_start_token="<image_id>",
        image_id_end_token="</image_id>",
    )
    text = text_sizes(
        words,
        layer_types=["linear_attention"] * 3 + ["full_attention"],
        linear_conv_kernel_dim=4,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        rope_parameters=ROPE | {"partial_rotary_factor": 0.25},
    )
    config = MiniCPMV4_6Config(
        text_config={"model_type": "qwen3_5_text", **text},
        vision_config=VISION | {"image_size": 56},
        insert_layer_id=0,
        image_size=56,
        image_token_id=words.image_token_id,
        video_token_id=words.video_token_id,
    )
    slices: dict[str, Any] = {"max_slice_nums": 4, "scale_resolution": 56, "patch_size": 7}
    turns = _CHATML.replace("IMAGE_MARK", "<|image_pad|>").replace("VIDEO_MARK", "<|video_pad|>")
    processor = MiniCPMV4_6Processor(
        MiniCPMV4_6ImageProcessor(**slices),
        MiniCPMV4_6VideoProcessor(**slices | {"max_slice_nums": 1}),
        words,
        chat_template=turns,
    )
    save(folder, config, processor)


def save_qwen2_5_omni(folder: Path) -> None:
    words = _omni_tokenizer("<|IMAGE|>", "<|VIDEO|>", "<|AUDIO|>")
    thinker = {
        "text_config": text_sizes(words, **_MROPE),
        "vision_config": _omni_tower() | {"window_size": 112, "fullatt_block_indexes": [1]},
        "audio_config": _omni_ears() | {"n_window": 10},
        **_omni_ids(words),
    }
    processor = Qwen2_5OmniProcessor(
        Qwen2VLImageProcessor(size=_SIZE, **_PATCHES),
        Qwen2VLVideoProcessor(size=_SIZE, cap_pixels_per_frame=False, **_PATCHES),
        WhisperFeatureExtractor(feature_size=16, chunk_length=2),
        words,
        chat_template=_omni_turns(words),
    )
    config = Qwen2_5OmniConfig(thinker_config=thinker)
    _save_thinker(folder, config, Qwen2_5OmniThinkerForConditionalGeneration, processor)


def save_qwen3_omni_moe(folder: Path) -> None:
    words = _omni_tokenizer("<|image_pad|>", "<|video_pad|>", "<|audio_pad|>")
    rope = {"rope_parameters": ROPE | {"mrope_section": [2, 3, 3], "mrope_interleaved": True}}
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
    thinker = {
        "text_config": text_sizes(words, **rope, **experts),
        "vision_config": _omni_tower() | {"num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]},
        "audio_config": _omni_ears() | {"n_window": 50, "downsample_hidden_size": 16, "conv_chunksize": 8},
        **_omni_ids(words),
    }
    processor = Qwen3OmniMoeProcessor(
        Qwen2VLImageProcessor(size=_SIZE, **_PATCHES),
        Qwen2VLVideoProcessor(size=_SIZE, cap_pixels_per_frame=False, **_PATCHES),
        WhisperFeatureExtractor(feature_size=16),
        words,
        chat_template=_omni_turns(words),
    )
    config = Qwen3OmniMoeConfig(thinker_config=thinker)
    _save_thinker(folder, config, Qwen3OmniMoeThinkerForConditionalGeneration, processor)


def _omni_tokenizer(image: str, video: str, audio: str) -> TokenizersBackend:
    return byte_tokenizer(
        ["<|im_start|>"],
        eos="<|im_end|>",
        image_token=image,
        video_token=video,
        audio_token=audio,
        vision_bos_token="<|vision_bos|>",
        vision_eos_token="<|vision_eos|>",
        audio_bos_token="<|audio_bos|>",
        audio_eos_token="<|audio_eos|>",
    )


def _omni_turns(words: TokenizersBackend) -> str:
    turns = _CHATML.replace("IMAGE_MARK", f"<|vision_bos|>{words.image_token}<|vision_eos|>")
    turns = turns.replace("VIDEO_MARK", f"<|vision_bos|>{words.video_token}<|vision_eos|>")
    return turns.replace("AUDIO_MARK", f"<|audio_bos|>{words.audio_token}<|audio_eos|>")


def _omni_ids(words: TokenizersBackend) -> dict[str, int]:
    return {
        "image_token_id": words.image_token_id,
        "video_token_id": words.video_token_id,
        "audio_token_id": words.audio_token_id,
        "vision_start_token_id": words.vision_bos_token_id,
        "vision_end_token_id": words.vision_eos_token_id,
        "audio_start_token_id": words.audio_bos_token_id,
        "audio_end_token_id": words.audio_eos_token_id,
    }


def _omni_tower() -> dict[str, Any]:
    return {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 4,
        "patch_size": _PATCHES["patch_size"],
        "out_hidden_size": 64,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }


def _omni_ears() -> dict[str, Any]:
    return {
        "num_mel_bins": 16,
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 64,
        "output_dim": 64,
        "max_source_positions": 100,
    }


def _save_thinker(folder: Path, config: PretrainedConfig, thinker_class: Any, processor: Any) -> None:
    """A whole checkpoint, of whose talker only a trace is left: nothing that turns media into text reads it."""
    thinker = random_model(config.thinker_config, thinker_class)
    weights = {f"thinker.{name}": value.contiguous() for name, value in thinker.state_dict().items()}
    weights["talker.codec_head.weight"] = torch.zeros(4, 4)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config.save_pretrained(folder)
    processor.save_pretrained(folder)


_MARKS = ("<|im_end|>", "<|im_start|>")
CHECKPOINTS = {
    "phi4_multimodal": Checkpoint(
        save_phi4_multimodal, {IMAGE: 673, AUDIO: 6}, "<|image|>", ("<|end|>", "<|assistant|>")
    ),
    "minicpmv4_6": Checkpoint(save_minicpmv4_6, {IMAGE: 12, VIDEO: 16}, "<|image_pad|>", _MARKS),
    "qwen2_5_omni": Checkpoint(
        save_qwen2_5_omni, {IMAGE: 2, VIDEO: 70, AUDIO: 12}, "<|IMAGE|>", _MARKS, (32, 2.0)
    ),
    "qwen3_omni_moe": Checkpoint(
        save_qwen3_omni_moe, {IMAGE: 2, VIDEO: 96, AUDIO: 7}, "<|image_pad|>", _MARKS
    ),
}
