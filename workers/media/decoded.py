"""Decoded media, as the model's processor gets it: numpy arrays, nothing lazy."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """One upright RGB picture. pixels: uint8 [height, width, 3]. original_size: (width, height) before scaling.

    max_pixels: how much of it the request lets the model see, where it says.
    """

    pixels: NDArray[np.uint8]
    original_size: tuple[int, int]
    max_pixels: int | None = None

    @property
    def num_bytes(self) -> int:
        """Memory that the pixels hold."""
        return self.pixels.nbytes

    @property
    def facts(self) -> dict[str, Any]:
        """What it was, and what of it the model gets, for provenance. Sizes are [width, height]."""
        return {
            "kind": "image",
            "original_size": list(self.original_size),
            "size": [self.pixels.shape[1], self.pixels.shape[0]],
        }


@dataclass(frozen=True, slots=True, eq=False)
class DecodedVideo:
    """The sampled frames of one clip. frames: uint8 [sampled, height, width, 3].

    frame_indices: the place of each sampled frame among the clip's `total_frames`.
    fps: frames per second of the clip itself, on average. seconds: its length.
    original_size: (width, height) before scaling, where the decoder says.
    """

    frames: NDArray[np.uint8]
    frame_indices: tuple[int, ...]
    fps: float
    total_frames: int
    seconds: float
    original_size: tuple[int, int] | None = None

    @property
    def num_bytes(self) -> int:
        """Memory that the frames hold."""
        return self.frames.nbytes

    @property
    def facts(self) -> dict[str, Any]:
        """What it was, and what of it the model gets, for provenance. Sizes are [width, height]."""
        return {
            "kind": "video",
            "original_size": None if self.original_size is None else list(self.original_size),
            "size": [self.frames.shape[2], self.frames.shape[1]],
            "num_frames": len(self.frames),
            "total_frames": self.total_frames,
            "fps": round(self.fps, 3),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True, eq=False)
class DecodedAudio:
    """One sound, mixed down to mono. samples: float32 [samples], about -1 to 1. rate: Hz."""

    samples: NDArray[np.float32]
    rate: int
    seconds: float

    @property
    def num_bytes(self) -> int:
        """Memory that the samples hold."""
        return self.samples.nbytes

    @property
    def facts(self) -> dict[str, Any]:
        """What the model gets to hear, for provenance."""
        return {"kind": "audio", "seconds": round(self.seconds, 3), "rate": self.rate}


Decoded: TypeAlias = DecodedImage | DecodedVideo | DecodedAudio
