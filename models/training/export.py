"""Writes what training made into models/weights: Hugging Face layout, f16, with a model card each. Names as arguments: only these."""

import json
import shutil
import sys

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import (
    BertTokenizerFast,
    CLIPModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Owlv2ForObjectDetection,
    Qwen2TokenizerFast,
    Qwen3ForCausalLM,
    Sam2Model,
    ViltForQuestionAnswering,
)

from run import HERE

WORK, WEIGHTS = HERE / "work", HERE.parent / "weights"
CARDS = HERE / "cards"


def flux2(folder):
    pipeline = Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(
            num_train_timesteps=1000,
            shift=3.0,
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=4096,
            time_shift_type="exponential",
        ),
        vae=AutoencoderKLFlux2.from_pretrained(WORK / "vae"),
        text_encoder=Qwen3ForCausalLM.from_pretrained(WORK / "text_encoder"),
        tokenizer=Qwen2TokenizerFast.from_pretrained(WORK / "tokenizer"),
        transformer=Flux2Transformer2DModel.from_pretrained(WORK / "transformer"),
        is_distilled=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder)


def vilt(folder):
    ViltForQuestionAnswering.from_pretrained(WORK / "vilt").half().save_pretrained(folder)
    BertTokenizerFast.from_pretrained(WORK / "vilt-tokenizer").save_pretrained(folder)
    shutil.copy(WORK / "vilt" / "preprocessor_config.json", folder)


def owlv2(folder):
    Owlv2ForObjectDetection.from_pretrained(WORK / "owlv2").half().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(WORK / "owlv2" / name, folder)


def sd3(folder):
    parts = WORK / "sd3"
    pipeline = StableDiffusion3Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0),
        vae=AutoencoderKL.from_pretrained(parts / "vae"),
        transformer=SD3Transformer2DModel.from_pretrained(parts / "transformer"),
        text_encoder=CLIPTextModelWithProjection.from_pretrained(parts / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(parts / "tokenizer"),
        text_encoder_2=CLIPTextModelWithProjection.from_pretrained(parts / "text_encoder_2"),
        tokenizer_2=CLIPTokenizer.from_pretrained(parts / "tokenizer_2"),
        text_encoder_3=None,
        tokenizer_3=None,
    )
    pipeline.to(torch.float16).save_pretrained(folder)


def sam2(folder):
    Sam2Model.from_pretrained(WORK / "sam2").half().save_pretrained(folder)
    shutil.copy(WORK / "sam2" / "processor_config.json", folder)


def clip(folder):
    CLIPModel.from_pretrained(WORK / "clip").half().save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        shutil.copy(WORK / "clip" / name, folder)


def clean(folder):
    """Removes traces of this machine, and the modes that would keep others from reading the files."""
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o644)
        if file.suffix == ".json":
            data = json.loads(file.read_text())
            if isinstance(data, dict) and data.pop("_name_or_path", None) is not None:
                file.write_text(json.dumps(data, indent=2) + "\n")


MODELS = {"flux2-klein-tiny": flux2, "vilt-tiny": vilt, "owlv2-tiny": owlv2, "sam2-tiny": sam2, "clip-tiny": clip, "sd3-tiny": sd3}
for name in sys.argv[1:] or MODELS:
    folder, write = WEIGHTS / name, MODELS[name]
    shutil.rmtree(folder, ignore_errors=True)
    write(folder)
    clean(folder)
    shutil.copy(CARDS / f"{name}.md", folder / "README.md")
    if (samples := CARDS / f"{name}.png").exists():
        shutil.copy(samples, folder / "samples.png")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{folder}: {size / 1e6:.2f} MB")
