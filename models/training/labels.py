"""Dense labels: what the vision tower should know about the cell of a picture behind each soft token."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from models.training.scenes import (
    BACKGROUND_NAMES,
    COLOR_NAMES,
    KINDS,
    PLACES,
    Scene,
    Shape,
    draw_indices,
    ordered,
    place_index,
)

IGNORED = -100.0
FINE = 6  # a cell is labelled from 6 x 6 points
MIN_COVERED = 5  # points a shape must cover to own the cell


@dataclass(frozen=True)
class Head:
    """One question asked of every soft token; index 0 of kind, color and relation means 'none here'."""

    name: str
    num_classes: int
    weight: float
    rare_none: bool = False


HEADS = (
    Head("kind", len(KINDS) + 1, 1.0, rare_none=True),
    Head("color", len(COLOR_NAMES) + 1, 1.0, rare_none=True),
    Head("order", 3, 0.7),
    Head("place", len(PLACES), 0.3),
    Head("same_kind", 5, 0.5),
    Head("same_color", 5, 0.3),
    Head("count", 5, 0.5),
    Head("background", len(BACKGROUND_NAMES), 0.2),
    Head("relation", 3, 0.4),
)
NUM_GEOMETRY = 3  # x, y, radius
NUM_OUTPUTS = sum(head.num_classes for head in HEADS) + NUM_GEOMETRY + FINE * FINE


def owners(shapes: Sequence[Shape], columns: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """For every cell the index of the shape that covers it or -1, and its mask [cells, 36] of shape indices + 1."""
    fine = draw_indices(shapes, columns * FINE, rows * FINE)
    mask = fine.reshape(rows, FINE, columns, FINE).transpose(0, 2, 1, 3).reshape(-1, FINE * FINE)
    if not shapes:
        return np.full(len(mask), -1), mask
    covered = np.stack([(mask == i + 1).sum(1) for i in range(len(shapes))], axis=1)
    return np.where(covered.max(1) >= MIN_COVERED, covered.argmax(1), -1), mask


def dense_labels(scene: Scene, columns: int, rows: int) -> np.ndarray:
    """Labels of every cell: one column per head, x, y, radius, then the mask. Returns float32 [cells, 48]."""
    shapes = scene.shapes
    owner, mask = owners(shapes, columns, rows)
    order, how = ordered(shapes)
    kinds, colors = [s.kind for s in shapes], [s.color for s in shapes]

    def of_owner(values: Sequence[float], nobody: float) -> np.ndarray:
        return np.where(owner >= 0, np.array(values, np.float32)[owner], nobody)

    def everywhere(value: float) -> np.ndarray:
        return np.full(len(owner), value, np.float32)

    labels = [
        of_owner([KINDS.index(kind) + 1 for kind in kinds], 0),
        of_owner([COLOR_NAMES.index(color) + 1 for color in colors], 0),
        of_owner([order.index(s) for s in shapes], IGNORED) if order else everywhere(IGNORED),
        of_owner([place_index(s) for s in shapes], IGNORED),
        of_owner([kinds.count(kind) - 1 for kind in kinds], IGNORED),
        of_owner([colors.count(color) - 1 for color in colors], IGNORED),
        everywhere(len(shapes) - 1),
        everywhere(BACKGROUND_NAMES.index(scene.background)),
        everywhere({None: 0, "left": 1, "above": 2}[how]),
        of_owner([s.x for s in shapes], 0),
        of_owner([s.y for s in shapes], 0),
        of_owner([s.radius for s in shapes], 0),
    ]
    return np.concatenate([np.stack(labels, axis=1), mask > 0], axis=1).astype(np.float32)


def dense_loss(outputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    """Weighted loss over all heads, and each head's accuracy on the cells where it is asked."""
    covered = labels[:, 0] > 0
    loss = outputs.new_zeros(())
    accuracy: dict[str, float] = {}
    start = 0
    for i, head in enumerate(HEADS):
        wanted, scores = labels[:, i].long(), outputs[:, start : start + head.num_classes]
        start += head.num_classes
        weight = torch.ones(head.num_classes)
        weight[0] = 0.2 if head.rare_none else 1.0
        loss = loss + head.weight * functional.cross_entropy(
            scores, wanted, weight=weight, ignore_index=int(IGNORED)
        )
        asked = (wanted >= 0) & (covered | torch.tensor(head.name == "background"))
        accuracy[head.name] = (scores[asked].argmax(-1) == wanted[asked]).float().mean().item()
    geometry, mask = outputs[:, start : start + NUM_GEOMETRY], outputs[:, start + NUM_GEOMETRY :]
    where = labels[:, len(HEADS) : len(HEADS) + NUM_GEOMETRY]
    loss = loss + 4 * functional.mse_loss(geometry[covered], where[covered])
    loss = loss + functional.binary_cross_entropy_with_logits(mask, labels[:, len(HEADS) + NUM_GEOMETRY :])
    return loss, accuracy


def normalized(hidden: torch.Tensor) -> torch.Tensor:
    """Hidden states scaled to unit root mean square, in float32."""
    hidden = hidden.float()
    return hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + 1e-6)
