"""Windows and sinks: against one token at a time with a cache that really drops the others."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
import tiny  # noqa: E402
from helpers.lm import evaluate  # noqa: E402
from helpers.lm.model import causal_attention  # noqa: E402
from helpers.lm.sliding import SlidingAttention  # noqa: E402
from helpers.lm.text import Document  # noqa: E402


def random_qkv(time, heads=4, kv_heads=2, size=6, batch=(2,), seed=0):
    draw = torch.Generator().manual_seed(seed)

    def drawn(count):
        return torch.randn(*batch, time, count, size, generator=draw, dtype=torch.float64)

    return drawn(heads), drawn(kv_heads), drawn(kv_heads)


def slow_attention(window, sinks, q, k, v):
    """One query at a time over a list of the tokens that it sees."""
    out = torch.empty_like(q)
    group = q.shape[-2] // k.shape[-2]
    for at in range(q.shape[-3]):
        first = list(range(min(sinks, at + 1)))
        seen = first + [other for other in range(at + 1) if other > at - window and other >= sinks]
        for head in range(q.shape[-2]):
            keys, values = k[..., seen, head // group, :], v[..., seen, head // group, :]
            scores = (keys @ q[..., at, head, :].unsqueeze(-1)).squeeze(-1)  # [B, seen]
            shares = (scores / math.sqrt(q.shape[-1])).softmax(-1)
            out[..., at, head, :] = (shares.unsqueeze(-1) * values).sum(-2)
    return out


@settings(max_examples=60)
@given(
    time=st.integers(1, 14),
    window=st.integers(1, 16),
    sinks=st.integers(0, 16),
    kv_heads=st.sampled_from([1, 2, 4]),
    batch=st.sampled_from([(), (1,), (3,)]),
    seed=st.integers(0, 99),
)
@torch.inference_mode()
def test_each_token_sees_the_window_and_the_sinks(time, window, sinks, kv_heads, batch, seed):
    q, k, v = random_qkv(time, kv_heads=kv_heads, batch=batch, seed=seed)
    found = SlidingAttention(window, sinks)(0, q, k, v)
    torch.testing.assert_close(found, slow_attention(window, sinks, q, k, v), rtol=0, atol=1e-12)


@settings(max_examples=40)
@given(time=st.integers(1, 12), window=st.integers(1, 14), sinks=st.integers(0, 14))
def test_as_many_are_seen_as_are_cached(time, window, sinks):
    attend = SlidingAttention(window, sinks)
    seen = attend.visible(time)
    assert seen.sum(1).tolist() == [attend.cached_tokens(at + 1) for at in range(time)]
    assert not seen.triu(1).any()
    # what was out of sight once never comes back: so a cache may drop it
    for earlier, later in pairwise(seen):
        known = int(earlier.nonzero().max()) + 1
        assert not (later[:known] & ~earlier[:known]).any()


class DroppingCache:
    """One sequence, one token at a time; of each layer only the rows that are still needed."""

    def __init__(self, window, sinks):
        self.window, self.sinks, self.rows = window, sinks, {}

    def __call__(self, layer, q, k, v):
        rows = self.rows.setdefault(layer, [])
        rows.append((k, v))
        if len(rows) > self.window + self.sinks:
            del rows[self.sinks]
        keys, values = (torch.cat(part).transpose(0, 1) for part in zip(*rows, strict=True))
        group = q.shape[1] // keys.shape[0]
        keys, values = keys.repeat_interleave(group, 0), values.repeat_interleave(group, 0)
        scores = q.transpose(0, 1) @ keys.mT / math.sqrt(q.shape[-1])  # [H, 1, S]
        return (scores.softmax(-1) @ values).transpose(0, 1)


@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (1, 1), (5, 0), (4, 2), (30, 3)])
@torch.inference_mode()
def test_a_cache_that_drops_the_rest_gives_the_same(window, sinks):
    model = tiny.model()
    tokens = torch.randint(97, (21,), generator=torch.Generator().manual_seed(1))
    cache = DroppingCache(window, sinks)
    one_by_one = torch.cat(
        [model(tokens[[at]], torch.tensor([at]), cache) for at in range(len(tokens))]
    )
    attend = SlidingAttention(window, sinks)
    torch.testing.assert_close(model(tokens, attend=attend), one_by_one, rtol=0, atol=1e-12)
    assert all(len(rows) == attend.cached_tokens(21) for rows in cache.rows.values())


@pytest.mark.parametrize(("window", "sinks"), [(12, 0), (13, 0), (100, 0), (4, 8), (1, 11)])
def test_where_nothing_is_out_of_sight_it_is_full_attention(window, sinks):
    q, k, v = random_qkv(12)
    full = causal_attention(0, q, k, v)
    assert torch.equal(SlidingAttention(window, sinks)(0, q, k, v), full)
    model = tiny.model()
    tokens = torch.arange(12)
    assert torch.equal(model(tokens, attend=SlidingAttention(window, sinks)), model(tokens))


def test_one_fewer_is_another_model():
    model, tokens = tiny.model(), torch.arange(12)
    change = (model(tokens, attend=SlidingAttention(11)) - model(tokens)).abs().amax(-1)
    assert (change[:11] < 1e-12).all() and change[11] > 1e-3


def test_a_window_of_one_sees_itself():
    q, k, v = random_qkv(9)
    found = SlidingAttention(window=1)(0, q, k, v)
    torch.testing.assert_close(found, v.repeat_interleave(2, dim=-2), rtol=0, atol=1e-15)


@torch.inference_mode()
def test_nothing_is_seen_early_and_nothing_through_the_window():
    """A change at one place shows there and in as many tokens as the layers reach, no others."""
    model = tiny.model(layers=2)
    window, place = 4, 6
    tokens = torch.arange(20)
    changed = tokens.clone()
    changed[place] = 90
    attend = SlidingAttention(window)
    moved = (model(tokens, attend=attend) - model(changed, attend=attend)).abs().amax(-1) > 1e-9
    reach = 2 * (window - 1)
    assert moved.nonzero().flatten().tolist() == list(range(place, place + reach + 1))
    # a sink is seen by all that follow
    changed = tokens.clone()
    changed[0] = 90
    attend = SlidingAttention(window, sinks=1)
    assert ((model(tokens, attend=attend) - model(changed, attend=attend)).abs().amax(-1) > 0).all()


def test_gradients_pass():
    q, k, v = (part.requires_grad_() for part in random_qkv(7))
    SlidingAttention(2, 1)(0, q, k, v)[:, -1].sum().backward()
    touched = v.grad.abs().sum((0, 2, 3)) > 0
    assert touched.tolist() == [True, False, False, False, False, True, True]


# ---- bits ----------------------------------------------------------------------------------------


def slow_bits(model, stream, attend):
    bits = 0.0
    for at in range(len(stream) - 1):
        logits = model(torch.tensor(stream[: at + 1]), attend=attend)[-1]
        bits -= torch.log_softmax(logits, -1)[stream[at + 1]].item() / math.log(2)
    return bits


@pytest.mark.parametrize(("window", "sinks"), [(1, 0), (6, 0), (3, 2)])
def test_bits_of_documents(window, sinks):
    """Rows of a batch are of different lengths; each sees its own window."""
    model, attend = tiny.model(context=32), SlidingAttention(window, sinks)
    documents = tiny.prompts(seed=5, count=4, longest=32)
    found = evaluate.document_bits(model, documents, attend=attend)
    want = [slow_bits(model, [0, *tokens], attend) for tokens in documents]
    np.testing.assert_allclose(found, want, rtol=1e-9)
    full = evaluate.document_bits(model, documents)
    assert (found != full).any()
    wide = evaluate.document_bits(model, documents, attend=SlidingAttention(32))
    np.testing.assert_array_equal(wide, full)


def test_bits_per_byte_take_it_too():
    class Bytes:
        end = 0

        def encode_many(self, texts):
            return [[byte + 1 for byte in said.encode("utf-8")] for said in texts]

    model, attend = tiny.model(vocab=257), SlidingAttention(4, 1)
    documents = [Document("a", said, "source") for said in ("once upon a time", "naïve")]
    bits = evaluate.document_bits(
        model, Bytes().encode_many([one.text for one in documents]), attend=attend
    )
    found = evaluate.bits_per_byte(model, documents, Bytes(), attend=attend)
    assert found == pytest.approx(bits.sum() / (16 + 6))


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [0, -3, True, 2.0, None])
def test_a_window_that_is_none_is_refused(window):
    with pytest.raises(ValueError, match=r"window is .*; it must be a whole number.*1 or more"):
        SlidingAttention(window)


@pytest.mark.parametrize("sinks", [-1, False, 1.0, "1"])
def test_sinks_that_are_none_are_refused(sinks):
    with pytest.raises(ValueError, match=r"sinks is .*; it must be a whole number.*0 or more"):
        SlidingAttention(4, sinks)


def test_it_is_not_for_a_cache():
    q, k, v = random_qkv(5)
    with pytest.raises(ValueError, match="k has 5 tokens; it must have the 1 of q"):
        SlidingAttention(4)(0, q[:, -1:], k, v)
