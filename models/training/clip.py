"""The tiny CLIP: what is said about pictures, what of it is true, and how well the model tells that from what is not."""

from dataclasses import dataclass, replace

import torch

import world
from owlv2 import FORMS, NAMES, THINGS, fits
from world import COLORS, KINDS, RELATIONS, article

TOKENS = 16
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
PLACES = ("top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right")


@dataclass(frozen=True)
class Claim:
    """What is said of a picture: that it shows one thing or two, of what size and where, or how they stand to each other.

    Things are places in `THINGS`; of one thing `second` is None.
    """

    first: int
    second: int | None = None
    relation: str | None = None
    size: str | None = None
    place: str | None = None

    def said(self, rng):
        """The claim in words."""
        first = " ".join(word for word in (self.size, THINGS[self.first]) if word)
        if self.second is None:
            end = f" at the {self.place}" if self.place else ""
            return rng.choice(FORMS).format(first) + end if rng.random() < 0.5 else article(first) + end
        between = rng.choice(RELATIONS[self.relation]) if self.relation else "and"
        return f"{article(first)} {between} {article(THINGS[self.second])}"

    @property
    def plain(self):
        """Whether it says nothing but what there is, so that `true` knows all about it."""
        return self.relation is None and self.size is None and self.place is None


def corpus():
    """What the tokenizer learns from: every word, in the company it keeps."""
    said = [form.format(thing) for thing in THINGS for form in FORMS]
    said += [f"a {size} {name}" for name in NAMES for size in ("small", "large")]
    said += [f"a {name} at the {place}" for name in NAMES for place in PLACES]
    between = ["and", *(form for forms in RELATIONS.values() for form in forms)]
    return said + [f"a {name} {word} {article(other)}" for name in NAMES for other in NAMES[:6] for word in between]


def presence(scenes):
    """Whether each scene shows each thing, (N, 36) booleans."""
    return torch.tensor([[any(fits(s, thing) for s in shapes) for thing in THINGS] for shapes in scenes])


def true(shown, claims):
    """Whether each scene shows the things of each claim, whatever else this says: (N, M) booleans."""
    first = torch.tensor([claim.first for claim in claims])
    second = torch.tensor([claim.first if claim.second is None else claim.second for claim in claims])
    return shown[:, first] & shown[:, second]


def claim(shapes, rng):
    """Something that is true of the scene."""
    a = rng.choice(shapes)
    name = NAMES.index(a.name)
    if len(shapes) > 1 and rng.random() < 0.6:
        b = rng.choice([s for s in shapes if s is not a])
        relation = world.relation(a, b) if rng.random() < 0.6 else None
        return Claim(name, NAMES.index(b.name), relation)
    if rng.random() < 0.15:
        # Of kinds only while one is missing, or nothing like it would be false.
        every = {s.kind for s in shapes} == set(KINDS)
        return Claim(rng.choice([i for i, thing in enumerate(THINGS[:-1]) if fits(a, thing) and not (every and thing in KINDS)]))
    size = None
    if len(shapes) == 1 and rng.random() < 0.3:
        # Between them neither word would be wrong.
        size = "small" if a.radius < 10.5 else "large" if a.radius > 11.5 else None
    return Claim(name, size=size, place=world._place(a) if rng.random() < 0.2 else None)


def wrong(right, shown, rng):
    """A claim that is like a right one, and false: another colour, another kind, two shapes' colours exchanged, another relation,
    size or place. `shown` is what the scene shows, a row of `presence`.
    """
    ways = ["color", "kind"]
    if right.second is not None:
        ways += ["color", "kind", "exchange"]
    ways += ["relation"] * 3 * (right.relation is not None) + ["size"] * 2 * (right.size is not None)
    ways += ["place"] * 2 * (right.place is not None)
    while True:
        way = rng.choice(ways)
        if way == "relation":
            return replace(right, relation=rng.choice([r for r in RELATIONS if r != right.relation]))
        if way == "size":
            return replace(right, size={"small": "large", "large": "small"}[right.size])
        if way == "place":
            return replace(right, place=rng.choice([p for p in PLACES if p != right.place]))
        made = other(right, way, rng)
        if made and not (shown[made.first] and shown[made.first if made.second is None else made.second]):
            return made


def other(right, way, rng):
    """The claim with another colour or kind in one of its things, or with the colours of both exchanged; None if it cannot."""
    if way == "exchange":
        (c1, k1), (c2, k2) = (THINGS[i].split() for i in (right.first, right.second))
        return replace(right, first=NAMES.index(f"{c2} {k1}"), second=NAMES.index(f"{c1} {k2}"))
    which = "first" if right.second is None or rng.random() < 0.5 else "second"
    words = THINGS[getattr(right, which)].split()
    known, at = (COLORS, 0) if way == "color" else (KINDS, -1)
    if words[at] not in known:
        return None
    words[at] = rng.choice([word for word in known if word != words[at]])
    return replace(right, **{which: THINGS.index(" ".join(words))})


@torch.no_grad()
def prefers(model, encode, pixels, right, wrong):
    """Whether the model finds each picture closer to the right text than to the wrong one."""
    hits = []
    for at in range(0, len(pixels), 100):
        part = slice(at, at + 100)
        seen = model.get_image_features(pixels[part]).pooler_output
        seen, good, bad = (
            torch.nn.functional.normalize(v, dim=-1)
            for v in (seen, *(model.get_text_features(**encode(t[part])).pooler_output for t in (right, wrong)))
        )
        hits += ((seen * good).sum(-1) > (seen * bad).sum(-1)).tolist()
    return hits


def recoloured(rng, count):
    """A scene after an edit like those of the tasks, with what is right of it and what was before: (shapes, right, wrong)."""
    while True:
        before, after, _ = world.edit(rng, count)
        right, false = after[0].name, before[0].name
        if not any(s.name == false for s in after):
            return after, article(right), article(false)
