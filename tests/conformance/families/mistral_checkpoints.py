"""Mistral Small 3.1 (mistral3) and Pixtral."""

from pathlib import Path
from typing import Any

from checkpoint_parts import IMAGE, VISION, Checkpoint, byte_tokenizer, save, text_sizes
from transformers import (
    LlavaConfig,
    Mistral3Config,
    PixtralImageProcessor,
    PixtralProcessor,
    TokenizersBackend,
)

_TURNS = """\
{{ bos_token }}
{%- for message in messages -%}
  {%- if message['role'] == 'assistant' -%}
    {{ (message['content'] if message['content'] is string else message['content'][0]['text']) + eos_token }}
  {%- else -%}
    {%- set mark = 'SYSTEM_PROMPT' if message['role'] == 'system' else 'INST' -%}
    {{ '[' + mark + ']' }}
    {%- if message['content'] is string -%}{{ message['content'] }}
    {%- else -%}
      {%- for part in message['content'] -%}
        {{ part['text'] if part['type'] == 'text' else '[IMG]' }}
      {%- endfor -%}
    {%- endif -%}
    {{ '[/' + mark + ']' }}
  {%- endif -%}
{%- endfor -%}
"""
_TOWER: dict[str, Any] = {"model_type": "pixtral", **VISION, "head_dim": 8, "image_size": 56}


def _tokenizer() -> TokenizersBackend:
    marks = ["[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    return byte_tokenizer(marks, bos="<s>", eos="</s>")


def _processor(words: TokenizersBackend, spatial_merge_size: int) -> PixtralProcessor:
    return PixtralProcessor(
        PixtralImageProcessor(size={"longest_edge": 56}, patch_size={"height": 7, "width": 7}),
        words,
        patch_size=7,
        spatial_merge_size=spatial_merge_size,
        chat_template=_TURNS,
    )


def save_mistral3(folder: Path) -> None:
    words = _tokenizer()
    config = Mistral3Config(
        text_config={"model_type": "mistral", "sliding_window": None, **text_sizes(words)},
        vision_config=_TOWER,
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
    )
    save(folder, config, _processor(words, spatial_merge_size=2))


def save_pixtral(folder: Path) -> None:
    words = _tokenizer()
    config = LlavaConfig(
        text_config={"model_type": "mistral", "sliding_window": None, **text_sizes(words)},
        vision_config=_TOWER,
        image_token_index=words.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    save(folder, config, _processor(words, spatial_merge_size=1))


CHECKPOINTS = {
    "mistral3": Checkpoint(save_mistral3, {IMAGE: 15}, "[IMG]", ("[/INST]", "</s>")),
    "pixtral": Checkpoint(save_pixtral, {IMAGE: 54}, "[IMG]", ("[/INST]", "</s>")),
}
