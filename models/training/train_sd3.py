"""Trains the tiny SD3 transformer and its two CLIP text encoders together, by flow matching on the latents of `train_sd3_vae.py`.

Half of what it sees are regions to be painted anew, as `StableDiffusion3InpaintPipeline` has them: outside the region the latents of
the picture before, noised as far as those inside, and only what is inside counts. The rest are whole pictures. A prompt names one
shape, whether or not there is another one. Two heads help at the side and are thrown away, as in train_flux2.py.
"""

import random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

import sd3
import world
from run import Average, Run, optimizers, set_rate, warm_then_linear

BATCH, SHIFT, DROP = 32, 3.0, 0.1
REPAINTS, SINGLES = 14000, 5000
REPAINT_SHARE = 0.6
LAYOUT_WEIGHT, NAMES_WEIGHT = 0.2, 0.05
LAYOUT_BLOCK = 2  # the block whose image tokens the layout is read from
SIDE = 8

run = Run("sd3", steps=5000, state={})
folder = run.work / "sd3"
vae = AutoencoderKL.from_pretrained(folder / "vae").float().eval()
words = sd3.tokenizers(folder)
data = random.Random(5151)


def draw(make, count):
    return zip(*[world.training(make, data) for _ in range(count)])


def single(rng):
    shapes = world.scene(rng, 1)
    return shapes, world.article(shapes[0].name)


class Examples:
    """Latents, prompts, layouts and names; of regions also the latents before and where they are."""

    def __init__(self, scenes, prompts, before=None):
        self.x = sd3.encode(vae, world.render(scenes))
        self.ids = sd3.tokenize(words, list(prompts))
        self.colors, self.kinds = world.layout(scenes, SIDE)
        self.names = torch.tensor([[world.COLORS.index(s[0].color), world.KINDS.index(s[0].kind)] for s in scenes])
        if before is not None:
            self.before = sd3.encode(vae, world.render(before))
            self.inside = sd3.cells(torch.stack([sd3.region(b[0], a[0]) for b, a in zip(before, scenes)]))


before, after, prompts = draw(lambda rng: sd3.repaint(rng, 1 if rng.random() < 0.4 else 2), REPAINTS)
repaints = Examples(after, prompts, before)
singles = Examples(*draw(single, SINGLES))
nothing = sd3.tokenize(words, [""])
print("latents ready", repaints.x.std().item(), flush=True)


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
transformer.set_attn_processor(sd3.CountedAttention())
heads = Heads()
inside = [p for name, p in transformer.named_parameters() if "transformer_blocks" in name and p.ndim == 2]
inside += [p for e in encoders for name, p in e.named_parameters() if ".layers." in name and p.ndim == 2]
known = set(map(id, inside))
modules = (transformer, *encoders, heads)
others = [p for module in modules for p in module.parameters() if id(p) not in known]
optimizer = optimizers(inside, others, lr=3e-3, other_lr=2e-3)
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
    set_rate(optimizer, warm_then_linear(step, run.steps, decay=0.6))
    examples = repaints if run.rng.random() < REPAINT_SHARE + 0.2 else singles
    whole = examples is singles or run.rng.random() < 0.25
    index = torch.randint(len(examples.x), (BATCH,))
    x, ids = examples.x[index], examples.ids[:, index].clone()
    dropped = torch.rand(BATCH) < DROP
    ids[:, dropped] = nothing
    t = sample_time(BATCH)[:, None, None, None]
    noise = torch.randn_like(x)
    noised = torch.lerp(x, noise, t)
    counts = torch.ones_like(x[:, :1])
    if not whole:
        counts = examples.inside[index]
        noised = torch.where(counts > 0, noised, torch.lerp(examples.before[index], noise, t))
    text, pooled = sd3.embed(encoders, ids)
    velocity = transformer(noised, text, pooled, t.flatten() * 1000, return_dict=False)[0]
    flow = ((velocity - (noise - x)) ** 2 * counts).sum() / (counts.sum() * x.shape[1])
    layout = heads.layout_loss(seen["hidden"], examples.colors[index], examples.kinds[index])
    named = heads.names_loss(pooled, examples.names[index], ~dropped)
    loss = flow + LAYOUT_WEIGHT * layout + NAMES_WEIGHT * named
    for p in inside + others:
        p.grad = None
    loss.backward()
    torch.nn.utils.clip_grad_norm_(inside + others, 1.0)
    for o in optimizer:
        o.step()
    for average, module in zip(averages, (transformer, *encoders)):
        average.update(module, step)
    run.log(flow.item(), layout=layout.item(), named=named.item(), whole=float(whole))
    if (step + 1) % 500 == 0 or step + 1 == run.steps:
        for average, name in zip(averages, ("transformer", "text_encoder", "text_encoder_2")):
            average.model.save_pretrained(folder / name)

run.report()
