"""yoso.nn: modules against what they replace, and training."""

# SPDX-License-Identifier: Apache-2.0
import re

import pytest
import torch
import yoso
from conftest import rows
from torch import nn
from torch.nn import functional
from yoso._convolution import _convolve_by_blocks, convolve_tokens

OPTIONS = dict(mode="sampled", num_hashes=8, code_bits=4, seed=5)


def reference(module, query, key, query_mask=None, key_mask=None):
    """yoso.nn.Attention written out with one projection at a time."""
    heads, width = module.num_heads, module.embed_dim // module.num_heads
    weights = module.in_proj_weight.chunk(3)
    biases = module.in_proj_bias.chunk(3)

    def project(x, i):
        return functional.linear(x, weights[i], biases[i]).unflatten(-1, (heads, width))

    q, k, v = project(query, 0), project(key, 1), project(key, 2)
    out = yoso.attention(
        q, k, v, layout="bnhd", query_mask=query_mask, key_mask=key_mask, **module.options
    )
    if module.conv_weight is not None:
        taps = module.conv_weight.shape[1]
        if key_mask is not None:
            v = v.masked_fill(~key_mask[..., None, None], 0)
        padded = functional.pad(v, (0, 0, 0, 0, taps // 2, taps // 2))
        convolved = sum(
            module.conv_weight[:, t, None] * padded[:, t : t + v.shape[1]] for t in range(taps)
        )
        if query_mask is not None:
            convolved = convolved.masked_fill(~query_mask[..., None, None], 0)
        out = out + convolved
    return module.out_proj(out.flatten(2))


@pytest.mark.parametrize("conv_width", [0, 1, 5, 33])
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_projections_attention_and_convolution(device, conv_width, masked):
    module = yoso.nn.Attention(32, 4, conv_width=conv_width, device=device, **OPTIONS)
    x = rows(2, 20, 32, device=device).detach()
    mask = (torch.rand(2, 20) < 0.7).to(device) if masked else None
    # Codes may flip only where a projection is within rounding of zero, which these are not.
    torch.testing.assert_close(
        module(x, mask=mask), reference(module, x, x, mask, mask), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("tokens", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("taps", [1, 3, 33, 129])
def test_convolution_by_blocks_is_the_convolution(tokens, taps, device):
    """Whole numbers are exact in any order."""

    def integers(*shape):
        return torch.randint(-3, 4, shape, device=device).double()

    value, filters = integers(2, 3, tokens, 5), integers(3, taps)
    inputs = value.requires_grad_(), filters.requires_grad_()
    out_grad = integers(2, 3, tokens, 5)
    results = []
    library = functional.conv2d(value, filters[:, None, :, None], padding=(taps // 2, 0), groups=3)
    for out in (library, _convolve_by_blocks(*inputs), convolve_tokens(*inputs)):
        results.append((out, *torch.autograd.grad(out, inputs, out_grad)))
    for result in results[1:]:
        for got, expected in zip(result, results[0], strict=True):
            assert torch.equal(got, expected)


def test_cross_attention(device):
    module = yoso.nn.Attention(32, 4, device=device, **OPTIONS)
    query, key = rows(2, 20, 32, device=device).detach(), rows(2, 7, 32, device=device).detach()
    key_mask = torch.ones(2, 7, dtype=torch.bool, device=device)
    key_mask[1, 3:] = False
    torch.testing.assert_close(
        module(query, key, key_mask=key_mask),
        reference(module, query, key, key_mask=key_mask),
        rtol=1e-4,
        atol=1e-5,
    )


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_encoder_layer_replaces_torchs(norm_first, batch_first):
    """The same parameters; with attention taken out of both, the same function."""
    arguments = dict(dropout=0.0, norm_first=norm_first, batch_first=batch_first, activation="gelu")
    theirs = nn.TransformerEncoderLayer(32, 4, 64, **arguments).eval()
    ours = yoso.nn.EncoderLayer(32, 4, 64, **arguments, **OPTIONS).eval()
    ours.load_state_dict(theirs.state_dict())
    x = rows(2, 9, 32).detach()
    assert ours(x).shape == theirs(x).shape
    assert not torch.allclose(ours(x), theirs(x), atol=1e-3)
    for layer in (ours, theirs):
        nn.init.zeros_(layer.self_attn.out_proj.weight)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


def test_works_inside_torchs_encoder_with_its_padding_mask():
    layer = yoso.nn.EncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, conv_width=3, **OPTIONS)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    x = rows(2, 9, 32).detach()
    padding = torch.zeros(2, 9, dtype=torch.bool)
    padding[1, 5:] = True
    out = encoder(x, src_key_padding_mask=padding)
    alone = encoder(x[1:, :5])
    torch.testing.assert_close(out[1, :5], alone[0], rtol=1e-4, atol=1e-5)
    x[1, 5:] = 100.0
    assert torch.equal(out[1, :5], encoder(x, src_key_padding_mask=padding)[1, :5])


def test_modules_name_what_is_wrong():
    x = torch.randn(2, 9, 32)
    layer = yoso.nn.EncoderLayer(32, 4, 64, batch_first=True)
    for wrong in (dict(src_mask=torch.zeros(9, 9)), dict(is_causal=True)):
        with pytest.raises(ValueError, match="src_mask or is_causal is given"):
            layer(x, **wrong)
    with pytest.raises(ValueError, match="other numbers than 0 and minus infinity"):
        layer(x, src_key_padding_mask=torch.full((2, 9), -10_000.0))
    with pytest.raises(ValueError, match="embed_dim is 32, expected a multiple of num_heads = 5"):
        yoso.nn.Attention(32, 5)
    with pytest.raises(ValueError, match="conv_width is 4, expected 0 or an odd number"):
        yoso.nn.Attention(32, 4, conv_width=4)
    with pytest.raises(TypeError, match="got the option 'hashes', expected one of num_hashes"):
        yoso.nn.Attention(32, 4, hashes=4)
    with pytest.raises(ValueError, match="activation is 'tanh', expected 'relu', 'gelu'"):
        yoso.nn.EncoderLayer(32, 4, activation="tanh")
    with pytest.raises(ValueError, match="key has 7 tokens, expected those of query, 9"):
        yoso.nn.Attention(32, 4, conv_width=3)(x, torch.randn(2, 7, 32))
    for wrong in (torch.randn(9), torch.randn(9, 32), torch.randn(9, 2, 31), torch.randn(1, 9, 2, 32)):
        with pytest.raises(ValueError, match=re.escape(f"src is {list(wrong.shape)}, expected [")):
            yoso.nn.EncoderLayer(32, 4)(wrong)


@pytest.mark.parametrize("conv_width", [0, 5])
def test_no_tokens_are_no_error(device, conv_width):
    module = yoso.nn.Attention(32, 4, conv_width=conv_width, device=device)
    x = torch.randn(2, 0, 32, device=device, requires_grad=True)
    out = module(x)
    out.sum().backward()
    assert out.shape == x.grad.shape == (2, 0, 32)


def test_parameters_can_be_reset():
    module = yoso.nn.Attention(32, 4, conv_width=3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(7)
    torch.manual_seed(3)
    module.reset_parameters()
    torch.manual_seed(3)
    again = yoso.nn.Attention(32, 4, conv_width=3)
    for name, parameter in module.named_parameters():
        assert torch.equal(parameter, again.get_parameter(name)), name


def test_parameters_begin_as_those_of_torch():
    torch.manual_seed(3)
    theirs = nn.TransformerEncoderLayer(32, 4, 64)
    torch.manual_seed(3)
    ours = yoso.nn.EncoderLayer(32, 4, 64)
    for name, parameter in theirs.named_parameters():
        assert torch.equal(ours.get_parameter(name), parameter), name


@pytest.mark.parametrize("options", [dict(), dict(backward_hashes=4)], ids=["all", "subset"])
def test_learns_to_reverse(device, options):
    """A token's target is the token at the mirrored place: only attention can bring it there."""
    torch.manual_seed(1)
    tokens, words, width = 16, 8, 32
    embed = nn.Embedding(words, width, device=device)
    place = nn.Parameter(torch.randn(tokens, width, device=device))
    layer = yoso.nn.EncoderLayer(
        width, 2, 64, dropout=0.0, batch_first=True, norm_first=True, device=device,
        mode="sampled", num_hashes=32, code_bits=4, **options
    )  # fmt: skip
    head = nn.Linear(width, words, device=device)
    modules = nn.ModuleList([embed, layer, head])
    optimizer = torch.optim.AdamW([*modules.parameters(), place], lr=1e-2)
    for _ in range(100):
        x = torch.randint(words, (32, tokens)).to(device)
        logits = head(layer(embed(x) + place))
        loss = functional.cross_entropy(logits.flatten(0, 1), x.flip(1).flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    accuracy = (logits.argmax(-1) == x.flip(1)).double().mean().item()
    # Chance is 1 in 8; without attention to the mirrored place there is nothing to learn.
    assert accuracy > 0.9
