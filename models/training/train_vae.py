"""Trains the tiny `AutoencoderKLFlux2`: 64 x 64 pixels to 16 tokens of 32 channels and back.

First on 32 x 32 crops (many steps for little time), then on whole pictures. At the end the batch-norm buffers, which
FLUX.2 uses to scale latents, are set to the statistics of the latents of the training pictures.
"""

import math

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLFlux2

from run import Run
from world import pair, render, single
from flux2 import patchify

CROP, BATCH = 32, 16

run = Run("vae", steps=4200, state={})
run.work.mkdir(exist_ok=True)
vae = AutoencoderKLFlux2(
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    block_out_channels=(8, 16, 32, 64),
    layers_per_block=1,
    latent_channels=8,
    norm_num_groups=2,
    sample_size=64,
)
scenes = [(single if run.rng.random() < 0.6 else pair)(run.rng)[0] for _ in range(3000)]
pictures = render(scenes)
optimizer = torch.optim.AdamW(vae.parameters(), lr=3e-3, weight_decay=0.0, betas=(0.9, 0.99))
run.prepare({"vae": vae, "optimizer": optimizer})


def crops():
    """The half of 2 x BATCH random crops that shows the most."""
    out = []
    for i in torch.randint(len(pictures), (2 * BATCH,)).tolist():
        y, x = torch.randint(0, 64 - CROP + 1, (2,)).tolist()
        out.append(pictures[i, :, y : y + CROP, x : x + CROP])
    out = torch.stack(out).float() / 127.5 - 1
    return out[out.flatten(1).std(1).topk(BATCH).indices]


vae.train()
for step in run:
    rate = min(1.0, (step + 1) / 50) * (0.5 * (1 + math.cos(math.pi * step / run.steps)) + 0.02)
    optimizer.param_groups[0]["lr"] = 3e-3 * rate
    whole = step > 0.6 * run.steps
    x = pictures[torch.randint(len(pictures), (BATCH // 2,))].float() / 127.5 - 1 if whole else crops()
    posterior = vae.encode(x).latent_dist
    y = vae.decode(posterior.sample()).sample
    kl = 0.5 * (posterior.mean**2 + posterior.logvar.exp() - 1 - posterior.logvar).mean()
    loss = F.mse_loss(y, x) + 0.5 * F.l1_loss(y, x) + 5e-4 * kl
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
    optimizer.step()
    run.log(loss.item(), kl=kl.item(), mse=F.mse_loss(y, x).item())

vae.eval()
with torch.no_grad():
    latents = [patchify(vae.encode(p.float() / 127.5 - 1).latent_dist.mode()) for p in pictures.split(100)]
    latents = torch.cat(latents)
    vae.bn.running_mean.copy_(latents.mean((0, 2, 3)))
    vae.bn.running_var.copy_(latents.var((0, 2, 3)))
    held_out = render([(single if run.rng.random() < 0.6 else pair)(run.rng)[0] for _ in range(200)]).float() / 127.5 - 1
    again = vae.decode(vae.encode(held_out).latent_dist.mode()).sample.clamp(-1, 1)
    mse = F.mse_loss(again / 2, held_out / 2).item()
vae.save_pretrained(run.work / "vae")
run.report(psnr_db=round(-10 * math.log10(mse), 2))
