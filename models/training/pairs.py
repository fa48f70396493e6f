"""Two pictures of which the second differs from the first in at most one thing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from models.training import wordings
from models.training.questions import Question, caption, sentence, with_article
from models.training.scenes import (
    COLOR_NAMES,
    COLORS,
    KINDS,
    Reach,
    Scene,
    Shape,
    canvas,
    compose,
    fits,
    pick,
    shade,
)

CHANGES = ("color", "shape", "move", "add", "remove", "none")
# What a dense label says of a shape in the second picture, or of the whole pair.
STATUS = ("kept", "color", "shape", "left", "right", "up", "down", "add", "remove", "none")
DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class Pair:
    """Both scenes, what changed in words, and the status of every shape of the second and of the pair."""

    first: Scene
    second: Scene
    change: str
    answer: str
    shape_status: tuple[int, ...]
    status: int


def compose_pair(
    rng: np.random.Generator, change: str, reach: Reach, size: tuple[int, int] | None = None
) -> Pair:
    """A pair with this change, one of CHANGES."""
    num_shapes = 2 if change in ("add", "remove") else int(rng.integers(1, 3))
    size = size or canvas(rng, reach)
    scene = compose(rng, num_shapes, reach, distinct=True, clear_order=rng.random() < 0.5, size=size)
    index = int(rng.integers(num_shapes))
    shape, others = scene.shapes[index], scene.shapes[:index] + scene.shapes[index + 1 :]
    if change == "add":
        text = sentence(f"{with_article(shape.name)} was added.")
        return _pair(replace(scene, shapes=others), (*others, shape), change, text, change)
    if change == "remove":
        return _pair(scene, others, change, f"The {shape.name} was removed.", change)
    if change == "none":
        return _pair(scene, scene.shapes, change, "Nothing changed.", change)
    if change == "move":
        moved = _move(rng, shape, others, reach)
        if moved is None:
            return compose_pair(rng, change, reach, size)
        after, way = moved
        text = f"The {shape.name} moved {way}."
        return _pair(scene, _swap(scene.shapes, index, after), change, text, way)
    if change == "color":
        taken = {scene.background, shape.color, *(other.color for other in others)}
        color = pick(rng, [name for name in COLOR_NAMES if name not in taken])
        after = replace(shape, color=color, rgb=shade(rng, COLORS[color], reach))
        text = f"The {shape.kind} changed from {shape.color} to {color}."
        return _pair(scene, _swap(scene.shapes, index, after), change, text, change)
    kind = pick(rng, [k for k in KINDS if k not in {shape.kind, *(other.kind for other in others)}])
    text = f"The {shape.name} became {with_article(kind)}."
    return _pair(scene, _swap(scene.shapes, index, replace(shape, kind=kind)), change, text, change)


def _pair(first: Scene, after: tuple[Shape, ...], change: str, answer: str, status: str) -> Pair:
    code = STATUS.index(status)
    shape_status = tuple(0 if shape in first.shapes else code for shape in after)
    return Pair(first, replace(first, shapes=after), change, answer, shape_status, code)


def _swap(shapes: tuple[Shape, ...], index: int, shape: Shape) -> tuple[Shape, ...]:
    return (*shapes[:index], shape, *shapes[index + 1 :])


def _move(
    rng: np.random.Generator, shape: Shape, others: Sequence[Shape], reach: Reach
) -> tuple[Shape, str] | None:
    """The shape somewhere else along one axis, or None where there is no room."""
    margin = shape.radius * 1.15
    for _ in range(60):
        way = pick(rng, list(DIRECTIONS))
        distance = rng.uniform(0.22, 0.5)
        dx, dy = DIRECTIONS[way]
        moved = replace(shape, x=float(shape.x + distance * dx), y=float(shape.y + distance * dy))
        inside = margin < moved.x < 1 - margin and margin < moved.y < 1 - margin
        if inside and fits(moved, others, reach, distinct=False):
            return moved, way
    return None


def pair_questions(rng: np.random.Generator, pair: Pair, count: int) -> list[Question]:
    """`count` questions about the pair, the one about its change first."""
    task = f"pair {pair.change}"
    asked = [Question(task, wordings.caption_request(rng, "pair"), pair.answer)]
    first, second = caption(pair.first), caption(pair.second)
    while len(asked) < count:
        u = rng.random()
        if u < 0.25:
            answer = "Yes." if pair.change == "none" else "No."
            asked.append(Question("pair same", wordings.ask(rng, wordings.SAME), answer))
        elif u < 0.5 and first:
            asked.append(Question("pair first", wordings.ask(rng, wordings.FIRST), first))
        elif u < 0.75 and second:
            asked.append(Question("pair second", wordings.ask(rng, wordings.SECOND), second))
        else:
            asked.append(Question(task, wordings.ask(rng, wordings.CHANGE), pair.answer))
    return asked[:count]
