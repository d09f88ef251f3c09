"""Scores the shipped weights with the reference implementations.

ViLT: every question of easy-VQA's official test split, and held-out questions about scenes of our world. FLUX.2: 200
fixed single-shape prompts, 100 fixed pairs and 50 fixed edits, judged by the pixel checker, whose score on drawn pictures of the same
prompts (its ceiling) is printed beside. Takes about three minutes on one core.
"""

import argparse
import json
import random
from pathlib import Path

import torch
from PIL import Image
from diffusers import Flux2KleinPipeline
from transformers import BertTokenizerFast, ViltForQuestionAnswering

import checker
import questions
import world
from flux2 import TEXT_LAYERS, TOKENS
from run import HERE

SINGLES, PAIRS, EDITS, STEPS, GUIDANCE, BATCH = 200, 100, 50, 20, 3.0, 25


@torch.no_grad()
def vilt(folder):
    model = ViltForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = BertTokenizerFast.from_pretrained(folder)

    def right(rows, pictures):
        hits = []
        for at in range(0, len(rows), 100):
            part = rows[at : at + 100]
            text = tokenizer([q for q, _, _ in part], padding=True, return_tensors="pt")
            pixels = pictures[[i for _, _, i in part]].float() / 127.5 - 1
            best = model(**text, pixel_values=pixels, pixel_mask=torch.ones(pixels[:, 0].shape)).logits.argmax(-1)
            hits += [model.config.id2label[b] == answer for b, (_, answer, _) in zip(best.tolist(), part)]
        return hits

    rows, pictures = questions.easy_vqa("test")
    hits = right(rows, pictures)
    scores = {"easy_vqa_test": round(sum(hits) / len(hits), 4), "easy_vqa_questions": len(hits)}
    rng = random.Random(20_000)
    scenes = [world.scene(rng, rng.choice((1, 2, 2, 3))) for _ in range(500)]
    pictures = world.render(scenes)
    for form in questions.FORMS:
        hits = right([(*questions.about(s, rng, form), i) for i, s in enumerate(scenes)], pictures)
        scores[f"own_{form}"] = round(sum(hits) / len(hits), 3)
    return scores


def in_relation(found, shapes):
    """True if the two colours stand as the scene has them, whatever their kinds."""
    wanted = world.relation(*shapes)
    at = {f.color: f for f in found}
    a, b = at.get(shapes[0].color), at.get(shapes[1].color)
    return bool(a and b and wanted == world.relation(a, b, margin=4.0, slack=16.0))


def edited(pipeline, before, after, text, seed):
    """Edits the picture of `before`: whether it shows what was asked for, and whether the shape stayed where it was."""
    picture = pipeline(
        image=to_pil_image(world.render([before])[0]),
        prompt=text,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(seed),
        text_encoder_out_layers=TEXT_LAYERS,
        max_sequence_length=TOKENS,
        height=world.SIZE,
        width=world.SIZE,
        output_type="pt",
    ).images[0]
    found = checker.find(picture)
    kept = bool(found) and abs(found[0].x - before[0].x) + abs(found[0].y - before[0].y) < 6
    return checker.shows(picture, after), kept


def to_pil_image(picture):
    return Image.fromarray(picture.permute(1, 2, 0).numpy())


@torch.no_grad()
def flux2(folder):
    pipeline = Flux2KleinPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    rng = random.Random(10_000)
    scores = {}
    for name, make, count in (("single", world.single, SINGLES), ("pair", world.pair, PAIRS)):
        scenes, prompts = zip(*[make(rng) for _ in range(count)])
        pictures = []
        for at in range(0, count, BATCH):
            part = list(prompts[at : at + BATCH])
            noise = [torch.randn(32, 4, 4, generator=torch.Generator().manual_seed(at + i)) for i in range(len(part))]
            made = pipeline(
                prompt=part,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                latents=torch.stack(noise),
                text_encoder_out_layers=TEXT_LAYERS,
                max_sequence_length=TOKENS,
                height=world.SIZE,
                width=world.SIZE,
                output_type="pt",
            )
            pictures += list(made.images)
        drawn = world.render(list(scenes)).float() / 255
        found = [checker.find(p) for p in pictures]
        same = [sorted(f.color for f in fs) == sorted(s.color for s in scene) for fs, scene in zip(found, scenes)]
        scores[f"{name}_exact"] = round(sum(checker.shows(p, s) for p, s in zip(pictures, scenes)) / count, 3)
        scores[f"{name}_color"] = round(sum(same) / count, 3)
        scores[f"{name}_ceiling"] = round(sum(checker.shows(p, s) for p, s in zip(drawn, scenes)) / count, 3)
        if name == "pair":
            related = [(f, s) for f, s in zip(found, scenes) if world.relation(*s)]
            scores["pair_relation"] = round(sum(in_relation(f, s) for f, s in related) / len(related), 3)
    edits = [edited(pipeline, *world.edit(rng), seed) for seed in range(EDITS)]
    scores["edit_exact"] = round(sum(shown for shown, _ in edits) / EDITS, 3)
    scores["edit_in_place"] = round(sum(shown and kept for shown, kept in edits) / EDITS, 3)
    return scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=HERE.parent / "weights")
    args = parser.parse_args()
    torch.set_num_threads(2)
    print("vilt-tiny", json.dumps(vilt(args.weights / "vilt-tiny")), flush=True)
    print("flux2-klein-tiny", json.dumps(flux2(args.weights / "flux2-klein-tiny")), flush=True)
