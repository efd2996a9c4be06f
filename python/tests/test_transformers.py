"""attn_implementation="yoso": the formula, padding, what is refused, and models that learn with it."""

# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
import yoso

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

from transformers.masking_utils import (  # noqa: E402
    ALL_MASK_ATTENTION_FUNCTIONS,
    causal_mask_function,
    sliding_window_causal_mask_function,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS  # noqa: E402
from yoso.integrations.transformers import register  # noqa: E402

VOCABULARY = 20
SMALL = dict(
    vocab_size=VOCABULARY,
    hidden_size=32,
    num_attention_heads=2,
    num_hidden_layers=3,
    intermediate_size=48,
    pad_token_id=0,
)
ENCODERS = {
    "bert": transformers.BertConfig(**SMALL),
    "roberta": transformers.RobertaConfig(**SMALL),
    # Layers 0 and 2 see all tokens, layer 1 a window of 8.
    "modernbert": transformers.ModernBertConfig(
        **SMALL,
        local_attention=8,
        global_attn_every_n_layers=2,
        bos_token_id=1,
        cls_token_id=1,
        eos_token_id=2,
        sep_token_id=2,
    ),
}
for_each_encoder = pytest.mark.parametrize("config", ENCODERS.values(), ids=ENCODERS.keys())


def encoder(config, implementation):
    return transformers.AutoModel.from_config(config, attn_implementation=implementation)


def ids_of(*shape):
    return torch.randint(3, VOCABULARY, shape)


def implementation(name, **options):
    """What a model's attention layer calls: the function, and a layer to call it with."""
    register(name, **options)
    return ALL_ATTENTION_FUNCTIONS[name], SimpleNamespace(is_causal=False)


def padded_batch(ids, length):
    """ids [1, N] and another sequence of `length` tokens, as a batch with its mask."""
    batch, mask = ids_of(2, length), torch.ones(2, length, dtype=torch.long)
    batch[0, : ids.shape[1]] = ids[0]
    mask[0, ids.shape[1] :] = 0
    return batch, mask


def test_yoso_needs_no_transformers():
    code = "import sys; sys.modules['transformers'] = None; import yoso, yoso.integrations.hub"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("query_heads", [2, 4], ids=["equal heads", "grouped heads"])
def test_is_yoso_attention_with_tokens_before_heads(device, query_heads):
    options = dict(mode="sampled", code_bits=5, num_hashes=7, seed=3)
    attention, layer = implementation("yoso-options", **options)
    query, key, value = (torch.randn(2, heads, 9, 8).to(device) for heads in (query_heads, 2, 2))
    mask = torch.arange(9, device=device) < torch.tensor([[4], [9]], device=device)
    out, weights = attention(layer, query, key, value, mask, scaling=0.3)
    wanted = yoso.attention(query, key, value, key_mask=mask, **options)
    assert torch.equal(out, wanted.transpose(1, 2))
    assert out.is_contiguous() and weights is None


@pytest.mark.parametrize("mode", ["expected", "sampled"])
def test_attention_is_the_same_to_the_bit_alone_and_padded(device, mode):
    attention, layer = implementation("yoso-padding", mode=mode, seed=5)
    batch = [torch.randn(2, 2, 40, 16).to(device) for _ in range(3)]
    mask = torch.arange(40, device=device) < torch.tensor([[21], [40]], device=device)
    padded, _ = attention(layer, *batch, mask)
    alone, _ = attention(layer, *(x[:1, :, :21] for x in batch), None)
    assert torch.equal(padded[:1, :21], alone)
    ignored, _ = attention(layer, *batch, None)
    assert not torch.equal(ignored[:1, :21], alone)


@for_each_encoder
@pytest.mark.parametrize("mode", ["expected", "sampled"])
def test_models_give_a_sentence_the_same_output_alone_and_padded(config, mode):
    register("yoso-padding", mode=mode, seed=5)
    model = encoder(config, "yoso-padding").eval().double()
    ids = ids_of(1, 21)
    batch, mask = padded_batch(ids, 40)
    alone = model(ids).last_hidden_state
    padded = model(batch, attention_mask=mask).last_hidden_state[:1, :21]
    # Only matrix products of other shapes differ: roundings of doubles, far from the 1e-3 that
    # padding makes.
    torch.testing.assert_close(padded, alone, rtol=0, atol=1e-12)
    ignored = model(batch).last_hidden_state[:1, :21]
    assert (ignored - alone).abs().max() > 1e-4


def test_padding_masks_of_other_forms_are_the_same_mask():
    attention, layer = implementation("yoso-masks", mode="expected")
    batch = [torch.randn(2, 2, 8, 4) for _ in range(3)]
    mask = torch.arange(8) < torch.tensor([[3], [8]])
    wanted, _ = attention(layer, *batch, mask)
    pairs = mask[:, None, None].expand(2, 1, 8, 8)
    for form in (
        mask.long(),
        mask.float(),
        mask[:, None, None],
        pairs,
        pairs.expand(2, 2, 8, 8),
        torch.where(pairs, 0.0, torch.finfo(torch.float32).min),
        torch.where(pairs, 0.0, -torch.inf),
    ):
        assert torch.equal(attention(layer, *batch, form)[0], wanted)
    everywhere = mask[:1].expand(2, 8)
    assert torch.equal(
        attention(layer, *batch, mask[:1, None, None])[0],
        attention(layer, *batch, everywhere)[0],
    )


@pytest.mark.parametrize(
    "mask, error, message",
    [
        ([[1] * 8] * 2, TypeError, "the mask is a list, expected a tensor"),
        (torch.ones(2, 7, dtype=torch.bool), ValueError, r"is \[2, 7\], expected .*\[2, 8\]"),
        (torch.ones(3, 8, dtype=torch.bool), ValueError, r"is \[3, 8\], expected .*\[2, 8\]"),
        (torch.ones(2, 8, 8, dtype=torch.bool), ValueError, r"is \[2, 8, 8\], expected"),
        (torch.full((2, 8), -1e4), ValueError, "values other than 0 and 1"),
        (torch.ones(8, 8).tril().bool()[None, None], ValueError, "differs between queries or heads"),
        (torch.full((1, 1, 8, 8), -1.0).tril(-1), ValueError, "YOSO has no bias of scores"),
        (torch.ones(2, 1, 1, 8), ValueError, "YOSO has no bias of scores"),
        (torch.zeros(2, 1, 8, 8, requires_grad=True), ValueError, "YOSO has no bias of scores"),
    ],
)
def test_refuses_masks_that_are_not_padding_masks(mask, error, message):
    attention, layer = implementation("yoso-masks", mode="expected")
    batch = [torch.randn(2, 2, 8, 4) for _ in range(3)]
    with pytest.raises(error, match=message):
        attention(layer, *batch, mask)


def test_refuses_a_model_that_attends_by_itself():
    """It would take the name, and add the mask of 0 and 1 to its scores."""
    register(mode="expected")
    model = encoder(transformers.MPNetConfig(**SMALL), "yoso")
    ids, mask = padded_batch(ids_of(1, 4), 6)
    with pytest.raises(ValueError, match="MPNetModel computes attention by itself, expected"):
        model(ids, attention_mask=mask)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_refuses_a_causal_4d_mask(compiled):
    register(mode="expected")
    model = encoder(ENCODERS["bert"], "yoso").eval()
    call = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
    ids = ids_of(2, 6)
    padding = (torch.arange(6) < torch.tensor([[4], [6]]))[:, None, None].expand(2, 1, 6, 6)
    torch.testing.assert_close(
        call(ids, attention_mask=padding).last_hidden_state,
        model(ids, attention_mask=padding[:, 0, 0]).last_hidden_state,
    )
    causal = torch.ones(2, 1, 6, 6).tril().bool()
    # A compiled graph has no values when it is made: it says so when it runs.
    with pytest.raises(
        RuntimeError if compiled else ValueError,
        match="'yoso' in BertSelfAttention: the 4-D mask differs between queries or heads, expected",
    ):
        call(ids, attention_mask=causal)


@pytest.mark.parametrize(
    "config",
    [
        transformers.BertConfig(**SMALL, is_decoder=True),
        transformers.GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_head=2, n_layer=1, bos_token_id=1, eos_token_id=2
        ),
        transformers.LlamaConfig(**SMALL),
        transformers.MistralConfig(**SMALL, num_key_value_heads=1, sliding_window=4),
    ],
    ids=lambda config: config.model_type,
)
@pytest.mark.parametrize("masked", [False, True])
def test_refuses_causal_models(config, masked):
    register()
    ids = ids_of(1, 6)
    mask = torch.ones_like(ids) if masked else None
    with pytest.raises(ValueError, match="'yoso'.*: the model is causal, expected an encoder"):
        encoder(config, "yoso")(ids, attention_mask=mask)


def test_refuses_a_causal_mask_of_a_layer_that_does_not_say_it_is_causal():
    register()
    make_mask = ALL_MASK_ATTENTION_FUNCTIONS["yoso"]
    sizes = dict(batch_size=1, q_length=6, kv_length=6, attention_mask=None)
    with pytest.raises(ValueError, match="the model is causal"):
        make_mask(mask_function=causal_mask_function, **sizes)
    window = sliding_window_causal_mask_function(9)
    mask = make_mask(mask_function=window, allow_is_causal_skip=True, **sizes)
    attention, layer = implementation("yoso")
    x = torch.randn(1, 2, 6, 4)
    with pytest.raises(ValueError, match="differs between queries or heads"):
        attention(layer, x, x, x, mask)


@pytest.mark.parametrize("argument", ["position_bias", "softcap", "s_aux", "cu_seq_lens_q"])
def test_refuses_what_yoso_has_no_form_of(argument):
    attention, layer = implementation("yoso")
    x = torch.randn(1, 2, 8, 4)
    with pytest.raises(ValueError, match=f"got {argument}, expected none: YOSO has no"):
        attention(layer, x, x, x, None, **{argument: torch.ones(2)})


@pytest.mark.parametrize(
    "options, error, message",
    [
        (dict(hashes=3), TypeError, "got the option 'hashes', expected one of num_hashes"),
        (dict(num_hashes=0), RuntimeError, "num_hashes is 0, expected"),
        (dict(mode="sampled", code_bits=17), RuntimeError, "code_bits is 17, expected"),
        (dict(mode="exact"), RuntimeError, "mode is 'exact', expected"),
        (dict(seed=1.5), TypeError, "seed is a float, expected an int or None"),
        (dict(seed=2**64), ValueError, "seed is 18446744073709551616, expected -2"),
    ],
)
def test_options_are_checked_when_registered(options, error, message):
    with pytest.raises(error, match=message):
        register("yoso-refused", **options)
    assert "yoso-refused" not in ALL_ATTENTION_FUNCTIONS


def test_registering_draws_nothing():
    state = torch.get_rng_state()
    register()
    assert torch.equal(torch.get_rng_state(), state)


def test_layers_hash_differently_and_a_seed_repeats_them():
    attention, _ = implementation("yoso-seed", mode="sampled", seed=7)
    x = torch.randn(1, 1, 64, 16)
    first, again, second = (
        attention(SimpleNamespace(is_causal=False, layer_idx=i), x, x, x, None)[0]
        for i in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_without_a_seed_torch_manual_seed_repeats_a_forward():
    register("yoso-sampled", mode="sampled")
    model = encoder(ENCODERS["bert"], "yoso-sampled").eval()
    ids = ids_of(1, 64)
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(model(ids).last_hidden_state)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_windows_of_a_model_stay_what_they_were():
    """A model with windows only is not touched."""
    config = transformers.ModernBertConfig(
        **{**ENCODERS["modernbert"].to_dict(), "layer_types": ["sliding_attention"] * 3}
    )
    register()
    model = encoder(config, "yoso").eval()
    batch, mask = padded_batch(ids_of(1, 21), 40)
    ours = model(batch, attention_mask=mask).last_hidden_state
    model.set_attn_implementation("sdpa")
    assert torch.equal(ours, model(batch, attention_mask=mask).last_hidden_state)


def test_says_once_that_there_is_no_attention_dropout(monkeypatch):
    from yoso.integrations.transformers import implementation as module

    said = []
    monkeypatch.setattr(module._logger, "warning_once", said.append)
    attention, layer = implementation("yoso", mode="expected")
    x = torch.randn(1, 2, 8, 4)
    attention(layer, x, x, x, None, dropout=0.0)
    assert said == []
    attention(layer, x, x, x, None, dropout=0.1)
    assert "attention dropout is 0.1, expected 0" in said[0]


def test_compiles_without_a_break(device):
    register("yoso-compiled", mode="sampled", seed=3)
    model = encoder(ENCODERS["bert"], "yoso-compiled").eval().to(device)
    batch, mask = (x.to(device) for x in padded_batch(ids_of(1, 21), 40))
    wanted = model(batch, attention_mask=mask).last_hidden_state
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(batch, attention_mask=mask).last_hidden_state, wanted)


def test_a_recomputed_forward_has_the_hashes_of_the_first(device):
    register("yoso-sampled", mode="sampled")
    model = encoder(ENCODERS["bert"], "yoso-sampled").to(device)
    ids = ids_of(2, 64).to(device)

    def gradients():
        torch.manual_seed(1)
        model.zero_grad()
        model.train()(ids).last_hidden_state.square().sum().backward()
        return [x.grad.clone() for x in model.parameters() if x.grad is not None]

    wanted = gradients()
    model.gradient_checkpointing_enable()
    for ours, theirs in zip(gradients(), wanted, strict=True):
        assert torch.equal(ours, theirs)


def test_a_saved_model_is_loaded_with_yoso(tmp_path):
    register("yoso-fixed", seed=1)
    model = encoder(ENCODERS["bert"], "sdpa").eval()
    model.save_pretrained(tmp_path)
    loaded = transformers.AutoModel.from_pretrained(
        tmp_path, attn_implementation="yoso-fixed"
    ).eval()
    ids = ids_of(1, 30)
    softmax = model(ids).last_hidden_state
    model.set_attn_implementation("yoso-fixed")
    ours = model(ids, output_attentions=True)
    assert torch.equal(ours.last_hidden_state, loaded(ids).last_hidden_state)
    assert not torch.allclose(ours.last_hidden_state, softmax, atol=1e-3)
    assert not any(x is not None for x in ours.attentions or ())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_types_and_autocast(dtype, device):
    register("yoso-fixed", mode="sampled", seed=1)
    model = encoder(ENCODERS["bert"], "yoso-fixed").eval().to(device)
    batch, mask = (x.to(device) for x in padded_batch(ids_of(1, 21), 40))
    with torch.autocast(device, dtype):
        assert model(batch, attention_mask=mask).last_hidden_state.isfinite().all()
    narrow = model.to(dtype)(batch, attention_mask=mask).last_hidden_state
    assert narrow.dtype == dtype and narrow.isfinite().all()


def marked_batch(size, length=12):
    """Padded sequences, half of which hold token 3 somewhere: that is the label."""
    ids = torch.randint(4, VOCABULARY, (size, length))
    ids[:, 0] = 2
    lengths = torch.randint(length // 2, length + 1, (size,))
    mask = (torch.arange(length) < lengths[:, None]).long()
    labels = torch.arange(size) % 2
    places = 1 + (torch.rand(size) * (lengths - 1)).long()
    ids[labels == 1, places[labels == 1]] = 3
    # Padding holds the token as well: a model that looks there cannot tell.
    return dict(input_ids=torch.where(mask == 1, ids, 3), attention_mask=mask, labels=labels)


@pytest.fixture
def one_thread():
    """Small tensors gain nothing from more, and lose where other programs run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@for_each_encoder
def test_models_learn(config, device, one_thread):
    register("yoso-learns", mode="sampled", num_hashes=16, code_bits=4)
    model = transformers.AutoModelForSequenceClassification.from_config(
        config, attn_implementation="yoso-learns"
    ).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def on_device(batch):
        return {name: x.to(device) for name, x in batch.items()}

    losses = []
    for _ in range(100):
        loss = model.train()(**on_device(marked_batch(32))).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    test = on_device(marked_batch(256))
    with torch.no_grad():
        right = model.eval()(**test).logits.argmax(-1) == test["labels"]
    # Chance gives 1/2 with a standard error of 1/32.
    assert right.float().mean() > 0.8, losses[::20]
