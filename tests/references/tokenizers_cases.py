#!/usr/bin/env python3
"""Tokenizers and what the package `tokenizers` makes of texts with them, for yoso/text's tests.

  python tests/references/tokenizers_cases.py FOLDER [--texts 12] [--seed 1]
  python tests/references/tokenizers_cases.py FOLDER ... --test tokenizer_test

The first writes FOLDER/<kind>.json (a tokenizer.json), FOLDER/vocab.json, FOLDER/merges.txt,
FOLDER/cases.json, and FOLDER/classes.txt: what the package takes every character for. yoso/text/testdata is what it wrote with its defaults (tokenizers 0.23.3). The
second then runs the test on that folder.
"""
# SPDX-License-Identifier: Apache-2.0
import argparse
import json
import os
import random
import subprocess
import sys
import unicodedata
from pathlib import Path

try:
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

CORPUS = [
    "The quick brown fox jumps over the lazy dog; it's what they've said, and I'll say it's so.",
    "Attention is computed by hashing: two tokens collide when their codes agree.",
    "for (int i = 0; i < n; ++i) { sum += x[i] * y[i]; }  // 12345 67.89e-10",
    "Fix, Schwyz! quäkt Jürgen blöd vom Paß. Ça va très bien, où êtes-vous né?",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "いろはにほへと ちりぬるを 我が世誰ぞ 常ならむ",
    "ha haha hahaha! -- ---- !!! aaaa banana",
    "نص حكيم له سر قاطع وذو شأن عظيم", "👩‍👩‍👧 🇩🇪 🎉🎉 naïve café",
]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
SPACES = " \t\n\r\x0b\x0c\x85\xa0\u1680\u2003\u2028\u2029\u202f\u205f\u3000"
PIECES = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'", "''", "  ", " ", "\n\n", "\r\n",
          "a", "the", " the", "The", "12", " 3", "²", "Ⅷ", "٣", "ß", "é", "e\u0301", "ｆ", "我", "👩‍👧",
          "\u200d", "\ufeff", "\u00ad", "\x00", "\x1f", "\x7f", "_", "-", "...", " !", "/*", "Ġ", "Â",
          "<mask>", " <mask>", "<s>", "</s>", "<s", "<", "<unk><mask>", "[A]", "[AB]", "[N]", " [R] ",
          "[R]  [R]", "aaaaa", "hahaha", "-----", "!!!!!!!"]


def train(alphabet, merges):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=len(SPECIAL) + 256 + merges, special_tokens=SPECIAL, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()) if alphabet else []))
    return tokenizer


def with_model(tokenizer, **fields):
    content = json.loads(tokenizer.to_str())
    content["model"].update(fields)
    return Tokenizer.from_str(json.dumps(content))


def kinds(merges):
    """A tokenizer of every kind that is read, by name."""
    def trained():
        return train(alphabet=True, merges=merges)

    roberta = trained()
    roberta.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    yield "roberta", roberta

    gpt2 = trained()
    gpt2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    gpt2.post_processor = processors.ByteLevel()
    yield "gpt2", gpt2

    bert = trained()
    bert.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    bert.enable_truncation(12)
    yield "bert", bert

    template = trained()
    template.post_processor = processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing(
        single="<s> $A:1 </s>:2", pair="<s> $B:1 <unk>:3 $A:2", special_tokens=[
            ("<s>", 0), ("</s>", 2), ("<unk>", 3)])])
    template.enable_truncation(9, strategy="only_first", direction="left")
    yield "template", template

    added = trained()
    added.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    added.add_tokens([AddedToken("[A", rstrip=True), AddedToken("[AB]"), AddedToken("A"),
                      AddedToken("[N]", normalized=False), AddedToken("N]", lstrip=True),
                      AddedToken("[R]", lstrip=True, rstrip=True), AddedToken("é")])
    yield "added", added

    # Without some bytes: those are left out, or unknown, one by one or fused.
    poor = train(alphabet=False, merges=merges)
    yield "poor", poor
    yield "unknown", with_model(poor, unk_token="<unk>")
    yield "fused", with_model(poor, unk_token="<unk>", fuse_unk=True)

    whole = trained()
    whole.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    yield "whole", whole
    # The merges are the other way round, so a word that is a token would not come out as it.
    content = json.loads(trained().to_str())
    yield "ignore_merges", with_model(trained(), ignore_merges=True,
                                      merges=content["model"]["merges"][::-1])


def random_text(draw):
    """Pieces that are hard to cut, and characters of Unicode 14 (this Python's) at random."""
    parts = []
    for _ in range(draw.choice([0, 1, 2, 5, 12, 30])):
        kind = draw.random()
        if kind < 0.5:
            parts.append(draw.choice(PIECES))
        elif kind < 0.6:
            parts.append(draw.choice(SPACES) * draw.randint(1, 3))
        elif kind < 0.75:
            words = draw.choice(CORPUS).split()
            parts.append(" ".join(words[draw.randrange(len(words)):][:3]))
        else:
            limit = draw.choice([0x80, 0x250, 0x3000, 0x10000, 0x110000])
            character = chr(draw.choice([c for c in (draw.randrange(limit) for _ in range(30))
                                         if not 0xd800 <= c < 0xe000] or [0x20]))
            # What this version does not assign, a later one may; utf8proc and tokenizers differ there.
            if unicodedata.category(character) != "Cn":
                parts.append(character)
    return "".join(parts)


def case(tokenizer, first, second, special):
    try:
        encoding = tokenizer.encode(first, second, add_special_tokens=special)
    except Exception:  # a text that cannot be cut to the length: the package's own exception type
        return {"first": first, "second": second, "special": special, "error": True}
    return {"first": first, "second": second, "special": special, "ids": encoding.ids,
            "types": encoding.type_ids,
            "texts": [-1 if text is None else text for text in encoding.sequence_ids],
            "text": tokenizer.decode(encoding.ids, skip_special_tokens=True)}


def class_of(character, cutter):
    """Whether a character continues a word of letters, of numbers, of other characters, or none."""
    for name, before in (("letter", "a"), ("number", "1"), ("other", "!")):
        if len(cutter.pre_tokenize_str(before + character)) == 1:
            return name
    return "space"


def write_classes(file):
    """A line for every run of characters of one class: its first in hexadecimal, and the class."""
    cutter = pre_tokenizers.ByteLevel(add_prefix_space=False)
    lines, last = [], None
    for code in range(0x110000):
        if 0xd800 <= code < 0xe000:  # surrogates are no characters
            continue
        kind = class_of(chr(code), cutter)
        if kind != last:
            lines.append(f"{code:x} {kind}\n")
        last = kind
    file.write_text("".join(lines))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--texts", type=int, default=12, help="for each kind of tokenizer")
    parser.add_argument("--merges", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--test", help="the program to run on what was written")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(options.seed)
    cases = []
    for name, tokenizer in kinds(options.merges):
        (options.folder / f"{name}.json").write_text(
            json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False) + "\n")
        if name == "roberta":
            tokenizer.model.save(str(options.folder))
        texts = ["", " ", "Hello <mask>!", "  two  spaces  ", CORPUS[0], *CORPUS[:8]][: options.texts]
        texts += [random_text(draw) for _ in range(options.texts - len(texts))]
        for text in texts:
            second = draw.choice([None, None, text, draw.choice(texts)])
            cases.append({"tokenizer": name,
                          **case(tokenizer, text, second, special=draw.random() < 0.7)})
    write_classes(options.folder / "classes.txt")
    # A case a line: a change of one shows as one.
    lines = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (options.folder / "cases.json").write_text(f"[\n{lines}\n]\n")
    if options.test:
        sys.exit(subprocess.run([options.test], check=False, env={
            **os.environ, "YOSO_REFERENCES": str(options.folder)}).returncode)


if __name__ == "__main__":
    main()
