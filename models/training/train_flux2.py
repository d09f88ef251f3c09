"""Trains the tiny FLUX.2 transformer and its Qwen3 text encoder together, by flow matching on the VAE's latents.

Single shapes come first; then pairs, which are the hard part, take more than half. Two heads help at the side and are
thrown away: one reads from the image tokens, half-way through the transformer, what each of them will show
(representation alignment, Yu et al. 2024, with the scene itself as the representation); one reads from the last text
token which shapes the prompt names. Without them a model of this size hardly learns pairs in the time there is.

`--more-edits` is a second, shorter run that starts from what the first one made, or else from the shipped weights: half of
what it sees are edits, and most of these of pictures of two shapes.
"""

import random
import sys

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from transformers import Qwen2TokenizerFast, Qwen3ForCausalLM

import world
from flux2 import EDIT_IDS, HIDDEN, IMAGE_IDS, TEXT_HIDDEN, TEXT_IDS, TOKENS, build, embed, encode, tokenize
from run import HERE, Average, Run, optimizers, set_rate, warm_then_linear

BATCH, SHIFT, DROP = 32, 2.5, 0.1
SINGLES, PAIRS, EDITS = 16000, 40000, 6000
SINGLES_ONLY = 0.15  # the share of the first run before pairs and edits come in
PAIR_SHARE, EDIT_SHARE = 0.6, 0.12
# Of the second run.
MORE_EDITS, SECOND_PAIR_SHARE, SECOND_EDIT_SHARE, SECOND_RATE = 24000, 0.35, 0.5, 0.4
TWO_SHAPES = 0.6  # the share of its edits that are of two shapes
LAYOUT_WEIGHT, NAMES_WEIGHT = 0.2, 0.05
LAYOUT_BLOCK = 1  # the single-stream block whose output the layout is read from
SIDE = 4


def names(shapes):
    """The shapes a prompt names, in its order, as class numbers: colour and kind of the first and of the second (0: none)."""
    row = []
    for shape in [*shapes, None, None][:2]:
        row += [1 + world.COLORS.index(shape.color), 1 + world.KINDS.index(shape.kind)] if shape else [0, 0]
    return row


class Examples:
    """Latent tokens, prompts, layouts and, for edits, reference tokens; sampled by index."""

    def __init__(self, vae, tokenizer, scenes, prompts, references=None):
        self.x = self._latents(vae, scenes)
        self.colors, self.kinds = world.layout(scenes, SIDE)
        self.names = torch.tensor([names(s) for s in scenes])
        self.ids, self.mask = tokenize(tokenizer, prompts)
        self.reference = self._latents(vae, references) if references else None

    @staticmethod
    @torch.no_grad()
    def _latents(vae, scenes):
        return torch.cat([encode(vae, world.render(scenes[i : i + 100])) for i in range(0, len(scenes), 100)])


class Heads(torch.nn.Module):
    """What is asked at the side, and thrown away."""

    def __init__(self):
        super().__init__()
        self.colors = torch.nn.Linear(HIDDEN, 1 + len(world.COLORS))
        self.kinds = torch.nn.Linear(HIDDEN, 1 + len(world.KINDS))
        self.names = torch.nn.Linear(3 * TEXT_HIDDEN, 2 * (2 + len(world.COLORS) + len(world.KINDS)))

    def layout_loss(self, hidden, colors, kinds):
        """`hidden` (B, 16, HIDDEN); the shares are (B, 16, classes)."""
        hidden = F.layer_norm(hidden, hidden.shape[-1:])
        asked = ((self.colors, colors), (self.kinds, kinds))
        return sum(F.cross_entropy(head(hidden).flatten(0, 1), share.flatten(0, 1)) for head, share in asked)

    def names_loss(self, text, mask, named):
        """`text` (B, TOKENS, 3 * TEXT_HIDDEN), read at the last token that is not padding."""
        last = text[torch.arange(len(text)), mask.sum(1) - 1]
        parts = self.names(F.layer_norm(last, last.shape[-1:])).split([1 + len(world.COLORS), 1 + len(world.KINDS)] * 2, -1)
        return sum(F.cross_entropy(part, named[:, i]) for i, part in enumerate(parts))


second = "--more-edits" in sys.argv
run = Run(*(("flux2-edits", 4500) if second else ("flux2", 13000)), state={}, flags=("--more-edits",))
shipped = HERE.parent / "weights" / "flux2-klein-tiny"
begun = shipped if second and not (run.work / "vae").exists() else run.work
vae = AutoencoderKLFlux2.from_pretrained(begun / "vae").float().eval()
tokenizer = Qwen2TokenizerFast.from_pretrained(begun / "tokenizer")
data = random.Random(4343 if second else 4242)


def draw(make, count):
    return zip(*[world.training(make, data) for _ in range(count)])


def edit(rng):
    """Of one shape; in the second run mostly of two."""
    return world.edit(rng, 2 if second and rng.random() < TWO_SHAPES else 1)


singles = Examples(vae, tokenizer, *draw(world.single, SINGLES))
pairs = Examples(vae, tokenizer, *draw(world.pair, PAIRS))
before, after, asked = draw(edit, MORE_EDITS if second else EDITS)
edits = Examples(vae, tokenizer, after, asked, before)
no_prompt = tokenize(tokenizer, [""])
print("latents ready", singles.x.std().item(), flush=True)

transformer, encoder = build(len(tokenizer))
if second:
    transformer = Flux2Transformer2DModel.from_pretrained(begun / "transformer").float()
    encoder = Qwen3ForCausalLM.from_pretrained(begun / "text_encoder").float()
heads = Heads()
outer = ("x_embedder", "proj_out", "timestep_embedder.linear_1", "norm_out")
named = list(transformer.named_parameters()) + list(encoder.model.layers[:3].named_parameters())
inside = [p for name, p in named if p.ndim == 2 and not any(part in name for part in outer)]
known = set(map(id, inside))
unread = ("lm_head", "layers.3", "model.norm.weight")  # behind the last hidden state that the transformer reads
others = [p for name, p in encoder.named_parameters() if not any(part in name for part in unread)]
others = [p for p in [*transformer.parameters(), *others, *heads.parameters()] if id(p) not in known]
trained = inside + others
optimizer = optimizers(inside, others, lr=3e-3, other_lr=2e-3)
averages = Average(transformer, 0.998), Average(encoder, 0.998)
run.prepare(
    {
        "transformer": transformer,
        "encoder": encoder,
        "heads": heads,
        "average_transformer": averages[0],
        "average_encoder": averages[1],
        "muon": optimizer[0],
        "adam": optimizer[1],
    }
)
seen = {}
transformer.single_transformer_blocks[LAYOUT_BLOCK].register_forward_hook(lambda *at: seen.update(hidden=at[-1]))


def sample_time(count):
    """Flow times in 0..1 (1 is noise): logit-normal with a fifth uniform, shifted towards noise."""
    u = torch.sigmoid(torch.randn(count))
    u = torch.where(torch.rand(count) < 0.2, torch.rand(count), u)
    return SHIFT * u / (1 + (SHIFT - 1) * u)


def choose(step):
    """The examples this step draws from: singles at first, then also pairs and edits."""
    u = run.rng.random()
    of_pairs, of_edits = (SECOND_PAIR_SHARE, SECOND_EDIT_SHARE) if second else (PAIR_SHARE, EDIT_SHARE)
    if u >= of_pairs + of_edits or not second and step < SINGLES_ONLY * run.steps:
        return singles
    return pairs if u < of_pairs else edits


for step in run:
    set_rate(optimizer, warm_then_linear(step, run.steps, decay=0.6) * (SECOND_RATE if second else 1.0))
    examples = choose(step)
    index = torch.randint(len(examples.x), (BATCH,))
    x, ids, mask = examples.x[index], examples.ids[index].clone(), examples.mask[index].clone()
    dropped = torch.rand(BATCH) < DROP
    ids[dropped], mask[dropped] = no_prompt[0][0], no_prompt[1][0]
    t = sample_time(BATCH)
    noise = torch.randn_like(x)
    tokens = torch.lerp(x, noise, t[:, None, None])
    if examples.reference is not None:
        tokens = torch.cat([tokens, examples.reference[index]], 1)
    text = embed(encoder, ids, mask)
    velocity = transformer(
        tokens,
        encoder_hidden_states=text,
        timestep=t,
        img_ids=IMAGE_IDS if examples.reference is None else EDIT_IDS,
        txt_ids=TEXT_IDS,
        return_dict=False,
    )[0][:, : x.shape[1]]
    flow = F.mse_loss(velocity, noise - x)
    layout = heads.layout_loss(seen["hidden"][:, TOKENS : TOKENS + x.shape[1]], examples.colors[index], examples.kinds[index])
    loss = flow + LAYOUT_WEIGHT * layout
    if examples.reference is None:
        known_names = examples.names[index] * (~dropped)[:, None]
        loss = loss + NAMES_WEIGHT * heads.names_loss(text, mask, known_names)
    for p in trained:
        p.grad = None
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    for o in optimizer:
        o.step()
    averages[0].update(transformer, step)
    averages[1].update(encoder, step)
    run.log(flow.item(), layout=layout.item(), pairs=float(examples is pairs))
    if (step + 1) % 1000 == 0 or step + 1 == run.steps:
        averages[0].model.save_pretrained(run.work / "transformer")
        averages[1].model.save_pretrained(run.work / "text_encoder")

run.report()
