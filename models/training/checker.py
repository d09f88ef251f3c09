"""The pixel checker: which shapes a picture shows, found without any neural network.

Each pixel goes to the nearest palette colour (or to the ground); for each colour the mask is opened by 3 x 3, and its
area, its fill of the bounding box and the widths of its top and bottom thirds tell the kind of shape.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from world import COLORS, RGB

FAR = 0.12  # squared RGB distance beyond which a pixel belongs to no colour
MIN_AREA = 40  # pixels; the smallest shape drawn covers about 90


@dataclass(frozen=True)
class Found:
    kind: str | None
    color: str
    x: float
    y: float
    area: int


def _open(mask):
    """Morphological opening by 3 x 3: drops the slivers that anti-aliased edges leave."""
    eroded = -F.max_pool2d(-mask[None, None], 3, 1, 1)
    return F.max_pool2d(eroded, 3, 1, 1)[0, 0] > 0.5


def _kind(mask):
    ys, xs = mask.nonzero(as_tuple=True)
    top, bottom, left, right = ys.min(), ys.max() + 1, xs.min(), xs.max() + 1
    height, width = int(bottom - top), int(right - left)
    if not 0.65 < height / width < 1.55:
        return None
    fill = mask.sum().item() / (height * width)
    third = max(1, height // 3)
    if fill < 0.72 and mask[top : top + third].sum() < 0.6 * mask[bottom - third : bottom].sum():
        return "triangle"
    if fill > 0.905:
        return "square"
    return "circle" if fill > 0.68 else None


def find(picture):
    """The shapes in `picture`, (3, 64, 64) in 0..1; at most one for each colour, `kind` None if it is no known shape."""
    to_color = ((picture[None] - RGB[:, :, None, None]) ** 2).sum(1)
    to_ground = ((picture - picture.clamp(0.88, 1)) ** 2).sum(0)
    distance, label = torch.cat([to_ground[None], to_color]).min(0)
    found = []
    for i, color in enumerate(COLORS):
        mask = _open(((label == i + 1) & (distance < FAR)).float())
        area = int(mask.sum())
        if area >= MIN_AREA:
            ys, xs = mask.nonzero(as_tuple=True)
            found.append(Found(_kind(mask), color, xs.float().mean().item(), ys.float().mean().item(), area))
    return found


def shows(picture, shapes):
    """True if the picture shows exactly these kinds in these colours and nothing else."""
    return sorted((f.color, str(f.kind)) for f in find(picture)) == sorted((s.color, s.kind) for s in shapes)


def stand(found, a, b, wanted, margin=4.0, slack=16.0):
    """True if what is found in colour `a` lies `wanted` ("left", ...) of what is found in colour `b`: more than `margin`
    pixels that way from centre to centre, and less than `slack` across.
    """
    at = {f.color: f for f in found}
    if a not in at or b not in at:
        return False
    dx, dy = at[a].x - at[b].x, at[a].y - at[b].y
    along, across = {"left": (-dx, dy), "right": (dx, dy), "above": (-dy, dx), "below": (dy, dx)}[wanted]
    return along > margin and abs(across) < slack
