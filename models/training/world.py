"""The world the shipped weights know: coloured shapes on a white ground, 64 x 64 pixels.

A scene is a list of `Shape`s. Its picture is drawn anti-aliased from signed distances; its caption is one of a few
sentence forms. Positions lie on a 3 x 3 grid with one pixel of jitter, because a small model learns a world that is no
richer than it needs to be.
"""

from dataclasses import dataclass, replace
import math
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
# The three colours that each is most easily taken for.
NEAR = {name: [COLORS[i] for i in torch.cdist(RGB[k : k + 1], RGB)[0].argsort()[1:4]] for k, name in enumerate(COLORS)}
CELLS = (14.0, 32.0, 50.0)
RADIUS = {1: (9.0, 13.0), 2: (9.0,), 3: (8.0,)}
RELATIONS = {
    "left": ("left of", "to the left of"),
    "right": ("right of", "to the right of"),
    "above": ("above",),
    "below": ("below",),
}


# Combinations that no picture shows that the generator is trained on: four of the 24 coloured kinds, and 15 % of the ordered
# pairs. The judge has to know all the words that it may be asked about, so only the pairs are kept from it.
HELD_OUT = {("yellow", "circle"), ("teal", "square"), ("brown", "triangle"), ("gray", "circle")}
HELD_OUT_PAIRS = 15  # percent


@dataclass(frozen=True)
class Shape:
    """A shape, its centre and its radius in pixels. One that is drawn badly goes over into another colour, `tint`: by `amount`
    in its centre and by `run` more for each radius in the direction `angle`, shares in 0..1; and it is `pure` if it can still
    be called one of its own colour.
    """

    kind: str
    color: str
    x: float
    y: float
    radius: float
    tint: str | None = None
    amount: float = 0.0
    run: float = 0.0
    angle: float = 0.0
    pure: bool = True

    @property
    def name(self):
        return f"{self.color} {self.kind}"


def across(a, b):
    """How far apart two shapes are along the axis on which they are closer, in pixels."""
    return min(abs(a.x - b.x), abs(a.y - b.y))


def relation(a, b, margin=10.0, slack=4.0):
    """Where `a` lies seen from `b` ("left", ...), or None if they are not clearly side by side."""
    dx, dy = a.x - b.x, a.y - b.y
    if abs(dx) > margin and abs(dy) < slack:
        return "left" if dx < 0 else "right"
    if abs(dy) > margin and abs(dx) < slack:
        return "above" if dy < 0 else "below"
    return None


def held_out(shapes):
    """True if the scene shows a combination kept from the generator's training: a held-out shape, or a held-out pair."""
    return any((s.color, s.kind) in HELD_OUT for s in shapes) or held_out_pair(shapes)


def held_out_pair(shapes):
    """True if the scene shows two shapes side by side that make a pair kept from all training. "a left of b" and "b right of a"
    are one pair.
    """
    for i, a in enumerate(shapes):
        for b in shapes[i + 1 :]:
            between = relation(a, b)
            first, second = (a, b) if between in ("left", "above") else (b, a)
            axis = "beside" if between in ("left", "right") else "over"
            if between and zlib.crc32(f"{first.name} {axis} {second.name}".encode()) % 100 < HELD_OUT_PAIRS:
                return True
    return False


def training(make, rng, kept=held_out):
    """What `make(rng)` gives, drawn again until it shows nothing that is `kept` from training."""
    while True:
        made = make(rng)
        if not any(kept(part) for part in (made if isinstance(made, tuple) else (made,)) if isinstance(part, list)):
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


def badly(shapes, rng):
    """A scene as a model may draw it that has not quite learned to: shapes that touch, a third one beside two, colours that
    run into each other. Shapes of which nobody could say whether they still have their colour are drawn again.
    """
    shapes = list(shapes)
    if len(shapes) == 2 and rng.random() < 0.4:
        a, b = rng.sample(shapes, 2)
        kind, color = rng.choice((a, a, b)).kind, rng.choice((a.color, a.color, b.color, rng.choice(COLORS)))
        third = _beside(Shape(kind, color, 0, 0, min(a.radius, 9.0)), a, rng)
        if math.dist((third.x, third.y), (b.x, b.y)) > 0.8 * (third.radius + b.radius):
            shapes.append(third)
    elif len(shapes) == 2 and rng.random() < 0.4:
        shapes[1] = _beside(shapes[1], shapes[0], rng)
    return [_tinted(shape, rng.choice(shapes).color, rng) for shape in shapes]


def _beside(shape, other, rng):
    """The shape so near the other that they touch, on one of its four sides if there is room."""
    gap = shape.radius + other.radius + rng.uniform(-2, 1)
    sides = [(other.x + dx * gap, other.y + dy * gap) for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))]
    inside = [(x, y) for x, y in sides if 6 < x < SIZE - 6 and 6 < y < SIZE - 6]
    x, y = rng.choice(inside or sides)
    return replace(shape, x=x + rng.uniform(-1, 1), y=y + rng.uniform(-1, 1))


def _tinted(shape, neighbour, rng):
    """The shape, or one that goes over into its neighbour's colour, one that is like its own, or any."""
    if rng.random() < 0.4:
        return shape
    while True:
        tint = rng.choice((neighbour, rng.choice(NEAR[shape.color]), rng.choice(NEAR[shape.color]), rng.choice(COLORS)))
        if tint == shape.color:
            continue
        amount, run = rng.choice(((rng.uniform(0, 1), 0.0), (rng.uniform(0, 0.8), rng.uniform(0, 0.8))))
        tinted = replace(shape, tint=tint, amount=amount, run=run, angle=rng.uniform(0, 2 * math.pi))
        off = _off_color(tinted)
        if off < 0.03 or off > 0.1:
            return replace(tinted, pure=off < 0.03)


def _off_color(shape):
    """The share of the shape's pixels that are far from its own colour, or nearer to another one."""
    inside = coverage(shape) > 0.9
    distance, nearest = torch.cdist(_paint(shape)[:, inside].T, RGB).min(1)
    return ((distance > 0.35) | (nearest != COLORS.index(shape.color))).float().mean().item()


_Y, _X = torch.meshgrid(torch.arange(SIZE) + 0.5, torch.arange(SIZE) + 0.5, indexing="ij")


def coverage(shape):
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


def _paint(shape):
    """The shape's colour at each pixel, (3, 64, 64) in 0..1."""
    own = RGB[COLORS.index(shape.color)][:, None, None]
    if shape.tint is None:
        return own.expand(3, SIZE, SIZE)
    along = ((_X - shape.x) * math.cos(shape.angle) + (_Y - shape.y) * math.sin(shape.angle)) / shape.radius
    share = (shape.amount + shape.run * along).clamp(0, 1)
    return own + (RGB[COLORS.index(shape.tint)][:, None, None] - own) * share


def render(scenes, ground=None):
    """Pictures of the scenes, (N, 3, 64, 64) uint8. `ground` is an RGB triple in 0..1 for each, default white."""
    out = torch.empty(len(scenes), 3, SIZE, SIZE, dtype=torch.uint8)
    for i, shapes in enumerate(scenes):
        base = torch.ones(3) if ground is None else torch.as_tensor(ground[i])
        picture = base[:, None, None].expand(3, SIZE, SIZE)
        for shape in shapes:
            alpha = coverage(shape)
            picture = picture * (1 - alpha) + _paint(shape) * alpha
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
            share = coverage(shape).view(side, SIZE // side, side, SIZE // side).mean((1, 3))
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


def edit(rng, count=1):
    """A picture, an instruction, and the picture it asks for: (before, after, instruction). Of two shapes the first is changed,
    and called by its colour if the other is of its kind.
    """
    before = scene(rng, count)
    shape, others = before[0], before[1:]
    alone = not others
    called = shape.name if any(o.kind == shape.kind for o in others) or (others and rng.random() < 0.5) else shape.kind
    if rng.random() < 0.6:
        color = rng.choice([c for c in COLORS if all(c != s.color for s in before)])
        after = replace(shape, color=color)
        forms = (f"make the {called} {color}",)
        text = rng.choice((*forms, f"make it {color}", f"make the shape {color}") if alone else forms)
    else:
        kind = rng.choice([k for k in KINDS if k != shape.kind])
        after = replace(shape, kind=kind)
        forms = (f"replace the {called} with {article(kind)}",)
        text = rng.choice((f"make it {article(kind)}", *forms) if alone else forms)
    return before, [after, *others], text
