"""Gemma 4's processor without torchvision: the frames of a clip go through Pillow, as images do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, Gemma4AudioFeatureExtractor, Gemma4ImageProcessorPil, Gemma4Processor
from transformers.feature_extraction_utils import BatchFeature
from transformers.video_processing_utils import VideoProcessorMixin
from transformers.video_utils import make_batched_metadata, make_batched_videos

_PATCH_FIELDS = ("patch_size", "pooling_kernel_size", "max_soft_tokens")


class FrameProcessor(VideoProcessorMixin):
    """Turns clips (uint8 [frames, height, width, 3]) into patches, with the outputs of Gemma4VideoProcessor.

    It takes the frames it is given: choosing them is the decoder's business.
    """

    model_input_names = [  # noqa: RUF012
        "pixel_values_videos",
        "video_position_ids",
        "num_frames_per_video",
    ]

    def __init__(self, images: Gemma4ImageProcessorPil, num_frames: int) -> None:
        super().__init__()
        self.num_frames = num_frames
        self._images = images

    def __call__(  # type: ignore[override]
        self, videos: Any, video_metadata: Any = None, **_: Any
    ) -> BatchFeature:
        clips: Any = make_batched_videos(videos)
        metadata = make_batched_metadata(clips, video_metadata=video_metadata)
        outputs = [self._images(list(np.asarray(clip)), return_tensors="pt") for clip in clips]
        return BatchFeature(
            {
                "pixel_values_videos": torch.cat([out["pixel_values"] for out in outputs]),
                "video_position_ids": torch.cat([out["image_position_ids"] for out in outputs]),
                "num_frames_per_video": torch.tensor([len(clip) for clip in clips]),
                "num_soft_tokens_per_video": [int(out["num_soft_tokens_per_image"][0]) for out in outputs],
                "video_metadata": metadata,
            }
        )


class PillowProcessor(Gemma4Processor):
    """Gemma4Processor with a FrameProcessor, whose proper class cannot be named where torchvision is missing."""

    def check_argument_for_proper_class(self, argument_name: str, argument: object) -> Any:
        if argument_name == "video_processor":
            return type(argument)
        return super().check_argument_for_proper_class(argument_name, argument)  # type: ignore[no-untyped-call]


def load_gemma4_processor(folder: Path) -> PillowProcessor:
    """What AutoProcessor gives for a Gemma 4 folder, as far as that is possible without torchvision."""
    settings = json.loads((folder / "processor_config.json").read_text())
    template = folder / "chat_template.jinja"
    clips = settings["video_processor"]
    return PillowProcessor(
        feature_extractor=Gemma4AudioFeatureExtractor.from_dict(settings["feature_extractor"]),
        image_processor=_patches(settings["image_processor"]),
        tokenizer=AutoTokenizer.from_pretrained(folder),
        video_processor=FrameProcessor(_patches(clips), num_frames=clips["num_frames"]),
        chat_template=template.read_text() if template.exists() else None,
        **{name: settings[name] for name in ("image_seq_length", "audio_seq_length", "audio_ms_per_token")},
    )


def _patches(settings: dict[str, Any]) -> Gemma4ImageProcessorPil:
    return Gemma4ImageProcessorPil(**{name: settings[name] for name in _PATCH_FIELDS})
