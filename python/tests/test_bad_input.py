"""What cannot be computed is refused in one line: what is wrong, what was got, what was expected.

Of files that do not fit (checkpoints, configurations, tokenizers) the C++ tests read the words:
Transformers.SaysWhichWeightDoesNotFit, Transformers.SaysWhatInTheConfigurationIsOfAnotherModel,
TokenizerFiles.OtherKindsAreRefusedByName.
"""

# SPDX-License-Identifier: Apache-2.0
import re

import numpy
import pytest
import torch
import yoso

X = torch.randn(2, 2, 6, 8)  # B, H, N, D
ROWS = torch.randn(9, 2, 8)  # total, H, D
REAL = torch.ones(2, 6, dtype=torch.bool)
CODES = yoso.hash(X, seed=1)
NOT_TENSORS = {"None": None, "list": [[1.0]], "ndarray": numpy.ones((2, 2, 6, 8)), "str": "x"}


def refusal(error, call):
    """The words of the one error that the call may raise."""
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    return str(caught.value)


def attend(*rows, **options):
    return lambda: yoso.attention(*rows, **options)


def meet(query_codes=CODES, key_codes=CODES, value=X, **options):
    return lambda: yoso.bucket_attention(query_codes, key_codes, value, **options)


@pytest.mark.parametrize("kind", NOT_TENSORS)
def test_rows_that_are_no_tensors(kind):
    x = NOT_TENSORS[kind]
    kind = type(x).__name__
    for i, name in enumerate(("query", "key", "value")):
        rows = [X, X, X]
        rows[i] = x
        assert refusal(TypeError, attend(*rows)) == (
            f"yoso.attention: {name} is a {kind}, expected a tensor"
        )
    for i, name in enumerate(("query_codes", "key_codes", "value")):
        arguments = [CODES, CODES, X]
        arguments[i] = x
        assert refusal(TypeError, meet(*arguments)) == (
            f"yoso.bucket_attention: {name} is a {kind}, expected a tensor"
        )
    assert refusal(TypeError, lambda: yoso.hash(x, seed=1)) == (
        f"yoso.hash: x is a {kind}, expected a tensor"
    )
    assert refusal(TypeError, lambda: yoso.nn.Attention(8, 2)(x)) == (
        f"yoso.nn.Attention: query is a {kind}, expected a tensor"
    )


@pytest.mark.parametrize("kind", [kind for kind in NOT_TENSORS if kind != "None"])
@pytest.mark.parametrize("side", ["", "query_", "key_"])
def test_masks_that_are_no_tensors(kind, side):
    x = NOT_TENSORS[kind]
    mask = {f"{side}mask": x}
    words = f"{side}mask is a {kind}, expected a tensor"
    assert refusal(TypeError, attend(X, X, X, **mask)) == f"yoso.attention: {words}"
    assert refusal(TypeError, meet(**mask)) == f"yoso.bucket_attention: {words}"
    module = yoso.nn.Attention(8, 2)
    assert refusal(TypeError, lambda: module(X[0], **mask)) == f"yoso.nn.Attention: {words}"
    offsets = {f"{side}cu_seqlens": x}
    assert refusal(TypeError, attend(ROWS, ROWS, ROWS, **offsets)) == (
        f"yoso.attention: {side}cu_seqlens is a {kind}, expected a tensor"
    )
    layer = yoso.nn.EncoderLayer(8, 2)
    assert refusal(TypeError, lambda: layer(X[0], src_key_padding_mask=x)) == (
        f"yoso.nn.EncoderLayer: src_key_padding_mask is a {kind}, expected a tensor"
    )


MASKS = {  # a mask of X, and what of it is not as expected
    "type": (REAL.float(), "is Float, expected Bool"),
    "pairs": (torch.ones(2, 1, 6, 6).tril().bool(), "is [2, 1, 6, 6], expected [2, 6]"),
    "4-D": (REAL[:, None, None], "is [2, 1, 1, 6], expected [2, 6]"),
    "3-D": (REAL[:, None].expand(2, 6, 6), "is [2, 6, 6], expected [2, 6]"),
    "one sequence": (REAL[0], "is [6], expected [2, 6]"),
    "batch": (REAL[:1], "is [1, 6], expected [2, 6]"),
    "length": (REAL[:, :5], "is [2, 5], expected [2, 6]"),
}


@pytest.mark.parametrize("mask, words", MASKS.values(), ids=MASKS.keys())
def test_masks_that_are_no_padding_masks(mask, words):
    module = yoso.nn.Attention(16, 2)
    tokens = X.transpose(1, 2).flatten(2)
    for call in attend(X, X, X, mask=mask), lambda: module(tokens, mask=mask):
        assert refusal(RuntimeError, call) == f"yoso_attention: query_mask {words}"
    assert refusal(RuntimeError, attend(X, X, X, key_mask=mask)) == (
        f"yoso_attention: key_mask {words}"
    )
    words = words.replace("is Float", "is of type Float")
    assert refusal(RuntimeError, meet(mask=mask)).startswith(f"bucket_attention: query_mask {words}")


def test_a_mask_is_for_both_sides_or_for_one():
    """One of two masks would be left out silently."""
    words = "mask is given with query_mask or key_mask, expected it alone: it is for both sides"
    module = yoso.nn.Attention(16, 2)
    tokens = X.transpose(1, 2).flatten(2)
    for side in ("query_mask", "key_mask"):
        masks = {"mask": REAL, side: REAL}
        assert refusal(ValueError, attend(X, X, X, **masks)) == f"yoso.attention: {words}"
        assert refusal(ValueError, meet(**masks)) == f"yoso.bucket_attention: {words}"
        assert refusal(ValueError, lambda: module(tokens, **masks)) == f"yoso.nn.Attention: {words}"


@pytest.mark.parametrize("compiled", [False, True])
def test_padding_masks_of_torchs_encoder_with_other_numbers(compiled):
    layer = yoso.nn.EncoderLayer(8, 2, batch_first=True)
    call = torch.compile(layer, fullgraph=True, backend="aot_eager") if compiled else layer
    tokens, padding = X[:, 0], torch.tensor([0.0, -10_000.0]).repeat(2, 3)
    error = RuntimeError if compiled else ValueError
    assert "has other numbers than 0 and minus infinity, expected a padding mask" in refusal(
        error, lambda: call(tokens, src_key_padding_mask=padding)
    )
    assert refusal(TypeError, lambda: layer(tokens, src_key_padding_mask=REAL.long())) == (
        "yoso.nn.EncoderLayer: src_key_padding_mask is torch.int64, expected torch.bool or a "
        "floating type"
    )


OFFSETS = {
    "too few": ([0, 4, 8], "query_rows.offsets[2] is 8, expected the number of rows = 9"),
    "too many": ([0, 4, 10], "query_rows.offsets[2] is 10, expected the number of rows = 9"),
    "no begin": ([1, 4, 9], "query_rows.offsets[0] is 1, expected 0"),
    "negative": ([-1, 9], "query_rows.offsets[0] is -1, expected 0"),
    "backwards": ([0, 5, 4, 9], "query_rows.offsets[2] is 4, expected at least offsets[1] = 5"),
}


@pytest.mark.parametrize("offsets, words", OFFSETS.values(), ids=OFFSETS.keys())
@pytest.mark.parametrize("mode", ["auto", "sampled", "expected"])
def test_offsets_that_do_not_fit(offsets, words, mode):
    options = dict(cu_seqlens=torch.tensor(offsets), mode=mode)
    assert refusal(RuntimeError, attend(ROWS, ROWS, ROWS, **options)).endswith(words)


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(max_seqlen=9), "9, expected None without cu_seqlens"),
        (dict(max_seqlen=-1, cu_seqlens=torch.tensor([0, 9])), "-1, expected at least 0"),
    ],
)
def test_lengths_that_cannot_be(options, words):
    rows = ROWS if "cu_seqlens" in options else ROWS[None]
    message = refusal(ValueError, attend(rows, rows, rows, **options))
    assert message == f"yoso.attention: max_seqlen is {words}"


def test_offsets_of_another_type():
    offsets = torch.tensor([0.0, 9.0])
    assert refusal(TypeError, attend(ROWS, ROWS, ROWS, cu_seqlens=offsets)) == (
        "yoso.attention: query_cu_seqlens is torch.float32, expected torch.int32 or torch.int64"
    )


TYPES = {
    "wider": (X.double(), "Double, expected Float, the type of query"),
    "narrower": (X.half(), "Half, expected Float, the type of query"),
    "integers": (X.int(), "Int, expected a floating type"),
    "complex": (X.cfloat(), "ComplexFloat, expected a floating type"),
    "8 bits": (X.to(torch.float8_e4m3fn), "Float8_e4m3fn, expected a floating type"),
}


@pytest.mark.parametrize("x, words", TYPES.values(), ids=TYPES.keys())
def test_rows_of_another_type(x, words):
    for i, name in (1, "key"), (2, "value"):
        rows = [X, X, X]
        rows[i] = x
        assert refusal(RuntimeError, attend(*rows)) == f"yoso_attention: {name} is {words}"
    if not x.dtype.is_floating_point:
        assert refusal(RuntimeError, lambda: yoso.hash(x, seed=1)).startswith(
            f"hash: x is of type {words}"
        )


def test_codes_of_another_type():
    assert refusal(RuntimeError, meet(X, X)) == "bucket_attention: query_codes is float32, expected uint8"
    assert refusal(RuntimeError, meet(code_bits=9)) == (
        "bucket_attention: query_codes is uint8, expected uint16"
    )
    assert refusal(RuntimeError, meet(key_codes=CODES.to(torch.uint16))) == (
        "bucket_attention: key_codes is uint16, expected uint8"
    )


@pytest.mark.parametrize("other", ["meta", "cuda"])
def test_tensors_on_two_devices(other, request):
    if other == "cuda":
        request.getfixturevalue("cuda")
    place = "cuda:0" if other == "cuda" else other
    words = re.compile(rf"(yoso|bucket)_attention: \w+ is (on )?(cpu|{place}), expected (cpu|{place})")

    def far(x):
        return x.to(other)

    for call in (
        attend(X, far(X), X),
        attend(X, X, far(X)),
        attend(far(X), X, far(X)),
        attend(X, X, X, mask=far(REAL)),
        attend(far(X), far(X), far(X), key_mask=REAL),
        meet(key_codes=far(CODES)),
        meet(value=far(X)),
        meet(mask=far(REAL)),
    ):
        assert words.match(refusal(RuntimeError, call))


LENGTHS = {
    "value": (attend(X, X, X[:, :, :5]),
              "value is [2, 2, 5, 8], expected the batch, tokens and heads of key, [2, 2, 6, 8]"),
    "mask of both": (attend(X, X[:, :, :5], X[:, :, :5], mask=REAL),
                     "key_mask is [2, 6], expected [2, 5]"),
    "batch": (attend(X, X[:1], X[:1]), "key is [1, 2, 6, 8], expected the batch of query, 2"),
    "heads": (attend(X, *[X[:, :1].expand(2, 3, 6, 8)] * 2),
              "query is [2, 2, 6, 8], expected heads that are a multiple of the 3 heads of key"),
    "width": (attend(X, X[..., :7], X), "key is [2, 2, 6, 7], expected the width of query, 8"),
    "wide": (attend(X, X, torch.zeros(2, 2, 6, 257)),
             "value is [2, 2, 6, 257], expected a width from 1 to 256"),
    "rank": (attend(X[0], X[0], X[0]), "query is [2, 6, 8], expected [batch, heads, tokens, width]"),
}  # fmt: skip


@pytest.mark.parametrize("call, words", LENGTHS.values(), ids=LENGTHS.keys())
def test_shapes_that_do_not_fit(call, words):
    assert refusal(RuntimeError, call) == f"yoso_attention: {words}"


def test_shapes_of_modules_and_of_codes_that_do_not_fit():
    module = yoso.nn.Attention(16, 2, conv_width=3)
    tokens = X.transpose(1, 2).flatten(2)
    assert refusal(ValueError, lambda: module(tokens, tokens[:, :5])) == (
        "yoso.nn.Attention: key has 5 tokens, expected those of query, 6, with conv_width"
    )
    assert refusal(ValueError, lambda: module(tokens[0])) == (
        "yoso.nn.Attention: query is [6, 16], expected [B, N, 16]"
    )
    assert refusal(ValueError, lambda: module(tokens, tokens[..., :7])) == (
        "yoso.nn.Attention: key is [2, 6, 7], expected [B, N, 16]"
    )
    assert refusal(RuntimeError, meet(value=X[:, :, :5])) == (
        "bucket_attention: values.rows is 5, expected 6"
    )
    assert refusal(RuntimeError, meet(CODES[:, :, :3])) == (
        "bucket_attention: key_codes.rows is 32, expected query_codes.rows = 3"
    )
    assert refusal(ValueError, meet(value=X[0, 0])) == (
        "yoso.bucket_attention: value is [6, 8], expected [B, H, N, width]"
    )
    assert refusal(ValueError, lambda: yoso.hash(X[0, 0], seed=1)) == (
        "yoso.hash: x is [6, 8], expected [B, H, N, width]"
    )
    assert refusal(RuntimeError, lambda: yoso.hash(X, seed=1, projection_heads=3)) == (
        "hash: projection_heads is 3, expected a divisor of the 2 heads of x"
    )


@pytest.mark.parametrize("code_bits", [0, -1, 17, 2**40])
def test_code_bits_out_of_range(code_bits):
    sampled = attend(X, X, X, code_bits=code_bits, mode="sampled")
    assert re.fullmatch(
        r"yoso_attention: code_bits is \S+, expected (more than 0|an integer from 1 to 16 when sampled)",
        refusal(RuntimeError, sampled),
    )
    for name, call in (
        ("hash", lambda: yoso.hash(X, seed=1, code_bits=code_bits)),
        ("bucket_attention", meet(code_bits=code_bits)),
    ):
        assert refusal(RuntimeError, call) == f"{name}: code_bits is {code_bits}, expected 1 to 16"


@pytest.mark.parametrize("code_bits", [0.0, -1.0, float("nan"), float("inf")])
def test_code_bits_that_are_no_power(code_bits):
    words = refusal(RuntimeError, lambda: yoso.expected_attention(X, X, X, code_bits=code_bits))
    assert re.fullmatch(
        r"\w+: code_bits is \S+, expected (more than 0|a finite number above 0)", words
    )


@pytest.mark.parametrize("code_bits", [1, 4, 7, 9, 12, 15])
def test_surplus_bits_of_codes_count_for_nothing(device, code_bits):
    """They would reach beyond the buckets, into memory of others."""
    many = 8 if code_bits < 8 else 16
    codes = torch.randint(2**many, (1, 2, 3, 500)).to(device)
    key_codes = torch.randint(2**many, (1, 2, 3, 400)).to(device)
    value = torch.randn(1, 2, 400, 8, device=device, requires_grad=True)
    dtype = torch.uint8 if many == 8 else torch.uint16
    results = []
    for mask in (2**many - 1, 2**code_bits - 1):
        x, y = ((x & mask).to(dtype) for x in (codes, key_codes))
        out = yoso.bucket_attention(x, y, value, code_bits=code_bits)
        results.append((out, *torch.autograd.grad(out.square().sum(), value)))
    for surplus, exact in zip(*results):
        assert torch.equal(surplus, exact)


OPTIONS = {
    "causal": (dict(is_causal=True), ValueError,
               "is_causal is True, expected False: each query sees all keys; use "
               "torch.nn.functional.scaled_dot_product_attention"),
    "layout": (dict(layout="hbnd"), ValueError, "layout is 'hbnd', expected 'bhnd' or 'bnhd'"),
    "mode": (dict(mode="fast"), RuntimeError,
             "mode is 'fast', expected 'auto', 'sampled' or 'expected'"),
    "gradient": (dict(gradient="exact"), RuntimeError,
                 "gradient is 'exact', expected 'surrogate' or 'true'"),
    "projection": (dict(projection="x"), RuntimeError,
                   "projection is 'x', expected 'hadamard' or 'gaussian'"),
    "num_hashes": (dict(num_hashes=0), RuntimeError, "num_hashes is 0, expected at least 1"),
    "backward_hashes": (dict(backward_hashes=5), RuntimeError,
                        "backward_hashes is 5, expected a divisor of num_hashes = 32"),
    "backward_hashes of pairs": (dict(backward_hashes=4, gradient="true"), RuntimeError,
                                 "gradient is 'true', expected 'surrogate' with backward_hashes"),
    "one cu_seqlens": (dict(key_cu_seqlens=torch.tensor([0, 6])), RuntimeError,
                       "query_offsets is absent, expected offsets for both sides or for none"),
    "unknown": (dict(dropout_p=0.1), TypeError, "dropout_p"),
}  # fmt: skip


@pytest.mark.parametrize("options, error, words", OPTIONS.values(), ids=OPTIONS.keys())
def test_options_that_do_not_exist(options, error, words):
    assert words in refusal(error, attend(X, X, X, **options))


SEEDS = {
    "float": (1.5, TypeError, "is a float, expected an int"),
    "text": ("1", TypeError, "is a str, expected an int"),
    "wide": (2**63, ValueError, "is 9223372036854775808, expected -2**63 to 2**63 - 1"),
    "wider": (-(2**64), ValueError, "is -18446744073709551616, expected -2**63 to 2**63 - 1"),
}


@pytest.mark.parametrize("seed, error, words", SEEDS.values(), ids=SEEDS.keys())
def test_seeds_that_are_none(seed, error, words):
    assert f"yoso.attention: seed {words}" in refusal(error, attend(X, X, X, seed=seed))
    assert f"yoso.hash: seed {words}" in refusal(error, lambda: yoso.hash(X, seed=seed))


def test_seeds_of_another_type():
    for seed, words in (
        (torch.tensor(1.0), "seed is Float, expected Long (int64)"),
        (torch.tensor([1, 2]), "seed is [2], expected one number"),
    ):
        assert refusal(RuntimeError, attend(X, X, X, seed=seed)) == f"yoso_attention: {words}"
    assert refusal(TypeError, lambda: yoso.hash(X, seed=torch.tensor(1))) == (
        "yoso.hash: seed is a Tensor, expected an int"
    )
