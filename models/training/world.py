"""The world the shipped weights know: coloured shapes on a white ground, 64 x 64 pixels.

A scene is a list of `Shape`s. Its picture is drawn anti-aliased from signed distances; its caption is one of a few
sentence forms. Positions lie on a 3 x 3 grid with one pixel of jitter, because a small model learns a world that is no
richer than it needs to be.
"""

from dataclasses import dataclass, replace
import random
import zlib

import torch

SIZE = 64
KINDS = ("circle", "square", "triangle")
PALETTE = {
    "red": (255, 0, 0),
    "green": (0, 255, 0),
    "blue": (0, 0, 255),
    "yellow": (255, 255, 0),
    "teal": (0, 128, 128),
    "gray": (128, 128, 128),
    "black": (0, 0, 0),
    "brown": (165, 42, 42),
}
COLORS = tuple(PALETTE)
RGB = torch.tensor(list(PALETTE.values()), dtype=torch.float32) / 255
CELLS = (14.0, 32.0, 50.0)
RADIUS = {1: (9.0, 13.0), 2: (9.0,), 3: (8.0,)}
RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above",),
    "below": ("below",),
}


# Combinations that no training picture shows: four of the 24 coloured kinds, and 15 % of the ordered pairs.
HELD_OUT = {("yellow", "circle"), ("teal", "square"), ("brown", "triangle"), ("gray", "circle")}
HELD_OUT_PAIRS = 15  # percent


@dataclass(frozen=True)
class Shape:
    kind: str
    color: str
    x: float
    y: float
    radius: float

    @property
    def name(self):
        return f"{self.color} {self.kind}"


def relation(a, b, margin=10.0, slack=4.0):
    """Where `a` lies seen from `b` ("left", ...), or None if they are not clearly side by side."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) > margin and abs(dy) < slack:
        return "left" if dx < 0 else "right"
    if abs(dy) > margin and abs(dx) < slack:
        return "above" if dy < 0 else "below"
    return None


def held_out(shapes):
    """True if the scene shows a combination kept from training: a held-out shape, or two shapes side by side that make a
    held-out pair. "a left of b" and "b right of a" are one pair.
    """
    if any((s.color, s.kind) in HELD_OUT for s in shapes):
        return True
    for i, a in enumerate(shapes):
        for b in shapes[i + 1 :]:
            between = relation(a, b)
            first, second = (a, b) if between in ("left", "above") else (b, a)
            axis = "beside" if between in ("left", "right") else "over"
            if between and zlib.crc32(f"{first.name} {axis} {second.name}".encode()) % 100 < HELD_OUT_PAIRS:
                return True
    return False


def training(make, rng):
    """What `make(rng)` gives, drawn again until it shows nothing that is held out."""
    while True:
        made = make(rng)
        if not any(held_out(part) for part in (made if isinstance(made, tuple) else (made,)) if isinstance(part, list)):
            return made


def _apart(a, b):
    return (a.x - b.x) ** 2 + (a.y - b.y) ** 2 > (1.2 * (a.radius + b.radius) - 5) ** 2


def scene(rng, count, wanted=None):
    """`count` shapes of distinct colours that do not touch; `wanted` is the relation of the first to the second."""
    colors = rng.sample(COLORS, count)
    while True:
        shapes = [
            Shape(
                rng.choice(KINDS),
                color,
                rng.choice(CELLS) + rng.uniform(-1, 1),
                rng.choice(CELLS) + rng.uniform(-1, 1),
                rng.choice(RADIUS[count]),
            )
            for color in colors
        ]
        if not all(_apart(a, b) for i, a in enumerate(shapes) for b in shapes[:i]):
            continue
        if wanted is None or relation(shapes[0], shapes[1]) == wanted:
            return shapes


def loose_scene(rng, count):
    """Like `scene`, with positions and radii anywhere: for VQA, which must also read pictures from elsewhere."""
    limits = {1: (7.0, 18.0), 2: (7.0, 13.0), 3: (6.5, 10.0)}[count]
    colors = rng.sample(COLORS, count)
    while True:
        shapes = []
        for color in colors:
            radius = rng.uniform(*limits)
            edge = 1.15 * radius + 1
            x, y = rng.uniform(edge, SIZE - edge), rng.uniform(edge, SIZE - edge)
            shapes.append(Shape(rng.choice(KINDS), color, x, y, radius))
        if all(_apart(a, replace(b, radius=b.radius + 5)) for i, a in enumerate(shapes) for b in shapes[:i]):
            return shapes


_Y, _X = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")


def _coverage(shape):
    """Share of each pixel that the shape covers, (64, 64) in 0..1, from its signed distance."""
    dx, dy, r = _X - shape.x, _Y - shape.y, shape.radius
    if shape.kind == "circle":
        distance = (dx * dx + dy * dy).sqrt() - r
    elif shape.kind == "square":
        distance = torch.maximum(dx.abs(), dy.abs()) - 0.886 * r
    else:
        half_base, height = 1.1 * r, 1.9 * r
        norm = (height**2 + half_base**2) ** 0.5
        sides = (dx.abs() * height - (dy + height / 2) * half_base) / norm
        distance = torch.maximum(dy - height / 2, sides)
    return (0.5 - distance).clamp(0, 1)


def render(scenes, ground=None):
    """Pictures of the scenes, (N, 3, 64, 64) uint8. `ground` is an RGB triple in 0..1 for each, default white."""
    out = torch.empty(len(scenes), 3, SIZE, SIZE, dtype=torch.uint8)
    for i, shapes in enumerate(scenes):
        base = torch.ones(3) if ground is None else torch.as_tensor(ground[i])
        picture = base[:, None, None].expand(3, SIZE, SIZE)
        for shape in shapes:
            alpha = _coverage(shape)
            picture = picture * (1 - alpha) + RGB[COLORS.index(shape.color)][:, None, None] * alpha
        out[i] = (picture * 255).round().byte()
    return out


def layout(scenes, side):
    """What each cell of a `side` x `side` grid shows, as shares that sum to one: (N, side^2, 1 + 8) over ground and colours,
    and (N, side^2, 1 + 3) over ground and kinds. Training asks the models for it at the side, so that they see sooner.
    """
    colors = torch.zeros(len(scenes), 1 + len(COLORS), side, side)
    kinds = torch.zeros(len(scenes), 1 + len(KINDS), side, side)
    for i, shapes in enumerate(scenes):
        for shape in shapes:
            share = _coverage(shape).view(side, SIZE // side, side, SIZE // side).mean((1, 3))
            colors[i, 1 + COLORS.index(shape.color)] += share
            kinds[i, 1 + KINDS.index(shape.kind)] += share
    for table in (colors, kinds):
        table[:, 0] = (1 - table[:, 1:].sum(1)).clamp(min=0)
    return colors.flatten(2).transpose(1, 2), kinds.flatten(2).transpose(1, 2)


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _place(shape):
    row = "top" if shape.y < 26 else "bottom" if shape.y > 38 else ""
    column = "left" if shape.x < 26 else "right" if shape.x > 38 else ""
    return f"{row} {column}".strip() or "center"


def single(rng):
    """One shape and its caption; half name the size, a third the place."""
    shapes = scene(rng, 1)
    noun = shapes[0].name
    if rng.random() < 0.3:
        noun = ("small " if shapes[0].radius < 11 else "large ") + noun
    caption = article(noun)
    if rng.random() < 0.3:
        caption += f" at the {_place(shapes[0])}"
    return shapes, caption


def pair(rng):
    """Two shapes and their caption, most with a relation."""
    if rng.random() < 0.3:
        a, b = shapes = scene(rng, 2)
        return shapes, f"{article(a.name)} and {article(b.name)}"
    wanted = rng.choice(list(RELATIONS))
    a, b = shapes = scene(rng, 2, wanted)
    return shapes, f"{article(a.name)} {rng.choice(RELATIONS[wanted])} {article(b.name)}"


def edit(rng):
    """A picture, an instruction, and the picture it asks for: (before, after, instruction)."""
    before = scene(rng, 1)
    shape = before[0]
    if rng.random() < 0.6:
        color = rng.choice([c for c in COLORS if c != shape.color])
        after = replace(shape, color=color)
        text = rng.choice((f"make the {shape.kind} {color}", f"make it {color}", f"make the shape {color}"))
    else:
        kind = rng.choice([k for k in KINDS if k != shape.kind])
        after = replace(shape, kind=kind)
        text = rng.choice((f"make it {article(kind)}", f"replace the {shape.kind} with {article(kind)}"))
    return before, [after], text
