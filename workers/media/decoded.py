"""Decoded media, as the model's processor gets it: numpy arrays, nothing lazy."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """One upright RGB picture. pixels: uint8 [height, width, 3]. original_size: (width, height) before scaling."""

    pixels: NDArray[np.uint8]
    original_size: tuple[int, int]

    @property
    def num_bytes(self) -> int:
        """Memory that the pixels hold."""
        return self.pixels.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class DecodedVideo:
    """The sampled frames of one clip. frames: uint8 [sampled, height, width, 3].

    frame_indices: the place of each sampled frame among the clip's `total_frames`.
    fps: frames per second of the clip itself, on average. seconds: its length.
    """

    frames: NDArray[np.uint8]
    frame_indices: tuple[int, ...]
    fps: float
    total_frames: int
    seconds: float

    @property
    def num_bytes(self) -> int:
        """Memory that the frames hold."""
        return self.frames.nbytes


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


Decoded: TypeAlias = DecodedImage | DecodedVideo | DecodedAudio
