"""The tiny SAM2: what it is asked for, what it is to answer, and how well it outlines shapes."""

import torch
import torch.nn.functional as F

import owlv2
import world
from world import SIZE, coverage

# What SAM2's pictures are normalised by.
MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
PADDING = -10  # the label of a point that is none


def normalise(pictures):
    """Pictures (N, 3, 64, 64) in 0..1 as the model reads them."""
    return (pictures - MEAN) / STD


def visible(shapes):
    """What is seen of each shape of a scene, later ones covering earlier: (count, 64, 64) in 0..1."""
    masks = torch.stack([coverage(shape) for shape in shapes])
    for i in range(len(shapes) - 1):
        masks[i] *= (1 - masks[i + 1 :]).prod(0)
    return masks


def box(shape, rng, jitter):
    """The box around a shape, each side moved by up to `jitter` pixels, within the picture: left, top, right, bottom."""
    x, y, width, height = (SIZE * value for value in owlv2.bounds(shape))
    sides = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    left, top, right, bottom = (side + rng.uniform(-jitter, jitter) for side in sides)
    inside = lambda value: min(max(value, 0.0), float(SIZE))
    return [inside(left), inside(top), max(inside(right), inside(left) + 1), max(inside(bottom), inside(top) + 1)]


def point(mask, rng):
    """A pixel of a mask of booleans, (x, y)."""
    there = mask.flatten().nonzero().flatten()
    at = there[rng.randrange(len(there))].item()
    return [float(at % SIZE), float(at // SIZE)]


def masks(model, pixels, several, points=None, labels=None, boxes=None):
    """Logits of the masks at the picture's size, (B, P, M, 64, 64), with the overlaps that the model expects, (B, P, M), and
    whether it thinks that there is anything, (B, P). With `several`, M is 3, else 1.
    """
    out = model(pixels, points, labels, boxes, multimask_output=several)
    large = F.interpolate(out.pred_masks.flatten(0, 1), (SIZE, SIZE), mode="bilinear", align_corners=False)
    return large.unflatten(0, out.pred_masks.shape[:2]), out.iou_scores, out.object_score_logits.squeeze(-1)


def overlap(logits, target):
    """Intersection over union of masks (..., 64, 64) with a target of booleans."""
    mask = logits > 0
    return (mask & target).sum((-1, -2)) / (mask | target).sum((-1, -2)).clamp(min=1)


def best(logits, scores):
    """Of several masks that with the best score."""
    taken = scores.argmax(-1)[..., None]
    return logits.gather(-3, taken[..., None, None].expand(*taken.shape, SIZE, SIZE)).squeeze(-3)


@torch.no_grad()
def judge(model, pictures, scenes, rng, jitter=2.0):
    """For each shape of each scene how well it is outlined by a box and by a point: two lists of overlaps. `model` must be in
    evaluation, where an unsure single mask gives way to the best of several.
    """
    by_box, by_point = [], []
    for at in range(0, len(scenes), 50):
        rows = [(i, shape) for i, shapes in enumerate(scenes[at : at + 50]) for shape in range(len(shapes))]
        pixels = normalise(pictures[at : at + 50])[[i for i, _ in rows]]
        seen = torch.stack([visible(scenes[at + i])[shape] > 0.5 for i, shape in rows])
        boxes = torch.tensor([[box(scenes[at + i][shape], rng, jitter)] for i, shape in rows])
        points = torch.tensor([[[point(mask, rng)]] for mask in seen])
        logits, _, _ = masks(model, pixels, False, boxes=boxes)
        by_box += overlap(logits[:, 0, 0], seen).tolist()
        logits, scores, _ = masks(model, pixels, True, points, torch.ones(points.shape[:3], dtype=torch.int))
        by_point += overlap(best(logits, scores)[:, 0], seen).tolist()
    return by_box, by_point


def draw(rng):
    """A scene of one to three shapes, most of them loose, some drawn badly."""
    count = rng.choices((1, 2, 3), (30, 50, 20))[0]
    shapes = world.loose_scene(rng, count) if rng.random() < 0.7 else world.scene(rng, count)
    return world.badly(shapes, rng) if rng.random() < 0.15 else shapes
