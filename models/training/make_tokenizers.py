"""Makes the two tokenizers: Qwen2-style byte-level BPE for FLUX.2, BERT-style WordPiece for ViLT. Takes seconds."""

import json
import random
import string

from tokenizers import AddedToken, BertWordPieceTokenizer, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BertTokenizerFast
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

import questions
import world
from flux2 import TOKENS
from run import HERE

# What the published Qwen3 template says for one user message with thinking disabled.
CHAT_TEMPLATE = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)
VOCABULARY = 500  # an upper bound; the corpus gives fewer merges


def qwen(folder):
    rng = random.Random(0)
    corpus = [world.single(rng)[1] for _ in range(1000)] + [world.pair(rng)[1] for _ in range(2000)]
    corpus += [world.edit(rng)[2] for _ in range(1000)]
    corpus += ["user\nassistant\n\n\nthink\n\n system\n"] * 50
    corpus += ["white background, no people, photo of a big tiny shape next to and under over"] * 20
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, special_tokens=[], min_frequency=2)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.add_special_tokens([AddedToken(t, special=True) for t in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken(t, special=False) for t in ("<think>", "</think>")])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "errors": "replace",
        "model_max_length": TOKENS,
        "split_special_tokens": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def bert(folder):
    rng = random.Random(5)
    words = set(string.ascii_lowercase + string.digits + ".,'?!")
    for _ in range(8000):
        words |= set(questions.about(world.scene(rng, rng.choice((1, 2, 3))), rng)[0].replace("?", " ?").split())
    for question, _, _ in questions.easy_vqa("train")[0]:
        words |= set(question.replace("?", " ?").split())
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = ["##" + c for c in string.ascii_lowercase + string.digits]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(special + sorted(words) + pieces) + "\n")
    BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=True).save(str(folder / "tokenizer.json"))
    BertTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), model_max_length=questions.TOKENS).save_pretrained(folder)


if __name__ == "__main__":
    qwen(HERE / "work" / "tokenizer")
    bert(HERE / "work" / "vilt-tokenizer")
