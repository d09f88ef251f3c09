"""Writes what training made into models/weights: Hugging Face layout, f16, with a model card each. OWLv2 goes to
models/fixtures: no task uses it yet, and of the weights that are shipped every daemon tells its clients.
"""

import json
import shutil

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from transformers import (
    BertTokenizerFast,
    Owlv2ForObjectDetection,
    Qwen2TokenizerFast,
    Qwen3ForCausalLM,
    ViltForQuestionAnswering,
)

from run import HERE

WORK, WEIGHTS, FIXTURES = HERE / "work", HERE.parent / "weights", HERE.parent / "fixtures"
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


def clean(folder):
    """Removes traces of this machine, and the modes that would keep others from reading the files."""
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(0o644)
        if file.suffix == ".json":
            data = json.loads(file.read_text())
            if isinstance(data, dict) and data.pop("_name_or_path", None) is not None:
                file.write_text(json.dumps(data, indent=2) + "\n")


for parent, name, write in (
    (WEIGHTS, "flux2-klein-tiny", flux2),
    (WEIGHTS, "vilt-tiny", vilt),
    (FIXTURES, "owlv2-tiny", owlv2),
):
    folder = parent / name
    shutil.rmtree(folder, ignore_errors=True)
    write(folder)
    clean(folder)
    shutil.copy(CARDS / f"{name}.md", folder / "README.md")
    if (samples := CARDS / f"{name}.png").exists():
        shutil.copy(samples, folder / "samples.png")
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    print(f"{folder}: {size / 1e6:.2f} MB")
