"""What the bundled checkpoint is made of: tokens, chat template, processor, configuration and an untrained model."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma4AudioFeatureExtractor,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4ImageProcessorPil,
    GenerationConfig,
    PreTrainedTokenizerFast,
)

from models.training.processor import FrameProcessor, MediaProcessor

PATCH_PIXELS = 6
# A pooling of 1 is broken in transformers 5.23: its pooler returns the padding mask instead of the opposite.
POOLING = 2
MAX_SOFT_TOKENS = 70
MAX_PATCHES = MAX_SOFT_TOKENS * POOLING**2
MAX_FRAMES = 4
VOCABULARY = 1024
VISION_WIDTH = 128
DECODER_WIDTH = 192
# The audio tower's first LayerNorm does not see the level, only the sign around this mean.
AUDIO_FEATURES: dict[str, Any] = {"per_bin_mean": [-1.5] * 128, "per_bin_stddev": [2.0] * 128}
SPECIAL_TOKENS = (
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "<|turn>",
    "<turn|>",
    "<|image>",
    "<|image|>",
    "<image|>",
    "<|audio>",
    "<|audio|>",
    "<audio|>",
    "<|video|>",
)
TOKEN_ID = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
STOP_IDS = [TOKEN_ID["<eos>"], TOKEN_ID["<turn|>"]]
CHAT_TEMPLATE = (Path(__file__).with_name("chat_template.jinja")).read_text(encoding="utf-8")


def train_tokenizer(corpus: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 1,024 tokens over the texts that the generator writes."""
    core = Tokenizer(models.BPE(unk_token=None))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(corpus, trainer)
    return wrap_tokenizer(core)


def wrap_tokenizer(core: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers knows it, with the names of its media tokens."""
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
        padding_side="left",
        extra_special_tokens={
            "image_token": "<|image|>",
            "boi_token": "<|image>",
            "eoi_token": "<image|>",
            "audio_token": "<|audio|>",
            "boa_token": "<|audio>",
            "eoa_token": "<audio|>",
        },
        model_max_length=4096,
    )


def new_processor(tokenizer: PreTrainedTokenizerFast) -> MediaProcessor:
    """The processor of the bundled model: 96 x 96 pixels are 64 tokens, a clip is at most four frames."""
    return MediaProcessor(
        feature_extractor=Gemma4AudioFeatureExtractor(**AUDIO_FEATURES),
        tokenizer=tokenizer,
        chat_template=CHAT_TEMPLATE,
        image_processor=Gemma4ImageProcessorPil(
            patch_size=PATCH_PIXELS, pooling_kernel_size=POOLING, max_soft_tokens=MAX_SOFT_TOKENS
        ),
        video_processor=FrameProcessor(
            patch_size=PATCH_PIXELS,
            pooling_kernel_size=POOLING,
            max_soft_tokens=MAX_SOFT_TOKENS,
            num_frames=MAX_FRAMES,
        ),
        image_seq_length=MAX_SOFT_TOKENS,
    )


def load_processor(folder: Path) -> MediaProcessor:
    """The processor saved in `folder`, without torchvision."""
    core = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return new_processor(wrap_tokenizer(core))


def new_config() -> Gemma4Config:
    """3.26 million parameters: decoder 192 x 4 layers, vision 128 x 4, audio 128 x 2."""
    rope = {
        "full_attention": {
            "rope_type": "proportional",
            "partial_rotary_factor": 1.0,
            "rope_theta": 1_000_000.0,
        },
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": DECODER_WIDTH,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "global_head_dim": 64,
        "hidden_size_per_layer_input": 0,
        "vocab_size_per_layer_input": VOCABULARY,
        "layer_types": ["full_attention"] * 4,
        "rope_parameters": rope,
        "sliding_window": 4096,
        "max_position_embeddings": 4096,
        "pad_token_id": TOKEN_ID["<pad>"],
        "bos_token_id": TOKEN_ID["<bos>"],
        "eos_token_id": STOP_IDS,
        "tie_word_embeddings": True,
    }
    vision = {
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "pooling_kernel_size": POOLING,
        "patch_size": PATCH_PIXELS,
        "position_embedding_size": 144,
        "default_output_length": MAX_SOFT_TOKENS,
    }
    audio = {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "output_proj_dims": 128,
        "use_clipped_linears": False,
        "subsampling_conv_channels": [128, 16],
    }
    return Gemma4Config(  # type: ignore[call-arg]
        text_config=text,
        vision_config=vision,
        audio_config=audio,
        boi_token_id=TOKEN_ID["<|image>"],
        eoi_token_id=TOKEN_ID["<image|>"],
        image_token_id=TOKEN_ID["<|image|>"],
        video_token_id=TOKEN_ID["<|video|>"],
        boa_token_id=TOKEN_ID["<|audio>"],
        eoa_token_id=TOKEN_ID["<audio|>"],
        eoa_token_index=TOKEN_ID["<audio|>"],
        audio_token_id=TOKEN_ID["<|audio|>"],
        tie_word_embeddings=True,
    )


def new_model(seed: int) -> Gemma4ForConditionalGeneration:
    """An untrained model, the same for the same seed.

    The library's own start (small weights, unit norms after each branch, a table of ones for positions) hardly
    learns at this size: here branches start small beside the embeddings and attention starts soft.
    """
    torch.manual_seed(seed)
    model = Gemma4ForConditionalGeneration(new_config())
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
                module.weight.normal_(0, module.in_features**-0.5)
        for name, parameter in model.named_parameters():
            _start(name, parameter)
        for layer in model.model.vision_tower.encoder.layers:
            # Like attends to like: keys start as queries.
            layer.self_attn.k_proj.linear.weight.copy_(layer.self_attn.q_proj.linear.weight)
    model.set_attn_implementation("eager")
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False,
        max_new_tokens=48,
        pad_token_id=TOKEN_ID["<pad>"],
        bos_token_id=TOKEN_ID["<bos>"],
        eos_token_id=STOP_IDS,
    )
    return model


def _start(name: str, parameter: torch.nn.Parameter) -> None:
    if name.endswith("embed_tokens.weight"):
        parameter.normal_(0, 0.05)
    elif name.endswith("position_embedding_table"):
        parameter.normal_(0, 0.4)
    elif name.endswith("patch_embedder.input_proj.weight"):
        parameter.mul_(1.5)
    elif "post_attention_layernorm" in name or "post_feedforward_layernorm" in name:
        parameter.fill_(0.3)
    elif "post_layer_norm" in name or "norm_post_attn" in name:
        parameter.fill_(0.5)
    elif name.endswith("q_norm.weight"):
        # Gemma 4 scales attention by 1, so the norm of the queries sets how soft it starts.
        softness = 0.5 if "vision" in name else 1.0
        parameter.fill_(softness * parameter.numel() ** -0.5)


def save(model: Gemma4ForConditionalGeneration, processor: MediaProcessor, folder: Path) -> None:
    """Write weights, configuration, processor and chat template as `from_pretrained` reads them."""
    config = model.config
    for part in (config, config.text_config, config.vision_config, config.audio_config):
        setattr(part, "dtype", model.dtype)  # noqa: B010
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)
    path = folder / "config.json"
    written = json.loads(path.read_text(encoding="utf-8"))
    # transformers leaves this field out where it equals head_dim; other readers would assume 512.
    written["text_config"]["global_head_dim"] = written["text_config"]["head_dim"]
    path.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
