"""Gemma 3, 3n and 4."""

from pathlib import Path

from checkpoint_parts import AUDIO, IMAGE, VIDEO, VISION, Checkpoint, byte_tokenizer, save, text_sizes
from transformers import (
    Gemma3Config,
    Gemma3ImageProcessor,
    Gemma3nAudioFeatureExtractor,
    Gemma3nConfig,
    Gemma3nProcessor,
    Gemma3Processor,
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ImageProcessor,
    Gemma4Processor,
    Gemma4VideoProcessor,
    SiglipImageProcessor,
)

# A system message opens the first turn of the user; turns must alternate.
_TURNS = """\
{{ bos_token }}
{%- set opening = '' -%}
{%- if messages[0]['role'] == 'system' -%}
  {%- set opening = messages[0]['content'] -%}
  {%- set opening = (opening if opening is string else opening[0]['text']) + '\n\n' -%}
  {%- set messages = messages[1:] -%}
{%- endif -%}
{%- for message in messages -%}
  {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
    {{ raise_exception("Turns must alternate between user and assistant") }}
  {%- endif -%}
  {{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}
  {{- opening if loop.first else '' }}
  {%- if message['content'] is string -%}
    {{ message['content'] | trim }}
  {%- else -%}
    {%- for part in message['content'] -%}
      {%- if part['type'] == 'image' -%}{{ 'IMAGE_MARK' }}
      {%- elif part['type'] == 'audio' -%}{{ '<audio_soft_token>' }}
      {%- elif part['type'] == 'text' -%}{{ part['text'] | trim }}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}
"""
# Media come before the text of their message, each on its own lines.
_GEMMA4_TURNS = """\
{{ bos_token }}
{%- for message in messages -%}
  {{ '<|turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}
  {%- if message['content'] is string -%}
    {{ message['content'] | trim }}
  {%- else -%}
    {%- for part in message['content'] -%}
      {%- if part['type'] == 'text' -%}{{ part['text'] | trim }}
      {%- elif part['type'] == 'image' -%}{{ '\n\n<|image|>\n\n' }}
      {%- elif part['type'] == 'audio' -%}{{ '<|audio|>' }}
      {%- elif part['type'] == 'video' -%}{{ '\n\n<|video|>\n\n' }}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{ '<turn|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|turn>model\n' }}{%- endif -%}
"""
_LAYER_TYPES = ["sliding_attention", "full_attention"] * 2


def save_gemma3(folder: Path) -> None:
    words = byte_tokenizer(
        ["<start_of_turn>", "<end_of_turn>"],
        bos="<bos>",
        eos="<eos>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
    )
    config = Gemma3Config(
        text_config=text_sizes(
            words,
            sliding_window=16,
            layer_types=_LAYER_TYPES,
            query_pre_attn_scalar=16,
            model_type="gemma3_text",
        ),
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **VISION},
        mm_tokens_per_image=4,
        boi_token_index=words.boi_token_id,
        eoi_token_index=words.eoi_token_id,
        image_token_index=words.image_token_id,
    )
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size={"height": 28, "width": 28}),
        words,
        chat_template=_TURNS.replace("IMAGE_MARK", "<start_of_image>"),
        image_seq_length=4,
    )
    save(folder, config, processor)


def save_gemma3n(folder: Path) -> None:
    words = byte_tokenizer(
        ["<start_of_turn>", "<end_of_turn>"],
        bos="<bos>",
        eos="<eos>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
        boa_token="<start_of_audio>",
        eoa_token="<end_of_audio>",
        audio_token="<audio_soft_token>",
    )
    size = len(words)
    text = text_sizes(
        words,
        intermediate_size=[128] * 4,
        sliding_window=16,
        layer_types=_LAYER_TYPES,
        vocab_size=size + 16,
        vocab_size_per_layer_input=size,
        hidden_size_per_layer_input=8,
        num_kv_shared_layers=2,
        laurel_rank=4,
        activation_sparsity_pattern=[0.0] * 4,
        altup_num_inputs=2,
    )
    vision = {
        "model_type": "gemma3n_vision",
        "architecture": "test_efficientnet",
        "hidden_size": 256,
        "vocab_size": 8,
        "vocab_offset": size,
    }
    audio = {
        "hidden_size": 32,
        "conf_num_attention_heads": 4,
        "conf_num_hidden_layers": 2,
        "vocab_size": 8,
        "vocab_offset": size + 8,
        "input_feat_size": 32,
        "sscp_conv_channel_size": (8, 4),
    }
    config = Gemma3nConfig(
        text_config=text,
        vision_config=vision,
        audio_config=audio,
        audio_soft_tokens_per_image=12,
        vision_soft_tokens_per_image=4,
        boi_token_id=words.boi_token_id,
        eoi_token_id=words.eoi_token_id,
        image_token_id=words.image_token_id,
        boa_token_id=words.boa_token_id,
        eoa_token_id=words.eoa_token_id,
        audio_token_id=words.audio_token_id,
    )
    processor = Gemma3nProcessor(
        Gemma3nAudioFeatureExtractor(feature_size=32),
        SiglipImageProcessor(size={"height": 64, "width": 64}),
        words,
        chat_template=_TURNS.replace("IMAGE_MARK", "<image_soft_token>"),
        audio_seq_length=12,
        image_seq_length=4,
    )
    save(folder, config, processor)


def save_gemma4(folder: Path) -> None:
    words = byte_tokenizer(
        ["<|turn>", "<turn|>", "<|video|>"],
        bos="<bos>",
        eos="<eos>",
        boi_token="<|image>",
        eoi_token="<image|>",
        image_token="<|image|>",
        boa_token="<|audio>",
        eoa_token="<audio|>",
        audio_token="<|audio|>",
    )
    text = text_sizes(
        words,
        sliding_window=16,
        layer_types=_LAYER_TYPES,
        vocab_size_per_layer_input=len(words),
        hidden_size_per_layer_input=8,
        global_head_dim=32,
        num_kv_shared_layers=2,
    )
    vision = {
        **{name: size for name, size in VISION.items() if name != "image_size"},
        "num_key_value_heads": 4,
        "head_dim": 8,
        "pooling_kernel_size": 2,
        "position_embedding_size": 512,
    }
    audio = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "subsampling_conv_channels": [32, 4],
        "output_proj_dims": 48,
    }
    config = Gemma4Config(
        text_config=text,
        vision_config=vision,
        audio_config=audio,
        boi_token_id=words.boi_token_id,
        eoi_token_id=words.eoi_token_id,
        image_token_id=words.image_token_id,
        video_token_id=words.convert_tokens_to_ids("<|video|>"),
        boa_token_id=words.boa_token_id,
        eoa_token_index=words.eoa_token_id,
        audio_token_id=words.audio_token_id,
    )
    patches = {"patch_size": 7, "pooling_kernel_size": 2}
    processor = Gemma4Processor(
        Gemma4AudioFeatureExtractor(feature_size=32),
        Gemma4ImageProcessor(max_soft_tokens=70, **patches),
        words,
        Gemma4VideoProcessor(max_soft_tokens=70, num_frames=4, **patches),
        chat_template=_GEMMA4_TURNS,
        image_seq_length=70,
    )
    save(folder, config, processor)


CHECKPOINTS = {
    "gemma3": Checkpoint(save_gemma3, {IMAGE: 4}, "<start_of_image>", ("<end_of_turn>", "<start_of_turn>")),
    "gemma3n": Checkpoint(
        save_gemma3n, {IMAGE: 4, AUDIO: 12}, "<image_soft_token>", ("<end_of_turn>", "<start_of_turn>")
    ),
    "gemma4": Checkpoint(
        save_gemma4, {IMAGE: 60, VIDEO: 240, AUDIO: 13}, "<|image|>", ("<turn|>", "<|turn>"), (4, 30.0)
    ),
}
