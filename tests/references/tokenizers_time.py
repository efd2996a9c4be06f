#!/usr/bin/env python3
"""The time that the package `tokenizers` takes, on one thread, beside that of yoso/text.

  python tests/references/tokenizers_time.py TEXT BENCH    BENCH is .../layers/text/tokenizer_bench

Trains a byte-level BPE of 30,000 tokens on the file TEXT, encodes it line by line with both (the
best of five), and prints MB/s. Both must give the same number of tokens.
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

    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        tokens = sum(len(tokenizer.encode(line).ids) for line in lines)
        seconds.append(time.perf_counter() - start)
    batched = []
    for _ in range(5):
        start = time.perf_counter()
        tokenizer._tokenizer.encode_batch_fast(lines)  # without places in the text, as ours
        batched.append(time.perf_counter() - start)

    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(f"{folder}/tokenizer.json")
        result = subprocess.run(
            [bench, "--benchmark_format=json", "--benchmark_repetitions=5"], check=True,
            capture_output=True, text=True,
            env={**os.environ, "YOSO_TOKENIZER": f"{folder}/tokenizer.json", "YOSO_TEXT": text})
    runs = [run for run in json.loads(result.stdout)["benchmarks"] if run["run_type"] == "iteration"]
    ours = min(run["real_time"] for run in runs) / 1000
    if runs[0]["tokens"] != tokens:
        sys.exit(f"yoso/text gives {runs[0]['tokens']:.0f} tokens, expected {tokens}")
    print(f"{size / 1e6:.1f} MB, {len(lines)} lines, {tokens} tokens")
    print(f"tokenizers {tokenizers.__version__}: encode {size / 1e6 / min(seconds):.1f} MB/s, "
          f"encode_batch_fast {size / 1e6 / min(batched):.1f} MB/s")
    print(f"yoso/text: {size / 1e6 / ours:.1f} MB/s")


if __name__ == "__main__":
    main()
