"""Processors: what turns text, pixels and sound into a family's tensors, and what media that family takes."""

import re
from pathlib import Path
from typing import Any, TypeAlias

from transformers import AutoProcessor, PretrainedConfig

from service.contract.media import MediaKind, MediaNeeds
from service.errors import ConfigurationError
from workers.model.libraries import HAS_TORCHVISION

# A ProcessorMixin of transformers, whose hints are narrower than what its methods take.
Processor: TypeAlias = Any

DEFAULT_MAX_FRAMES = 32
DEFAULT_AUDIO_SECONDS = 30.0
_DEFAULT_AUDIO_RATE = 16_000


def load_processor(folder: Path, config: PretrainedConfig) -> Processor:
    """The processor that belongs to a checkpoint folder, for any family that transformers knows."""
    try:
        processor = _load(folder, config)
    except ImportError as error:
        named = re.search(r"pip install ([\w-]+)", str(error))
        raise ConfigurationError(
            f"The processor of {folder.name} needs a package that is not installed.",
            hint=f"Install {named[1] if named else 'torchvision, in the release that belongs to this torch'}.",
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(
            f"The folder {folder.name} holds a model but no processor that transformers can load.",
            hint="It needs processor_config.json (or preprocessor_config.json) and the tokenizer's files.",
        ) from error
    if getattr(processor, "tokenizer", None) is None:
        raise ConfigurationError(
            f"The processor of {folder.name} has no tokenizer, so it cannot take a chat."
        )
    return processor


def _load(folder: Path, config: PretrainedConfig) -> Processor:
    """Ours where transformers' own needs a library that we do without; they are imported late, as theirs are."""
    if config.model_type == "voxtral":
        from workers.model.prompting.voxtral_sounds import load_voxtral_processor

        return load_voxtral_processor(folder, config)
    if config.model_type == "gemma4" and not HAS_TORCHVISION:
        from workers.model.prompting.gemma4_frames import load_gemma4_processor

        return load_gemma4_processor(folder)
    return AutoProcessor.from_pretrained(folder, trust_remote_code=False)  # type: ignore[no-untyped-call]


def processor_backend() -> str:
    """Which library resizes pixels; answers can differ in a rounding between the two."""
    return "torchvision" if HAS_TORCHVISION else "pillow"


def media_needs(processor: Processor, config: PretrainedConfig) -> MediaNeeds:
    """What media this checkpoint takes, and in which form the decoders should deliver it."""
    clips = getattr(processor, "video_processor", None)
    return MediaNeeds(
        takes=frozenset(kind for kind in MediaKind if _takes(kind, processor, config)),
        audio_rate=int(getattr(_audio_processor(processor), "sampling_rate", None) or _DEFAULT_AUDIO_RATE),
        num_frames=_num_frames(clips),
        video_fps=getattr(clips, "fps", None),
        max_audio_seconds=_max_audio_seconds(processor),
    )


def mixes_up_images_and_videos(processor: Processor) -> bool:
    """Whether a video's tensors take the names of a picture's, so that a conversation can hold only one of them."""
    parts = (getattr(processor, name, None) for name in ("image_processor", "video_processor"))
    images, videos = (set(getattr(part, "model_input_names", ())) for part in parts)
    return bool(images & videos)


def placeholder_ids(kind: MediaKind, processor: Processor, config: PretrainedConfig) -> frozenset[int]:
    """Ids of the tokens that stand where a medium's embeddings go."""
    named = list(getattr(processor, f"{kind}_token_ids", []))
    # Llama 4's processor names the token before a picture's patches, its configuration that of the patches.
    named += [getattr(config, f"{kind}_token_id", None), getattr(config, f"{kind}_token_index", None)]
    return frozenset(token for token in named if isinstance(token, int))


def _takes(kind: MediaKind, processor: Processor, config: PretrainedConfig) -> bool:
    """A checkpoint may lack a tower that its family's processor serves: Gemma 4 comes with and without ears."""
    part, tower = {
        MediaKind.IMAGE: (getattr(processor, "image_processor", None), "vision_config"),
        MediaKind.VIDEO: (getattr(processor, "video_processor", None), "vision_config"),
        MediaKind.AUDIO: (_audio_processor(processor), "audio_config"),
    }[kind]
    return part is not None and getattr(config, tower, True) is not None


def _audio_processor(processor: Processor) -> Any:
    return getattr(processor, "audio_processor", None) or getattr(processor, "feature_extractor", None)


def _num_frames(clips: Any) -> int:
    """The frames that a video processor asks for, or as many of ours as it takes."""
    if asked := getattr(clips, "num_frames", None):
        return int(asked)
    most = getattr(clips, "max_num_frames", None) or getattr(clips, "max_frames", None)
    return min(DEFAULT_MAX_FRAMES, int(most or DEFAULT_MAX_FRAMES))


def _max_audio_seconds(processor: Processor) -> float:
    if own := getattr(processor, "max_audio_seconds", None):
        return float(own)
    tokens = getattr(processor, "audio_seq_length", None)
    milliseconds = getattr(processor, "audio_ms_per_token", None)
    if tokens and milliseconds:
        return float(tokens * milliseconds / 1000)
    return float(getattr(_audio_processor(processor), "chunk_length", None) or DEFAULT_AUDIO_SECONDS)
