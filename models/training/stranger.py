"""Media as a stranger would make them: drawn and synthesized by other code than the generator's.

Nothing here calls the generator: shapes are Pillow primitives at whole pixels in CSS colours, clips move by pixels a
frame, sounds are plain numpy waves at the pitches people try first.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import cycle

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from models.training.exam import Item, Video

CSS = {
    "red": ("red", "crimson", "firebrick"),
    "green": ("green", "lime", "forestgreen", "limegreen"),
    "blue": ("blue", "royalblue", "mediumblue"),
    "yellow": ("yellow", "gold"),
    "purple": ("purple", "darkviolet", "rebeccapurple"),
    "orange": ("orange", "darkorange"),
    "black": ("black",),
    "white": ("white",),
}
PAPER = {"white": ("white", "snow"), "black": ("black",), "gray": ("gray", "darkgray"), "pink": ("pink",)}
KINDS = ("circle", "square", "triangle", "star")
Box = tuple[float, float, float]  # centre x, centre y, half a side, in pixels
A4, C4 = 440.0, 261.63


def stranger(per_task: int, seed: int = 4242) -> Iterator[Item]:
    """`per_task` items of every modality and of what strangers try first."""
    rng = np.random.default_rng(seed)
    yield from _pictures(rng, per_task)
    yield from _pairs(rng, per_task)
    yield from _clips(rng, per_task)
    yield from _sounds(rng, per_task)


def _color(rng: np.random.Generator, paper: str, taken: Sequence[str] = ()) -> str:
    names = [name for name in CSS if name != paper and name not in taken]
    return names[int(rng.integers(len(names)))]


def _paint(rng: np.random.Generator, color: str) -> tuple[int, int, int]:
    shades = CSS[color]
    r, g, b = ImageColor.getrgb(shades[int(rng.integers(len(shades)))])[:3]
    return r, g, b


def _sheet(rng: np.random.Generator, width: int, height: int) -> tuple[str, Image.Image]:
    paper = list(PAPER)[int(rng.integers(len(PAPER)))]
    shades = PAPER[paper]
    return paper, Image.new("RGB", (width, height), shades[int(rng.integers(len(shades)))])


def put(picture: Image.Image, kind: str, box: Box, fill: tuple[int, int, int], tilt: float = 0.0) -> None:
    """Draw one shape with hard edges; `tilt` in degrees."""
    x, y, half = box
    pen = ImageDraw.Draw(picture)
    if kind == "circle":
        pen.ellipse((x - half, y - half, x + half, y + half), fill=fill)
    elif kind == "square" and not tilt:
        pen.rectangle((x - half, y - half, x + half, y + half), fill=fill)
    elif kind == "square":
        pen.regular_polygon((x, y, half * 1.3), 4, rotation=tilt, fill=fill)
    elif kind == "triangle" and not tilt:
        pen.polygon([(x, y - half), (x + half, y + half), (x - half, y + half)], fill=fill)
    elif kind == "triangle":
        pen.regular_polygon((x, y, half * 1.2), 3, rotation=tilt, fill=fill)
    else:
        pen.polygon(_star(x, y, half * 1.15, math.radians(tilt)), fill=fill)


def _star(x: float, y: float, radius: float, tilt: float) -> list[tuple[float, float]]:
    points = []
    for i in range(5):
        for length, turn in ((radius, 0.0), (radius * 0.42, math.pi / 5)):
            angle = tilt + turn + i * 2 * math.pi / 5
            points.append((x + length * math.sin(angle), y - length * math.cos(angle)))
    return points


def _a(words: str) -> str:
    return f"an {words}" if words.startswith("o") else f"a {words}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _pictures(rng: np.random.Generator, per_task: int) -> Iterator[Item]:
    layouts = (
        ("one shape", 200, 200, 0.10, 0.32, 0),
        ("one shape, a third of the picture", 300, 300, 0.16, 0.20, 0),
        ("one shape, small", 256, 256, 0.075, 0.09, 0),
        ("one shape, tilted up to 45 degrees", 160, 160, 0.15, 0.3, 45),
        ("one shape, 640 x 480", 640, 480, 0.10, 0.3, 0),
        ("one shape, 4:1", 480, 120, 0.18, 0.4, 0),
        ("one shape, 1:4", 120, 480, 0.18, 0.4, 0),
    )
    for task, width, height, low, high, tilt in layouts:
        for _ in range(per_task):
            yield _one_shape(rng, task, (width, height), (low, high), tilt)
    for _ in range(per_task):
        yield _two_shapes(rng)


def _one_shape(
    rng: np.random.Generator, task: str, size: tuple[int, int], halves: tuple[float, float], tilt: int
) -> Item:
    width, height = size
    paper, picture = _sheet(rng, width, height)
    color, kind = _color(rng, paper), KINDS[int(rng.integers(4))]
    half = rng.uniform(*halves) * min(size)
    x, y = rng.uniform(half * 1.2, width - half * 1.2), rng.uniform(half * 1.2, height - half * 1.2)
    angle = float(rng.uniform(-tilt, tilt)) if tilt else 0.0
    put(picture, kind, (x, y, half), _paint(rng, color), angle)
    answer = f"{_capital(_a(f'{color} {kind}'))} on a {paper} background."
    return Item(f"stranger: {task}", (picture,), "Describe this image.", answer)


def _two_shapes(rng: np.random.Generator) -> Item:
    paper, picture = _sheet(rng, 400, 300)
    first = _color(rng, paper)
    second = _color(rng, paper, (first,))
    kinds = [KINDS[int(i)] for i in rng.integers(4, size=2)]
    beside = rng.random() < 0.5
    centers = ((100, 150), (300, 150)) if beside else ((200, 75), (200, 225))
    for center, kind, color in zip(centers, kinds, (first, second), strict=True):
        x, y = center[0] + rng.uniform(-15, 15), center[1] + rng.uniform(-10, 10)
        put(picture, kind, (x, y, rng.uniform(30, 50)), _paint(rng, color))
    how = "to the left of" if beside else "above"
    names = [_a(f"{color} {kind}") for color, kind in zip((first, second), kinds, strict=True)]
    answer = f"{_capital(names[0])} {how} {names[1]} on a {paper} background."
    return Item("stranger: two shapes", (picture,), "Describe this image.", answer)


def _pairs(rng: np.random.Generator, per_task: int) -> Iterator[Item]:
    changes = cycle(("added", "removed", "color", "shape", "moved", "same"))
    for _ in range(2 * per_task):
        yield _pair(rng, next(changes))


def _pair(rng: np.random.Generator, change: str) -> Item:
    """Two pictures of 256 x 256 with shapes of about a third of the side."""
    paper, before = _sheet(rng, 256, 256)
    color, kind = _color(rng, paper), KINDS[int(rng.integers(4))]
    box = (rng.uniform(55, 85), rng.uniform(60, 196), rng.uniform(34, 44))
    fill = _paint(rng, color)
    after = before.copy()
    if change in ("added", "removed"):
        extra, other = _color(rng, paper, (color,)), KINDS[(KINDS.index(kind) + int(rng.integers(1, 4))) % 4]
        put(
            after,
            other,
            (rng.uniform(172, 200), rng.uniform(60, 196), rng.uniform(34, 44)),
            _paint(rng, extra),
        )
        put(before, kind, box, fill)
        put(after, kind, box, fill)
        name = f"{extra} {other}"
        if change == "added":
            return _compared((before, after), f"{_capital(_a(name))} was added.")
        return _compared((after, before), f"The {name} was removed.")
    put(before, kind, box, fill)
    if change == "color":
        new = _color(rng, paper, (color,))
        put(after, kind, box, _paint(rng, new))
        return _compared((before, after), f"The {kind} changed from {color} to {new}.")
    if change == "shape":
        new = KINDS[(KINDS.index(kind) + int(rng.integers(1, 4))) % 4]
        put(after, new, box, fill)
        return _compared((before, after), f"The {color} {kind} became a {new}.")
    if change == "moved":
        put(after, kind, (box[0] + rng.uniform(70, 110), box[1], box[2]), fill)
        return _compared((before, after), f"The {color} {kind} moved right.")
    put(after, kind, box, fill)
    return _compared((before, after), "Nothing changed.")


def _compared(pictures: tuple[Image.Image, Image.Image], answer: str) -> Item:
    return Item("stranger: pair", pictures, "What changed between the two images?", answer)


def _clips(rng: np.random.Generator, per_task: int) -> Iterator[Item]:
    for num_frames, fps in ((24, 24.0), (90, 30.0), (8, 4.0), (2, 1.0)):
        for _ in range(per_task):
            yield _clip(rng, num_frames, fps)


def _clip(rng: np.random.Generator, num_frames: int, fps: float) -> Item:
    paper, empty = _sheet(rng, 160, 120)
    color, kind = _color(rng, paper), KINDS[int(rng.integers(4))]
    fill = _paint(rng, color)
    motions = {
        "moves right": ((30, 60, 18), (130, 60, 18)),
        "moves left": ((130, 70, 18), (30, 70, 18)),
        "moves down": ((80, 25, 16), (80, 95, 16)),
        "moves up": ((70, 95, 16), (70, 25, 16)),
        "grows": ((80, 60, 10), (80, 60, 40)),
        "shrinks": ((80, 60, 40), (80, 60, 10)),
        "stays still": ((60, 50, 20), (60, 50, 20)),
    }
    verb = list(motions)[int(rng.integers(len(motions)))]
    start, end = np.array(motions[verb][0], float), np.array(motions[verb][1], float)
    shift = np.array([rng.integers(-6, 7), rng.integers(-5, 6), 0])
    frames = []
    for i in range(num_frames):
        frame = empty.copy()
        x, y, half = start + (end - start) * i / (num_frames - 1) + shift
        put(frame, kind, (float(x), float(y), float(half)), fill)
        frames.append(np.asarray(frame))
    answer = f"{_capital(_a(f'{color} {kind}'))} {verb}."
    task = f"stranger: clip of {num_frames} frames"
    return Item(task, (Video(np.stack(frames), fps),), "Describe this video.", answer)


def _sounds(rng: np.random.Generator, per_task: int) -> Iterator[Item]:
    def heard(task: str, samples: np.ndarray, answer: str) -> Item:
        return Item(f"stranger: {task}", (samples.astype(np.float32),), "What do you hear?", answer)

    yield heard("440 Hz", 0.5 * np.sin(2 * np.pi * A4 * _seconds(1.0)), "A steady medium tone.")
    for _ in range(per_task):
        hz, name = _note(rng)
        wave = ("sine", "square", "saw", "fm")[int(rng.integers(4))]
        seconds = rng.uniform(0.7, 2.0)
        yield heard("tone", 0.4 * _wave(wave, hz, seconds), f"A steady {name} tone.")
        room = rng.normal(0, 0.05, int(16_000 * seconds))
        yield heard("tone in a noisy room", 0.35 * _wave(wave, hz, seconds) + room, f"A steady {name} tone.")
        quiet = 10 ** rng.uniform(-2, -1)
        yield heard("quiet tone", quiet * _wave(wave, hz, seconds), f"A steady {name} tone.")
        up = bool(rng.random() < 0.5)
        yield heard("sweep", _chirp(rng, up), "A rising tone." if up else "A falling tone.")
        count = int(rng.integers(1, 6))
        words = f"{('One', 'Two', 'Three', 'Four', 'Five')[count - 1]} {name} beep{'s' * (count > 1)}."
        yield heard("beeps", _beeping(hz, count), words)
        hiss = rng.uniform(-0.4, 0.4, int(16_000 * seconds))
        yield heard("white noise", hiss, "White noise.")
    yield heard("silence", np.zeros(16_000), "Silence.")


def _seconds(seconds: float) -> np.ndarray:
    return np.arange(int(16_000 * seconds)) / 16_000


def _note(rng: np.random.Generator) -> tuple[float, str]:
    """A note of the piano, far enough from the borders that everyone would call it so."""
    while True:
        hz = C4 * 2 ** (int(rng.integers(-20, 49)) / 12)
        for name, low, high in (("low", 70, 310), ("medium", 395, 1250), ("high", 1570, 4200)):
            if low <= hz <= high:
                return hz, name


def _wave(wave: str, hz: float, seconds: float) -> np.ndarray:
    phase = 2 * np.pi * hz * _seconds(seconds)
    if wave == "square":
        return 0.7 * np.sign(np.sin(phase))
    if wave == "saw":
        return np.asarray((phase / np.pi) % 2 - 1)
    if wave == "fm":
        return np.sin(phase + 0.8 * np.sin(phase))
    return np.sin(phase)


def _chirp(rng: np.random.Generator, up: bool) -> np.ndarray:
    """A linear sweep over about two octaves."""
    low = rng.uniform(150, 900)
    start, end = (low, 4 * low) if up else (4 * low, low)
    t = _seconds(rng.uniform(0.8, 1.8))
    turns = start * t + (end - start) * t**2 / (2 * t[-1])
    return 0.5 * np.asarray(np.sin(2 * np.pi * turns))


def _beeping(hz: float, count: int) -> np.ndarray:
    beep, gap = 0.5 * np.sin(2 * np.pi * hz * _seconds(0.12)), np.zeros(int(16_000 * 0.2))
    return np.concatenate([np.zeros(1600), *([beep, gap] * count)])
