"""Rounded caches for whole texts: against a cache that gets one token at a time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
import tiny  # noqa: E402
from helpers.lm.sliding import SlidingAttention  # noqa: E402
from helpers.serve.cache import ContiguousCache  # noqa: E402
from helpers.serve.kv_format import kv_format  # noqa: E402
from helpers.serve.rounded import (  # noqa: E402
    FewBits,
    GroupedAttention,
    RoundedAttention,
    through,
    through_channels,
)


def random_qkv(time, heads=4, kv_heads=2, size=8, batch=(2,), seed=0):
    draw = torch.Generator().manual_seed(seed)

    def drawn(count):
        return torch.randn(*batch, time, count, size, generator=draw, dtype=torch.float64)

    return drawn(heads), drawn(kv_heads), drawn(kv_heads)


def rounded_list(numbers, largest):
    """Numbers to whole multiples of a bf16 scale, in plain Python but for the scale's rounding."""
    scale = torch.tensor(max(abs(n) for n in numbers) / largest, dtype=torch.float32)
    scale = float(scale.to(torch.bfloat16))
    codes = [max(-largest, min(largest, round(n / scale))) for n in numbers]  # ties to even
    return [code * scale for code in codes]


def attend_slowly(q, keys, values):
    """One query [H, D] over lists of keys and values [Hkv, D]."""
    group = q.shape[0] // keys[0].shape[0]
    out = torch.empty_like(q)
    for head in range(q.shape[0]):
        k = torch.stack([key[head // group] for key in keys])
        v = torch.stack([value[head // group] for value in values])
        shares = (k @ q[head] / math.sqrt(q.shape[1])).softmax(0)
        out[head] = shares @ v
    return out


def row_by_row(x, largest):
    """[..., D] with each row rounded by the plain function."""
    rows = [rounded_list(row.tolist(), largest) for row in x.flatten(0, -2)]
    return torch.tensor(rows, dtype=x.dtype).reshape(x.shape)


def grouped_slowly(q, k, v, tokens, channels, largest):
    """Token by token: a list of rounded tokens, and the group that is not complete yet."""
    bf16 = lambda x: x.to(torch.bfloat16).to(x.dtype)  # noqa: E731
    out = []
    old_keys, old_values, new = [], [], []
    for at in range(len(q)):
        if len(new) == tokens:  # complete: round it before the next token comes
            old_values += [row_by_row(v[i], largest) for i in new]
            if channels:
                block = torch.stack([k[i] for i in new], dim=-1)  # [Hkv, D, tokens]
                old_keys += list(row_by_row(block, largest).unbind(-1))
            else:
                old_keys += [row_by_row(k[i], largest) for i in new]
            new = []
        new.append(at)
        keys = old_keys + [bf16(k[i]) for i in new]
        values = old_values + [bf16(v[i]) for i in new]
        out.append(attend_slowly(q[at], keys, values))
    return torch.stack(out)


@settings(max_examples=40, deadline=None)
@given(
    time=st.integers(1, 11),
    tokens=st.integers(1, 5),
    channels=st.booleans(),
    bits=st.sampled_from([2, 3, 4, 8]),
    kv_heads=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)
@torch.inference_mode()
def test_groups_are_rounded_when_they_are_complete(time, tokens, channels, bits, kv_heads, seed):
    q, k, v = random_qkv(time, kv_heads=kv_heads, batch=(), seed=seed)
    found = GroupedAttention(FewBits(bits), tokens, channels)(0, q, k, v)
    slow = grouped_slowly(q, k, v, tokens, channels, 2 ** (bits - 1) - 1)
    torch.testing.assert_close(found, slow, rtol=0, atol=1e-9)


@torch.inference_mode()
def test_a_batch_is_its_rows():
    q, k, v = random_qkv(9, batch=(3,))
    for attend in (GroupedAttention("int4", 4), RoundedAttention("int8")):
        whole = attend(0, q, k, v)
        for row in range(3):
            torch.testing.assert_close(whole[row], attend(0, q[row], k[row], v[row]))


@pytest.mark.parametrize("form", ["int8", "int4", "bfloat16"])
@torch.inference_mode()
def test_the_engines_own_cache_gives_the_same_logits(form):
    """Token by token through the cache that the engine writes to and reads from."""
    model = tiny.model()
    ids = tiny.prompts(seed=3, count=1, longest=40)[0]
    cache = ContiguousCache(model.config, batch=1, capacity=len(ids), dtype=form)
    steps = [model.logits(cache.forward(model, torch.tensor([[token]])))[0, 0] for token in ids]
    whole = model(torch.tensor(ids), attend=RoundedAttention(form))
    torch.testing.assert_close(whole, torch.stack(steps), rtol=0, atol=1e-9)
    assert not torch.allclose(whole, model(torch.tensor(ids)), rtol=0, atol=1e-3)


@torch.inference_mode()
def test_rounding_comes_before_the_window():
    q, k, v = random_qkv(12)
    window = SlidingAttention(3, sinks=1)
    int4 = kv_format("int4")
    found = RoundedAttention("int4", window)(0, q, k, v)
    assert torch.equal(found, window(0, q, through(int4, k), through(int4, v)))
    assert not torch.equal(found, window(0, q, k, v))


def test_few_bits_are_the_engines_formats_where_those_exist():
    x = random_qkv(20)[1]
    for bits in (4, 8):
        same = kv_format(f"int{bits}")
        assert torch.equal(through(FewBits(bits), x), through(same, x))
        assert FewBits(bits).bits_per_element(32) == same.bits_per_element(32)
    assert through(FewBits(2), x).unique().numel() <= 3 * x[..., 0].numel()


def test_a_large_channel_is_best_left_to_itself():
    keys = random_qkv(64, seed=5)[1]
    keys[..., 2] *= 30
    small = torch.arange(8) != 2
    by_row, by_channel = through(FewBits(4), keys), through_channels(FewBits(4), keys, 32)
    lost = [(keys - x)[..., small].square().mean().sqrt() for x in (by_row, by_channel)]
    assert lost[0] > 5 * lost[1]


def test_what_cannot_be():
    for bits in (1, 9, 2.0, True, "4"):
        with pytest.raises(ValueError, match=r"bits is .*2 to 8"):
            FewBits(bits)
    for tokens in (0, -1, 1.5, True):
        with pytest.raises(ValueError, match=r"tokens is .*1 or more"):
            GroupedAttention("int4", tokens)
    for make in (GroupedAttention, RoundedAttention):
        with pytest.raises(ValueError, match="dtype is 'int5'"):
            make("int5")
    q, k, v = random_qkv(4)
    with pytest.raises(ValueError, match="k has 3 tokens"):
        GroupedAttention("int4", 2)(0, q, k[:, 1:], v[:, 1:])
