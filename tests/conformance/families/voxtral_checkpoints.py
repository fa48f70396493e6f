"""Voxtral, whose folder has Mistral's own tokenizer file and no chat template."""

import base64
import json
from pathlib import Path

from checkpoint_parts import AUDIO, TEXT, Checkpoint, random_model
from transformers import VoxtralConfig, WhisperFeatureExtractor

_FIRST = """<unk> <s> </s> [INST] [/INST] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS]
[TOOL_CALLS] [IMG] <pad> [IMG_BREAK] [IMG_END] [PREFIX] [MIDDLE] [SUFFIX] [SYSTEM_PROMPT] [/SYSTEM_PROMPT]
[TOOL_CONTENT]"""
_CONTROL = dict(enumerate(_FIRST.split())) | {24: "[AUDIO]", 25: "[BEGIN_AUDIO]", 34: "[TRANSCRIBE]"}
_NUM_CONTROL = 40


def save_voxtral(folder: Path) -> None:
    config = VoxtralConfig(
        text_config={
            "model_type": "llama",
            **TEXT,
            "vocab_size": _NUM_CONTROL + 256,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 11,
        },
        audio_config={
            "model_type": "voxtral_encoder",
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_mel_bins": 16,
        },
        audio_token_id=24,
    )
    random_model(config).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=16).save_pretrained(folder)
    (folder / "tekken.json").write_text(json.dumps(_tekken()))


def _tekken() -> dict[str, object]:
    """A vocabulary of bytes behind the control tokens, in the format of mistral-common."""
    names = [_CONTROL.get(number, f"<SPECIAL_{number}>") for number in range(_NUM_CONTROL)]
    return {
        "config": {
            "pattern": r"\s+|\S+",
            "num_vocab_tokens": 256,
            "default_vocab_size": _NUM_CONTROL + 256,
            "default_num_special_tokens": _NUM_CONTROL,
            "version": "v7",
        },
        "vocab": [
            {"rank": byte, "token_bytes": base64.b64encode(bytes([byte])).decode(), "token_str": None}
            for byte in range(256)
        ],
        "special_tokens": [
            {"rank": number, "token_str": name, "is_control": True} for number, name in enumerate(names)
        ],
        "audio": {
            "sampling_rate": 16000,
            "frame_rate": 12.5,
            "audio_encoding_config": {"num_mel_bins": 16, "hop_length": 160, "window_size": 400},
            "chunk_length_s": 30.0,
        },
    }


CHECKPOINTS = {
    "voxtral": Checkpoint(save_voxtral, {AUDIO: 375}, "[AUDIO]", ("[/INST]", "</s>"), (32, 1800.0)),
}
