"""Pooled heads of keys and values: against the mean taken at run time, against plain attention."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
import tiny  # noqa: E402
from helpers.formulas.kv_cache import kv_bytes_per_token  # noqa: E402
from helpers.formulas.model_size import attention_parameters  # noqa: E402
from helpers.lm.grouping import fewer_kv_heads, pool_rows  # noqa: E402
from helpers.lm.quantized import quantize_  # noqa: E402
from helpers.serve.cache import ContiguousCache  # noqa: E402

#: heads, heads of keys and values before and after
HEADS = [(4, 4, 2), (4, 4, 1), (4, 2, 1), (6, 6, 2), (6, 3, 1), (8, 4, 2), (4, 2, 2), (1, 1, 1)]


def made(heads, kv_heads, seed=0, qkv_bias=False, **changes):
    """A model whose biases, if any, are not the zeros that it begins with."""
    model = tiny.model(seed, heads=heads, kv_heads=kv_heads, qkv_bias=qkv_bias, **changes)
    draw = torch.Generator().manual_seed(seed + 1)
    for layer in model.layers if qkv_bias else ():
        layer.attention.qkv.bias.normal_(0.0, 1.0, generator=draw)
    return model


def some_tokens(model, length=19, seed=3):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, model.config.vocab, (2, length), generator=draw)


def repeated_attention(layer, q, k, v):
    """Every query head gets its own copy of the keys and values; one head at a time."""
    group = q.shape[-2] // k.shape[-2]
    k, v = k.repeat_interleave(group, dim=-2), v.repeat_interleave(group, dim=-2)
    out = torch.empty_like(q)
    time = q.shape[-3]
    later = torch.ones(time, time).triu(1).bool()
    for head in range(q.shape[-2]):
        scores = q[..., head, :] @ k[..., head, :].mT / math.sqrt(q.shape[-1])  # [B, T, T]
        shares = scores.masked_fill(later, -math.inf).softmax(-1)
        out[..., head, :] = shares @ v[..., head, :]
    return out


def averaging(kv_heads):
    """Attention that averages neighbouring keys and values when the old model made them."""

    def attend(layer, q, k, v):
        # [B, T, Hkv, D] -> [B, T, kv_heads, D], one mean at a time
        k, v = (
            torch.stack([part.mean(dim=-2) for part in rows.chunk(kv_heads, dim=-2)], dim=-2)
            for rows in (k, v)
        )
        return repeated_attention(layer, q, k, v)

    return attend


@pytest.mark.parametrize("qkv_bias", [False, True])
@pytest.mark.parametrize(("heads", "before", "after"), HEADS)
@torch.inference_mode()
def test_pooled_weights_do_what_pooled_keys_and_values_do(heads, before, after, qkv_bias):
    model = made(heads, before, qkv_bias=qkv_bias)
    small = fewer_kv_heads(model, after)
    tokens = some_tokens(model)
    expected = model(tokens, attend=averaging(after))
    torch.testing.assert_close(small(tokens), expected, rtol=0, atol=1e-12)
    assert expected.std() > 0.1
    slow = small(tokens, attend=repeated_attention)
    torch.testing.assert_close(small(tokens), slow, rtol=0, atol=1e-12)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 99),
    after=st.integers(1, 3),
    pooled=st.integers(1, 4),
    group=st.integers(1, 2),
    qkv_bias=st.booleans(),
)
@torch.inference_mode()
def test_equal_heads_lose_nothing(seed, after, pooled, group, qkv_bias):
    before = after * pooled
    model = made(before * group, before, seed, qkv_bias, head_dim=4)
    size, queries = 4, before * group * 4
    for layer in model.layers:
        for rows in layer.attention.qkv.parameters():
            heads = rows[queries:].unflatten(0, (2 * after, pooled, size))
            heads.copy_(heads[:, :1].expand_as(heads).clone())
    small = fewer_kv_heads(model, after)
    tokens = some_tokens(model, length=9, seed=seed)
    torch.testing.assert_close(small(tokens), model(tokens), rtol=0, atol=1e-12)
    if pooled in (1, 2, 4):  # a sum of so many equal numbers, and its mean, are not rounded
        for new, old in zip(small.layers, model.layers, strict=True):
            kept = old.attention.qkv.weight[queries:].unflatten(0, (2 * after, pooled, size))
            assert torch.equal(new.attention.qkv.weight[queries:], kept[:, 0].flatten(0, 1))


def test_the_same_number_is_the_same_model():
    model = made(4, 2, qkv_bias=True)
    same = fewer_kv_heads(model, 2)
    assert same.config == model.config
    tokens = some_tokens(model)
    assert torch.equal(same(tokens), model(tokens))


def test_unequal_heads_lose_something():
    model = made(4, 4)
    tokens = some_tokens(model)
    assert (fewer_kv_heads(model, 2)(tokens) - model(tokens)).abs().max() > 0.1


def test_in_two_steps_as_in_one():
    model = made(8, 8, qkv_bias=True)
    once, twice = fewer_kv_heads(model, 2), fewer_kv_heads(fewer_kv_heads(model, 4), 2)
    tokens = some_tokens(model)
    torch.testing.assert_close(once(tokens), twice(tokens), rtol=0, atol=1e-12)


@pytest.mark.parametrize("qkv_bias", [False, True])
@pytest.mark.parametrize(("heads", "before", "after"), HEADS)
def test_parameters_and_bytes_are_what_the_formulas_say(heads, before, after, qkv_bias):
    model = made(heads, before, qkv_bias=qkv_bias)
    small = fewer_kv_heads(model, after)
    config = small.config

    def count(one):
        return sum(weight.numel() for weight in one.parameters())

    def attention(kv_heads):
        matrices = attention_parameters(config.d_model, heads, kv_heads, config.head_dim)
        return matrices + qkv_bias * (heads + 2 * kv_heads) * config.head_dim

    assert count(model) - count(small) == config.layers * (attention(before) - attention(after))
    cached = ContiguousCache(config, batch=1, capacity=10, dtype=torch.bfloat16)
    assert cached.bytes == 10 * kv_bytes_per_token(config.layers, after, config.head_dim, 2)
    old = ContiguousCache(model.config, batch=1, capacity=10, dtype=torch.bfloat16)
    assert cached.bytes * before == old.bytes * after


@torch.inference_mode()
def test_the_copy_decodes_with_a_cache():
    small = fewer_kv_heads(made(4, 4), 2)
    tokens = some_tokens(small)
    cache = ContiguousCache(small.config, batch=2, capacity=19, dtype=small.dtype)
    pieces = torch.cat([cache.forward(small, piece) for piece in tokens.split(7, dim=1)], dim=1)
    torch.testing.assert_close(pieces, small.hidden(tokens), rtol=0, atol=1e-12)


@pytest.mark.parametrize("tied", [False, True])
def test_the_original_stays_and_shares_nothing(tied):
    model = made(4, 4, qkv_bias=True, tied_embeddings=tied).train()
    config = model.config
    before = {name: value.clone() for name, value in model.state_dict().items()}
    small = fewer_kv_heads(model, 1)
    assert small.training and (small.head.weight is small.embedding.weight) == tied
    assert model.config is config and all(
        layer.attention.config is config for layer in model.layers
    )
    assert small.layers[0].attention.qkv.out_features == (4 + 2) * 8
    with torch.no_grad():
        for weight in small.parameters():
            weight.fill_(7.0)
    assert before.keys() == model.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_copy_can_be_trained_further():
    model = made(4, 4).requires_grad_(True)
    model(some_tokens(model)).sum().backward()
    small = fewer_kv_heads(model, 2)
    assert all(weight.requires_grad and weight.grad is None for weight in small.parameters())
    small(some_tokens(small)).sum().backward()
    assert all(weight.grad is not None for weight in small.parameters())
    frozen = fewer_kv_heads(model.requires_grad_(False), 2)
    assert not any(weight.requires_grad for weight in frozen.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_means_are_rounded_once(dtype):
    config = tiny.config(heads=6, kv_heads=6, head_dim=2)
    draw = torch.Generator().manual_seed(4)
    rows = torch.randn(36, 50, generator=draw).to(dtype)
    pooled = pool_rows(rows, config, 2)
    assert pooled.dtype == dtype
    assert torch.equal(pooled[:12], rows[:12])
    if dtype != torch.float32:
        assert torch.equal(pooled, pool_rows(rows.double(), config, 2).to(dtype))


@pytest.mark.parametrize("kv_heads", [0, -1, True, 2.0, "2", None])
def test_what_is_no_count_is_refused(kv_heads):
    with pytest.raises(ValueError, match=r"kv_heads is .*; it must be a whole number, 1 to 4"):
        fewer_kv_heads(made(4, 4), kv_heads)


@pytest.mark.parametrize("kv_heads", [4, 5, 8, 12])
def test_what_does_not_divide_is_refused(kv_heads):
    wanted = rf"kv_heads is {kv_heads}; it must divide the model's 6.*allowed are 1, 2, 3, 6"
    with pytest.raises(ValueError, match=wanted):
        fewer_kv_heads(made(12, 6), kv_heads)


@pytest.mark.parametrize("bits", [8, 4])
def test_a_quantised_model_is_refused(bits):
    model = quantize_(made(4, 4), bits=bits)
    with pytest.raises(TypeError, match=rf"qkv is a Int{bits}Linear; allowed is Linear"):
        fewer_kv_heads(model, 2)
