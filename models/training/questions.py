"""Questions about scenes, with their answers; and the `easy-vqa` package, the outside test."""

import json
from pathlib import Path

import easy_vqa as package
import torch
from PIL import Image
import numpy as np

from world import COLORS, KINDS, RELATIONS, across, article, relation

ANSWERS = ("yes", "no", "circle", "square", "rectangle", "triangle", "red", "green", "gray", "teal", "black", "yellow")
ANSWERS += ("brown", "blue", "purple", "orange", "0", "1", "2", "3")
TOKENS = 24  # question tokens, [CLS] and [SEP] included

_EXISTS = ("is there {}?", "is there {} in the image?", "does the image contain {}?", "is {} present?")
_LACKS = ("is there not {}?", "is there not {} in the image?", "does the image not contain {}?")
ASKEW = 16.0  # pixels; two shapes that are so far apart along both axes are not side by side
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def yes_no(truth):
    return "yes" if truth else "no"


def exists(shapes, rng):
    """Is there a [color] [kind]? Asked of what is there, of a near miss, or of anything; some negated. A shape whose colour has run
    is none of its colour, nor of any other.
    """
    shape, u = rng.choice(shapes), rng.random()
    run = not all(s.pure for s in shapes)
    color, kind = shape.color, shape.kind
    if 0.4 < u < 0.65:
        kind = rng.choice([k for k in KINDS if k != kind])
    elif u >= 0.65:
        color = rng.choice(COLORS)
    what = rng.random()
    if what < 0.5 or run:
        noun, truth = f"{color} {kind}", any((s.color, s.kind, s.pure) == (color, kind, True) for s in shapes)
    elif what < 0.75:
        kind = rng.choice(KINDS)
        noun, truth = kind, any(s.kind == kind for s in shapes)
    else:
        noun, truth = f"{color} shape", any(s.color == color for s in shapes)
    if rng.random() < 0.2:
        return rng.choice(_LACKS).format(article(noun)), yes_no(not truth)
    return rng.choice(_EXISTS).format(article(noun)), yes_no(truth)


def color_of(shapes, rng):
    """What color is the [kind]? Asked only where one shape is meant."""
    shape = rng.choice(shapes)
    if not shape.pure:
        return exists(shapes, rng)
    if len(shapes) == 1 and rng.random() < 0.4:
        return rng.choice(("what color is the shape?", "what is the color of the shape?", "what color is it?")), shape.color
    if sum(s.kind == shape.kind for s in shapes) > 1:
        return kind_of(shapes, rng)
    return rng.choice(("what color is the {}?", "what is the color of the {}?")).format(shape.kind), shape.color


def kind_of(shapes, rng):
    """What shape is [color]?"""
    shape = rng.choice(shapes)
    if len(shapes) == 1 and rng.random() < 0.4:
        return rng.choice(("what shape is it?", "what shape is in the image?", "what shape is this?")), shape.kind
    if not shape.pure or sum(s.color == shape.color for s in shapes) > 1:
        return exists(shapes, rng)
    return rng.choice(("what is the {} shape?", "what shape is {}?")).format(shape.color), shape.kind


def count_of(shapes, rng):
    """How many shapes, or how many of a kind?"""
    if rng.random() < 0.5:
        form = rng.choice(("how many shapes?", "how many shapes are there?", "how many shapes are in the image?"))
        return form, str(len(shapes))
    kind = rng.choice([s.kind for s in shapes] + [rng.choice(KINDS)])
    form = rng.choice(("how many {}s?", "how many {}s are there?", "how many {}s are in the image?"))
    return form.format(kind), str(sum(s.kind == kind for s in shapes))


def relation_of(shapes, rng):
    """Is the [color] [kind] left of the [color] [kind]? Asked only where the answer is clear; of two that stand askew, it is no."""
    names = [s.name for s in shapes]
    pairs = [(a, b) for a in shapes for b in shapes if names.count(a.name) == names.count(b.name) == 1 and a is not b]
    clear = [(a, b) for a, b in pairs if relation(a, b, slack=9.0) or across(a, b) > ASKEW]
    if not clear:
        return exists(shapes, rng)
    a, b = rng.choice(clear)
    true = relation(a, b, slack=9.0)
    asked = rng.choice((true, OPPOSITE[true]) if true else list(OPPOSITE))
    return f"is the {a.name} {rng.choice(RELATIONS[asked])} the {b.name}?", yes_no(asked == true)


FORMS = {"exist": exists, "color": color_of, "shape": kind_of, "count": count_of, "relation": relation_of}
_WEIGHTS = {"exist": 30, "color": 8, "shape": 12, "count": 14, "relation": 36}


def about(shapes, rng, form=None):
    """A question about the scene and its answer, of the named form or of any."""
    form = form or rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    return FORMS[form](shapes, rng)


def easy_vqa(split, _data=Path(package.__file__).parent / "data"):
    """The official split: [(question, answer, image index)] and the images, (N, 3, 64, 64) uint8."""
    asked = [tuple(row) for row in json.loads((_data / split / "questions.json").read_text())]
    count = max(index for _, _, index in asked) + 1
    images = [np.array(Image.open(_data / split / "images" / f"{i}.png").convert("RGB")) for i in range(count)]
    return asked, torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
