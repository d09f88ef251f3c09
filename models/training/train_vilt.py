"""Trains the tiny `ViltForQuestionAnswering` on easy-VQA's training split and on scenes of our world, grid and loose.

Half of our own pictures went through FLUX.2's autoencoder, so that the judge of generated pictures has seen what those
look like. Heads at the side, thrown away afterwards, say what to look for, a layer each: one reads from each patch what it
shows, one from each word that names a shape where that is, one from [CLS] how far the two shapes of a relation are apart.
Without them relations stay at chance for most of the time there is. One picture in ten of easy-VQA's training split is held back for
validation; the official test split is read by `evaluate.py` alone.
"""

import torch
import torch.nn.functional as F
from transformers import BertTokenizerFast, ViltConfig, ViltForQuestionAnswering, ViltImageProcessor

import questions
from flux2 import through_vae
from questions import ANSWERS
from run import Average, Run, optimizers, set_rate, warm_then_linear
from world import COLORS, KINDS, SIZE, badly, held_out_pair, layout, loose_scene, render, scene, training

BATCH, EASY_SHARE = 64, 0.35
PIXELS = 24000  # scenes of our own
LAYOUT_WEIGHT, SIDE = 0.3, 8
LAYOUT_LAYER = 2  # the encoder layer whose output the layout is read from
PLACE_WEIGHT, PLACE_LAYER = 5.0, 2  # the same for the places of the shapes that the question names
APART_WEIGHT, APART_LAYER = 5.0, 3  # the same for how far two of them are apart

run = Run("vilt", steps=10500, state={}, every=500)
rng = run.rng
tokenizer = BertTokenizerFast.from_pretrained(run.work / "vilt-tokenizer")


def build():
    config = ViltConfig(
        vocab_size=len(tokenizer),
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=3,
        intermediate_size=384,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        image_size=64,
        patch_size=8,
        max_position_embeddings=questions.TOKENS,
        num_labels=len(ANSWERS),
        id2label=dict(enumerate(ANSWERS)),
        label2id={a: i for i, a in enumerate(ANSWERS)},
    )
    model = ViltForQuestionAnswering(config)
    for name, p in model.named_parameters():
        if "layernorm" in name.lower():
            continue
        if p.ndim == 1:
            torch.nn.init.zeros_(p)
        elif "position" in name or "cls_token" in name or "token_type" in name:
            torch.nn.init.normal_(p, std=0.3)
        elif "word_embeddings" in name:
            torch.nn.init.normal_(p, std=1.0)
        elif p.ndim == 4:
            torch.nn.init.normal_(p, std=2 * p[0].numel() ** -0.5)
        else:
            torch.nn.init.normal_(p, std=p.shape[1] ** -0.5 * (0.5 if "output.dense" in name else 1.0))
    torch.nn.init.normal_(model.classifier[-1].weight, std=0.02)
    return model


def forward(model, pixels, ids, mask):
    """Logits; the hidden states of the patches at `LAYOUT_LAYER`, (B, 64, hidden); those of the words at `PLACE_LAYER`; and that
    of [CLS] at `APART_LAYER`, (B, hidden). Patches keep their natural order here; the published class shuffles them, to the same effect.
    """
    embeddings = model.vilt.embeddings
    x = embeddings.patch_embeddings(pixels).flatten(2).transpose(1, 2)
    x = torch.cat([embeddings.cls_token.expand(len(x), -1, -1), x], 1) + embeddings.position_embeddings
    pixel_mask = torch.ones(x.shape[:2], dtype=torch.long)
    out = model(input_ids=ids, attention_mask=mask, image_embeds=x, pixel_mask=pixel_mask, output_hidden_states=True)
    words, states = ids.shape[1], out.hidden_states
    return out.logits, states[LAYOUT_LAYER][:, words + 1 :], states[PLACE_LAYER][:, :words], states[APART_LAYER][:, 0]


_ids = {}


def encode(asked):
    """Token ids and mask of the questions, padded to the longest."""
    for question in asked:
        if question not in _ids:
            _ids[question] = tokenizer(question).input_ids
    rows = [_ids[question] for question in asked]
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)], mask[i, : len(row)] = torch.tensor(row), 1
    return ids, mask


def places(question, shapes):
    """Where the shapes are that a question names: [(token, x, y)], with the place of the token that ends the name, [CLS] being
    the first, and coordinates in 0..1. Names that fit no shape or several are left out.
    """
    words, found = question.rstrip("?").split(), []
    for i, word in enumerate(words):
        named = word.rstrip("s") if word.rstrip("s") in KINDS else word
        color = words[i - 1] if i > 0 and words[i - 1] in COLORS else None
        if named in KINDS:
            fits = [s for s in shapes if s.kind == named and color in (None, s.color)]
        elif word in COLORS and (i + 1 == len(words) or words[i + 1] not in KINDS):
            fits = [s for s in shapes if s.color == word]
        else:
            continue
        if len(fits) == 1:
            found.append((i + 1, fits[0].x / SIZE, fits[0].y / SIZE))
    return found


def regress(head, hidden, target):
    """Mean squared error of what the head reads from normalised hidden states, (N, hidden), against (N, 2)."""
    return F.mse_loss(head(F.layer_norm(hidden, hidden.shape[-1:])), target)


def normalise(pictures, noise=0.0):
    x = pictures.float() / 127.5 - 1
    return x + noise * torch.randn_like(x) if noise else x


@torch.no_grad()
def accuracy(model, rows, pictures):
    model.eval()
    right = 0
    for at in range(0, len(rows), 250):
        part = rows[at : at + 250]
        ids, mask = encode([question for question, _, _ in part])
        best = forward(model, normalise(pictures[[i for _, _, i in part]]), ids, mask)[0].argmax(-1)
        right += sum(ANSWERS[b] == answer for b, (_, answer, _) in zip(best.tolist(), part))
    model.train()
    return right / len(rows)


def draw(rng):
    """A scene of one to three shapes, on the grid or loose; most pairs stand clearly side by side, and half are drawn badly."""
    count = rng.choices((1, 2, 3), (20, 60, 20))[0]
    if rng.random() < 0.3:
        shapes = loose_scene(rng, count)
    else:
        related = count == 2 and rng.random() < 0.75
        shapes = scene(rng, count, rng.choice(("left", "right", "above", "below")) if related else None)
    return badly(shapes, rng) if rng.random() < 0.5 else shapes


easy_rows, easy_pictures = questions.easy_vqa("train")
easy_held_out = [row for row in easy_rows if row[2] % 10 == 0]
easy_rows = [row for row in easy_rows if row[2] % 10]
easy_shapes = [row for row in easy_rows if row[1] in ("circle", "rectangle", "triangle")]
scenes = [training(draw, rng, kept=held_out_pair) for _ in range(PIXELS)]
pictures = render(scenes, 0.92 + 0.08 * torch.rand(PIXELS, 3))
pictures[: PIXELS // 2] = through_vae(run.work / "vae", render(scenes[: PIXELS // 2]))
colors, kinds = layout(scenes, SIDE)
fresh = [scene(rng, 2, rng.choice(("left", "right", "above", "below"))) for _ in range(300)]
fresh_pictures = render(fresh)
checks = {f: [(*questions.about(s, rng, f), i) for i, s in enumerate(fresh)] for f in questions.FORMS}

model = build()
heads = torch.nn.ModuleList([torch.nn.Linear(model.config.hidden_size, n) for n in (1 + len(COLORS), 1 + len(KINDS), 2, 2)])
inside = [p for p in model.vilt.encoder.parameters() if p.ndim == 2]
known = set(map(id, inside))
others = [p for p in [*model.parameters(), *heads.parameters()] if id(p) not in known]
optimizer = optimizers(inside, others, lr=2e-3, other_lr=2e-3)
average = Average(model, 0.995)
run.prepare({"model": model, "heads": heads, "average": average, "muon": optimizer[0], "adam": optimizer[1]})

for step in run:
    set_rate(optimizer, warm_then_linear(step, run.steps, decay=0.6))
    shapes_first = max(0.0, 0.6 * (1 - step / (0.1 * run.steps)))
    easy = [rng.choice(easy_shapes if rng.random() < shapes_first else easy_rows) for _ in range(int(BATCH * EASY_SHARE))]
    own = [rng.randrange(PIXELS) for _ in range(BATCH - len(easy))]
    asked = [questions.about(scenes[i], rng, "shape" if rng.random() < shapes_first else None) for i in own]
    ids, mask = encode([q for q, _, _ in easy] + [q for q, _ in asked])
    target = torch.tensor([ANSWERS.index(a) for a in [a for _, a, _ in easy] + [a for _, a in asked]])
    pixels = normalise(torch.cat([easy_pictures[[i for _, _, i in easy]], pictures[own]]), noise=0.03)
    logits, patches, words, whole = forward(model, pixels, ids, mask)
    answers = F.cross_entropy(logits, target)
    patches = F.layer_norm(patches[len(easy) :], patches.shape[-1:]).flatten(0, 1)
    seen = sum(F.cross_entropy(head(patches), table[own].flatten(0, 1)) for head, table in zip(heads[:2], (colors, kinds)))
    named = [places(question, scenes[i]) for i, (question, _) in zip(own, asked)]
    rows, tokens, *place = zip(*[(len(easy) + row, *shape) for row, shapes in enumerate(named) for shape in shapes])
    placed = regress(heads[2], words[rows, tokens], torch.tensor(place).T)
    both = [(len(easy) + row, *shapes) for row, shapes in enumerate(named) if len(shapes) == 2]
    distance = torch.tensor([[a[1] - b[1], a[2] - b[2]] for _, a, b in both])
    apart = regress(heads[3], whole[[row for row, _, _ in both]], distance) if both else torch.zeros(())
    loss = answers + LAYOUT_WEIGHT * seen + PLACE_WEIGHT * placed + APART_WEIGHT * apart
    for o in optimizer:
        o.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for o in optimizer:
        o.step()
    average.update(model, step)
    run.log(answers.item(), layout=seen.item(), place=placed.item() ** 0.5, apart=apart.item() ** 0.5)
    if (step + 1) % 500 == 0:
        scores = {f: round(accuracy(average.model, rows, fresh_pictures), 3) for f, rows in checks.items()}
        print("  easy-vqa held out", round(accuracy(average.model, easy_held_out[:1000], easy_pictures), 4), scores, flush=True)

average.model.save_pretrained(run.work / "vilt")
ViltImageProcessor(
    size={"shortest_edge": 64}, size_divisor=8, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_pad=True
).save_pretrained(run.work / "vilt")
run.report(easy_vqa_held_out=round(accuracy(average.model, easy_held_out, easy_pictures), 4))
