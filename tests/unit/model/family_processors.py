"""Real processors of several families, around a tokenizer of bytes, so that nothing has to be downloaded."""

from collections.abc import Sequence

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPImageProcessor,
    Gemma3Config,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Idefics3Config,
    Idefics3ImageProcessor,
    Idefics3Processor,
    LlavaConfig,
    LlavaProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    TokenizersBackend,
)

from workers.media.decoded import DecodedAudio, DecodedImage, DecodedVideo
from workers.model.libraries import HAS_TORCHVISION
from workers.model.prompting.prompts import Prompter
from workers.model.prompting.templates import ChatTemplate

needs_torchvision = pytest.mark.skipif(
    not HAS_TORCHVISION, reason="this family's processor needs torchvision"
)

QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif c['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Like the family's own, it cannot take a message whose content is plain text.
IDEFICS_TEMPLATE = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}: {% for c in m['content'] %}"
    "{% if c['type'] == 'text' %}{{ c['text'] }}{% elif c['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}<start_of_turn>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] | trim }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<start_of_image>{% else %}{{ c['text'] | trim }}{% endif %}{% endfor %}"
    "{% endif %}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
LLAVA_TEMPLATE = (
    "{% for m in messages %}{{ m['role'] | upper }}: {% for c in m['content'] if c['type'] == 'image' %}<image>\n"
    "{% endfor %}{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }} {% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def byte_tokenizer(
    special: Sequence[str] = (), *, bos: str | None = None, eos: str = "</s>", **named: str
) -> TokenizersBackend:
    """One token for each byte, and the special ones; `named` become attributes, such as `image_token`."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokens = [token for token in (bos, eos, "<pad>", *special) if token]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in tokens])
    return TokenizersBackend(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token="<pad>",
        extra_special_tokens=named,
    )


def qwen(template: ChatTemplate | None = None) -> Prompter:
    """Qwen2.5-VL: pictures of any size, videos, no sound."""
    marks = [
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
        "<|video_pad|>",
    ]
    tokenizer = byte_tokenizer(marks, eos="<|im_end|>")
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size={"shortest_edge": 784, "longest_edge": 12544}),
        tokenizer=tokenizer,
        video_processor=Qwen2VLVideoProcessor(
            size={"shortest_edge": 784, "longest_edge": 12544}, cap_pixels_per_frame=True
        ),
        chat_template=QWEN_TEMPLATE,
    )
    image, video = (tokenizer.convert_tokens_to_ids(token) for token in marks[-2:])
    return Prompter(
        processor, Qwen2_5_VLConfig(image_token_id=image, video_token_id=video), template=template
    )


def idefics(template: ChatTemplate | None = None) -> Prompter:
    """Idefics 3: pictures in tiles, 4 tokens each; its template needs parts."""
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
    marks = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *tiles]
    tokenizer = byte_tokenizer(marks, bos="<|im_start|>", eos="<end_of_utterance>")
    images = Idefics3ImageProcessor(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=IDEFICS_TEMPLATE)
    config = Idefics3Config(image_token_id=tokenizer.convert_tokens_to_ids("<image>"))
    return Prompter(processor, config, template=template)


def gemma3(template: ChatTemplate | None = None) -> Prompter:
    """Gemma 3: 4 tokens a picture; roles must alternate."""
    named = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    tokenizer = byte_tokenizer(
        ["<start_of_turn>", "<end_of_turn>", *named.values()], bos="<bos>", eos="<eos>", **named
    )
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        chat_template=GEMMA_TEMPLATE,
        image_seq_length=4,
    )
    config = Gemma3Config(image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"))
    return Prompter(processor, config, template=template)


def llava(template: ChatTemplate | None = None) -> Prompter:
    """LLaVA: 16 tokens a picture; the tokenizer, not the template, writes the first token."""
    tokenizer = byte_tokenizer(["<image>"], bos="<s>")
    tokenizer._tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )
    config = LlavaConfig(image_token_index=tokenizer.convert_tokens_to_ids("<image>"))
    return Prompter(processor, config, template=template)


def picture(height: int = 60, width: int = 90) -> DecodedImage:
    """Noise, always the same."""
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return DecodedImage(pixels, (width, height))


def clip(num_frames: int = 4) -> DecodedVideo:
    """Every fifth frame of a clip of 10 frames a second."""
    frames = np.random.default_rng(0).integers(0, 255, (num_frames, 60, 80, 3), dtype=np.uint8)
    total = 5 * num_frames
    return DecodedVideo(frames, tuple(range(0, total, 5)), 10.0, total, total / 10)


def sound(seconds: float = 1.0) -> DecodedAudio:
    """A tone of 440 Hz."""
    times = np.arange(int(16_000 * seconds)) / 16_000
    return DecodedAudio(np.sin(2 * np.pi * 440 * times).astype(np.float32), 16_000, seconds)


def user(*content: str) -> list[dict[str, object]]:
    """One user message: `@image`, `@video` and `@audio` are media, anything else is text."""
    parts = [
        {"type": part[1:]} if part.startswith("@") else {"type": "text", "text": part} for part in content
    ]
    return [{"role": "user", "content": parts}]


def shown(prompter: Prompter, ids: Sequence[int]) -> str:
    """What the model sees, special tokens included."""
    return str(prompter._original.tokenizer.decode(list(ids)))
