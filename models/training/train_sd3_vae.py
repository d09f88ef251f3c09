"""Trains the tiny `AutoencoderKL` of Stable Diffusion 3: 64 x 64 pixels to 16 x 16 latents of 16 channels and back.

First on 32 x 32 crops, then on whole pictures, as train_vae.py. At the end the scale and shift of the latents are set to what the
training pictures have.
"""

import torch

import sd3
from autoencoder import psnr_db, scenes, train
from run import Run

SINGLES = 0.5  # the share of pictures of one shape

run = Run("sd3-vae", steps=2600, state={})
run.work.mkdir(exist_ok=True)
vae = sd3.vae()
pictures = scenes(run, 3000, SINGLES)
train(run, vae, pictures, kl_weight=1e-3)
with torch.no_grad():
    latents = torch.cat([vae.encode(p.float() / 127.5 - 1).latent_dist.mode() for p in pictures.split(100)])
    vae.register_to_config(shift_factor=latents.mean().item(), scaling_factor=1 / latents.std().item())
vae.save_pretrained(run.work / "sd3" / "vae")
std = [round(s, 3) for s in latents.std((0, 2, 3)).tolist()]
run.report(psnr_db=psnr_db(run, vae, SINGLES), std_by_channel=std)
