"""Trains the tiny `AutoencoderKL` of Stable Diffusion 3: 64 x 64 pixels to 16 x 16 latents of 16 channels and back.

First on 32 x 32 crops, then on whole pictures, as train_vae.py. At the end the scale and shift of the latents are set to what the
training pictures have.
"""

import math

import torch
import torch.nn.functional as F

import sd3
from run import Run
from world import pair, render, single

CROP, BATCH = 32, 16

run = Run("sd3-vae", steps=2600, state={})
run.work.mkdir(exist_ok=True)
vae = sd3.vae()
pictures = render([(single if run.rng.random() < 0.5 else pair)(run.rng)[0] for _ in range(3000)])
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
    loss = F.mse_loss(y, x) + 0.5 * F.l1_loss(y, x) + 1e-3 * kl
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
    optimizer.step()
    run.log(loss.item(), kl=kl.item(), mse=F.mse_loss(y, x).item())

vae.eval()
with torch.no_grad():
    latents = torch.cat([vae.encode(p.float() / 127.5 - 1).latent_dist.mode() for p in pictures.split(100)])
    vae.register_to_config(shift_factor=latents.mean().item(), scaling_factor=1 / latents.std().item())
    held_out = render([(single if run.rng.random() < 0.5 else pair)(run.rng)[0] for _ in range(200)]).float() / 127.5 - 1
    again = vae.decode(vae.encode(held_out).latent_dist.mode()).sample.clamp(-1, 1)
    mse = F.mse_loss(again / 2, held_out / 2).item()
vae.save_pretrained(run.work / "sd3" / "vae")
run.report(psnr_db=round(-10 * math.log10(mse), 2), std_by_channel=[round(s, 3) for s in latents.std((0, 2, 3)).tolist()])
