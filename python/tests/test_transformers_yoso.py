"""transformers' own YOSO: what it does alone, and what it does after patch_yoso()."""

# SPDX-License-Identifier: Apache-2.0
import sys
from types import ModuleType

import pytest
import torch
import yoso

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from transformers.models.yoso import modeling_yoso  # noqa: E402
from yoso.integrations.transformers import patch_yoso, unpatch_yoso  # noqa: E402

HEADS = {
    "masked_lm": transformers.YosoForMaskedLM,
    "sequence": transformers.YosoForSequenceClassification,
    "multiple_choice": transformers.YosoForMultipleChoice,
    "token": transformers.YosoForTokenClassification,
    "question_answering": transformers.YosoForQuestionAnswering,
}
VOCABULARY, REAL, LENGTH = 50, 21, 40


@pytest.fixture(autouse=True)
def undo():
    yield
    unpatch_yoso()


def config(**options):
    return transformers.YosoConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=48,
        max_position_embeddings=64,
        hash_code_len=5,
        num_hash=20,
        hidden_dropout_prob=0.0,
        **options,
    )


def masked_lm(**options):
    return transformers.YosoForMaskedLM(config(**options)).eval()


def padded_batch(device="cpu"):
    """Two sequences, the first with padding, and their mask."""
    ids = torch.randint(4, VOCABULARY, (2, LENGTH))
    mask = torch.ones(2, LENGTH, dtype=torch.long)
    ids[0, REAL:], mask[0, REAL:] = 1, 0
    return ids.to(device), mask.to(device)


def difference_by_padding(model, device="cpu"):
    """How far the logits of a sentence move when it is padded, hashes being the same."""
    ids, mask = padded_batch(device)
    torch.manual_seed(3)
    alone = model(ids[:1, :REAL]).logits
    torch.manual_seed(3)
    padded = model(ids, attention_mask=mask).logits[:1, :REAL]
    return (padded - alone).abs().max().item()


def test_alone_it_cannot_sample_and_patched_it_can():
    model = masked_lm(use_expectation=False)
    ids, mask = padded_batch()
    with pytest.raises(AttributeError, match="has no attribute 'fast_hash'"):
        model(ids, attention_mask=mask)
    patch_yoso()
    assert model(ids, attention_mask=mask).logits.isfinite().all()


def test_alone_it_ignores_the_padding_mask_and_patched_it_does_not():
    model = masked_lm(use_expectation=True).double()
    assert difference_by_padding(model) > 1e-4
    patch_yoso()
    # Matrix products of other shapes round otherwise.
    assert difference_by_padding(model) < 1e-12


def test_sampled_padding_changes_nothing():
    patch_yoso()
    assert difference_by_padding(masked_lm(use_expectation=False).double()) < 1e-12


@pytest.mark.parametrize("window", [None, 3], ids=["plain", "convolution"])
def test_expected_padding_changes_nothing_on_any_device(device, window):
    patch_yoso()
    model = masked_lm(use_expectation=True, conv_window=window).to(device)
    # Logits are below 1, and some thousand roundings of 6e-8 lie between them and the input.
    assert difference_by_padding(model, device) < 1e-4


@pytest.mark.parametrize("use_expectation", [True, False], ids=["expected", "sampled"])
def test_strict_outputs_of_padded_tokens_are_0(use_expectation):
    patch_yoso()
    model = masked_lm(use_expectation=use_expectation, conv_window=5)
    attention = model.yoso.encoder.layer[0].attention.self
    (out,) = attention(torch.randn(2, 9, 32), torch.arange(9) < torch.tensor([[4], [9]]))
    assert (out[0, 4:] == 0).all() and (out[0, :4] != 0).any() and (out[1] != 0).any()


def test_alone_a_query_that_meets_itself_gives_nan_and_patched_it_does_not():
    model = masked_lm(use_expectation=True)
    for layer in model.yoso.encoder.layer:
        layer.attention.self.key = layer.attention.self.query
    ids, _ = padded_batch()
    assert model(ids).logits.isnan().any()
    patch_yoso()
    assert model(ids).logits.isfinite().all()


@pytest.mark.parametrize("window", [None, 3], ids=["plain", "convolution"])
def test_hf_compat_is_transformers_forward_and_backward(window):
    model = masked_lm(use_expectation=True, conv_window=window).double()
    ids, mask = padded_batch()

    def logits_and_gradients():
        model.zero_grad()
        result = model.train()(ids, attention_mask=mask, labels=ids, output_attentions=True)
        result.loss.backward()
        grads = [x.grad.clone() for x in model.parameters() if x.grad is not None]
        return [result.logits, *result.attentions, *grads]

    wanted = logits_and_gradients()
    patch_yoso("hf_compat")
    got = logits_and_gradients()
    assert len(got) == len(wanted) > 20
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_hf_compat_reads_additive_masks_as_transformers_does():
    model = masked_lm(use_expectation=True).double()
    ids, mask = padded_batch()
    additive = (1.0 - mask) * -10000.0
    wanted = model(ids, attention_mask=additive).logits
    patch_yoso("hf_compat")
    torch.testing.assert_close(model(ids, attention_mask=additive).logits, wanted)
    assert not torch.allclose(model(ids, attention_mask=mask).logits, wanted, atol=1e-4)


def test_sampling_comes_close_to_the_expectation_with_many_hashes(device):
    patch_yoso()
    sampled = masked_lm(use_expectation=False, use_fast_hash=False).to(device)
    expected = masked_lm(use_expectation=True).to(device)
    expected.load_state_dict(sampled.state_dict())
    ids, mask = padded_batch(device)
    errors = []
    for hashes in (16, 1024):
        for layer in sampled.yoso.encoder.layer:
            layer.attention.self.num_hash = hashes
        ours, wanted = (model(ids, attention_mask=mask).logits for model in (sampled, expected))
        difference = ours - wanted
        errors.append(difference[mask == 1].square().mean().sqrt().item())
    # Errors of a mean fall as 1 / sqrt(hashes): here by 8, of which half is asked for.
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("use_expectation", [True, False], ids=["expected", "sampled"])
def test_narrow_types_and_autocast(use_expectation, dtype, device):
    patch_yoso()
    model = masked_lm(use_expectation=use_expectation, conv_window=3).to(device)
    ids, mask = padded_batch(device)
    with torch.autocast(device, dtype):
        loss = model(ids, attention_mask=mask, labels=ids).loss
    loss.backward()
    grads = [x.grad for x in model.parameters() if x.grad is not None]
    assert len(grads) > 20 and all(x.isfinite().all() for x in grads)
    narrow = model.to(dtype)(ids, attention_mask=mask).logits
    assert narrow.dtype == dtype and narrow.isfinite().all()


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
@pytest.mark.parametrize("mask_mode", ["strict", "hf_compat"])
@pytest.mark.parametrize("use_expectation", [True, False], ids=["expected", "sampled"])
def test_heads_train_with_ragged_batches(head, mask_mode, use_expectation, device):
    patch_yoso(mask_mode)
    model = head(config(use_expectation=use_expectation)).to(device).train()
    ids, mask = padded_batch(device)
    if head is HEADS["multiple_choice"]:
        ids = torch.stack([ids, ids.flip(0)], 1)  # the first sequence is the right choice of both
        mask = mask[:, None].repeat(1, 2, 1)
    labels = {
        "masked_lm": dict(labels=ids),
        "sequence": dict(labels=torch.tensor([0, 1], device=device)),
        "multiple_choice": dict(labels=torch.tensor([0, 1], device=device)),
        "token": dict(labels=ids % 2),
        "question_answering": dict(
            start_positions=torch.tensor([1, 5], device=device),
            end_positions=torch.tensor([4, 30], device=device),
        ),
    }
    name = next(name for name, value in HEADS.items() if value is head)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss = model(ids, attention_mask=mask, **labels[name]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    query = model.yoso.encoder.layer[0].attention.self.query.weight
    assert query.grad.isfinite().all() and query.grad.abs().max() > 0


def test_without_lsh_backward_gradients_are_those_of_the_expectation():
    """Of the sums before the output is normalised, which takes the sampled ones."""
    patch_yoso()
    layer = modeling_yoso.YosoSelfAttention(
        config(use_expectation=False, lsh_backward=False)
    ).double()
    x = torch.randn(2, 9, 32, dtype=torch.float64)
    weight = torch.randn(2, 9, 32, dtype=torch.float64)
    mask = torch.arange(9) < torch.tensor([[4], [9]])
    torch.manual_seed(3)
    out = layer(x, mask)[0]
    got = torch.autograd.grad((out * weight).sum(), list(layer.parameters()))

    layer.lsh_backward = True
    torch.manual_seed(3)
    torch.testing.assert_close(layer(x, mask)[0], out)
    torch.manual_seed(3)
    query, key, value = (
        f(x).unflatten(-1, (2, 16)) for f in (layer.query, layer.key, layer.value)
    )
    options = dict(mask=mask, code_bits=5, normalize_output=False, layout="bnhd")
    sampled = yoso.attention(query, key, value, mode="sampled", num_hashes=20, **options)
    sampled = sampled.detach().requires_grad_()
    unit = torch.nn.functional.normalize(sampled, dim=-1).flatten(-2)
    (through,) = torch.autograd.grad((unit * weight).sum(), sampled)
    expected = yoso.attention(query, key, value, mode="expected", **options)
    wanted = torch.autograd.grad((expected * through).sum(), list(layer.parameters()))
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_unpatching_gives_back_what_was_there(monkeypatch):
    monkeypatch.setattr(modeling_yoso, "lsh_cumulation", "the kernel that was there")
    model = masked_lm(use_expectation=True)
    ids, mask = padded_batch()
    before = modeling_yoso.lsh_cumulation, modeling_yoso.YosoSelfAttention.forward
    wanted = model(ids, attention_mask=mask).logits
    patch_yoso()
    patch_yoso("hf_compat")
    assert modeling_yoso.YosoSelfAttention.forward is not before[1]
    unpatch_yoso()
    unpatch_yoso()
    assert (modeling_yoso.lsh_cumulation, modeling_yoso.YosoSelfAttention.forward) == before
    assert torch.equal(model(ids, attention_mask=mask).logits, wanted)


@pytest.mark.parametrize("gone", [False, True], ids=["both places", "the deprecated one alone"])
def test_patches_the_model_where_transformers_keeps_it(monkeypatch, gone):
    class YosoSelfAttention:
        def forward(self):
            return "theirs"

    name = "transformers.models.deprecated.yoso.modeling_yoso"
    for parent in ("transformers.models.deprecated", "transformers.models.deprecated.yoso"):
        monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
    deprecated = ModuleType(name)
    deprecated.lsh_cumulation, deprecated.YosoSelfAttention = None, YosoSelfAttention
    monkeypatch.setitem(sys.modules, name, deprecated)
    if gone:
        monkeypatch.setitem(sys.modules, modeling_yoso.__name__, None)
    theirs = modeling_yoso.YosoSelfAttention.forward, YosoSelfAttention.forward
    patch_yoso()
    assert YosoSelfAttention.forward is not theirs[1]
    assert deprecated.lsh_cumulation is not None
    assert (modeling_yoso.YosoSelfAttention.forward is theirs[0]) == gone
    unpatch_yoso()
    assert (modeling_yoso.YosoSelfAttention.forward, YosoSelfAttention.forward) == theirs


def test_says_when_transformers_has_no_yoso(monkeypatch):
    monkeypatch.setitem(sys.modules, modeling_yoso.__name__, None)
    with pytest.raises(ImportError, match="this transformers has no YOSO model, expected one of"):
        patch_yoso()


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda model, ids: patch_yoso("loose"), ValueError, "mask_mode is 'loose', expected"),
        (
            lambda model, ids: model(ids, output_attentions=True),
            ValueError,
            "output_attentions is True, expected False",
        ),
        (
            lambda model, ids: model(ids, attention_mask=(ids > 9) * -10000.0),
            ValueError,
            "values other than 0 and 1",
        ),
        (
            lambda model, ids: model(ids, attention_mask=torch.ones(2, LENGTH + 1)),
            ValueError,
            r"the mask is \[2, 41\], expected a padding mask: \[2, 40\]",
        ),
        (
            lambda model, ids: model(ids, attention_mask=torch.ones(1, 1, LENGTH, LENGTH).tril() > 0),
            ValueError,
            "the 4-D mask differs between queries or heads",
        ),
    ],
)
def test_refuses(call, error, message):
    patch_yoso()
    ids, _ = padded_batch()
    with pytest.raises(error, match=message):
        call(masked_lm(use_expectation=True), ids)
