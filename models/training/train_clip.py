"""Trains the tiny `CLIPModel` on scenes of our world: a picture and what is truly said of it belong together.

Beside the texts of the other pictures each picture is told from four texts that are nearly right: another colour, another kind,
colours exchanged, another relation. Of the other pictures' texts those that happen to be true are left out, so that a text
need not say all that a picture shows. A head at the side, thrown away afterwards, reads from the patches what
each will show. A quarter of the pictures went through FLUX.2's autoencoder.
"""

import math

import torch
import torch.nn.functional as F
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

import clip
import owlv2
import world
from clip import TOKENS
from flux2 import through_vae
from run import HERE, Average, Run, optimizers, set_rate, warm_then_linear
from world import SIZE, badly, loose_scene, render, scene

BATCH, NEARLY, SCENES, PATCH = 48, 4, 6000, 8
DECODED = SCENES // 4
LAYOUT_WEIGHT = 0.5

run = Run("clip", steps=1500, state={}, every=250)
rng = run.rng
(run.work / "clip").mkdir(parents=True, exist_ok=True)
words = owlv2.tokenizer(run.work / "clip", clip.corpus(), pad="<|endoftext|>")


def build():
    text = dict(vocab_size=len(words), hidden_size=64, intermediate_size=192, num_hidden_layers=2, num_attention_heads=2)
    text |= dict(max_position_embeddings=TOKENS, bos_token_id=words.bos_token_id, eos_token_id=words.eos_token_id)
    vision = dict(hidden_size=96, intermediate_size=384, num_hidden_layers=4, num_attention_heads=3)
    vision |= dict(image_size=SIZE, patch_size=PATCH)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))
    owlv2.initialise(model)
    return model


def draw(rng):
    """A scene of one to three shapes, on the grid or loose, a few of them drawn badly."""
    count = rng.choices((1, 2, 3), (35, 55, 10))[0]
    kind = rng.random()
    if kind < 0.35:
        shapes = loose_scene(rng, count)
    elif kind < 0.6 and count == 2:
        shapes = scene(rng, 2, rng.choice(list(world.RELATIONS)))
    else:
        shapes = scene(rng, count)
    return badly(shapes, rng) if rng.random() < 0.1 else shapes


def usable(rng):
    """A scene all of whose shapes can be called by their colours, no two by the same name."""
    while True:
        shapes = draw(rng)
        if all(s.pure for s in shapes) and len({s.name for s in shapes}) == len(shapes):
            return shapes


def normalise(pictures, noise=0.0):
    x = pictures.float() / 255
    return owlv2.normalise(x + noise * torch.randn_like(x) if noise else x)


def encode(texts):
    return words(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")


class Layout(torch.nn.Module):
    """Reads colours and kinds from each patch."""

    def __init__(self, width):
        super().__init__()
        self.colors = torch.nn.Linear(width, 1 + len(world.COLORS))
        self.kinds = torch.nn.Linear(width, 1 + len(world.KINDS))

    def loss(self, patches, colors, kinds):
        pairs = ((self.colors(patches), colors), (self.kinds(patches), kinds))
        return sum(-(want * F.log_softmax(got, -1)).sum(-1).mean() for got, want in pairs)


scenes = [usable(rng) for _ in range(SCENES)]
pictures = render(scenes, 0.92 + 0.08 * torch.rand(SCENES, 3))
pictures[:DECODED] = through_vae(HERE.parent / "weights/flux2-klein-tiny/vae", pictures[:DECODED])
shown = clip.presence(scenes)
layouts = world.layout(scenes, SIZE // PATCH)
edits = [clip.recoloured(rng, 1 + i % 2) for i in range(400)]
edit_pixels = normalise(render([shapes for shapes, _, _ in edits]))
fresh = [usable(rng) for _ in range(400)]
claims = [clip.claim(shapes, rng) for shapes in fresh]
fresh_false = [clip.wrong(c, row, rng).said(rng) for c, row in zip(claims, clip.presence(fresh))]
fresh_true, fresh_pixels = [c.said(rng) for c in claims], normalise(render(fresh))


def score(model):
    """Shares of right texts preferred: about edited scenes, and about scenes of all kinds."""
    model.eval()
    edited = clip.prefers(model, encode, edit_pixels, *zip(*[(right, wrong) for _, right, wrong in edits]))
    hits = clip.prefers(model, encode, fresh_pixels, fresh_true, fresh_false)
    model.train()
    return round(sum(edited) / len(edited), 4), round(sum(hits) / len(hits), 4)


def contrast(logits, possible):
    """Of each row the first of its candidates is right, and of the rest those count that are `possible`."""
    return F.cross_entropy(logits.masked_fill(~possible, -math.inf), torch.arange(len(logits)))


model, head = build(), Layout(96)
matrices = [p for name, p in model.named_parameters() if ".encoder.layers." in name and p.ndim == 2]
known = set(map(id, matrices))
others = [p for p in [*model.parameters(), *head.parameters()] if id(p) not in known]
optimizer = optimizers(matrices, others, lr=2e-3, other_lr=2e-3)
average = Average(model, 0.99)
run.prepare({"model": model, "head": head, "average": average, "muon": optimizer[0], "adam": optimizer[1]})

for step in run:
    set_rate(optimizer, warm_then_linear(step, run.steps, decay=0.6))
    own = [rng.randrange(SCENES) for _ in range(BATCH)]
    right = [clip.claim(scenes[i], rng) for i in own]
    false = [clip.wrong(claim, shown[i], rng) for claim, i in zip(right, own) for _ in range(NEARLY)]
    texts = encode([claim.said(rng) for claim in (*right, *false)])
    # True of another picture, too, or perhaps: such texts are no counterexamples.
    possible = ~clip.true(shown[own], right + false)
    rows = torch.arange(BATCH)
    possible[rows, rows] = True
    for k in range(NEARLY):
        possible[rows, BATCH + rows * NEARLY + k] = True
    seen = model.vision_model(normalise(pictures[own], noise=0.03))
    images = F.normalize(model.visual_projection(seen.pooler_output), dim=-1)
    said = F.normalize(model.text_projection(model.text_model(**texts).pooler_output), dim=-1)
    logits = model.logit_scale.exp() * images @ said.T
    by_image, by_text = contrast(logits, possible), contrast(logits[:, :BATCH].T, possible[:, :BATCH].T)
    colors, kinds = (table[own] for table in layouts)
    layout = head.loss(seen.last_hidden_state[:, 1:], colors, kinds)
    loss = by_image + 0.5 * by_text + LAYOUT_WEIGHT * layout
    for o in optimizer:
        o.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([*model.parameters(), *head.parameters()], 1.0)
    for o in optimizer:
        o.step()
    with torch.no_grad():
        # As CLIP's: at most 100.
        model.logit_scale.clamp_(max=math.log(100))
    average.update(model, step)
    run.log(loss.item(), image=by_image.item(), text=by_text.item(), layout=layout.item())
    if (step + 1) % 250 == 0:
        print("  right preferred, edits and all:", *score(average.model), flush=True)

average.model.save_pretrained(run.work / "clip")
CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}).save_pretrained(run.work / "clip")
edited, hits = score(average.model)
run.report(edited=edited, hits=hits)
