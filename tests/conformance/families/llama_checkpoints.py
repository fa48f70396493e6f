"""LLaVA, LLaVA-NeXT, Llama 3.2 Vision (mllama) and Llama 4."""

from pathlib import Path

from checkpoint_parts import IMAGE, ROPE, TEXT, VISION, Checkpoint, byte_tokenizer, save, text_sizes
from transformers import (
    CLIPImageProcessor,
    Llama4Config,
    Llama4ImageProcessor,
    Llama4Processor,
    LlavaConfig,
    LlavaNextConfig,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaProcessor,
    MllamaConfig,
    MllamaImageProcessor,
    MllamaProcessor,
)

# Pictures before the words of their message; the tokenizer writes the first token.
_LLAVA_TURNS = """\
{%- for message in messages -%}
  {%- if message['role'] != 'system' -%}{{ message['role'] | upper + ': ' }}{%- endif -%}
  {%- for part in message['content'] if part['type'] == 'image' -%}{{ '<image>\n' }}{%- endfor -%}
  {%- for part in message['content'] if part['type'] == 'text' -%}
    {{ part['text'] + ('</s>' if message['role'] == 'assistant' else ' ') }}
  {%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'ASSISTANT:' }}{%- endif -%}
"""
_LLAVA_NEXT_TURNS = """\
{%- for message in messages -%}
  {%- if message['role'] == 'assistant' -%}
    {{ ' ' + message['content'][0]['text'] + '</s>' }}
  {%- else -%}
    {{ '[INST] ' }}
    {%- for part in message['content'] if part['type'] == 'image' -%}{{ '<image>\n' }}{%- endfor -%}
    {%- for part in message['content'] if part['type'] == 'text' -%}{{ part['text'] }}{%- endfor -%}
    {{ ' [/INST]' }}
  {%- endif -%}
{%- endfor -%}
"""
# Both Llamas mark who speaks in a header of its own.
_LLAMA_TURNS = """\
{{ bos_token }}
{%- for message in messages -%}
  {{ 'HEADER' + message['role'] + 'REDAEH\n\n' }}
  {%- if message['content'] is string -%}{{ message['content'] }}
  {%- else -%}
    {%- for part in message['content'] -%}
      {%- if part['type'] == 'image' -%}{{ '<|image|>' }}
      {%- elif part['type'] == 'text' -%}{{ part['text'] }}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {{ 'END' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'HEADERassistantREDAEH\n\n' }}{%- endif -%}
"""
_CLIP = {"model_type": "clip_vision_model", **VISION, "num_hidden_layers": 3}
_CROP = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}


def save_llava(folder: Path) -> None:
    words = byte_tokenizer([], bos="<s>", eos="</s>", adds_bos=True, image_token="<image>")
    config = LlavaConfig(
        text_config={"model_type": "llama", **text_sizes(words)},
        vision_config=_CLIP,
        image_token_index=words.image_token_id,
        image_seq_length=16,
    )
    processor = LlavaProcessor(
        CLIPImageProcessor(**_CROP),
        words,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_LLAVA_TURNS,
    )
    save(folder, config, processor)


def save_llava_next(folder: Path) -> None:
    words = byte_tokenizer([], bos="<s>", eos="</s>", adds_bos=True, image_token="<image>")
    pinpoints = [[28, 56], [56, 28], [56, 56]]
    config = LlavaNextConfig(
        text_config={"model_type": "mistral", "sliding_window": None, **text_sizes(words)},
        vision_config=_CLIP,
        image_token_index=words.image_token_id,
        image_grid_pinpoints=pinpoints,
        image_seq_length=16,
    )
    processor = LlavaNextProcessor(
        LlavaNextImageProcessor(image_grid_pinpoints=pinpoints, **_CROP),
        words,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_LLAVA_NEXT_TURNS,
    )
    save(folder, config, processor)


def save_mllama(folder: Path) -> None:
    words = byte_tokenizer(
        ["<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>"],
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        image_token="<|image|>",
    )
    # The picture's token has an embedding of its own, behind the vocabulary.
    text = text_sizes(
        words, vocab_size=words.image_token_id, cross_attention_layers=[1, 3], rope_parameters=ROPE
    )
    config = MllamaConfig(
        text_config={name: size for name, size in text.items() if name != "head_dim"},
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 4,
            "image_size": 28,
            "patch_size": 14,
            "max_num_tiles": 2,
            "intermediate_layers_indices": [0, 1],
            "vision_output_dim": 96,
            "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
        },
        image_token_index=words.image_token_id,
    )
    turns = _with_marks("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
    images = MllamaImageProcessor(size={"height": 28, "width": 28}, max_image_tiles=2)
    save(folder, config, MllamaProcessor(images, words, chat_template=turns))


def save_llama4(folder: Path) -> None:
    marks = ["<|image_start|>", "<|image_end|>", "<|patch|>", "<|tile_x_separator|>", "<|tile_y_separator|>"]
    words = byte_tokenizer(
        ["<|header_start|>", "<|header_end|>", "<|image|>", *marks], bos="<|begin_of_text|>", eos="<|eot|>"
    )
    start, end, patch = (words.convert_tokens_to_ids(token) for token in marks[:3])
    text = text_sizes(
        words,
        intermediate_size_mlp=128,
        num_local_experts=4,
        num_experts_per_tok=1,
        attention_chunk_size=16,
        no_rope_layers=[1, 1, 1, 0],
        attn_temperature_tuning=True,
    )
    config = Llama4Config(
        text_config=text,
        vision_config={
            **VISION,
            "intermediate_size": 128,
            "pixel_shuffle_ratio": 0.5,
            "projector_input_dim": TEXT["hidden_size"],
            "projector_output_dim": TEXT["hidden_size"],
            "vision_output_dim": TEXT["hidden_size"],
        },
        image_token_index=patch,
        boi_token_index=start,
        eoi_token_index=end,
    )
    processor = Llama4Processor(
        Llama4ImageProcessor(size={"height": 28, "width": 28}, max_patches=4),
        words,
        patch_size=7,
        pixel_shuffle_ratio=0.5,
        chat_template=_with_marks("<|header_start|>", "<|header_end|>", "<|eot|>"),
    )
    save(folder, config, processor)


def _with_marks(header: str, end_of_header: str, end_of_turn: str) -> str:
    marked = _LLAMA_TURNS.replace("HEADER", header).replace("REDAEH", end_of_header)
    return marked.replace("'END'", f"'{end_of_turn}'")


CHECKPOINTS = {
    "llava": Checkpoint(save_llava, {IMAGE: 16}, "<image>", ("</s>",)),
    "llava_next": Checkpoint(save_llava_next, {IMAGE: 70}, "<image>", ("</s>",)),
    "mllama": Checkpoint(save_mllama, {IMAGE: 1}, "<|image|>", ("<|eot_id|>", "<|start_header_id|>")),
    "llama4": Checkpoint(save_llama4, {IMAGE: 21}, "<|image|>", ("<|eot|>", "<|header_start|>")),
}
