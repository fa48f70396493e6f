"""Voxtral's processor without mistral-common: sounds go in where their parts stand, as in every other family."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, PretrainedConfig, ProcessorMixin, WhisperFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

_CHUNK_FRAMES = 3000
_TOKENS_PER_CHUNK = 375
_BEGIN = "[BEGIN_AUDIO]"
# What mistral-common writes for this family: no spaces, and no system message.
_TURNS = """\
{{- '<s>' -}}
{%- for message in messages -%}
  {%- if message['role'] not in ('user', 'assistant') -%}
    {{ raise_exception('This model takes messages of the user and the assistant alone.') }}
  {%- endif -%}
  {%- set asked = message['role'] == 'user' -%}
  {{ '[INST]' if asked else '' }}
  {%- if message['content'] is string -%}{{ message['content'] }}
  {%- else -%}
    {%- for part in message['content'] -%}
      {{ part['text'] if part['type'] == 'text' else '[AUDIO]' }}
    {%- endfor -%}
  {%- endif -%}
  {{ '[/INST]' if asked else '</s>' }}
{%- endfor -%}
"""


_TRANSCRIBE = "[TRANSCRIBE]"


def transcription_ending(tokenizer: Any, language: str | None) -> tuple[int, ...] | None:
    """What this family's prompt ends with where a sound is to be transcribed; None where the vocabulary has no such.

    language: ISO 639-1, where it is known.
    """
    transcribe = tokenizer.added_tokens_encoder.get(_TRANSCRIBE)
    if transcribe is None:
        return None
    named = tokenizer.encode(f"lang:{language}", add_special_tokens=False) if language else []
    return (*named, transcribe)


class ChunkedSounds(WhisperFeatureExtractor):
    """Whisper's features in chunks of 30 seconds, the last one filled with silence."""

    def __call__(self, sounds: list[np.ndarray], **_: Any) -> BatchFeature:  # type: ignore[override]
        """input_features: [chunks of all sounds, mels, 3000]. num_chunks: of each sound."""
        features = [self._chunks(sound) for sound in sounds]
        return BatchFeature(
            {"input_features": torch.cat(features), "num_chunks": [len(chunks) for chunks in features]}
        )

    def _chunks(self, sound: np.ndarray) -> torch.Tensor:
        features = super().__call__(
            sound,
            sampling_rate=self.sampling_rate,
            padding="longest",
            truncation=False,
            pad_to_multiple_of=_CHUNK_FRAMES * self.hop_length,
            return_tensors="pt",
        )
        frames: torch.Tensor = features.input_features[0]
        return frames.reshape(len(frames), -1, _CHUNK_FRAMES).transpose(0, 1)


class SoundProcessor(ProcessorMixin):
    """What VoxtralProcessor makes of a conversation, through the chat template and the tokenizer of any folder."""

    # The family was trained on hours in chunks; half an hour fills its context.
    max_audio_seconds = 1800.0

    def __init__(
        self, feature_extractor: ChunkedSounds, tokenizer: Any, chat_template: str | None = None
    ) -> None:
        self.audio_token = "[AUDIO]"
        self.audio_token_id = tokenizer.convert_tokens_to_ids(self.audio_token)
        super().__init__(feature_extractor, tokenizer, chat_template=chat_template)  # type: ignore[no-untyped-call]

    def replace_audio_token(self, audio_inputs: dict[str, Any], audio_idx: int, **_: Any) -> str:
        """The marks that stand for one sound."""
        num_chunks: int = audio_inputs["num_chunks"][audio_idx]
        return _BEGIN + self.audio_token * (_TOKENS_PER_CHUNK * num_chunks)

    @property
    def unused_input_names(self) -> list[str]:
        """What the model does not read."""
        return ["num_chunks"]


def load_voxtral_processor(folder: Path, config: PretrainedConfig) -> SoundProcessor:
    """The processor of a Voxtral folder; its tokenizer may be Mistral's own file."""
    tokenizer = AutoTokenizer.from_pretrained(folder, config=config, mistral_format=False)
    template = getattr(tokenizer, "chat_template", None)
    return SoundProcessor(ChunkedSounds.from_pretrained(folder), tokenizer, chat_template=template or _TURNS)
