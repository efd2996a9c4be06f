"""An encoder of BERT-base's size end to end: attn_implementation "yoso" against "sdpa".

    python python/benchmarks/encoder.py --tokens 4096,8192 --threads 2
    python python/benchmarks/encoder.py --device cuda --pass train --autocast bfloat16 --tokens 16384

Prints a row of a Markdown table for each length, and with --out writes all that was measured as JSON,
with machine and date. A third encoder, "none", has an attention that hands over the values and costs
nothing: no attention makes the rest faster than that.

The three take turns in one process, so that what else the machine does hits them alike; the first
call of each is not counted. Of the counted ones the least time is taken, since other work only adds
to it. "train" is forward, backward and an AdamW step. Random weights and tokens, no attention dropout
(YOSO has none).
"""

# SPDX-License-Identifier: Apache-2.0
import argparse
import datetime
import json
import platform
import time
from pathlib import Path
from typing import Any, Callable

import torch
import transformers
from torch import Tensor
from transformers import AttentionInterface, BertConfig, BertModel
from yoso.integrations.transformers import register

KINDS = "yoso", "sdpa", "none"


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
    AttentionInterface.register("none", free_attention)
    print("| pass | tokens | YOSO, s | SDPA, s | times faster | free attention: times faster |")
    print("|---|---|---|---|---|---|")
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
    least = {kind: min(seconds[kind]) for kind in KINDS}
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
        "yoso_seconds": least["yoso"],
        "sdpa_seconds": least["sdpa"],
        "none_seconds": least["none"],
        "times_faster": least["sdpa"] / least["yoso"],
        "none_times_faster": least["sdpa"] / least["none"],
        "all_seconds": seconds,
        "machine": machine(arguments.device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "date": datetime.date.today().isoformat(),
    }


def row(result: dict[str, Any]) -> str:
    what, tokens = result["benchmark"].removeprefix("encoder "), f"{result['tokens']:,}"
    seconds = (f"{result[f'{kind}_seconds']:.3g}" for kind in ("yoso", "sdpa"))
    ratios = (f"{result[name]:.2f}" for name in ("times_faster", "none_times_faster"))
    return f"| {' | '.join([what, tokens, *seconds, *ratios])} |"


class FreeAttention(torch.autograd.Function):
    """The values; the gradient of each input is that of the output, so that its projection has one."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return gradient, gradient, gradient


def free_attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> tuple[Tensor, None]:
    return FreeAttention.apply(query, key, value).transpose(1, 2), None


def call(
    arguments: argparse.Namespace, tokens: int, kind: str, ids: Tensor
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

    def forward() -> Tensor:
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
