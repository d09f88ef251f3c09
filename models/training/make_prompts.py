"""Writes what `cargo adherence` asks for, and pictures that hold the two pixel checkers to one opinion.

`prompts.json`: 500 prompts of one shape and 500 of two in a relation, each with the scene that it was made from, which is
drawn to find out what the checker would make of a perfect picture. 15 % of each name a combination that is held out of
training, spread so evenly that every 20 prompts in a row have as many.

`checked.png` and `checked.json`: a sheet of scenes drawn badly, as a model might draw them, and what `checker.py` finds.
"""

import json
import random

import torch
import torch.nn.functional as F
from PIL import Image

import checker
import world
from run import HERE

OUT = HERE.parent.parent / "daemon/src/demo/adherence"
EACH, EVERY, HELD_OUT_OF_EVERY = 500, 20, 3
COLUMNS, ROWS = 8, 4


def related_pair(rng):
    """Two shapes in a relation, and their caption."""
    while True:
        shapes, prompt = world.pair(rng)
        if " and " not in prompt:
            return shapes, prompt


def prompts(make, relation_of, rng, distinct):
    """`EACH` prompts of what `make` gives; every one a prompt of its own if `distinct`."""
    rows, seen = [], set()
    for place in range(EACH):
        wanted = place * HELD_OUT_OF_EVERY % EVERY < HELD_OUT_OF_EVERY
        while True:
            shapes, prompt = make(rng)
            if world.held_out(shapes) == wanted and not (distinct and prompt in seen):
                break
        seen.add(prompt)
        shapes = [
            {"color": s.color, "kind": s.kind, "x": round(s.x, 2), "y": round(s.y, 2), "radius": round(s.radius, 2)}
            for s in shapes
        ]
        rows.append({"prompt": prompt, "shapes": shapes, "relation": relation_of(prompt), "held_out": wanted})
    return rows


def named_relation(prompt):
    """Which relation the words of a pair's prompt name."""
    return next(name for name, forms in world.RELATIONS.items() if any(f" {form} " in prompt for form in forms))


def drawn_badly(scene, rng):
    """A picture of the scene, (3, 64, 64) uint8: shapes twice, soft edges, noise. Its levels are multiples of 15, which make
    a small file, and pixels that are as far from one colour as from another, where rounding decides, impossible.
    """
    picture = world.render([scene], [[rng.uniform(0.8, 1.0) for _ in range(3)]])[0].float() / 255
    for _ in range(rng.randrange(3)):
        picture = F.avg_pool2d(picture[None], 3, 1, 1, count_include_pad=False)[0]
    moved = picture.roll((rng.randrange(-9, 10), rng.randrange(-9, 10)), (1, 2))
    picture = picture.lerp(moved, rng.choice((0.0, 0.0, 0.15, 0.4)))
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(rng.randrange(2**32)))
    return ((picture + rng.uniform(0, 0.06) * noise).clamp(0, 1) * 17).round().byte() * 15


def checked(rng):
    """The sheet, (ROWS * 64, COLUMNS * 64, 3) uint8, and for each picture in reading order what is found in it."""
    pictures = [drawn_badly(world.loose_scene(rng, rng.choice((1, 2, 3))), rng) for _ in range(COLUMNS * ROWS)]
    found = [
        [{"color": f.color, "kind": f.kind, "x": round(f.x, 3), "y": round(f.y, 3)} for f in checker.find(p.float() / 255)]
        for p in pictures
    ]
    grid = torch.stack(pictures).view(ROWS, COLUMNS, 3, world.SIZE, world.SIZE).permute(0, 3, 1, 4, 2)
    return grid.reshape(ROWS * world.SIZE, COLUMNS * world.SIZE, 3), found


def lines(rows):
    """A JSON list with a row a line."""
    return "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]"


if __name__ == "__main__":
    single = prompts(world.single, lambda prompt: None, random.Random(30_000), distinct=False)
    pair = prompts(related_pair, named_relation, random.Random(40_000), distinct=True)
    (OUT / "prompts.json").write_text(f'{{"single": {lines(single)}, "pair": {lines(pair)}}}\n')
    sheet, found = checked(random.Random(50_000))
    (OUT / "checked.json").write_text(lines(found) + "\n")
    Image.fromarray(sheet.numpy()).save(OUT / "checked.png", optimize=True)
