#!/bin/sh
# Trains everything that models/weights ships, from nothing; continues where an interrupted run stopped.
# About five hours on one core: python -m venv, pip install -r requirements.txt, then this.
set -eu
cd "$(dirname "$0")"
export OMP_WAIT_POLICY=passive
python make_tokenizers.py
python train_vae.py
python train_flux2.py
python train_flux2.py --more-edits
python train_sd3_vae.py
python train_sd3.py
python train_vilt.py
python train_owlv2.py
python train_sam2.py
python train_clip.py
python export.py
