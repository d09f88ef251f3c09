"""Trains the tiny `Owlv2ForObjectDetection` on scenes of our world, grid and loose, to find shapes by colour, kind or both.

Every patch of which a shape covers half is taught to name it and to say where it is, rather than one patch for each shape
that is found by matching: which of two patches a shape belongs to is then no question, and of several boxes for one
shape the surest is kept. Not so those of the last row and column: their boxes begin at the picture's edge, where the
sigmoid is flat, and every shape covers others. Half of the pictures went through FLUX.2's autoencoder, so that the detector has seen what
generated pictures look like.
"""

import torch
import torch.nn.functional as F
from transformers import Owlv2Config, Owlv2ForObjectDetection
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

import owlv2
from flux2 import through_vae
from owlv2 import FORMS, NAMES, THINGS, TOKENS
from run import HERE, Average, Run, optimizers, set_rate, warm_then_linear
from world import SIZE, badly, coverage, loose_scene, render, scene

BATCH, SCENES, PATCH = 48, 12000, 8
GRID = SIZE // PATCH

run = Run("owlv2", steps=1600, state={}, every=250)
rng = run.rng
(run.work / "owlv2").mkdir(parents=True, exist_ok=True)
words = owlv2.tokenizer(run.work / "owlv2")


def build():
    text = dict(vocab_size=len(words), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2)
    text |= dict(max_position_embeddings=TOKENS, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id)
    vision = dict(hidden_size=96, intermediate_size=384, num_hidden_layers=4, num_attention_heads=3)
    vision |= dict(image_size=SIZE, patch_size=PATCH)
    model = Owlv2ForObjectDetection(Owlv2Config(text_config=text, vision_config=vision, projection_dim=64))
    owlv2.initialise(model)
    # Boxes begin as patches, and nothing is found.
    torch.nn.init.normal_(model.box_head.dense2.weight, std=0.02)
    torch.nn.init.constant_(model.class_head.logit_scale.bias, 9.0)
    torch.nn.init.constant_(model.class_head.logit_shift.bias, -0.5)
    return model


def draw(rng):
    """A scene of one to three shapes, on the grid or loose, some of them drawn badly."""
    count = rng.choices((1, 2, 3), (30, 50, 20))[0]
    shapes = loose_scene(rng, count) if rng.random() < 0.4 else scene(rng, count)
    return badly(shapes, rng) if rng.random() < 0.2 else shapes


def targets(scenes):
    """For each patch: which shape it is of, the share of it that this covers, and the shape's box."""
    owner = torch.full((len(scenes), GRID * GRID), -1)
    share, boxes = torch.zeros(owner.shape), torch.zeros(*owner.shape, 4)
    for i, shapes in enumerate(scenes):
        for k, shape in enumerate(shapes):
            covered = coverage(shape).view(GRID, PATCH, GRID, PATCH).mean((1, 3))
            covered[-1], covered[:, -1] = 0, 0
            covered = covered.flatten()
            more = covered > share[i]
            owner[i][more], share[i][more] = k, covered[more]
            boxes[i][more] = torch.tensor(owlv2.bounds(shape))
    return owner, share, boxes


def normalise(pictures, noise=0.0):
    x = pictures.float() / 255
    return owlv2.normalise(x + noise * torch.randn_like(x) if noise else x)


def encode(texts):
    return words(texts, padding="max_length", max_length=TOKENS, return_tensors="pt").input_ids


encoded = {form: encode([form.format(thing) for thing in THINGS]) for form in FORMS}
scenes = [draw(rng) for _ in range(SCENES)]
pictures = render(scenes, 0.92 + 0.08 * torch.rand(SCENES, 3))
pictures[: SCENES // 2] = through_vae(HERE.parent / "weights/flux2-klein-tiny/vae", pictures[: SCENES // 2])
owner, share, boxes = targets(scenes)
# Which texts each shape of each scene fits: one row for each shape.
named = [torch.tensor([[owlv2.fits(s, t) for t in THINGS] for s in shapes], dtype=torch.float32) for shapes in scenes]
fresh = [scene(rng, 1 + i % 3) for i in range(300)]
fresh_pixels = normalise(render(fresh))


def score(model):
    """Shapes that are found by name where they are, and what is found besides, for each shape."""
    model.eval()
    asked = owlv2.queries(model, encode([f"a {name}" for name in NAMES]))
    judged = [owlv2.judge(f, s) for f, s in zip(owlv2.detect(model, fresh_pixels, asked), fresh)]
    model.train()
    hits = [hit for hits, _ in judged for hit in hits]
    return round(sum(hits) / len(hits), 4), round(sum(wrong for _, wrong in judged) / len(hits), 4)


model = build()
inside = [p for name, p in model.named_parameters() if ".encoder.layers." in name and p.ndim == 2]
known = set(map(id, inside))
unused = ("visual_projection", "owlv2.logit_scale")
others = [p for name, p in model.named_parameters() if id(p) not in known and not any(u in name for u in unused)]
optimizer = optimizers(inside, others, lr=2e-3, other_lr=2e-3)
average = Average(model, 0.99)
run.prepare({"model": model, "average": average, "muon": optimizer[0], "adam": optimizer[1]})

for step in run:
    set_rate(optimizer, warm_then_linear(step, run.steps, decay=0.6))
    own = [rng.randrange(SCENES) for _ in range(BATCH)]
    # Each text in one of its forms.
    forms = [rng.choice(FORMS) for _ in THINGS]
    asked = owlv2.queries(model, torch.stack([encoded[form][i] for i, form in enumerate(forms)]))
    logits, found, objectness = owlv2.predict(model, normalise(pictures[own], noise=0.03), asked)
    shown = share[own] > 0.5
    # A patch that a shape covers in part may say either: what it says counts where it is of other things.
    want, unsure = torch.zeros_like(logits), (share[own] > 0.1) & ~shown
    for row, i in enumerate(own):
        mine = owner[i].clamp(min=0)
        want[row] = named[i][mine] * (share[i] > 0.1)[:, None]
    weight = torch.where(unsure[..., None] & (want > 0), 0.0, 1.0)
    want = want * shown[..., None]
    # Focal: what is already known counts little.
    plain = F.binary_cross_entropy_with_logits(logits, want, reduction="none")
    focus = (want - logits.detach().sigmoid()).abs() ** 2
    texts = (weight * focus * plain).sum() / want.sum()
    target, got = boxes[own][shown], found[shown]
    iou, around = owlv2.overlap(owlv2.corners(got), owlv2.corners(target))
    placed = (1 - iou + (around - 1) / around).mean() + 5 * (got - target).abs().sum(-1).mean()
    thing = F.binary_cross_entropy_with_logits(objectness[~unsure], shown[~unsure].float())
    loss = 4 * texts + placed + 0.5 * thing
    for o in optimizer:
        o.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for o in optimizer:
        o.step()
    average.update(model, step)
    run.log(loss.item(), texts=texts.item(), placed=placed.item(), iou=iou.mean().item())
    if (step + 1) % 250 == 0:
        print("  found, and besides:", *score(average.model), flush=True)

average.model.save_pretrained(run.work / "owlv2")
Owlv2ImageProcessorPil(size={"height": SIZE, "width": SIZE}).save_pretrained(run.work / "owlv2")
run.report(found=score(average.model)[0])
