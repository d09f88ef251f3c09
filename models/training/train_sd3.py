"""Trains the tiny SD3 transformer and its two CLIP text encoders together, by flow matching on the latents of `train_sd3_vae.py`.

It is one for painting regions anew: beside the noised latents it is given the region and what is around it, as
`StableDiffusion3InpaintPipeline` does with a transformer of 33 channels. What is inside the region counts most. A fifth of what it sees
are whole pictures, in which everything is region. A prompt names one shape, whether or not there is another one. Two heads help at
the side and are thrown away, as in train_flux2.py.

The shipped weights began as a transformer of 16 channels, which was not told where the region is, and found out too late: it left
regions white, or painted shapes of another size. `--from16` goes on from such weights in work/sd3-16.
"""

import random
import sys

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, SD3Transformer2DModel
from transformers import CLIPTextModelWithProjection

import sd3
import world
from run import Average, Run, optimizers, set_rate, warm_then_linear

BATCH, SHIFT, DROP = 32, 3.0, 0.1
REPAINTS = 14000
WHOLE_SHARE = 0.15
OUTSIDE_WEIGHT = 0.1  # how much what is outside counts, to what is inside
LAYOUT_WEIGHT, NAMES_WEIGHT = 0.2, 0.05
LAYOUT_BLOCK = 2  # the block whose image tokens the layout is read from
SIDE = 8

going_on = "--from16" in sys.argv
run = Run("sd3", steps=2400 if going_on else 5000, state={}, flags=("--from16",))
folder, before_that = run.work / "sd3", run.work / "sd3-16"
vae = AutoencoderKL.from_pretrained((before_that if going_on else folder) / "vae").float().eval()
words = sd3.tokenizers(folder)
data = random.Random(6262 if going_on else 5151)


def repaint(rng):
    """A region to be painted anew, and how far it goes beyond the shape."""
    return *sd3.repaint(rng, 1 if rng.random() < 0.4 else 2), rng.choice((1.0, 1.0, 2.0, 3.0))


before, after, prompts, grown = zip(*[world.training(repaint, data) for _ in range(REPAINTS)])
inside = sd3.cells(torch.stack([sd3.region(b[0], a[0], grow) for b, a, grow in zip(before, after, grown)]))
painted, outside = sd3.encode(vae, world.render(after)), sd3.encode(vae, world.render(before), inside)
everything = torch.ones_like(inside[:1])
unseen = sd3.encode(vae, world.render([[]]), everything)
prompt_ids, nothing = sd3.tokenize(words, list(prompts)), sd3.tokenize(words, [""])
colors, kinds = world.layout(after, SIDE)
names = torch.tensor([[world.COLORS.index(s[0].color), world.KINDS.index(s[0].kind)] for s in after])
print("latents ready", painted.std().item(), flush=True)


class Heads(torch.nn.Module):
    """What is asked at the side, and thrown away."""

    def __init__(self):
        super().__init__()
        self.colors = torch.nn.Linear(sd3.HIDDEN, 1 + len(world.COLORS))
        self.kinds = torch.nn.Linear(sd3.HIDDEN, 1 + len(world.KINDS))
        self.names = torch.nn.Linear(2 * sd3.PROJECTED, len(world.COLORS) + len(world.KINDS))

    def layout_loss(self, hidden, colors, kinds):
        hidden = F.layer_norm(hidden, hidden.shape[-1:])
        asked = ((self.colors, colors), (self.kinds, kinds))
        return sum(F.cross_entropy(head(hidden).flatten(0, 1), share.flatten(0, 1)) for head, share in asked)

    def names_loss(self, pooled, named, kept):
        colors, kinds = self.names(F.layer_norm(pooled, pooled.shape[-1:]))[kept].split([len(world.COLORS), len(world.KINDS)], -1)
        return F.cross_entropy(colors, named[kept, 0]) + F.cross_entropy(kinds, named[kept, 1])


transformer, encoders = sd3.build(words[0])
if going_on:
    old = SD3Transformer2DModel.from_pretrained(before_that / "transformer").float().state_dict()
    entry = transformer.pos_embed.proj.weight
    with torch.no_grad():
        # What it is told now says nothing yet.
        entry.zero_()
        entry[:, : sd3.LATENT] = old.pop("pos_embed.proj.weight")
    transformer.load_state_dict(old, strict=False)
    encoders = [CLIPTextModelWithProjection.from_pretrained(before_that / name).float() for name in ("text_encoder", "text_encoder_2")]
transformer.set_attn_processor(sd3.CountedAttention())
heads = Heads()
matrices = [p for name, p in transformer.named_parameters() if "transformer_blocks" in name and p.ndim == 2]
matrices += [p for e in encoders for name, p in e.named_parameters() if ".layers." in name and p.ndim == 2]
known = set(map(id, matrices))
modules = (transformer, *encoders, heads)
others = [p for module in modules for p in module.parameters() if id(p) not in known]
optimizer = optimizers(matrices, others, lr=3e-3, other_lr=2e-3)
averages = [Average(module, 0.998) for module in (transformer, *encoders)]
run.prepare(
    {
        **{f"model{i}": module for i, module in enumerate(modules)},
        **{f"average{i}": average for i, average in enumerate(averages)},
        "muon": optimizer[0],
        "adam": optimizer[1],
    }
)
seen = {}
transformer.transformer_blocks[LAYOUT_BLOCK].register_forward_hook(lambda *at: seen.update(hidden=at[-1][1]))


def sample_time(count):
    """Flow times in 0..1 (1 is noise): logit-normal with a fifth uniform, shifted towards noise."""
    u = torch.sigmoid(torch.randn(count))
    u = torch.where(torch.rand(count) < 0.2, torch.rand(count), u)
    return SHIFT * u / (1 + (SHIFT - 1) * u)


for step in run:
    set_rate(optimizer, warm_then_linear(step, run.steps, decay=0.7) * (0.7 if going_on else 1.0))
    index = torch.randint(len(painted), (BATCH,))
    x, ids = painted[index], prompt_ids[:, index].clone()
    region, around = inside[index].clone(), outside[index].clone()
    whole, dropped = torch.rand(BATCH) < WHOLE_SHARE, torch.rand(BATCH) < DROP
    region[whole], around[whole] = everything[0], unseen[0]
    ids[:, dropped] = nothing
    t = sample_time(BATCH)[:, None, None, None]
    noise = torch.randn_like(x)
    text, pooled = sd3.embed(encoders, ids)
    read = sd3.given(torch.lerp(x, noise, t), region, around)
    velocity = transformer(read, text, pooled, t.flatten() * 1000, return_dict=False)[0]
    counts = OUTSIDE_WEIGHT + (1 - OUTSIDE_WEIGHT) * region
    flow = ((velocity - (noise - x)) ** 2 * counts).sum() / (counts.sum() * x.shape[1])
    layout = heads.layout_loss(seen["hidden"], colors[index], kinds[index])
    named = heads.names_loss(pooled, names[index], ~dropped)
    loss = flow + LAYOUT_WEIGHT * layout + NAMES_WEIGHT * named
    for p in matrices + others:
        p.grad = None
    loss.backward()
    torch.nn.utils.clip_grad_norm_(matrices + others, 1.0)
    for o in optimizer:
        o.step()
    for average, module in zip(averages, (transformer, *encoders)):
        average.update(module, step)
    run.log(flow.item(), layout=layout.item(), named=named.item())
    if (step + 1) % 500 == 0 or step + 1 == run.steps:
        for average, name in zip(averages, ("transformer", "text_encoder", "text_encoder_2")):
            average.model.save_pretrained(folder / name)

run.report()
