"""Other families than the bundled one: from a saved checkpoint to an answer, through the whole loader."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from drawn_media import ask, clip, picture, tone
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForMultimodalLM,
    Idefics3Config,
    Idefics3ImageProcessor,
    Idefics3Processor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    TokenizersBackend,
)

from service.contract.media import MediaKind
from service.errors import BadRequest
from workers.media.decoded import Decoded
from workers.model.libraries import HAS_TORCHVISION
from workers.model.loading import LoadOptions, load

TEXT = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": None,
    "max_position_embeddings": 2048,
}
TEMPLATE = (
    "{% for m in messages %}<user>{% for c in m['content'] %}{% if c['type'] == 'text' %}{{ c['text'] }}"
    "{% else %}{{ MARKS[c['type']] }}{% endif %}{% endfor %}<end>{% endfor %}<answer>"
)


def tokenizer(*special: str) -> TokenizersBackend:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True) for token in ("<end>", "<pad>", *special)])
    return TokenizersBackend(tokenizer_object=made, eos_token="<end>", pad_token="<pad>")


def template(**marks: str) -> str:
    return "{% set MARKS = " + str(marks) + " %}" + TEMPLATE


def save_idefics(folder: Path) -> None:
    """Idefics 3: Llama inside, pictures in tiles."""
    tiles = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
    words = tokenizer("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", *tiles)
    images = Idefics3ImageProcessor(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    Idefics3Processor(
        images, words, image_seq_len=4, chat_template=template(image="<image>")
    ).save_pretrained(folder)
    image, end, pad = (words.convert_tokens_to_ids(token) for token in ("<image>", "<end>", "<pad>"))
    text = {**TEXT, "model_type": "llama", "vocab_size": len(words), "eos_token_id": end, "pad_token_id": pad}
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "image_size": 28,
        "patch_size": 7,
    }
    config = Idefics3Config(
        text_config=text, vision_config=vision, image_token_id=image, scale_factor=2, pad_token_id=pad
    )
    save_random(config, folder)


def save_qwen(folder: Path) -> None:
    """Qwen2.5-VL: pictures of any size and videos, three-axis positions."""
    from transformers import Qwen2VLVideoProcessor

    words = tokenizer("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    size = {"shortest_edge": 784, "longest_edge": 12544}
    marks = {kind: f"<|vision_start|><|{kind}_pad|><|vision_end|>" for kind in ("image", "video")}
    Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(size=size),
        tokenizer=words,
        video_processor=Qwen2VLVideoProcessor(size=size, cap_pixels_per_frame=True),
        chat_template=template(**marks),
    ).save_pretrained(folder)
    ids = words.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    config = Qwen2_5_VLConfig(
        text_config={**TEXT, "vocab_size": len(words), "rope_parameters": rope, "eos_token_id": ids("<end>")},
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 64,
            "fullatt_block_indexes": [0],
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
    )
    save_random(config, folder)


def save_random(config: Any, folder: Path) -> None:
    torch.manual_seed(0)
    AutoModelForMultimodalLM.from_config(config).save_pretrained(folder)


@pytest.mark.parametrize(
    ("save", "takes"),
    [
        (save_idefics, {MediaKind.IMAGE}),
        pytest.param(
            save_qwen,
            {MediaKind.IMAGE, MediaKind.VIDEO},
            marks=pytest.mark.skipif(not HAS_TORCHVISION, reason="its processor needs torchvision"),
        ),
    ],
)
def test_a_checkpoint_of_another_family_answers_about_its_media(
    save: Callable[[Path], None], takes: set[MediaKind], tmp_path: Path
) -> None:
    save(tmp_path)
    media: dict[MediaKind, Decoded] = {
        MediaKind.IMAGE: picture("circle", "red"),
        MediaKind.VIDEO: clip("circle", "red"),
        MediaKind.AUDIO: tone(440.0),
    }

    loaded = load(LoadOptions(model=str(tmp_path), quant_bits=8))

    assert loaded.needs.takes == takes
    assert loaded.provenance["quantization"]["num_layers"] == 14
    for kind in takes:
        prepared = loaded.prompter.prepare(*ask("What is it?", media[kind]))
        with torch.inference_mode():
            ids = loaded.model.generate(**prepared.inputs, max_new_tokens=4, do_sample=False)
        assert ids.shape[1] > prepared.num_tokens
        assert getattr(prepared.counts, kind) > 0
    for kind in set(MediaKind) - takes:
        with pytest.raises(BadRequest, match=f"cannot take {kind}"):
            loaded.prompter.prepare(*ask("What is it?", media[kind]))
