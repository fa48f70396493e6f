"""What can be asked about one picture, and the one right answer to it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from models.training import wordings
from models.training.scenes import (
    COLOR_NAMES,
    KINDS,
    PLACES,
    Scene,
    Shape,
    has_clear_place,
    ordered,
    pick,
    place_index,
)

NUMBERS = ("no", "one", "two", "three", "four", "five")


@dataclass(frozen=True)
class Question:
    """A question, its only right answer, and the name of the task it belongs to."""

    task: str
    question: str
    answer: str


def with_article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def sentence(words: str) -> str:
    return words[0].upper() + words[1:]


def caption(scene: Scene) -> str | None:
    """One sentence about the scene, or None where its shapes have no clear order."""
    ending = f" on {with_article(scene.background)} background."
    if len(scene.shapes) > 3:
        return sentence(f"{NUMBERS[len(scene.shapes)]} shapes") + ending
    order, how = ordered(scene.shapes)
    if order is None:
        return None
    names = [with_article(shape.name) for shape in order]
    if len(names) == 1:
        return sentence(names[0]) + ending
    if len(names) == 2:
        between = "to the left of" if how == "left" else "above"
        return sentence(f"{names[0]} {between} {names[1]}") + ending
    return sentence(f"{names[0]}, {names[1]} and {names[2]}") + ending


def number_of(noun: str, count: int) -> str:
    """'There is one star.', 'There are no stars.', 'There are three stars.'"""
    return f"There is one {noun}." if count == 1 else f"There are {NUMBERS[count]} {noun}s."


def ask_caption(rng: np.random.Generator, scene: Scene) -> Question | None:
    text = caption(scene)
    if text is None:
        return None
    return Question(f"caption {min(len(scene.shapes), 4)}", wordings.caption_request(rng, "image"), text)


def ask_count(rng: np.random.Generator, scene: Scene) -> Question:
    return Question("count", wordings.ask(rng, wordings.COUNT), number_of("shape", len(scene.shapes)))


def ask_background(rng: np.random.Generator, scene: Scene) -> Question:
    return Question(
        "background", wordings.ask(rng, wordings.BACKGROUND), f"The background is {scene.background}."
    )


def ask_color(rng: np.random.Generator, scene: Scene) -> Question | None:
    shape = _only(rng, scene, lambda s: s.kind)
    if shape is None:
        return None
    alone = len(scene.shapes) == 1 and rng.random() < 0.3
    question = wordings.ask(rng, wordings.COLOR_OF_ONE if alone else wordings.COLOR, shape.kind)
    return Question("color", question, f"The {shape.kind} is {shape.color}.")


def ask_shape(rng: np.random.Generator, scene: Scene) -> Question | None:
    shape = _only(rng, scene, lambda s: s.color)
    if shape is None:
        return None
    alone = len(scene.shapes) == 1 and rng.random() < 0.3
    question = wordings.ask(rng, wordings.SHAPE_OF_ONE if alone else wordings.SHAPE, shape.color)
    return Question("shape", question, f"The {shape.color} shape is a {shape.kind}.")


def ask_where(rng: np.random.Generator, scene: Scene) -> Question | None:
    shape = _only(rng, scene, lambda s: s.kind)
    if shape is None or not has_clear_place(shape):
        return None
    alone = len(scene.shapes) == 1 and rng.random() < 0.2
    question = wordings.ask(rng, wordings.WHERE_OF_ONE if alone else wordings.WHERE, shape.kind)
    return Question("where", question, f"The {shape.kind} is in the {PLACES[place_index(shape)]}.")


def ask_exists(rng: np.random.Generator, scene: Scene) -> Question:
    """Half of the answers are yes; most of the others name a colour or a kind that is there."""
    there = {(shape.color, shape.kind) for shape in scene.shapes}
    if rng.random() < 0.5:
        color, kind = pick(rng, sorted(there))
        return Question("exists", _is_there(rng, color, kind), "Yes.")
    colors, kinds = {c for c, _ in there}, {k for _, k in there}
    absent = [(c, k) for c in COLOR_NAMES for k in KINDS if (c, k) not in there]
    tempting = [(c, k) for c, k in absent if c in colors or k in kinds]
    color, kind = pick(rng, tempting if tempting and rng.random() < 0.7 else absent)
    return Question("exists", _is_there(rng, color, kind), "No.")


def ask_kind_count(rng: np.random.Generator, scene: Scene) -> Question:
    kinds = [shape.kind for shape in scene.shapes]
    kind = pick(rng, kinds) if rng.random() < 0.75 else pick(rng, KINDS)
    question = wordings.ask(rng, wordings.KIND_COUNT, kind + "s")
    return Question("kind count", question, number_of(kind, kinds.count(kind)))


def _is_there(rng: np.random.Generator, color: str, kind: str) -> str:
    return wordings.ask(rng, wordings.EXISTS, with_article(f"{color} {kind}"))


def _only(rng: np.random.Generator, scene: Scene, feature: Callable[[Shape], str]) -> Shape | None:
    """A shape that is the only one with its kind (or colour)."""
    values = [feature(shape) for shape in scene.shapes]
    unique = [s for s, value in zip(scene.shapes, values, strict=True) if values.count(value) == 1]
    return pick(rng, unique) if unique else None


IMAGE_TASKS: Mapping[str, Callable[[np.random.Generator, Scene], Question | None]] = {
    "caption": ask_caption,
    "count": ask_count,
    "background": ask_background,
    "color": ask_color,
    "shape": ask_shape,
    "where": ask_where,
    "exists": ask_exists,
    "kind count": ask_kind_count,
}
IMAGE_WEIGHTS = {
    "caption": 1.5,
    "count": 1.0,
    "background": 0.5,
    "color": 1.0,
    "shape": 1.0,
    "where": 1.5,
    "exists": 2.0,
    "kind count": 1.5,
}


def image_questions(
    rng: np.random.Generator, scene: Scene, count: int, weights: Mapping[str, float] = IMAGE_WEIGHTS
) -> list[Question]:
    """`count` questions about one picture, its caption first."""
    first = ask_caption(rng, scene)
    asked = [first] if first else []
    names = list(weights)
    chances = np.array([weights[name] for name in names], float)
    chances /= chances.sum()
    while len(asked) < count:
        question = IMAGE_TASKS[names[int(rng.choice(len(names), p=chances))]](rng, scene)
        if question:
            asked.append(question)
    return asked[:count]
