"""Packed weights: the same numbers, the same greedy tokens, the original left alone."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import tiny
from helpers.serve import packing
from helpers.serve.packing import PackedLinear, missing_operator, pack, why_not
from helpers.serve.request import SamplingParams
from helpers.serve.speculative import SpeculativeDecoder

needs_operator = pytest.mark.skipif(bool(missing_operator()), reason=missing_operator())


@needs_operator
@given(
    rows=st.lists(st.integers(1, 9), min_size=0, max_size=2),
    sizes=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    bias=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_a_packed_layer_gives_the_same(rows, sizes, bias, seed):
    torch.manual_seed(seed)
    linear = torch.nn.Linear(*sizes, bias=bias)
    x = torch.randn(*rows, sizes[0])
    with torch.inference_mode():
        out = PackedLinear(linear)(x)
    exact = F.linear(x.double(), linear.weight.double(), linear.bias.double() if bias else None)
    assert out.shape == exact.shape
    assert torch.allclose(out.double(), exact, atol=1e-4)


@needs_operator
def test_a_packed_model_shares_all_but_the_linear_layers():
    model = tiny.model(dtype=torch.float32, qkv_bias=True).requires_grad_(True)
    before = {name: p.clone() for name, p in model.named_parameters()}
    packed = pack(model)
    kinds = [type(m) for m in packed.modules()]
    assert torch.nn.Linear not in kinds and kinds.count(PackedLinear) == 4 * 2 + 1
    assert pack(packed) is packed
    assert packed.embedding.weight is model.embedding.weight and packed.cos is model.cos
    assert packed.config is not None and packed.device == model.device
    assert all(p.requires_grad and torch.equal(p, before[n]) for n, p in model.named_parameters())
    tokens = torch.tensor(tiny.prompts(seed=1, count=1, longest=40))
    with torch.inference_mode():
        assert torch.allclose(packed(tokens), model(tokens), rtol=1e-4, atol=1e-4)


@needs_operator
def test_packed_models_decode_alike():
    model, draft = tiny.model(dtype=torch.float32), tiny.model(seed=5, dtype=torch.float32)
    params = SamplingParams(max_tokens=30)
    for prompt in tiny.prompts(seed=2, count=3, longest=20):
        expected = SpeculativeDecoder(model, draft).generate(prompt, params).tokens
        assert (
            SpeculativeDecoder(pack(model), pack(draft)).generate(prompt, params).tokens == expected
        )


def test_what_cannot_be_packed_comes_back_as_it_is(monkeypatch):
    model = tiny.model()
    assert pack(model) is model and "float64" in why_not(model)
    single = tiny.model(dtype=torch.float32)
    monkeypatch.setattr(packing, "missing_operator", lambda: "not in this torch")
    assert pack(single) is single and why_not(single) == "not in this torch"


def test_a_torch_without_the_operators_says_so(monkeypatch):
    monkeypatch.setattr(torch.ops, "mkldnn", object(), raising=False)
    assert "AttributeError" in missing_operator.__wrapped__()
