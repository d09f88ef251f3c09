"""Scores the shipped weights with the reference implementations.

OWLv2: fresh scenes, those on the grid and loose ones, as they are drawn and as FLUX.2's autoencoder gives them back: shapes
found by name where they are (boxes that overlap by half), and scenes in which all are and nothing else.
SAM2: fresh scenes as for OWLv2; how well the mask of a box whose sides are up to two pixels off, and of a point, overlaps what is
seen of the shape.
CLIP: fresh scenes of one shape or two, drawn and decoded, after an edit: whether what was asked for is preferred to what was before;
and of scenes of all kinds whether what is true is preferred to what is nearly so.
ViLT: every question of easy-VQA's official test split, and questions of each form about fresh scenes of two shapes.
FLUX.2: the prompts of `cargo adherence` and 50 fixed edits, judged by the pixel checker, whose score on drawn pictures of the
same scenes (its ceiling) is printed beside.
SD3: pictures of single shapes, and shapes painted anew where they are, in another colour or of another kind, judged by the checker.
What is held out of training is scored by itself, and shares come with their 95 % intervals. Takes about fifteen minutes on one core.
"""

import argparse
import json
import math
import random
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, StableDiffusion3InpaintPipeline, StableDiffusion3Pipeline
from transformers import (
    BertTokenizerFast,
    CLIPModel,
    CLIPTokenizer,
    Owlv2ForObjectDetection,
    Sam2Model,
    ViltForQuestionAnswering,
)

import checker
import clip as matcher
import owlv2 as detector
import questions
import sam2 as outliner
import sd3 as painter
import world
from flux2 import TEXT_LAYERS, TOKENS
from make_prompts import OUT
from run import HERE

EDITS, STEPS, GUIDANCE, BATCH = 50, 20, 3.0, 25
REPAINTS = 200  # of each form: scenes of one shape and of two in turn
SCENES = 500  # of two shapes that questions are about: seen ones, and as many that are held out


def wilson(hits, count, z=1.959964):
    """The Wilson score interval of a share, by default of 95 %."""
    share, z2 = hits / count, z * z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = z / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return middle - half, middle + half


def share(hits):
    """For people: the share of true values in a list, its interval, and how many there are."""
    low, high = wilson(sum(hits), len(hits))
    return f"{sum(hits) / len(hits):.3f} [{low:.3f}, {high:.3f}] of {len(hits)}"


def split(hits, held_out):
    """The share over all, and over those that are and are not held out."""
    part = {wanted: [hit for hit, out in zip(hits, held_out) if out == wanted] for wanted in (False, True)}
    return {"all": share(hits), "seen": share(part[False]), "held_out": share(part[True])}


@torch.no_grad()
def vilt(folder):
    model = ViltForQuestionAnswering.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = BertTokenizerFast.from_pretrained(folder)

    def right(rows, pictures):
        """Whether each question, answer and index of a picture is answered so."""
        hits = []
        for at in range(0, len(rows), 100):
            part = rows[at : at + 100]
            text = tokenizer([q for q, _, _ in part], padding=True, return_tensors="pt")
            pixels = pictures[[i for _, _, i in part]].float() / 127.5 - 1
            best = model(**text, pixel_values=pixels, pixel_mask=torch.ones(pixels[:, 0].shape)).logits.argmax(-1)
            hits += [model.config.id2label[b] == answer for b, (_, answer, _) in zip(best.tolist(), part)]
        return hits

    scores = {"easy_vqa_test": share(right(*questions.easy_vqa("test")))}
    rng = random.Random(20_000)
    held_out = [False] * SCENES + [True] * SCENES
    scenes = [fresh_pair(rng, wanted) for wanted in held_out]
    pictures = world.render(scenes)
    for form in questions.FORMS:
        hits = right([(*questions.about(s, rng, form), i) for i, s in enumerate(scenes)], pictures)
        scores[form] = split(hits, held_out)
    return scores


def fresh_pair(rng, held_out):
    """Two shapes side by side, of a pair that is held out of the judge's training or one that is not."""
    while True:
        shapes = world.scene(rng, 2, rng.choice(list(world.RELATIONS)))
        if world.held_out_pair(shapes) == held_out:
            return shapes


@torch.no_grad()
def owlv2(folder, weights):
    model = Owlv2ForObjectDetection.from_pretrained(folder, dtype=torch.float32).eval()
    words = CLIPTokenizer.from_pretrained(folder)
    encode = lambda texts: words(texts, padding="max_length", max_length=detector.TOKENS, return_tensors="pt").input_ids
    asked = detector.queries(model, encode([f"a {name}" for name in detector.NAMES]))
    rng = random.Random(30_000)
    scores = {}
    for where, make in (("grid", world.scene), ("loose", world.loose_scene)):
        scenes = [make(rng, 1 + i % 3) for i in range(SCENES)]
        for how, pictures in drawn_and_decoded(scenes, weights).items():
            found = detector.detect(model, detector.normalise(pictures), asked)
            judged = [detector.judge(f, s) for f, s in zip(found, scenes)]
            scores[f"{where}_{how}_found"] = share([hit for hits, _ in judged for hit in hits])
            scores[f"{where}_{how}_exact"] = share([all(hits) and wrong == 0 for hits, wrong in judged])
    return scores


@torch.no_grad()
def drawn_and_decoded(scenes, weights):
    """Pictures of the scenes, in 0..1, as they are drawn and as FLUX.2's autoencoder gives them back."""
    vae = AutoencoderKLFlux2.from_pretrained(weights / "flux2-klein-tiny" / "vae").float().eval()
    drawn = world.render(scenes).float() / 255
    made = [vae.decode(vae.encode(p * 2 - 1).latent_dist.mode()).sample for p in drawn.split(100)]
    return {"drawn": drawn, "decoded": (torch.cat(made).clamp(-1, 1) + 1) / 2}


def sam2(folder, weights):
    model = Sam2Model.from_pretrained(folder, dtype=torch.float32).eval()
    rng = random.Random(40_000)
    scores = {}
    for where, make in (("grid", world.scene), ("loose", world.loose_scene)):
        scenes = [make(rng, 1 + i % 3) for i in range(SCENES)]
        for how, pictures in drawn_and_decoded(scenes, weights).items():
            for by, overlaps in zip(("box", "point"), outliner.judge(model, pictures, scenes, rng)):
                scores[f"{where}_{how}_{by}_mean"] = round(sum(overlaps) / len(overlaps), 4)
                scores[f"{where}_{how}_{by}_above_0.9"] = share([overlap > 0.9 for overlap in overlaps])
    return scores


def clip(folder, weights):
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32).eval()
    words = CLIPTokenizer.from_pretrained(folder)
    encode = lambda texts: words(list(texts), padding="max_length", max_length=matcher.TOKENS, return_tensors="pt")
    rng = random.Random(50_000)
    scores = {}
    edits = [matcher.recoloured(rng, 1 + i % 2) for i in range(2 * SCENES)]
    sets = {"edits": tuple(zip(*edits))}
    for where, make in (("grid", world.scene), ("loose", world.loose_scene)):
        scenes = [make(rng, 1 + i % 3) for i in range(2 * SCENES)]
        claims = [matcher.claim(shapes, rng) for shapes in scenes]
        false = [matcher.wrong(c, row, rng) for c, row in zip(claims, matcher.presence(scenes))]
        sets[where] = scenes, [c.said(rng) for c in claims], [c.said(rng) for c in false]
    for where, (scenes, right, wrong) in sets.items():
        for how, pictures in drawn_and_decoded(scenes, weights).items():
            hits = matcher.prefers(model, encode, detector.normalise(pictures), right, wrong)
            scores[f"{where}_{how}_right_preferred"] = share(hits)
    return scores


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


def made(pipeline, prompts):
    """A picture of each prompt, with its place in the list as the seed."""
    pictures = []
    for at in range(0, len(prompts), BATCH):
        part = prompts[at : at + BATCH]
        noise = [torch.randn(32, 4, 4, generator=torch.Generator().manual_seed(at + i)) for i in range(len(part))]
        pictures += pipeline(
            prompt=part,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            latents=torch.stack(noise),
            text_encoder_out_layers=TEXT_LAYERS,
            max_sequence_length=TOKENS,
            height=world.SIZE,
            width=world.SIZE,
            output_type="pt",
        ).images
    return pictures


def as_asked(picture, row, shapes):
    """Whether a picture shows the shapes of a row of prompts.json and nothing else, and whether they also stand as asked."""
    exact = checker.shows(picture, shapes)
    related = row["relation"] is None or checker.stand(
        checker.find(picture), shapes[0].color, shapes[1].color, row["relation"]
    )
    return exact, exact and related


@torch.no_grad()
def flux2(folder):
    pipeline = Flux2KleinPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    scores = {}
    for name, rows in json.loads((OUT / "prompts.json").read_text()).items():
        scenes = [[world.Shape(**shape) for shape in row["shapes"]] for row in rows]
        held_out = [row["held_out"] for row in rows]
        pictures = made(pipeline, [row["prompt"] for row in rows])
        drawn = world.render(scenes).float() / 255
        for what, judged in (("", pictures), ("_ceiling", drawn)):
            exact, related = zip(*[as_asked(p, row, scene) for p, row, scene in zip(judged, rows, scenes)])
            scores[f"{name}{what}_exact"] = split(exact, held_out)
            if rows[0]["relation"]:
                scores[f"{name}{what}_exact_in_relation"] = split(related, held_out)
    rng = random.Random(10_000)
    edits = [edited(pipeline, *world.edit(rng), seed) for seed in range(EDITS)]
    scores["edit_exact"] = share([shown for shown, _ in edits])
    scores["edit_in_place"] = share([shown and kept for shown, kept in edits])
    return scores


def recolored(shape, rng, others):
    """The shape in a colour that no other has."""
    return replace(shape, color=rng.choice([c for c in world.COLORS if c != shape.color and all(c != o.color for o in others)]))


def rekinded(shape, rng, _others):
    """A shape of another kind in its place."""
    return replace(shape, kind=rng.choice([k for k in world.KINDS if k != shape.kind]))


def regions(rows):
    """The pixels of the first shapes' regions, for rows of scenes (before, after)."""
    return torch.stack([painter.region(before[0], after[0]) for before, after in rows])


def pasted(rows, made):
    """Pictures made for rows of scenes (before, after), as they were before outside of the regions."""
    return torch.where(regions(rows)[:, None], made, world.render([before for before, _ in rows]).float() / 255)


def painted(pipeline, scenes, pictures, mask, first_seed):
    """The pictures with what is inside of the mask painted anew, as the first shape of each scene."""
    return pipeline(
        prompt=[world.article(shapes[0].name) for shapes in scenes],
        image=pictures,
        mask_image=mask,
        strength=1.0,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=[torch.Generator().manual_seed(first_seed + i) for i in range(len(scenes))],
        height=world.SIZE,
        width=world.SIZE,
        output_type="pt",
    ).images


def repainted(pipeline, rows, first_seed):
    """The pictures of rows of scenes (before, after) with the first shape's region painted anew. Masks are made of whole latents, as
    the engine makes them: of any other, diffusers asks one pixel of each latent alone.
    """
    before = world.render([before for before, _ in rows]).float() / 255
    mask = F.interpolate(painter.cells(regions(rows)), scale_factor=painter.CELL)
    return pasted(rows, painted(pipeline, [after for _, after in rows], before, mask, first_seed))


@torch.no_grad()
def sd3(folder):
    third = {"text_encoder_3": None, "tokenizer_3": None}
    loaded = StableDiffusion3Pipeline.from_pretrained(folder, torch_dtype=torch.float32, **third)
    pipeline = StableDiffusion3InpaintPipeline(**loaded.components)
    pipeline.set_progress_bar_config(disable=True)
    rng = random.Random(40_000)
    asked = [[world.Shape(kind, color, 0, 0, 0)] for kind in world.KINDS for color in world.COLORS] * (REPAINTS // 24)
    pictures = []
    for at in range(0, len(asked), BATCH):
        part = asked[at : at + BATCH]
        # Everything is region, so that it works with transformers that paint regions only, too.
        whole = torch.ones(len(part), 1, world.SIZE, world.SIZE)
        pictures += painted(pipeline, part, torch.full((len(part), 3, world.SIZE, world.SIZE), 0.5), whole, at)
    shown = [checker.shows(picture, shapes) for picture, shapes in zip(pictures, asked)]
    scores = {"single_exact": split(shown, [world.held_out(shapes) for shapes in asked])}
    for form, change in (("recolor", recolored), ("replace", rekinded)):
        scenes = [world.scene(rng, 1 + i % 2) for i in range(REPAINTS)]
        rows = [(b, [change(b[0], rng, b[1:]), *b[1:]]) for b in scenes]
        pictures = [p for at in range(0, REPAINTS, BATCH) for p in repainted(pipeline, rows[at : at + BATCH], at)]
        held_out = [world.held_out(b) or world.held_out(a) for b, a in rows]
        scores[f"{form}_exact"] = split([checker.shows(p, a) for p, (_, a) in zip(pictures, rows)], held_out)
        drawn = pasted(rows, world.render([a for _, a in rows]).float() / 255)
        scores[f"{form}_ceiling_exact"] = split([checker.shows(p, a) for p, (_, a) in zip(drawn, rows)], held_out)
    return scores


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=HERE.parent / "weights")
    parser.add_argument("--only", help="one of the models")
    args = parser.parse_args()
    torch.set_num_threads(2)
    for name, score in (("vilt-tiny", vilt), ("flux2-klein-tiny", flux2), ("sd3-tiny", sd3)):
        if args.only in (None, name):
            print(name, json.dumps(score(args.weights / name), indent=1), flush=True)
    for name, score in (("owlv2-tiny", owlv2), ("sam2-tiny", sam2), ("clip-tiny", clip)):
        if args.only in (None, name):
            print(name, json.dumps(score(args.weights / name, args.weights), indent=1), flush=True)
