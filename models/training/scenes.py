"""Pictures of coloured shapes, drawn so that every question about them has exactly one right answer."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

Rgb = tuple[int, int, int]
T = TypeVar("T")

# The first shade of a colour is the plainest; the others are what CSS, chart libraries and pens call by that name.
COLORS: Mapping[str, Sequence[Rgb]] = {
    "red": ((220, 40, 40), (255, 0, 0), (200, 20, 30), (231, 76, 60)),
    "green": ((40, 165, 60), (0, 128, 0), (0, 255, 0), (46, 204, 113), (34, 139, 34)),
    "blue": ((40, 80, 220), (0, 0, 255), (30, 144, 255), (20, 40, 160)),
    "yellow": ((240, 220, 50), (255, 255, 0), (255, 215, 0), (255, 240, 90)),
    "purple": ((140, 50, 170), (128, 0, 128), (155, 89, 182), (148, 0, 211)),
    "orange": ((245, 135, 25), (255, 165, 0), (255, 128, 0), (243, 150, 40)),
    "black": ((20, 20, 20), (0, 0, 0), (35, 35, 35)),
    "white": ((245, 245, 245), (255, 255, 255), (235, 235, 235)),
}
BACKGROUNDS: Mapping[str, Sequence[Rgb]] = {
    "white": ((245, 245, 245), (255, 255, 255), (235, 235, 235)),
    "black": ((18, 18, 18), (0, 0, 0), (30, 30, 30)),
    "gray": ((128, 128, 128), (105, 105, 105), (160, 160, 160), (192, 192, 192)),
    "pink": ((250, 185, 205), (255, 192, 203), (255, 165, 195)),
}
KINDS = ("circle", "square", "triangle", "star")
COLOR_NAMES = tuple(COLORS)
BACKGROUND_NAMES = tuple(BACKGROUNDS)
PLACES = (
    "top left",
    "top center",
    "top right",
    "middle left",
    "center",
    "middle right",
    "bottom left",
    "bottom center",
    "bottom right",
)


@dataclass(frozen=True)
class Shape:
    """One shape; x and y in [0, 1] of the picture, radius as a fraction of its short side, angle in radians."""

    kind: str
    color: str
    x: float
    y: float
    radius: float
    angle: float
    rgb: Rgb
    stretch: float = 1.0
    inner: float = 0.41
    outline: Rgb | None = None

    @property
    def name(self) -> str:
        return f"{self.color} {self.kind}"


@dataclass(frozen=True)
class Scene:
    """Shapes on a plain background, on a canvas of `size` pixels (width, height)."""

    background: str
    rgb: Rgb
    shapes: tuple[Shape, ...]
    size: tuple[int, int]


@dataclass(frozen=True)
class Reach:
    """How far scenes stray from the easiest layout: radii by the number of shapes, largest angle, chances in [0, 1]."""

    radii: Mapping[int, tuple[float, float]]
    max_angle: float
    free_position: float
    other_shade: float
    deformed: float
    longest_aspect: float
    gap: float


NARROW = Reach(
    radii={1: (0.14, 0.24), 2: (0.13, 0.18), 3: (0.12, 0.16), 4: (0.1, 0.125), 5: (0.1, 0.12)},
    max_angle=0.25,
    free_position=0.0,
    other_shade=0.0,
    deformed=0.0,
    longest_aspect=16 / 9,
    gap=1.2,
)
WIDE = Reach(
    radii={1: (0.075, 0.42), 2: (0.085, 0.24), 3: (0.085, 0.18), 4: (0.08, 0.14), 5: (0.08, 0.125)},
    max_angle=math.pi / 4,
    free_position=0.4,
    other_shade=0.75,
    deformed=0.5,
    longest_aspect=4.0,
    gap=1.2,
)


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, each equally likely."""
    return options[int(rng.integers(len(options)))]


def shade(rng: np.random.Generator, shades: Sequence[Rgb], reach: Reach, jitter: int = 12) -> Rgb:
    """A shade of one colour: near its plainest one, or anywhere between two of its shades."""
    first = np.array(shades[0], float)
    if rng.random() < reach.other_shade:
        a, b = np.array(pick(rng, shades), float), np.array(pick(rng, shades), float)
        first = a + (b - a) * (rng.random() if rng.random() < 0.5 else 0.0)
    r, g, b_ = np.clip(first + rng.integers(-jitter, jitter + 1, 3), 0, 255).astype(int)
    return int(r), int(g), int(b_)


def canvas(rng: np.random.Generator, reach: Reach, low: int = 64, high: int = 320) -> tuple[int, int]:
    """Width and height in pixels; more than half are the 96 x 96 the model looks at without resizing."""
    if rng.random() < 0.5:
        return 96, 96
    side = int(rng.integers(low, high + 1))
    if rng.random() < 0.5:
        return side, side
    aspect = math.exp(rng.uniform(0.1, math.log(reach.longest_aspect)))
    short = max(48, min(side, int(2 * high / aspect)))
    long = int(short * aspect)
    return (long, short) if rng.random() < 0.6 else (short, long)


def compose(
    rng: np.random.Generator,
    num_shapes: int,
    reach: Reach,
    *,
    distinct: bool = False,
    clear_order: bool = True,
    size: tuple[int, int] | None = None,
) -> Scene:
    """A scene with an unambiguous caption (or with shapes anywhere); `distinct` shapes differ in kind and in colour."""
    width, height = size or canvas(rng, reach)
    background = pick(rng, BACKGROUND_NAMES)
    low, high = reach.radii[num_shapes]
    # On a long strip a cell of the model's grid is large beside the short side: tiny shapes would vanish.
    low = min(low * min(1.6, (max(width, height) / min(width, height)) ** 0.5), high - 0.01)
    rgb = shade(rng, BACKGROUNDS[background], reach, jitter=8)
    while True:
        shapes: list[Shape] = []
        for _ in range(60):
            shape = new_shape(rng, background, (low, high), reach)
            ordered_well = not clear_order or in_clear_order(shape, shapes, num_shapes)
            if ordered_well and fits(shape, shapes, reach, distinct):
                shapes.append(shape)
            if len(shapes) == num_shapes:
                return Scene(background, rgb, tuple(shapes), (width, height))


def new_shape(
    rng: np.random.Generator, background: str, radii: tuple[float, float], reach: Reach, *, free: bool = False
) -> Shape:
    """A shape that can be told from its background and lies inside the picture."""
    color = pick(rng, [name for name in COLOR_NAMES if name != background])
    radius = float(rng.uniform(*radii))
    free = free or rng.random() < reach.free_position
    x, y = (
        (_free(rng, radius), _free(rng, radius)) if free else (_in_cell(rng, radius), _in_cell(rng, radius))
    )
    shape = Shape(
        kind=pick(rng, KINDS),
        color=color,
        x=x,
        y=y,
        radius=radius,
        angle=float(rng.uniform(-reach.max_angle, reach.max_angle)) if rng.random() < 0.8 else 0.0,
        rgb=shade(rng, COLORS[color], reach),
    )
    if rng.random() >= reach.deformed:
        return shape
    dark = tuple(int(channel * 0.6) for channel in shape.rgb)
    outline = pick(rng, [(dark[0], dark[1], dark[2]), (10, 10, 10)]) if rng.random() < 0.15 else None
    return replace(
        shape,
        stretch=float(rng.uniform(0.85, 1.12)),
        inner=float(rng.uniform(0.36, 0.53)),
        outline=outline,
    )


def _in_cell(rng: np.random.Generator, radius: float) -> float:
    """A centre well inside one third of the picture, or in the middle where the shape is too large for that."""
    margin = radius * 1.15 + 0.02
    if margin > 0.31:
        return float(rng.uniform(0.46, 0.54) if radius > 0.36 else rng.uniform(0.44, 0.56))
    return float(rng.uniform(*((margin, 0.32), (0.44, 0.56), (0.68, 1 - margin))[int(rng.integers(3))]))


def _free(rng: np.random.Generator, radius: float) -> float:
    margin = min(radius * 1.1 + 0.02, 0.47)
    return float(rng.uniform(margin, 1 - margin))


def fits(shape: Shape, others: Sequence[Shape], reach: Reach, distinct: bool) -> bool:
    """True where the shape touches no other and, if asked, shares neither kind nor colour with one."""
    for other in others:
        if math.hypot(shape.x - other.x, shape.y - other.y) <= reach.gap * (shape.radius + other.radius):
            return False
        if distinct and (shape.kind == other.kind or shape.color == other.color):
            return False
    return True


def in_clear_order(shape: Shape, others: Sequence[Shape], num_shapes: int) -> bool:
    """True where a caption can name the shape and the others in one clear order."""
    if num_shapes == 2 and others:
        return relation(shape, others[0]) is not None
    if num_shapes == 3:
        return all(abs(shape.x - other.x) >= 0.15 for other in others)
    return True


def relation(a: Shape, b: Shape) -> str | None:
    """'left' or 'above', or None where neither is clear."""
    dx, dy = abs(a.x - b.x), abs(a.y - b.y)
    return "left" if dx >= 0.2 else "above" if dx <= 0.1 and dy >= 0.2 else None


def ordered(shapes: Sequence[Shape]) -> tuple[list[Shape] | None, str | None]:
    """The order in which a caption names the shapes (None where it does not), and the relation of two."""
    if len(shapes) == 1:
        return list(shapes), None
    if len(shapes) == 2:
        how = relation(*shapes)
        if how is None:
            return None, None
        return sorted(shapes, key=lambda s: s.x if how == "left" else s.y), how
    xs = sorted(shape.x for shape in shapes)
    if len(shapes) == 3 and min(b - a for a, b in pairwise(xs)) >= 0.15:
        return sorted(shapes, key=lambda s: s.x), None
    return None, None


def place_index(shape: Shape) -> int:
    """Which ninth of the picture holds the centre, as an index into PLACES."""
    column, row = (0 if v < 0.38 else 2 if v > 0.62 else 1 for v in (shape.x, shape.y))
    return 3 * row + column


def has_clear_place(shape: Shape) -> bool:
    """True where the centre is far from the borders between the ninths."""
    return all(v <= 0.33 or 0.43 <= v <= 0.57 or v >= 0.67 for v in (shape.x, shape.y))


def corners(shape: Shape, x: float, y: float, radius: float) -> Iterator[tuple[float, float]]:
    """The corners of a square, triangle or star around (x, y), in pixels."""
    count, reaches, start = {
        "square": (4, (1.12,), math.pi / 4),
        "triangle": (3, (1.21,), -math.pi / 2),
        "star": (10, (1.21, 1.21 * shape.inner), -math.pi / 2),
    }[shape.kind]
    tall = shape.stretch if shape.kind == "triangle" else 1.0
    cos, sin = math.cos(shape.angle), math.sin(shape.angle)
    for i in range(count):
        turn, reach = start + 2 * math.pi * i / count, radius * reaches[i % len(reaches)]
        dx, dy = reach * math.cos(turn), reach * math.sin(turn) * tall
        yield x + dx * cos - dy * sin, y + dx * sin + dy * cos


def draw(scene: Scene, size: tuple[int, int] | None = None, supersample: int = 2) -> Image.Image:
    """The scene as an RGB picture of `size` (by default its own)."""
    width, height = size or scene.size
    picture = Image.new("RGB", (width * supersample, height * supersample), scene.rgb)
    pen = ImageDraw.Draw(picture)
    for shape in scene.shapes:
        _fill(pen, shape, picture.size, shape.rgb, shape.outline)
    return picture if supersample == 1 else picture.resize((width, height), Image.Resampling.BOX)


def draw_indices(shapes: Sequence[Shape], width: int, height: int) -> np.ndarray:
    """For every pixel the index of its shape plus one, or 0. Returns uint8 [height, width]."""
    picture = Image.new("L", (width, height), 0)
    pen = ImageDraw.Draw(picture)
    for i, shape in enumerate(shapes):
        _fill(pen, shape, picture.size, i + 1, None)
    return np.asarray(picture)


def _fill(
    pen: ImageDraw.ImageDraw, shape: Shape, size: tuple[int, int], fill: Rgb | int, outline: Rgb | None
) -> None:
    x, y, radius = shape.x * size[0], shape.y * size[1], shape.radius * min(size)
    width = max(1, round(radius * 0.1)) if outline else 0
    if shape.kind == "circle":
        pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=fill, outline=outline, width=width)
    else:
        pen.polygon(list(corners(shape, x, y, radius)), fill=fill, outline=outline, width=width)


def render(rng: np.random.Generator, scene: Scene, *, worn: bool = True) -> Image.Image:
    """Draw the scene; a `worn` picture may have been through JPEG or a noisy sensor."""
    sharp = max(scene.size) > 200 or (worn and rng.random() < 0.15)
    picture = draw(scene, supersample=1 if sharp else 2)
    if worn and rng.random() < 0.3:
        picture = recompress(picture, int(rng.integers(35, 96)))
    if worn and rng.random() < 0.12:
        pixels = np.asarray(picture).astype(np.float32)
        pixels += rng.normal(0, rng.uniform(1, 8), (*pixels.shape[:2], 1)).astype(np.float32)
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return picture


def recompress(picture: Image.Image, quality: int) -> Image.Image:
    """The picture as a JPEG of this quality would show it."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")
