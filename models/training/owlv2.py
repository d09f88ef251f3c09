"""The tiny OWLv2: its tokenizer, what it is asked for, where things are, and how well it finds them."""

import json

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

import world
from world import COLORS, KINDS

TOKENS = 16
# What CLIP's pictures are normalised by.
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
NAMES = [f"{color} {kind}" for color in COLORS for kind in KINDS]
# What a text may ask for: a colour and a kind, or either of them.
THINGS = NAMES + list(KINDS) + [f"{color} shape" for color in COLORS] + ["shape"]
FORMS = ("{}", "a {}", "the {}", "a photo of a {}")


def initialise(model):
    """Random numbers for a CLIP or an OWLv2, of sizes by which one as small as ours learns fast."""
    for name, p in model.named_parameters():
        if "norm" in name or p.ndim == 0:
            continue
        if "position" in name or "class_embedding" in name:
            torch.nn.init.normal_(p, std=0.3)
        elif p.ndim == 1:
            torch.nn.init.zeros_(p)
        elif "token_embedding" in name:
            torch.nn.init.normal_(p, std=1.0)
        elif p.ndim == 4:
            torch.nn.init.normal_(p, std=2 * p[0].numel() ** -0.5)
        else:
            half = 0.5 if "out_proj" in name or "fc2" in name else 1.0
            torch.nn.init.normal_(p, std=half * p.shape[1] ** -0.5)


def tokenizer(folder, corpus=(), pad="!"):
    """CLIP's byte pairs: all bytes, all bytes that end a word, what words are made of, two special tokens. The words are those of
    `corpus`, by default of what OWLv2 is asked for.
    """
    shell = CLIPTokenizer().backend_tokenizer
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer, learner.pre_tokenizer = shell.normalizer, shell.pre_tokenizer
    corpus = list(corpus) or [form.format(thing) for thing in THINGS for form in FORMS] * 3
    trainer = trainers.BpeTrainer(vocab_size=400, end_of_word_suffix="</w>", show_progress=False)
    learner.train_from_iterator(corpus, trainer)
    merges = [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = letters + [letter + "</w>" for letter in letters] + ["".join(pair) for pair in merges]
    pieces = list(dict.fromkeys(pieces)) + ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    made = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKENS, pad_token=pad)
    made.save_pretrained(folder)
    return made


def normalise(pictures):
    """Pictures (N, 3, 64, 64) in 0..1 as the model reads them."""
    return (pictures - MEAN) / STD


def bounds(shape):
    """Middle, width and height of a shape's box, in parts of the picture."""
    r = shape.radius
    width, height = {"circle": (2 * r, 2 * r), "square": (1.772 * r, 1.772 * r), "triangle": (2.2 * r, 1.9 * r)}[shape.kind]
    return [value / world.SIZE for value in (shape.x, shape.y, width, height)]


def fits(shape, thing):
    """Whether a text asks for a shape like this."""
    return thing in (shape.name, shape.kind, f"{shape.color} shape", "shape")


def corners(boxes):
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([middle - half, middle + half], -1)


def overlap(a, b):
    """Intersection over union of boxes given by their corners, and the area of the box around both over their union."""
    inside = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    around = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inside
    return inside / union, around / union


def queries(model, ids):
    """The vectors of texts, (Q, D), of length 1."""
    pooled = model.owlv2.text_model(input_ids=ids).pooler_output
    return torch.nn.functional.normalize(model.owlv2.text_projection(pooled), dim=-1)


def predict(model, pixels, asked):
    """Logits (B, P, Q), boxes (B, P, 4) and objectness (B, P)."""
    grid = model.image_embedder(pixels)[0]
    features = grid.flatten(1, 2)
    logits, _ = model.class_predictor(features, asked.expand(len(pixels), -1, -1))
    return logits, model.box_predictor(features, grid), model.objectness_predictor(features)


@torch.no_grad()
def detect(model, pixels, asked, threshold=0.5, most=0.5):
    """What is found in each picture: [(text, score, corners)], of overlapping boxes for one text the surest."""
    logits, boxes, _ = predict(model, pixels, asked)
    scores, labels = logits.sigmoid().max(-1)
    boxes, found = corners(boxes), []
    for score, label, box in zip(scores, labels, boxes):
        kept = []
        for i in score.argsort(descending=True).tolist():
            if score[i] <= threshold:
                break
            same = [other for text, _, other in kept if text == label[i].item()]
            if not any(overlap(box[i], other)[0] > most for other in same):
                kept.append((label[i].item(), score[i].item(), box[i]))
        found.append(kept)
    return found


def judge(found, shapes):
    """For each shape whether it is found by name where it is, and how many of what is found is none of them."""
    wanted = [(NAMES.index(s.name), corners(torch.tensor(bounds(s)))) for s in shapes]
    same = lambda one, other: one[0] == other[0] and overlap(one[-1], other[-1])[0].item() >= 0.5
    hits = [any(same(one, want) for one in found) for want in wanted]
    return hits, sum(not any(same(one, want) for want in wanted) for one in found)
