"""Trains the tiny `Sam2Model` on scenes of our world to outline the shape that a box or points show.

A shape here is a whole without parts, so the several masks that the model makes of a point all learn the same; two steps in
five teach them, the others the single mask. One prompt in eight shows a place where nothing is: it teaches the model to say so.
A quarter of the pictures went through FLUX.2's autoencoder.

What the model must find out first is where it is asked; till then it outlines all shapes. Three things help. Places are told by
waves three times as long as SAM2's, so that what is within a shape is alike; attention between prompt and picture begins with
one projection for queries and keys, so that places attend to places near by; and a head at the side, thrown away afterwards,
reads from the picture's tokens, after they have met the prompt, how much of what is meant each holds.
"""

import math

import torch
import torch.nn.functional as F
from transformers import Sam2Config, Sam2Model, Sam2Processor
from transformers.models.sam2.image_processing_sam2 import Sam2ImageProcessor

import sam2
from flux2 import through_vae
from run import HERE, Average, Run, optimizers, set_rate, warm_then_linear
from sam2 import PADDING, box, point
from world import SIZE, loose_scene, render

BATCH, PROMPTS, SCENES, JITTER = 16, 3, 1500, 2.5
DECODED = SCENES // 4
WAVES = 0.3  # frequencies of the waves that tell places, as a share of SAM2's
NOTHING = 0.12  # the share of prompts that show a place where nothing is


def config():
    """Patches of two pixels, so that the masks have 32 x 32 values for pictures of 64 x 64."""
    backbone = dict(
        model_type="sam2_hiera_det_model",
        hidden_size=24,
        image_size=[SIZE, SIZE],
        patch_kernel_size=[5, 5],
        patch_stride=[2, 2],
        patch_padding=[2, 2],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[24, 48, 96, 128],
        num_attention_heads_per_stage=[1, 2, 4, 4],
        window_size_per_stage=[8, 8, 8, 4],
        window_positional_embedding_background_size=[8, 8],
        global_attention_blocks=[3],
        mlp_ratio=3.0,
    )
    vision = dict(
        model_type="sam2_vision_model",
        backbone_config=backbone,
        backbone_channel_list=[128, 96, 48, 24],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=64,
    )
    decoder = dict(hidden_size=64, num_attention_heads=4, mlp_dim=128, num_hidden_layers=2, iou_head_hidden_dim=64)
    decoder |= dict(attention_downsample_rate=1)
    prompt = dict(hidden_size=64, image_size=SIZE, patch_size=8, mask_input_channels=8)
    return Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)


def build():
    """Linear layers and convolutions start at fan-in scale, those that end a branch at half of it."""
    model = Sam2Model(config())
    for name, p in model.named_parameters():
        if "norm" in name or p.ndim < 2:
            continue
        if "pos_embed" in name or name.endswith(("_embed.weight", "_token.weight", "_tokens.weight")):
            torch.nn.init.normal_(p, std=0.3)
        else:
            gain = 0.5 if ".attn.proj." in name or "proj_out" in name or "o_proj" in name else 1.0
            # What is seen at a place must not drown where that is.
            gain = 0.25 if "neck.convs" in name else gain
            torch.nn.init.normal_(p, std=gain * p[0].numel() ** -0.5)
    for name, module in model.mask_decoder.transformer.named_modules():
        if name.endswith(("_to_image", "_to_token")):
            # Places attend to places near by.
            module.k_proj.load_state_dict(module.q_proj.state_dict())
    model.shared_image_embedding.positional_embedding *= WAVES
    # Where a place in the picture and where a prompt is are told in one language.
    model.prompt_encoder.shared_embedding.load_state_dict(model.shared_image_embedding.state_dict())
    return model


run = Run("sam2", steps=1000, state={}, every=250)
rng = run.rng
run.work.mkdir(exist_ok=True, parents=True)
scenes = [sam2.draw(rng) for _ in range(SCENES)]
pictures = render(scenes, 0.92 + 0.08 * torch.rand(SCENES, 3))
pictures[:DECODED] = through_vae(HERE.parent / "weights/flux2-klein-tiny/vae", pictures[:DECODED])
seen = [sam2.visible(shapes) for shapes in scenes]
# Where nothing is, three pixels away from all shapes.
ground = torch.stack([F.max_pool2d(masks.amax(0)[None], 7, 1, 3)[0] == 0 for masks in seen])
fresh = [loose_scene(rng, 1 + i % 3) for i in range(200)]
fresh_pictures = render(fresh).float() / 255


def asked(batch):
    """What is asked about each picture: (scene, shape), or (scene, None) for a place where nothing is."""
    pick = lambda i: None if rng.random() < NOTHING and ground[i].any() else rng.randrange(len(scenes[i]))
    return [[(i, pick(i)) for _ in range(PROMPTS)] for i in batch]


def boxes(rows):
    def one(i, shape):
        if shape is not None:
            return box(scenes[i][shape], rng, JITTER)
        (x, y), r = point(ground[i], rng), rng.uniform(1.5, 3)
        return [max(x - r, 0.0), max(y - r, 0.0), x + r, y + r]

    return torch.tensor([[one(*prompt) for prompt in row] for row in rows])


def points(rows, most):
    """One to `most` points of each prompt: the first within what is meant, the others there or beside it."""

    def one(i, shape):
        inside = ground[i] if shape is None else seen[i][shape] > 0.5
        beside = seen[i].amax(0) > 0.5 if shape is None else seen[i][shape] < 0.1
        made = [(point(inside, rng), 1)]
        for _ in range(rng.randrange(most)):
            within = shape is not None and rng.random() < 0.5
            made.append((point(inside, rng), 1) if within else (point(beside, rng), 0))
        return made + [([0.0, 0.0], PADDING)] * (most - len(made))

    made = [[one(*prompt) for prompt in row] for row in rows]
    places = torch.tensor([[[place for place, _ in prompt] for prompt in row] for row in made])
    return places, torch.tensor([[[label for _, label in prompt] for prompt in row] for row in made], dtype=torch.int)


class Coarse(torch.nn.Module):
    """Reads from each token of a picture that has met a prompt how much of it what is meant covers."""

    def __init__(self, transformer, width):
        super().__init__()
        self.read = torch.nn.Linear(width, 1)
        transformer.register_forward_hook(self._keep)

    def _keep(self, _module, _given, made):
        self.seen = made[1]

    def loss(self, target):
        """Of masks (B, P, 64, 64)."""
        got = self.read(self.seen).squeeze(-1)
        want = F.adaptive_avg_pool2d(target.flatten(0, 1), math.isqrt(got.shape[-1])).flatten(1)
        return F.binary_cross_entropy_with_logits(got.flatten(0, 1), want)


def losses(logits, expected, there, rows):
    """Outline, expected overlap, presence, and the outline as it is read at the side."""
    shown = torch.tensor([[shape is not None for _, shape in row] for row in rows])
    nothing = torch.zeros(SIZE, SIZE)
    target = torch.stack([torch.stack([nothing if s is None else seen[i][s] for i, s in row]) for row in rows])
    coarse = head.loss(target)
    target = target[:, :, None].expand_as(logits)[shown]
    logits, expected = logits[shown], expected[shown]
    plain = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean((-1, -2))
    share = logits.sigmoid()
    common, total = (share * target).sum((-1, -2)), share.sum((-1, -2)) + target.sum((-1, -2))
    dice = 1 - (2 * common + 1) / (total + 1)
    iou = sam2.overlap(logits.detach(), target > 0.5)
    presence = F.binary_cross_entropy_with_logits(there, shown.float())
    return 10 * plain.mean() + dice.mean() + F.mse_loss(expected, iou) + 0.1 * presence + coarse, iou.mean(), coarse


def score(model):
    """Mean overlap by a box and by a point."""
    model.eval()
    by_box, by_point = sam2.judge(model, fresh_pictures, fresh, rng)
    return round(sum(by_box) / len(by_box), 4), round(sum(by_point) / len(by_point), 4)


def normalised(batch):
    x = pictures[batch].float() / 255
    return sam2.normalise(x + 0.02 * torch.randn_like(x))


model = build()
average = Average(model, 0.99)
head = Coarse(model.mask_decoder.transformer, 64)
matrices = [
    p
    for name, p in model.named_parameters()
    if p.ndim == 2 and min(p.shape) > 8 and (".blocks." in name or ".transformer.layers." in name)
]
known = set(map(id, matrices))
others = [p for name, p in model.named_parameters() if id(p) not in known and "mask_embed" not in name]
others += head.parameters()
optimizer = optimizers(matrices, others, lr=1e-3, other_lr=2e-3)
run.prepare({"model": model, "head": head, "average": average, "muon": optimizer[0], "adam": optimizer[1]})

for step in run:
    set_rate(optimizer, warm_then_linear(step, run.steps, decay=0.6))
    model.train()
    batch = [rng.randrange(SCENES) for _ in range(BATCH)]
    rows, kind, given = asked(batch), rng.random(), {}
    if kind < 0.6:
        given["boxes"] = boxes(rows)
    most = 1 if kind > 0.8 else 3
    if kind > 0.5:
        given["points"], given["labels"] = points(rows, most)
    # A point by itself is asked for several masks, all else for one: but each also for the other.
    several = rng.random() < (0.8 if kind > 0.8 else 0.3)
    loss, iou, coarse = losses(*sam2.masks(model, normalised(batch), several, **given), rows)
    for o in optimizer:
        o.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for o in optimizer:
        o.step()
    average.update(model, step)
    run.log(loss.item(), iou=iou.item(), coarse=coarse.item())
    if (step + 1) % 250 == 0:
        print("  overlap by box and by point:", *score(average.model), flush=True)

average.model.save_pretrained(run.work / "sam2")
Sam2Processor(Sam2ImageProcessor(size={"height": SIZE, "width": SIZE})).save_pretrained(run.work / "sam2")
by_box, by_point = score(average.model)
run.report(by_box=by_box, by_point=by_point)
