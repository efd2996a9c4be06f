"""The registered operators: what torch checks of any operator, and the functions over them."""

# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
import yoso
from conftest import formula, rows
from torch.library import opcheck

ops = torch.ops.yoso


def arguments(device, ragged=False, requires_grad=False):
    """query, key, value, codes of both and sides; layout [B, N, H, D] or [total, H, D]."""
    if ragged:
        query, key = rows(9, 2, 8, device=device), rows(7, 1, 8, device=device)
        value = rows(7, 1, 3, device=device)
        sides = None, None, torch.tensor([0, 4, 9]), torch.tensor([0, 0, 7])
    else:
        query, key = rows(2, 5, 2, 8, device=device), rows(2, 6, 1, 8, device=device)
        value = rows(2, 6, 1, 3, device=device)
        query_mask = torch.ones(2, 5, dtype=torch.bool, device=device)
        query_mask[0, 3:] = False
        sides = query_mask, None, None, None
    if not requires_grad:
        query, key, value = query.detach(), key.detach(), value.detach()
    codes = [ops.hash(x, 4, 3, 7, "hadamard", 1) for x in (query, key)]
    return query, key, value, codes, sides


@pytest.mark.parametrize("ragged", [False, True])
class TestOpcheck:
    """torch.library.opcheck: schema, gradient, shapes and what torch.compile traces."""

    @pytest.mark.parametrize("code_bits", [3, 12])
    def test_hash(self, device, ragged, code_bits):
        query, *_ = arguments(device, ragged)
        opcheck(ops.hash, (query, 4, code_bits, 7, "gaussian", 1))

    def test_bucket_attention(self, device, ragged):
        *_, value, codes, sides = arguments(device, ragged, requires_grad=True)
        opcheck(ops.bucket_attention, (*codes, value, 3, *sides))
        opcheck(ops.bucket_attention, (*codes, value, 3, *sides, torch.bfloat16))

    @pytest.mark.parametrize("gradient", ["surrogate", "true"])
    def test_bucket_attention_grad(self, device, ragged, gradient):
        query, key, value, codes, sides = arguments(device, ragged)
        out_grad = torch.randn(*query.shape[:-1], 3, device=device)
        args = *codes, query, key, None, None, value, out_grad, 3, gradient, *sides
        opcheck(ops.bucket_attention_grad, args)

    def test_expected_attention(self, device, ragged):
        query, key, value, _, sides = arguments(device, ragged)
        opcheck(ops.expected_attention, (query, key, None, None, value, 3.0, *sides))

    def test_expected_attention_grad(self, device, ragged):
        query, key, value, _, sides = arguments(device, ragged)
        out_grad = torch.randn(*query.shape[:-1], 3, device=device)
        args = query, key, None, None, value, out_grad, 3.0, "surrogate", *sides
        opcheck(ops.expected_attention_grad, args)

    @pytest.mark.parametrize("has_branch", [True, False])
    def test_residual_norm(self, device, ragged, has_branch):
        x = rows(*((9, 2, 8) if ragged else (2, 5, 2, 8)), device=device).detach()
        seed = torch.tensor([7], device=device)
        branch = x if has_branch else None
        bias = x.new_ones([1] * (x.dim() - 1) + [8]) if has_branch else None
        args = x, branch, bias, seed if has_branch else None, 0.1 * has_branch, 1e-5, torch.bfloat16
        opcheck(ops.residual_norm, args)
        _, norm, scale = ops.residual_norm(*args)
        branch_dtype = torch.float32 if has_branch else None
        args = norm, scale, x, norm, seed, 0.1, torch.float32, branch_dtype, has_branch
        opcheck(ops.residual_norm_backward, args)
        opcheck(ops.column_sums, (x,))

    @pytest.mark.parametrize("mode", ["auto", "sampled", "expected"])
    @pytest.mark.parametrize("normalize_output", [True, False])
    @pytest.mark.parametrize("heads_first", [True, False])
    def test_attention(self, device, ragged, mode, normalize_output, heads_first):
        *x, _, sides = arguments(device, ragged, requires_grad=True)
        if heads_first:
            x = [y.transpose(-3, -2) for y in x]
        seed = None if mode == "expected" else torch.tensor(5)
        options = 4, 3.0, mode, "surrogate", "hadamard", normalize_output, None, heads_first
        opcheck(ops.attention, (*x, *sides, seed, *options))

    @pytest.mark.parametrize("mode", ["auto", "sampled", "expected"])
    @pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
    def test_attention_backward(self, device, ragged, mode, needs):
        *x, _, sides = arguments(device, ragged)
        x = [y.transpose(-3, -2) for y in x]
        options = 4, 3.0, mode, "surrogate"
        seed = torch.tensor(5)
        out, scale, *codes = ops.attention(*x, *sides, seed, *options, "hadamard", True, 2, True)
        saved = out, scale, *codes, *sides, seed
        args = torch.randn_like(out), *x, *saved, *options, 2, True, *needs
        opcheck(ops.attention_backward, args)


def test_hash_is_the_sign_of_gaussian_projections(device):
    # One bit: the code is a half-space, and opposite rows fall on different sides of each.
    x = rows(1, 2, 50, 16, device=device).detach()
    codes = yoso.hash(x, seed=3, num_hashes=64, code_bits=1, projection="gaussian")
    assert codes.shape == (1, 2, 64, 50) and codes.dtype == torch.uint8
    assert torch.equal(yoso.hash(-x, seed=3, num_hashes=64, code_bits=1, projection="gaussian"),
                       1 - codes)  # fmt: skip
    assert torch.equal(yoso.hash(7 * x, seed=3, num_hashes=64, code_bits=1, projection="gaussian"),
                       codes)  # fmt: skip
    assert yoso.hash(x, seed=3, code_bits=9).dtype == torch.uint16
    flipped = yoso.hash(x.transpose(1, 2), seed=3, layout="bnhd")
    assert torch.equal(flipped, yoso.hash(x, seed=3))


def test_codes_collide_with_the_probability_of_the_angle(device):
    hashes, code_bits = 20_000, 2
    x = rows(1, 1, 6, 16, device=device).detach()
    codes = yoso.hash(x, seed=3, num_hashes=hashes, code_bits=code_bits, projection="gaussian")
    collided = (codes[..., :, None] == codes[..., None, :]).double().mean(2)
    p = formula(x, x, torch.eye(6, device=device).expand(1, 1, 6, 6), code_bits=code_bits,
                normalize_output=False)  # fmt: skip
    # Six deviations of a mean of independent Bernoulli variables; projections are bfloat16 normals,
    # which moves an angle by less than 2^-8.
    assert ((collided - p).abs() <= 6 * (p * (1 - p) / hashes).clamp_min(0).sqrt() + 2**-7).all()


def test_bucket_attention_is_its_formula_and_so_is_its_gradient(device):
    codes = torch.randint(4, (2, 2, 5, 7), dtype=torch.uint8).to(device)
    key_codes = torch.randint(4, (2, 1, 5, 9), dtype=torch.uint8).to(device)
    value = rows(2, 1, 9, 3, device=device)
    key_mask = (torch.rand(2, 9) < 0.7).to(device)
    out = yoso.bucket_attention(codes, key_codes, value, code_bits=2, key_mask=key_mask)
    equal = codes[..., :, None] == key_codes[..., None, :].expand(2, 2, 5, 1, 9)
    weight = equal.double().mean(2) * key_mask[:, None, None]
    expected = weight @ value.double()
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=1e-5)
    cotangent = torch.randn_like(out)
    got = torch.autograd.grad(out, value, cotangent)[0]
    wanted = torch.autograd.grad(expected, value, cotangent.double())[0]
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5)


def test_bucket_attention_is_linear_and_differentiable_twice():
    codes = torch.randint(4, (1, 1, 5, 7), dtype=torch.uint8)
    value = rows(1, 1, 7, 3, dtype=torch.float64)

    def function(x):
        return yoso.bucket_attention(codes, codes, x, code_bits=2).square()

    assert torch.autograd.gradcheck(function, value)
    assert torch.autograd.gradgradcheck(function, value)


def test_gradients_that_do_not_exist_are_refused_by_name(device):
    query, key, value, codes, sides = arguments(device, requires_grad=True)
    out = ops.expected_attention(query, key, None, None, value, 3.0)
    with pytest.raises(NotImplementedError, match="use yoso.attention"):
        out.sum().backward()
    grads = ops.bucket_attention_grad(*codes, query, key, None, None, value, torch.ones_like(out), 3)
    with pytest.raises(NotImplementedError, match="double backward is not supported"):
        grads[0].sum().backward()
