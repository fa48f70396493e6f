"""Families that listen: Voxtral, and Phi-4 which also sees."""

import torch
from torch import Generator
from transformers import Phi4MultimodalConfig, VoxtralConfig

from tiny_families.family import (
    IMAGE,
    ROPE,
    SOUND,
    TEXT,
    VISION,
    Family,
    Inputs,
    Maker,
    around,
    build,
    kinds_of,
    noise,
)


def voxtral() -> Family:
    ears = {
        "model_type": "voxtral_encoder",
        "hidden_size": 32,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_mel_bins": 16,
        "max_source_positions": 100,
    }
    config = VoxtralConfig(
        text_config={"model_type": "llama", **TEXT}, audio_config=ears, audio_token_id=SOUND
    )

    def sounds(num_sounds: int) -> Maker:
        def request(generator: Generator, count: int) -> Inputs:
            ids = around(generator, count, *[[SOUND] * 25] * num_sounds)
            return {"input_ids": ids, "input_features": noise(generator, num_sounds, 16, 200)}

        return request

    return Family(build(config), kinds_of(sound=sounds(1), sounds=sounds(2)))


def phi4_multimodal(long_after: int | None = None) -> Family:
    """long_after: the prompt length beyond which positions turn by other factors."""
    text = {name: size for name, size in TEXT.items() if name != "head_dim"}
    ears = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_blocks": 2,
        "num_attention_heads": 4,
        "input_size": 16,
        "audio_token_id": SOUND,
        "nemo_conv_channels": 32,
        "ext_pw_out_channel": 32,
        "depthwise_separable_out_channel": 32,
    }
    rope = ROPE | {"partial_rotary_factor": 1.0}
    if long_after is not None:
        text |= {"original_max_position_embeddings": long_after, "max_position_embeddings": 4 * long_after}
        factors = {"short_factor": [1.0] * 8, "long_factor": [1.0 + 0.5 * index for index in range(8)]}
        rope |= {"rope_type": "longrope", "original_max_position_embeddings": long_after, **factors}
    config = Phi4MultimodalConfig(
        **text,
        sliding_window=None,
        partial_rotary_factor=1.0,
        rope_parameters=rope,
        vision_config={**VISION, "crop_size": 28, "image_token_id": IMAGE, "feature_layer": -2},
        audio_config=ears,
    )
    model = build(config)
    kinds = kinds_of(
        image=_phi4_images(1),
        sound=_phi4_sounds(1),
        images=_phi4_images(2),
        sounds=_phi4_sounds(2),
        everything=_phi4_everything,
    )
    return Family(model, kinds)


def _phi4_images(num_images: int) -> Maker:
    """Each picture is a whole view of 6 tokens and crops of 2 x 2 tokens, with a token at the end of each row."""

    def request(generator: Generator, count: int) -> Inputs:
        widths = [1 + (count + image) % 2 for image in range(num_images)]
        num_views = 1 + max(widths)
        mask = torch.zeros(num_images, num_views, 4, 4, dtype=torch.long)
        for image, width in enumerate(widths):
            mask[image, : 1 + width] = 1
        return {
            "input_ids": around(generator, count, *[[IMAGE] * (2 * (2 * width + 1) + 7) for width in widths]),
            "image_pixel_values": noise(generator, num_images, num_views, 3, 28, 28),
            "image_attention_mask": mask,
            "image_sizes": torch.tensor([[28, 28 * width] for width in widths]),
        }

    return request


def _phi4_sounds(num_sounds: int) -> Maker:
    """Eight frames become one token; shorter sounds are padded."""

    def request(generator: Generator, count: int) -> Inputs:
        lengths = [32 + (count + sound) % 3 * 8 for sound in range(num_sounds)]
        features = noise(generator, num_sounds, max(lengths), 16)
        sizes = torch.tensor([length // 8 for length in lengths])
        inputs = {"audio_input_features": features, "audio_embed_sizes": sizes}
        if num_sounds > 1:
            mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
            inputs["audio_attention_mask"] = mask
        return {"input_ids": around(generator, count, *[[SOUND] * (n // 8) for n in lengths])} | inputs

    return request


def _phi4_everything(generator: Generator, count: int) -> Inputs:
    seen, heard = _phi4_images(1)(generator, count), _phi4_sounds(1)(generator, count)
    return {**seen, **heard, "input_ids": torch.cat([seen["input_ids"], heard["input_ids"]], dim=1)}
