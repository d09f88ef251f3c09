"""Trains the tiny `AutoencoderKLFlux2`: 64 x 64 pixels to 16 tokens of 32 channels and back.

First on 32 x 32 crops (many steps for little time), then on whole pictures. At the end the batch-norm buffers, which
FLUX.2 uses to scale latents, are set to the statistics of the latents of the training pictures.
"""

import torch
from diffusers import AutoencoderKLFlux2

from autoencoder import psnr_db, scenes, train
from flux2 import patchify
from run import Run

SINGLES = 0.6  # the share of pictures of one shape

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
pictures = scenes(run, 3000, SINGLES)
train(run, vae, pictures, kl_weight=5e-4)
with torch.no_grad():
    latents = torch.cat([patchify(vae.encode(p.float() / 127.5 - 1).latent_dist.mode()) for p in pictures.split(100)])
    vae.bn.running_mean.copy_(latents.mean((0, 2, 3)))
    vae.bn.running_var.copy_(latents.var((0, 2, 3)))
vae.save_pretrained(run.work / "vae")
run.report(psnr_db=psnr_db(run, vae, SINGLES))
