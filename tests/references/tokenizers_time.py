#!/usr/bin/env python3
"""The time that the package `tokenizers` takes, on one thread, beside that of yoso/text.

  python tests/references/tokenizers_time.py TEXT BENCH    BENCH is .../layers/text/tokenizer_bench

Trains a byte-level BPE of 30,000 tokens on the file TEXT, has both encode it line by line in seven
turns, and prints the best MB/s of each and their ratio. Both must give the same number of tokens.
"""
# SPDX-License-Identifier: Apache-2.0
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers  # noqa: E402


def main():
    text, bench = sys.argv[1:]
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    tokenizer.train([text], vocab_size=30_000, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
                    show_progress=False)
    content = Path(text).read_bytes().decode()
    lines = content.split("\n")
    size = len(content.encode())

    def encode():
        return sum(len(tokenizer.encode(line).ids) for line in lines)

    def encode_batch_fast():  # without places in the text, as ours
        return sum(len(x.ids) for x in tokenizer._tokenizer.encode_batch_fast(lines))

    best = {"encode": float("inf"), "encode_batch_fast": float("inf"), "yoso/text": float("inf")}
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(f"{folder}/tokenizer.json")
        for _ in range(7):
            counts = set()
            for function in encode, encode_batch_fast:
                start = time.perf_counter()
                counts.add(function())
                best[function.__name__] = min(best[function.__name__], time.perf_counter() - start)
            seconds, tokens = ours(bench, text, f"{folder}/tokenizer.json")
            best["yoso/text"] = min(best["yoso/text"], seconds)
            if counts != {tokens}:
                sys.exit(f"yoso/text gives {tokens} tokens, expected {counts} as in the package")
    print(f"{size / 1e6:.1f} MB, {len(lines)} lines, {tokens} tokens; tokenizers {tokenizers.__version__}")
    for name, seconds in best.items():
        print(f"{name}: {size / 1e6 / seconds:.1f} MB/s")
    theirs = min(best["encode"], best["encode_batch_fast"])
    print(f"yoso/text is {theirs / best['yoso/text']:.2f} times as fast as the faster of the package's")


def ours(bench, text, tokenizer):
    """Seconds and number of tokens."""
    result = subprocess.run(
        [bench, "--benchmark_format=json", "--benchmark_min_time=0"], check=True, capture_output=True, text=True,
        env={**os.environ, "YOSO_TOKENIZER": tokenizer, "YOSO_TEXT": text})
    run, = json.loads(result.stdout)["benchmarks"]
    return run["real_time"] / 1000, int(run["tokens"])


if __name__ == "__main__":
    main()
