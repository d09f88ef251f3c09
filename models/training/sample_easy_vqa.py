"""Writes a small sample of easy-VQA's official test split, for the tests: models/fixtures/easy-vqa.

Every 25th picture, all on one sheet (64 pixels each, left to right), and the questions about them with `image` counting
along the sheet.
"""

import json
import shutil
from importlib.metadata import distribution

import numpy as np
from PIL import Image

import questions
from run import HERE

FOLDER = HERE.parent / "fixtures" / "easy-vqa"
STRIDE = 25

rows, pictures = questions.easy_vqa("test")
FOLDER.mkdir(exist_ok=True)
sheet = np.concatenate([p.permute(1, 2, 0).numpy() for p in pictures[::STRIDE]], axis=1)
Image.fromarray(sheet).save(FOLDER / "images.png", optimize=True)
sample = [{"question": q, "answer": a, "image": i // STRIDE} for q, a, i in rows if i % STRIDE == 0]
(FOLDER / "questions.json").write_text(json.dumps(sample, indent=0) + "\n")
shutil.copy(distribution("easy-vqa").locate_file("easy_vqa-1.0.dist-info/LICENSE"), FOLDER / "LICENSE")
print(f"{len(sample)} questions about {sheet.shape[1] // 64} pictures")
