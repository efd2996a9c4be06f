"""An encoder of BERT-base's size end to end: attn_implementation "yoso" against "sdpa".

    python python/benchmarks/encoder.py --tokens 4096,8192 --threads 2
    python python/benchmarks/encoder.py --device cuda --pass train --autocast bfloat16 --tokens 16384

Prints a row of a Markdown table for each length: median seconds of both and their ratio in the same
process; --out writes all that was measured as JSON, with machine and date. Both take turns, so that
what else the machine does hits them alike; the first call of each is not counted. "train" is
forward, backward and an AdamW step. Random weights and tokens, no attention dropout (YOSO has none).
"""

# SPDX-License-Identifier: Apache-2.0
import argparse
import datetime
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any, Callable

import torch
import transformers
from transformers import BertConfig, BertModel
from yoso.integrations.transformers import register

KINDS = "yoso", "sdpa"


def main() -> None:
    arguments = parse()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    register(
        num_hashes=arguments.num_hashes,
        code_bits=arguments.code_bits,
        backward_hashes=arguments.backward_hashes,
        mode=arguments.mode,
    )
    print("| pass | tokens | YOSO, s | SDPA, s | times faster |\n|---|---|---|---|---|")
    results = []
    for tokens in arguments.tokens:
        results.append(measure(arguments, tokens))
        print(row(results[-1]), flush=True)
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(results, indent=1) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--tokens", type=lambda text: [int(x) for x in text.split(",")], default=[4096, 8192])
    add("--batch", type=int, default=1)
    add("--pass", dest="what", choices=["inference", "train"], default="inference")
    add("--device", default="cpu")
    add("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    add("--autocast", choices=["bfloat16", "float16"], help="weights stay of --dtype")
    add("--threads", type=int, help="of torch on the CPU; else torch's choice")
    add("--repeat", type=int, default=3, help="counted calls of each (default: 3)")
    add("--layers", type=int, default=12)
    add("--num-hashes", type=int, default=32)
    add("--code-bits", type=int, help="else yoso's default")
    add("--backward-hashes", type=int, help="else all of them")
    add("--mode", choices=["auto", "sampled", "expected"], default="auto")
    add("--out", type=Path, help="a file for the results as JSON")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, tokens: int) -> dict[str, Any]:
    torch.manual_seed(0)
    ids = torch.randint(1000, 30000, (arguments.batch, tokens), device=arguments.device)
    calls = {kind: call(arguments, tokens, kind, ids) for kind in KINDS}
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for repeat in range(arguments.repeat + 1):
        for kind in KINDS:
            elapsed = timed(calls[kind], arguments.device)
            if repeat > 0:
                seconds[kind].append(elapsed)
    median = {kind: statistics.median(seconds[kind]) for kind in KINDS}
    return {
        "benchmark": f"encoder {arguments.what}",
        "tokens": tokens,
        "batch": arguments.batch,
        "layers": arguments.layers,
        "dtype": arguments.dtype,
        "autocast": arguments.autocast,
        "mode": arguments.mode,
        "num_hashes": arguments.num_hashes,
        "backward_hashes": arguments.backward_hashes,
        "yoso_seconds": median["yoso"],
        "sdpa_seconds": median["sdpa"],
        "times_faster": median["sdpa"] / median["yoso"],
        "all_seconds": seconds,
        "machine": machine(arguments.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": datetime.date.today().isoformat(),
    }


def row(result: dict[str, Any]) -> str:
    what, tokens = result["benchmark"].removeprefix("encoder "), f"{result['tokens']:,}"
    seconds = (f"{result[f'{kind}_seconds']:.3g}" for kind in KINDS)
    return f"| {' | '.join([what, tokens, *seconds])} | {result['times_faster']:.2f} |"


def call(
    arguments: argparse.Namespace, tokens: int, kind: str, ids: torch.Tensor
) -> Callable[[], None]:
    config = BertConfig(
        num_hidden_layers=arguments.layers,
        max_position_embeddings=tokens,
        attention_probs_dropout_prob=0.0,
    )
    config._attn_implementation = kind
    torch.manual_seed(0)
    model = BertModel(config, add_pooling_layer=False)
    model.to(arguments.device, getattr(torch, arguments.dtype))

    def forward() -> torch.Tensor:
        enabled = arguments.autocast is not None
        dtype = getattr(torch, arguments.autocast or "bfloat16")
        with torch.autocast(arguments.device, dtype=dtype, enabled=enabled):
            return model(ids).last_hidden_state

    if arguments.what == "inference":
        model.eval()

        def infer() -> None:
            with torch.inference_mode():
                forward()

        return infer
    model.train()
    optimizer = torch.optim.AdamW(model.parameters())

    def train() -> None:
        optimizer.zero_grad()
        forward().float().square().mean().backward()
        optimizer.step()

    return train


def timed(function: Callable[[], None], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def machine(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


if __name__ == "__main__":
    main()
