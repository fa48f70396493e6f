"""Clips of one shape that moves, grows, shrinks or stays where it is."""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from models.training import wordings
from models.training.processor import sampled_frames
from models.training.questions import Question, sentence, with_article
from models.training.scenes import (
    BACKGROUND_NAMES,
    BACKGROUNDS,
    NARROW,
    Reach,
    Scene,
    Shape,
    canvas,
    draw,
    new_shape,
    pick,
    recompress,
    shade,
)

MOTIONS = ("left", "right", "up", "down", "grows", "shrinks", "still")
VERBS = {"grows": "grows", "shrinks": "shrinks", "still": "stays still"}


@dataclass(frozen=True)
class Clip:
    """A motion of one shape from `start` to `end`; `ease` bends its speed."""

    background: str
    rgb: tuple[int, int, int]
    start: Shape
    end: Shape
    motion: str
    ease: float
    size: tuple[int, int]

    @property
    def verb(self) -> str:
        return VERBS.get(self.motion, f"moves {self.motion}")

    @property
    def caption(self) -> str:
        return sentence(f"{with_article(self.start.name)} {self.verb}.")

    def scene(self, time: float) -> Scene:
        """The picture at `time`, from 0 to 1."""
        t, a, b = time**self.ease, self.start, self.end
        shape = replace(
            a,
            x=a.x + (b.x - a.x) * t,
            y=a.y + (b.y - a.y) * t,
            radius=a.radius + (b.radius - a.radius) * t,
        )
        return Scene(self.background, self.rgb, (shape,), self.size)

    def frames(self, num_frames: int) -> np.ndarray:
        """All frames. Returns uint8 [frames, height, width, 3]."""
        times = np.linspace(0, 1, num_frames)
        return np.stack([np.asarray(draw(self.scene(float(t)))) for t in times])


def compose_clip(
    rng: np.random.Generator, reach: Reach, motion: str | None = None, size: tuple[int, int] | None = None
) -> Clip:
    """A clip of one shape."""
    size = size or canvas(rng, reach, high=256)
    background = pick(rng, BACKGROUND_NAMES)
    motion = motion or pick(rng, MOTIONS)
    easiest = reach is NARROW
    radii = (0.12, 0.2) if easiest else (0.09, 0.25)
    shape = new_shape(rng, background, radii, reach, free=True)
    start, end = _path(rng, shape, motion, (0.38, 0.6) if easiest else (0.27, 0.75))
    ease = 1.0 if easiest or rng.random() < 0.6 else float(rng.uniform(0.6, 1.6))
    rgb = shade(rng, BACKGROUNDS[background], reach, jitter=8)
    return Clip(background, rgb, start, end, motion, ease, size)


def _path(
    rng: np.random.Generator, shape: Shape, motion: str, distances: tuple[float, float]
) -> tuple[Shape, Shape]:
    if motion == "still":
        return shape, shape
    if motion in ("grows", "shrinks"):
        small = replace(
            shape,
            x=float(rng.uniform(0.36, 0.64)),
            y=float(rng.uniform(0.36, 0.64)),
            radius=float(rng.uniform(0.08, 0.14)),
        )
        large = replace(small, radius=float(min(0.38, small.radius * rng.uniform(2.0, 4.0))))
        return (small, large) if motion == "grows" else (large, small)
    margin = shape.radius * 1.1 + 0.02
    distance = min(rng.uniform(*distances), 0.999 - 2 * margin)
    low = float(rng.uniform(margin, 1 - margin - distance))
    high = low + float(distance)
    axis = "x" if motion in ("left", "right") else "y"
    before, after = (high, low) if motion in ("left", "up") else (low, high)
    if axis == "x":
        return replace(shape, x=before), replace(shape, x=after)
    return replace(shape, y=before), replace(shape, y=after)


def seen_frames(
    rng: np.random.Generator, clip: Clip, reach: Reach, max_frames: int
) -> tuple[list[Image.Image], list[float]]:
    """The frames that the processor would pick from a recording of this clip, and their times in seconds.

    Recordings have 2 to 90 frames; a GIF writer may have merged some, and all of a still clip.
    """
    easiest = reach is NARROW
    num_frames = int(rng.integers(12, 90)) if easiest or rng.random() < 0.6 else int(rng.integers(2, 13))
    seconds = rng.uniform(0.8, 6) if easiest else float(np.exp(rng.uniform(np.log(0.2), np.log(70))))
    times = np.linspace(0, 1, num_frames)
    if not easiest and rng.random() < 0.3:
        times = _merge(rng, times, clip.motion)
    picked = sampled_frames(len(times), max_frames)
    supersample = 1 if max(clip.size) > 160 else 2
    pictures = [draw(clip.scene(float(times[i])), supersample=supersample) for i in picked]
    if rng.random() < 0.4:
        quality = int(rng.integers(30, 90))
        pictures = [recompress(picture, quality) for picture in pictures]
    return pictures, [float(i / len(times) * seconds) for i in picked]


def _merge(rng: np.random.Generator, times: np.ndarray, motion: str) -> np.ndarray:
    if motion == "still":
        return times[:1]
    kept = rng.random(len(times)) < rng.uniform(0.3, 1)
    kept[[0, -1]] = True
    return times[kept]


def clip_questions(rng: np.random.Generator, clip: Clip, count: int) -> list[Question]:
    """`count` questions about the clip, its caption first."""
    shape = clip.start
    asked = [Question("video", wordings.caption_request(rng, "video"), clip.caption)]
    while len(asked) < count:
        u = rng.random()
        if u < 0.4:
            question = wordings.ask(rng, wordings.MOVE, shape.kind)
            asked.append(Question("video motion", question, f"It {clip.verb}."))
        elif u < 0.6:
            question = wordings.ask(rng, wordings.COLOR + wordings.COLOR_OF_ONE, shape.kind)
            asked.append(Question("video color", question, f"The {shape.kind} is {shape.color}."))
        elif u < 0.8:
            question = wordings.ask(rng, wordings.SHAPE + wordings.SHAPE_OF_ONE, shape.color)
            asked.append(Question("video shape", question, f"The {shape.color} shape is a {shape.kind}."))
        else:
            question = wordings.ask(rng, wordings.BACKGROUND)
            asked.append(Question("video background", question, f"The background is {clip.background}."))
    return asked[:count]
