"""Idefics 2 and 3 and SmolVLM."""

from pathlib import Path
from typing import Any

from checkpoint_parts import IMAGE, VIDEO, VISION, Checkpoint, byte_tokenizer, save, text_sizes
from transformers import (
    Idefics2Config,
    Idefics2ImageProcessor,
    Idefics2Processor,
    Idefics3Config,
    Idefics3ImageProcessor,
    Idefics3Processor,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
    TokenizersBackend,
)

# No space before a picture, and no message of plain text.
_TURNS = """\
{{ 'START' }}
{%- for message in messages -%}
  {{ message['role'] | capitalize + (':' if message['content'][0]['type'] == 'image' else ': ') }}
  {%- for part in message['content'] -%}
    {%- if part['type'] == 'text' -%}{{ part['text'] }}
    {%- elif part['type'] == 'image' -%}{{ '<image>' }}
    {%- elif part['type'] == 'video' -%}{{ '<video>' }}{%- endif -%}
  {%- endfor -%}
  {{ '<end_of_utterance>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}
"""
_FAKE, _END = "<fake_token_around_image>", "<end_of_utterance>"


def save_idefics2(folder: Path) -> None:
    words = byte_tokenizer([_FAKE, "<image>", _END], bos="<s>", eos="</s>", adds_bos=True)
    config = Idefics2Config(
        text_config={"model_type": "mistral", "sliding_window": None, **text_sizes(words)},
        vision_config=VISION | {"image_size": 56},
        perceiver_config={
            "hidden_size": 64,
            "resampler_n_latents": 4,
            "resampler_depth": 2,
            "resampler_n_heads": 4,
            "resampler_head_dim": 16,
            "num_key_value_heads": 2,
        },
        image_token_id=words.convert_tokens_to_ids("<image>"),
    )
    images = Idefics2ImageProcessor(size={"shortest_edge": 28, "longest_edge": 56}, do_image_splitting=False)
    turns = _TURNS.replace("START", "")
    save(folder, config, Idefics2Processor(images, words, image_seq_len=4, chat_template=turns))


def save_idefics3(folder: Path) -> None:
    words = _tiled_tokenizer()
    images = Idefics3ImageProcessor(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    turns = _TURNS.replace("START", "<|im_start|>")
    processor = Idefics3Processor(images, words, image_seq_len=4, chat_template=turns)
    save(folder, _tiled_config(Idefics3Config, words), processor)


def save_smolvlm(folder: Path) -> None:
    words = _tiled_tokenizer("<video>")
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(size={"longest_edge": 56}, max_image_size={"longest_edge": 28}),
        words,
        SmolVLMVideoProcessor(
            size={"longest_edge": 28},
            max_image_size={"longest_edge": 28},
            video_sampling={"fps": 1, "max_frames": 8, "video_size": {"longest_edge": 28}},
        ),
        image_seq_len=4,
        chat_template=_TURNS.replace("START", "<|im_start|>"),
    )
    save(folder, _tiled_config(SmolVLMConfig, words), processor)


def _tiled_tokenizer(*more: str) -> TokenizersBackend:
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
    marks = [_FAKE, "<image>", "<global-img>", _END, *more, *tiles]
    return byte_tokenizer(marks, bos="<|im_start|>", eos="<|endoftext|>")


def _tiled_config(config_class: type[Any], words: TokenizersBackend) -> Any:
    return config_class(
        text_config={"model_type": "llama", **text_sizes(words)},
        vision_config=VISION,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=words.pad_token_id,
    )


CHECKPOINTS = {
    "idefics2": Checkpoint(save_idefics2, {IMAGE: 4}, "<image>", (_END,)),
    "idefics3": Checkpoint(save_idefics3, {IMAGE: 20}, "<image>", (_END,)),
    "smolvlm": Checkpoint(save_smolvlm, {IMAGE: 20, VIDEO: 16}, "<image>", (_END,), (8, 30.0)),
}
