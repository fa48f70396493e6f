"""Gemma 4's processor for machines without torchvision: frames of a clip go through Pillow like images."""

from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Gemma4ImageProcessorPil, Gemma4Processor
from transformers.feature_extraction_utils import BatchFeature
from transformers.video_processing_utils import VideoProcessorMixin
from transformers.video_utils import make_batched_metadata, make_batched_videos


def sampled_frames(num_frames: int, max_frames: int) -> np.ndarray:
    """The indices that Gemma 4 looks at: at most `max_frames`, evenly spaced from the first."""
    count = min(num_frames, max_frames)
    return np.arange(0, num_frames, num_frames / count).astype(int)[:count]


class FrameProcessor(VideoProcessorMixin):
    """Turns clips (uint8 [frames, height, width, 3]) into patches, with the outputs of Gemma4VideoProcessor."""

    model_input_names: list[str] = [  # noqa: RUF012
        "pixel_values_videos",
        "video_position_ids",
        "num_frames_per_video",
    ]

    def __init__(
        self, *, patch_size: int, pooling_kernel_size: int, max_soft_tokens: int, num_frames: int
    ) -> None:
        super().__init__()
        self.sizes = {
            "patch_size": patch_size,
            "pooling_kernel_size": pooling_kernel_size,
            "max_soft_tokens": max_soft_tokens,
        }
        self.num_frames = num_frames
        self._images = Gemma4ImageProcessorPil(
            patch_size=patch_size, pooling_kernel_size=pooling_kernel_size, max_soft_tokens=max_soft_tokens
        )

    def to_dict(self) -> dict[str, object]:
        """The fields of processor_config.json, under the name of the class that torchvision users get."""
        return {
            "video_processor_type": "Gemma4VideoProcessor",
            **self.sizes,
            "num_frames": self.num_frames,
            "do_sample_frames": True,
            "do_normalize": False,
            "resample": 3,
        }

    def __call__(self, videos: Any, **options: Any) -> BatchFeature:  # type: ignore[override]
        clips: Any = make_batched_videos(videos)
        given: Any = options.get("video_metadata")
        metadata: Any = make_batched_metadata(clips, video_metadata=given)
        pixels, positions, counts, tokens = [], [], [], []
        for clip, about in zip(clips, metadata, strict=True):
            about.frames_indices = sampled_frames(len(clip), self.num_frames)
            frames = [Image.fromarray(np.asarray(clip[int(i)])) for i in about.frames_indices]
            out = self._images(frames, return_tensors="pt")
            pixels.append(out["pixel_values"])
            positions.append(out["image_position_ids"])
            counts.append(len(frames))
            tokens.append(int(out["num_soft_tokens_per_image"][0]))
        return BatchFeature(
            {
                "pixel_values_videos": torch.cat(pixels),
                "video_position_ids": torch.cat(positions),
                "num_frames_per_video": torch.tensor(counts),
                "num_soft_tokens_per_video": tokens,
                "video_metadata": metadata,
            }
        )

    preprocess = __call__


class MediaProcessor(Gemma4Processor):
    """Gemma4Processor that takes a FrameProcessor, since the library cannot name its own without torchvision."""

    def check_argument_for_proper_class(self, argument_name: str, argument: object) -> Any:
        if argument_name == "video_processor":
            return type(argument)
        return super().check_argument_for_proper_class(argument_name, argument)  # type: ignore[no-untyped-call]


# The saved configuration names the class that everyone else loads.
MediaProcessor.__name__ = "Gemma4Processor"
