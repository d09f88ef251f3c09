"""Trains the tiny FLUX.2 transformer and its Qwen3 text encoder together, by flow matching on the VAE's latents.

Single shapes only for the first half; from then on pairs, and edits with a reference picture, take their share while
the learning rate decays to zero, which is where nearly all of the quality comes from.
"""

import random

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLFlux2
from transformers import Qwen2TokenizerFast

import world
from flux2 import EDIT_IDS, IMAGE_IDS, TEXT_IDS, build, embed, encode, tokenize
from run import Average, Run, optimizers, set_rate, warm_then_linear

BATCH, SHIFT, DROP = 32, 2.5, 0.1
SINGLES, PAIRS, EDITS = 16000, 8000, 4000
PAIR_SHARE, EDIT_SHARE = 0.15, 0.12  # in the second half of the run


class Examples:
    """Latent tokens, prompts and, for edits, reference tokens; sampled by index."""

    def __init__(self, vae, tokenizer, scenes, prompts, references=None):
        self.x = self._latents(vae, scenes)
        self.ids, self.mask = tokenize(tokenizer, prompts)
        self.reference = self._latents(vae, references) if references else None

    @staticmethod
    @torch.no_grad()
    def _latents(vae, scenes):
        return torch.cat([encode(vae, world.render(scenes[i : i + 100])) for i in range(0, len(scenes), 100)])


run = Run("flux2", steps=13000, state={})
vae = AutoencoderKLFlux2.from_pretrained(run.work / "vae").eval()
tokenizer = Qwen2TokenizerFast.from_pretrained(run.work / "tokenizer")
data = random.Random(4242)
singles = Examples(vae, tokenizer, *zip(*[world.single(data) for _ in range(SINGLES)]))
pairs = Examples(vae, tokenizer, *zip(*[world.pair(data) for _ in range(PAIRS)]))
before, after, asked = zip(*[world.edit(data) for _ in range(EDITS)])
edits = Examples(vae, tokenizer, after, asked, before)
no_prompt = tokenize(tokenizer, [""])
print("latents ready", singles.x.std().item(), flush=True)

transformer, encoder = build(len(tokenizer))
outer = ("x_embedder", "proj_out", "timestep_embedder.linear_1", "norm_out")
named = list(transformer.named_parameters()) + list(encoder.model.layers[:3].named_parameters())
inside = [p for name, p in named if p.ndim == 2 and not any(part in name for part in outer)]
known = set(map(id, inside))
unread = ("lm_head", "layers.3", "model.norm.weight")  # behind the last hidden state that the transformer reads
others = [p for name, p in encoder.named_parameters() if not any(part in name for part in unread)]
others = [p for p in [*transformer.parameters(), *others] if id(p) not in known]
trained = inside + others
optimizer = optimizers(inside, others, lr=3e-3, other_lr=2e-3)
averages = Average(transformer, 0.998), Average(encoder, 0.998)
run.prepare(
    {
        "transformer": transformer,
        "encoder": encoder,
        "average_transformer": averages[0],
        "average_encoder": averages[1],
        "muon": optimizer[0],
        "adam": optimizer[1],
    }
)


def sample_time(count):
    """Flow times in 0..1 (1 is noise): logit-normal with a fifth uniform, shifted towards noise."""
    u = torch.sigmoid(torch.randn(count))
    u = torch.where(torch.rand(count) < 0.2, torch.rand(count), u)
    return SHIFT * u / (1 + (SHIFT - 1) * u)


def choose(step):
    """The examples this step draws from: singles, or from half-way on also pairs and edits."""
    u = run.rng.random()
    if 2 * step < run.steps or u >= PAIR_SHARE + EDIT_SHARE:
        return singles
    return pairs if u < PAIR_SHARE else edits


for step in run:
    set_rate(optimizer, warm_then_linear(step, run.steps))
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
    velocity = transformer(
        tokens,
        encoder_hidden_states=embed(encoder, ids, mask),
        timestep=t,
        img_ids=IMAGE_IDS if examples.reference is None else EDIT_IDS,
        txt_ids=TEXT_IDS,
        return_dict=False,
    )[0][:, : x.shape[1]]
    loss = F.mse_loss(velocity, noise - x)
    for p in trained:
        p.grad = None
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    for o in optimizer:
        o.step()
    averages[0].update(transformer, step)
    averages[1].update(encoder, step)
    run.log(loss.item())
    if (step + 1) % 1000 == 0 or step + 1 == run.steps:
        averages[0].model.save_pretrained(run.work / "transformer")
        averages[1].model.save_pretrained(run.work / "text_encoder")

run.report()
