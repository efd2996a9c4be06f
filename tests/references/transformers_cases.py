#!/usr/bin/env python3
"""YOSO checkpoints and the logits that `transformers` computes, for yoso/train's tests.

  python tests/references/transformers_cases.py FOLDER [--seed 1]
  python tests/references/transformers_cases.py FOLDER ... --many --test transformers_checkpoint_test

The first writes one tiny random model of every head into FOLDER/<case>/, with the tokens and logits
of a ragged batch in cases.safetensors; yoso/train/testdata is what it wrote with its defaults
(transformers 5.24). The second writes more and larger ones, runs the test on them, which writes each
model back to FOLDER/<case>/written, and checks that transformers loads that with the same logits.
"""
# SPDX-License-Identifier: Apache-2.0
import argparse
import os
import subprocess
import sys
from pathlib import Path

try:
    import torch
    import transformers
    from safetensors.torch import save_file

    transformers.YosoModel  # not in every version
except (ImportError, AttributeError) as error:
    print(f"skipped: {error}")
    sys.exit(77)

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

HEADS = {
    "encoder": transformers.YosoModel,
    "masked_lm": transformers.YosoForMaskedLM,
    "sequence": transformers.YosoForSequenceClassification,
    "token": transformers.YosoForTokenClassification,
    "choice": transformers.YosoForMultipleChoice,
    "question": transformers.YosoForQuestionAnswering,
}
TINY = {"vocab_size": 12, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 6, "max_position_embeddings": 7}
SMALL = {"vocab_size": 60, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3,
         "intermediate_size": 40, "max_position_embeddings": 80}


def cases(many):
    """Name, head and what its configuration says."""
    for head in HEADS:
        labels = {"id2label": {0: "no", 1: "yes", 2: "maybe"},
                  "label2id": {"no": 0, "yes": 1, "maybe": 2}} if head in ("sequence", "token") else {}
        # Every second one with a convolution; a tied masked LM, which has names twice.
        conv = {"conv_window": 3} if head in ("masked_lm", "token", "choice") else {}
        yield head, head, {**TINY, **labels, **conv}
        if not many:
            continue
        for conv_window in (None, 9):
            for types in (1, 2):
                yield (f"{head}_conv{conv_window or 0}_types{types}", head,
                       {**SMALL, **labels, "conv_window": conv_window, "type_vocab_size": types,
                        "hash_code_len": 5, "layer_norm_eps": 1e-3})
    if many:
        yield "masked_lm_untied", "masked_lm", {**SMALL, "tie_word_embeddings": False}
        yield "masked_lm_pickled", "masked_lm", SMALL
        yield "sequence_bfloat16", "sequence", {**SMALL, "dtype": "bfloat16"}


def logits_of(model, tokens, types, mask=None):
    if isinstance(model, transformers.YosoForMultipleChoice):  # each sequence as the only choice
        tokens, types = tokens[:, None], types[:, None]
        mask = None if mask is None else mask[:, None]
    output = model(input_ids=tokens, token_type_ids=types, attention_mask=mask)
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], -1)
    return output.logits if "logits" in output else output.last_hidden_state


@torch.no_grad()
def alone(model, batch):
    """Logits of every sequence without its padding, which strict masks must give; padded by zeros."""
    rows = [logits_of(model, batch["tokens"][i:i + 1, :n], batch["types"][i:i + 1, :n])[0]
            for i, n in enumerate(batch["lengths"].tolist())]
    if rows[0].dim() == 1:
        return torch.stack(rows)
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def make(folder, name, head, fields):
    config = transformers.YosoConfig(initializer_range=0.4, **fields)
    model = HEADS[head](config).eval()
    for parameter in model.parameters():  # no bias or norm of 0 or 1
        torch.nn.init.normal_(parameter, mean=0.2, std=0.4)
    model.to(getattr(torch, fields.get("dtype", "float32"))).save_pretrained(folder / name)
    if name.endswith("_pickled"):
        (folder / name / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / name / "pytorch_model.bin")
        tool = Path(__file__).resolve().parents[2] / "tools/pickle_to_safetensors"
        subprocess.run([sys.executable, tool, folder / name], check=True)
    model.float()
    longest = config.max_position_embeddings
    lengths = torch.tensor([longest, 1, longest - 3])
    batch = {"tokens": torch.randint(config.vocab_size, (3, longest)),
             "types": torch.randint(config.type_vocab_size, (3, longest)), "lengths": lengths}
    batch["logits"] = alone(model, batch).contiguous()
    mask = (torch.arange(longest) < lengths[:, None]).long()
    with torch.no_grad():
        batch["padded_logits"] = logits_of(model, batch["tokens"], batch["types"], mask).contiguous()
    assert all(tensor.isfinite().all() for tensor in batch.values())
    save_file(batch, folder / name / "cases.safetensors")
    return batch


def check_written(folder, name, head, batch):
    model, info = HEADS[head].from_pretrained(folder / name / "written", output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[kind], f"{name}: transformers finds {kind} {info[kind]}"
    before = transformers.AutoConfig.from_pretrained(folder / name).to_dict()
    after = model.config.to_dict()
    different = {key for key in before if before[key] != after[key]} - {"dtype", "_name_or_path"}
    assert not different, f"{name}: config.json changed in {different}"
    original = HEADS[head].from_pretrained(folder / name).float().state_dict()
    for key, tensor in model.state_dict().items():
        unread = key == "cls.predictions.bias" and not model.config.tie_word_embeddings
        assert unread or torch.equal(tensor, original[key]), f"{name}: {key} changed"
    # Not to the bit: another place in memory may be another kernel.
    torch.testing.assert_close(alone(model.eval(), batch), batch["logits"])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--many", action="store_true")
    parser.add_argument("--test", help="the program to run on what was written")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    options.folder.mkdir(parents=True, exist_ok=True)
    made = [(name, head, make(options.folder, name, head, fields))
            for name, head, fields in cases(options.many)]
    (options.folder / "cases.txt").write_text("".join(f"{name}\n" for name, _, _ in made))
    if not options.test:
        return
    result = subprocess.run([options.test], check=False, env={
        **os.environ, "YOSO_REFERENCES": str(options.folder)})
    if result.returncode == 0:
        for case in made:
            check_written(options.folder, *case)
        print(f"transformers loads the {len(made)} models that were written back")
    sys.exit(result.returncode)


if __name__ == "__main__":
    main()
