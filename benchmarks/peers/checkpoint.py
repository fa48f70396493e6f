"""The checkpoint that all peers load: an Idefics3 of 31.7M random parameters, 64 tokens per picture, float32.

    python -m benchmarks.peers.checkpoint FOLDER

Idefics3, because it is the one vision family that Hugging Face, vLLM and mistral.rs all load without a patch.
"""

import argparse
import json
from pathlib import Path

# Before transformers, which cannot import torchvision beside a CPU torch by itself.
import workers.model  # noqa: F401

# isort: split
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    TokenizersBackend,
)

from benchmarks.peers.talk import WORDS

SIDE, PATCH, SCALE = 128, 8, 2
TOKENS_PER_IMAGE = (SIDE // PATCH) ** 2 // SCALE**2
VOCABULARY = 1024
PAD, BEGIN, END = "<pad>", "<|im_start|>", "<end_of_utterance>"
IMAGE, AROUND, GLOBAL = "<image>", "<fake_token_around_image>", "<global-img>"
TEMPLATE = (
    "<|im_start|>{% for m in messages %}{{ m['role'] | capitalize }}:{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %} {{ c['text'] }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def build(folder: Path) -> None:
    """Write the checkpoint: weights, tokenizer, processor and chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer()
    image_id = tokenizer.convert_tokens_to_ids(IMAGE)
    processor = Idefics3Processor(
        _image_processor(), tokenizer, image_seq_len=TOKENS_PER_IMAGE, chat_template=TEMPLATE
    )
    config = _config(image_id, tokenizer)
    torch.manual_seed(0)
    model = Idefics3ForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(END)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    _add_older_names(folder, processor)


def _add_older_names(folder: Path, processor: Idefics3Processor) -> None:
    """What mistral.rs and vLLM read where transformers 5 writes something else."""
    settings = processor.image_processor.to_dict() | {"processor_class": "Idefics3Processor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, default=str))
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["rope_theta"] = config["text_config"]["rope_parameters"]["rope_theta"]
    (folder / "config.json").write_text(json.dumps(config, indent=2))


def _image_processor() -> Idefics3ImageProcessor:
    return Idefics3ImageProcessor(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False
    )


def _config(image_id: int, tokenizer: TokenizersBackend) -> Idefics3Config:
    text = {
        "model_type": "llama",
        "vocab_size": VOCABULARY,
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 64,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.convert_tokens_to_ids(BEGIN),
        "eos_token_id": tokenizer.convert_tokens_to_ids(END),
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    vision = {
        "hidden_size": 256,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": PATCH,
    }
    return Idefics3Config(
        text_config=text,
        vision_config=vision,
        image_token_id=image_id,
        scale_factor=SCALE,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )


def _tokenizer() -> TokenizersBackend:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: number for number, letter in enumerate(alphabet)}
    merges = []
    for word in [*("Ġ" + word for word in WORDS), "User", "Assistant"]:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocabulary:
                vocabulary[word[:end]] = len(vocabulary)
                merges.append((word[: end - 1], word[end - 1]))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    named = [PAD, BEGIN, END, AROUND, IMAGE, GLOBAL]
    rows = [f"<row_{row + 1}_col_{column + 1}>" for row in range(6) for column in range(6)]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in [*named, *rows]])
    # Every number that the model may draw is some token.
    missing = VOCABULARY - tokenizer.get_vocab_size()
    tokenizer.add_tokens([AddedToken(f"~{number}~") for number in range(missing)])
    return TokenizersBackend(
        tokenizer_object=tokenizer, bos_token=BEGIN, eos_token=END, pad_token=PAD, padding_side="left"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    build(parser.parse_args().folder)
