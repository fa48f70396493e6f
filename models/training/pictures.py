"""Pictures as the vision tower takes them: patches and positions, equal to what the processor makes."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from transformers.models.gemma4.image_processing_pil_gemma4 import get_aspect_ratio_preserving_size

from models.training.checkpoint import MAX_PATCHES, PATCH_PIXELS, POOLING

CELL_PIXELS = PATCH_PIXELS * POOLING


@dataclass(frozen=True)
class Patches:
    """One picture. pixels: float32 [280, 108], positions: int64 [280, 2] (-1 where there is no patch)."""

    pixels: np.ndarray
    positions: np.ndarray
    columns: int
    rows: int

    @property
    def num_tokens(self) -> int:
        return self.columns * self.rows


def grid(picture: Image.Image) -> tuple[int, int]:
    """Columns and rows of soft tokens."""
    height, width = get_aspect_ratio_preserving_size(
        picture.height, picture.width, PATCH_PIXELS, MAX_PATCHES, POOLING
    )
    return width // CELL_PIXELS, height // CELL_PIXELS


def to_patches(picture: Image.Image) -> Patches:
    """Resize to whole cells and cut into patches of 6 x 6 pixels, row by row."""
    columns, rows = grid(picture)
    size = (columns * CELL_PIXELS, rows * CELL_PIXELS)
    if picture.size != size:
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    wide, high = columns * POOLING, rows * POOLING
    values = np.asarray(picture, np.float32) / 255
    values = values.reshape(high, PATCH_PIXELS, wide, PATCH_PIXELS, 3).transpose(0, 2, 1, 3, 4)
    pixels = np.zeros((MAX_PATCHES, PATCH_PIXELS * PATCH_PIXELS * 3), np.float32)
    pixels[: wide * high] = values.reshape(wide * high, -1)
    positions = np.full((MAX_PATCHES, 2), -1, np.int64)
    x, y = np.meshgrid(np.arange(wide), np.arange(high), indexing="xy")
    positions[: wide * high] = np.stack([x.ravel(), y.ravel()], axis=1)
    return Patches(pixels, positions, columns, rows)


def stack(pictures: list[Patches]) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch for the vision tower. Returns pixels [n, 280, 108] and positions [n, 280, 2]."""
    pixels = torch.from_numpy(np.stack([p.pixels for p in pictures]))
    return pixels, torch.from_numpy(np.stack([p.positions for p in pictures]))
