"""How both autoencoders are trained: on random crops that show something, and on whole pictures at the end."""

import math

import torch
import torch.nn.functional as F

from world import pair, render, single

CROP, BATCH = 32, 16


def scenes(run, count, single_share):
    """Pictures of one or two shapes, bytes of (count, 3, 64, 64)."""
    return render([(single if run.rng.random() < single_share else pair)(run.rng)[0] for _ in range(count)])


def crops(pictures):
    """The half of 2 x BATCH random crops that shows the most."""
    out = []
    for i in torch.randint(len(pictures), (2 * BATCH,)).tolist():
        y, x = torch.randint(0, 64 - CROP + 1, (2,)).tolist()
        out.append(pictures[i, :, y : y + CROP, x : x + CROP])
    out = torch.stack(out).float() / 127.5 - 1
    return out[out.flatten(1).std(1).topk(BATCH).indices]


def train(run, vae, pictures, kl_weight):
    """Trains `vae` to its end, resuming from the checkpoint if there is one."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=3e-3, weight_decay=0.0, betas=(0.9, 0.99))
    run.prepare({"vae": vae, "optimizer": optimizer})
    vae.train()
    for step in run:
        rate = min(1.0, (step + 1) / 50) * (0.5 * (1 + math.cos(math.pi * step / run.steps)) + 0.02)
        optimizer.param_groups[0]["lr"] = 3e-3 * rate
        whole = step > 0.6 * run.steps
        x = pictures[torch.randint(len(pictures), (BATCH // 2,))].float() / 127.5 - 1 if whole else crops(pictures)
        posterior = vae.encode(x).latent_dist
        y = vae.decode(posterior.sample()).sample
        kl = 0.5 * (posterior.mean**2 + posterior.logvar.exp() - 1 - posterior.logvar).mean()
        loss = F.mse_loss(y, x) + 0.5 * F.l1_loss(y, x) + kl_weight * kl
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        run.log(loss.item(), kl=kl.item(), mse=F.mse_loss(y, x).item())
    vae.eval()


@torch.no_grad()
def psnr_db(run, vae, single_share):
    """How well it gives back 200 scenes that it has not seen."""
    held_out = scenes(run, 200, single_share).float() / 127.5 - 1
    again = vae.decode(vae.encode(held_out).latent_dist.mode()).sample.clamp(-1, 1)
    return round(-10 * math.log10(F.mse_loss(again / 2, held_out / 2).item()), 2)
