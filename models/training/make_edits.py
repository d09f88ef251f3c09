"""Writes the edits that `gpuctl experiment edit` asks for into daemon/src/demo/editing: 100 pictures of one shape and of two in turn,
each with the instruction to give one of its shapes another colour, and what it is to show then. 15 % of them show a combination that
is held out of the generators' training, before or after.
"""

import json
import random

import world
from make_prompts import EVERY, HELD_OUT_OF_EVERY, lines
from run import HERE

OUT = HERE.parent.parent / "daemon/src/demo/editing/edits.json"
COUNT = 100


def recolored(rng, count, held_out):
    """An edit of a picture of `count` shapes that changes a colour and names what it changes."""
    while True:
        before, after, text = world.edit(rng, count)
        is_held_out = world.held_out(before) or world.held_out(after)
        if before[0].kind == after[0].kind and " it " not in text and "the shape" not in text and is_held_out == held_out:
            return before, after, text


def rows():
    rng = random.Random(20_261)
    for i in range(COUNT):
        held_out = i * HELD_OUT_OF_EVERY % EVERY < HELD_OUT_OF_EVERY
        before, after, text = recolored(rng, 1 + i % 2, held_out)
        shapes = lambda scene: [
            {"color": s.color, "kind": s.kind, "x": round(s.x, 2), "y": round(s.y, 2), "radius": round(s.radius, 2)} for s in scene
        ]
        yield {
            "instruction": text,
            "caption": " and ".join(world.article(s.name) for s in after),
            "held_out": held_out,
            "before": shapes(before),
            "after": shapes(after),
        }


if __name__ == "__main__":
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(lines(list(rows())) + "\n")
