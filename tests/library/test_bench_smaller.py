"""Smaller caches: bytes as allocated, recall of a model that only copies, a run of tiny models."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
import tiny  # noqa: E402
from helpers.bench import recorded, smaller  # noqa: E402
from helpers.bench.smaller import (  # noqa: E402
    CACHES,
    FULL,
    LIVE,
    WHOLE,
    Cache,
    Plan,
    SmallerRun,
    look_at_layers,
    measure,
    recall_cases,
    saved_bits,
)
from helpers.lm import evaluate, loading, tokenizer  # noqa: E402
from helpers.lm.grouping import fewer_kv_heads  # noqa: E402
from helpers.lm.model import causal_attention  # noqa: E402
from helpers.lm.sliding import SlidingAttention  # noqa: E402
from helpers.lm.text import Corpus, Document  # noqa: E402
from helpers.serve.cache import ContiguousCache  # noqa: E402
from helpers.serve.rounded import FewBits, GroupedAttention, RoundedAttention  # noqa: E402

# ---- bytes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["float32", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_bytes_are_those_that_the_engine_allocates(form, kv_heads):
    config = tiny.config(heads=8, kv_heads=kv_heads, head_dim=16)
    allocated = ContiguousCache(config, batch=1, capacity=100, dtype=form).bytes
    cache = Cache(form=form, kv_heads=kv_heads)
    assert cache.session_bytes(config.layers, config.head_dim, 100) == allocated


def test_bytes_worked_out_by_hand():
    # rows of 32 numbers: 2 x 5 layers x 4 heads = 40 a token
    session = lambda tokens=1024, **cache: Cache(**cache).session_bytes(5, 32, tokens)  # noqa: E731
    assert session() == 1024 * 40 * 64
    assert session(form="int3") == 1024 * 40 * (12 + 2)
    assert session(window=128) == 128 * 40 * 64
    assert session(window=128, sinks=4) == 132 * 40 * 64
    assert session(100, window=128, sinks=4) == session(100)
    # the newest 32 tokens in bf16; a scale for 32 tokens of a channel is as much as one for a row
    assert session(form="int4", group=32) == 992 * 40 * 18 + 32 * 40 * 64
    assert session(form="int4", group=32, channels=True) == session(form="int4", group=32)
    keys_64 = 20 * (16 + 1) + 20 * (16 + 2)  # half as many scales for the keys
    assert session(form="int4", group=64, channels=True) == 960 * keys_64 + 64 * 40 * 64


def test_labels_tell_the_caches_apart():
    labels = [cache.label for cache in CACHES]
    assert len(set(labels)) == len(labels)
    for cache, label, kind in (
        (FULL, "fp32", "full"),
        (Cache(), "bf16", "full"),
        (Cache(form="int4", group=32, channels=True), "int4, keys by channel", "format"),
        (Cache(form="int4", group=32), "int4, newest 32 in bf16", "format"),
        (Cache(window=128, sinks=4), "window 128 + 4", "window"),
        (Cache(kv_heads=1), "1 head, pooled", "heads"),
        (Cache(tuned=True), "4 heads, tuned", "heads"),
        (Cache(kv_heads=2, tuned=True, form="int8"), "2 heads, tuned, int8", "together"),
    ):
        assert (cache.label, cache.kind) == (label, kind)
    for plan in (WHOLE, LIVE):
        assert {cache.label for cache in plan.recalling} <= {c.label for c in plan.caches}


@pytest.mark.parametrize(
    ("cache", "same"),
    [
        (FULL, causal_attention),
        (Cache(form="int8"), RoundedAttention("int8")),
        (Cache(form="int3"), RoundedAttention(FewBits(3))),
        (Cache(window=5, form="int4"), RoundedAttention("int4", SlidingAttention(5))),
        (Cache(window=5, sinks=2), RoundedAttention("bfloat16", SlidingAttention(5, 2))),
        (Cache(form="int4", group=4), GroupedAttention("int4", 4, channels=False)),
        (Cache(form="int2", group=4, channels=True), GroupedAttention(FewBits(2), 4)),
    ],
    ids=lambda value: getattr(value, "label", ""),
)
def test_a_cache_is_seen_through_its_own_attention(cache, same):
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 18, heads, 8, generator=draw) for heads in (4, 2, 2))
    assert torch.equal(cache.attend()(0, q, k, v), same(0, q, k, v))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(sinks=4), "sinks is 4; without a window"),
        (dict(channels=True, form="int4"), "channels is True; without a group"),
        (dict(group=32, window=64), "group is 32; with a window"),
        (dict(window=-1), "window"),
        (dict(form="int5"), "form"),
        (dict(kv_heads=0), "kv_heads"),
        (dict(heads=2), "heads"),
    ],
)
def test_a_cache_that_cannot_be_names_its_fault(wrong, message):
    with pytest.raises(ValueError, match=message):
        Cache(**wrong)


# ---- recall --------------------------------------------------------------------------------------


def copier(reach, vocab=500):
    """A model without weights; ``reach`` is how far back it looks."""

    class Made:
        device = torch.device("cpu")

        def hidden(self, tokens, attend=None):  # [B, T] -> [B, T, V]
            out = torch.zeros(*tokens.shape, vocab)
            for row, line in enumerate(tokens.tolist()):
                for at, token in enumerate(line):
                    for back in range(1, min(reach, at) + 1):
                        if line[at - back] == token:
                            out[row, at, line[at - back + 1]] = 30.0
                            break
            return out

        def logits(self, hidden):
            return hidden

    return Made()


def texts(count=4, length=120, vocab=500):
    """Documents without a token twice, in any of them."""
    order = np.random.default_rng(0).permutation(np.arange(1, vocab))
    return [order[n * length : (n + 1) * length].tolist() for n in range(count)]


@pytest.mark.parametrize("distance", [8, 20, 40])
def test_a_copy_saves_all_to_who_sees_it_and_nothing_to_who_does_not(distance):
    cases = recall_cases(texts(), 0, distance, cases=6, passage=8)
    far, near = (saved_bits(copier(reach), cases, 8) for reach in (distance, distance - 1))
    # the first token of the passage follows from nothing; the other seven from what they followed
    assert np.allclose(far, math.log2(500) * 7 / 8, atol=1e-3)
    assert np.allclose(near, 0, atol=1e-6)


@pytest.mark.parametrize("distance", [8, 50])
def test_cases_differ_in_the_first_copy_alone(distance):
    for case in recall_cases(texts(), 7, distance, cases=9, passage=8, seed=3):
        assert len(case.with_copy) == len(case.without) == 1 + 64 + distance + 8
        copy = case.with_copy[-8:]
        assert case.with_copy[0] == case.without[0] == 7
        assert case.with_copy[65:73] == copy != case.without[65:73]
        assert case.with_copy[:65] == case.without[:65]
        assert case.with_copy[73:] == case.without[73:]


def test_a_window_forgets_in_a_real_model():
    """Whoever cannot see the copy, nor anybody who saw it, saves nothing at all."""
    model = tiny.model(dtype=torch.float32, vocab=500)
    cases = recall_cases(texts(), 0, 40, cases=4, passage=8)
    seen = saved_bits(model, cases, 8)
    # two layers of 9 tokens each reach 16 tokens back; the nearest of the copy is 33 back
    assert np.allclose(saved_bits(model, cases, 8, SlidingAttention(9)), 0, atol=1e-5)
    assert np.abs(seen).min() > 1e-3


def test_recall_cannot_be_asked_for():
    with pytest.raises(ValueError, match="distance: 7; it must be 8"):
        recall_cases(texts(), 0, 7, cases=1, passage=8)
    with pytest.raises(ValueError, match="documents: 0 have more than 492 tokens"):
        recall_cases(texts(), 0, 500, cases=1, passage=8)


# ---- layers --------------------------------------------------------------------------------------


def test_an_outlier_channel_and_a_sink_are_seen():
    model = tiny.model(dtype=torch.float32, context=512)
    rows = [[(7 * n + 3 * r) % 97 for n in range(320)] for r in range(2)]
    before = look_at_layers(model, rows)
    assert len(before) == model.config.layers
    # a channel and its rotary partner of the first layer's keys, 20 times as large
    with torch.no_grad():
        queries = model.config.heads * model.config.head_dim
        model.layers[0].attention.qkv.weight[[queries + 1, queries + 1 + 4]] *= 20
    after = look_at_layers(model, rows)
    assert after[0].key_spread > 5 * before[0].key_spread
    assert after[0].key_error_channel < 0.8 * after[0].key_error_row
    assert after[0].value_spread == before[0].value_spread
    for layer in before:
        assert 0 <= layer.first_share <= 1 and 0 < layer.near_share <= 1


def test_shares_of_attention_that_are_known():
    """Queries of zero spread their attention evenly over what they see."""
    model = tiny.model(dtype=torch.float32, context=512)
    with torch.no_grad():
        for layer in model.layers:
            layer.attention.qkv.weight[: model.config.heads * model.config.head_dim] = 0
    rows = [[n % 97 for n in range(320)]]
    places = range(256, 320, 16)
    for layer in look_at_layers(model, rows):
        assert layer.first_share == pytest.approx(np.mean([1 / (p + 1) for p in places]), rel=1e-4)
        assert layer.near_share == pytest.approx(np.mean([128 / (p + 1) for p in places]), rel=1e-4)


class OneSink:
    """Its second head gives half of all attention to the first token, its first head nothing."""

    device = torch.device("cpu")

    def hidden(self, tokens, attend):
        time = tokens.shape[1]
        q, k = torch.ones(1, time, 2, 4), torch.zeros(1, time, 2, 4)
        places = torch.arange(time)
        # at temperature 4 ** 0.5 a score of 2 log(n) weighs as much as n tokens of score 0
        q[0, :, 1, 0] = 2 * places.clamp(min=1).log()
        k[0, 0, 0, 0], k[0, 0, 1, 0] = -1e4, 1.0
        q[0, :, 1, 1:] = 0
        attend(0, q, k, torch.randn(1, time, 2, 4, generator=torch.Generator().manual_seed(0)))


def test_the_head_with_the_sink_is_the_one_that_counts():
    (layer,) = look_at_layers(OneSink(), [[0] * 320])
    assert layer.first_share == pytest.approx(0.5, abs=1e-3)


# ---- all of it -----------------------------------------------------------------------------------


def small_corpus() -> Corpus:
    lines = [f"def number_{n}():\n    return {n * n}\n" for n in range(200)]
    documents = tuple(
        Document(f"source/d{n}.py", "".join(lines[n : n + 40]), "source") for n in range(0, 160, 16)
    )
    return Corpus(train=documents[:5], validation=documents[5:6], held_out=documents[6:])


SMALL = Plan(
    caches=(FULL, Cache(), Cache(window=8), Cache(kv_heads=2), Cache(kv_heads=2, tuned=True)),
    recalling=(FULL, Cache(kv_heads=2, tuned=True)),
    tokens=150,
    steps=6,
    windows=2,
    learning_rate=0.01,
    distances=(8, 16),
    cases=3,
    passage=8,
)


def test_costs_of_two_changes_are_predicted_from_one_each(run):
    assert smaller.together(run) == []
    both, bits = Cache(kv_heads=2, window=8), {"fp32": 2.0, "window 8": 2.2, "2 heads, pooled": 3.0}
    results = [r.model_copy(update={"bits_per_byte": bits.get(r.cache.label, 2.0)})
               for r in run.results]  # fmt: skip
    results.append(results[0].model_copy(update={"cache": both, "bits_per_byte": 3.4}))
    ((label, predicted, measured),) = smaller.together(
        run.model_copy(update={"results": tuple(results)})
    )
    assert label == "2 heads, pooled, window 8"
    assert predicted == pytest.approx(1.1 * 1.5 - 1) and measured == pytest.approx(0.7)


@pytest.fixture(scope="module")
def target():
    return tiny.model(dtype=torch.float32, vocab=4096, heads=8, kv_heads=4, context=320)


@pytest.fixture(scope="module")
def run(target):
    return measure(target, SMALL, corpus=small_corpus())


def test_bits_per_byte_are_those_of_the_models(run, target):
    coder, held_out = tokenizer.load(), small_corpus().held_out
    ids = [tokens[:150] for tokens in coder.encode_many([d.text for d in held_out])]
    size = sum(len(coder.decode_bytes(tokens)) for tokens in ids)
    assert (run.documents, run.text_tokens, run.text_bytes) == (4, 600, size)
    for label, model, attend in (
        ("fp32", target, None),
        ("window 8", target, SlidingAttention(8)),
        ("2 heads, pooled", fewer_kv_heads(target, 2), None),
    ):
        bits = evaluate.document_bits(model, ids, coder.end, attend=attend).sum() / size
        assert run.result(label).bits_per_byte == pytest.approx(bits, abs=6e-4), label
    assert abs(run.cost("bf16")) < 0.01 and run.cost("window 8") != 0
    assert run.cost("fp32") == 0 and run.saving("bf16") == 1 and run.saving("2 heads, pooled") == 2


def test_training_mends_what_pooling_broke(run):
    assert run.cost("2 heads, tuned") < run.cost("2 heads, pooled")
    (tuning,) = run.tunings
    assert (tuning.kv_heads, tuning.steps, tuning.tokens_per_step) == (2, 6, 640)
    assert all(math.isfinite(loss) for loss in tuning.losses)


def test_a_run_survives_a_file(run):
    assert SmallerRun.model_validate_json(run.model_dump_json()) == run
    with pytest.raises(ValueError, match="'int8' was not measured; there are fp32, bf16"):
        run.result("int8")
    with pytest.raises(ValueError, match="'bf16' has no recall; there are fp32, 2 heads"):
        run.recall("bf16")
    assert run.recall("fp32").saved(16) == run.recall("fp32").saved_bits[1]


def test_a_killed_run_goes_on(run, target, tmp_path, monkeypatch):
    class Killed(Exception):
        pass

    lines = []

    def kill(line):
        lines.append(line)
        if len(lines) == 3:
            raise Killed

    with pytest.raises(Killed):
        measure(target, SMALL, corpus=small_corpus(), folder=tmp_path, progress=kill)
    real, asked = evaluate.document_bits, []

    def counted(*arguments, **options):
        asked.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(evaluate, "document_bits", counted)
    again = measure(target, SMALL, corpus=small_corpus(), folder=tmp_path)
    assert len(asked) == 2, "of five caches three were done"
    assert (again.results, again.recalls, again.layers) == (run.results, run.recalls, run.layers)
    assert [t.losses for t in again.tunings] == [t.losses for t in run.tunings]
    # a third time nothing is computed, and the training is still told of
    third = measure(target, SMALL, corpus=small_corpus(), folder=tmp_path)
    assert len(asked) == 2 and third.results == run.results
    assert [t.losses for t in third.tunings] == [t.losses for t in run.tunings]
    with pytest.raises(ValueError, match=r"folder: .* holds another run"):
        measure(target, replace(SMALL, tokens=149), corpus=small_corpus(), folder=tmp_path)


def test_what_cannot_be_measured(target):
    with pytest.raises(ValueError, match="target has 2 kv_heads; it must have 4"):
        measure(tiny.model(), SMALL)
    with pytest.raises(ValueError, match="caches lack the full one"):
        measure(target, replace(SMALL, caches=(Cache(),)))


# ---- the recorded run ----------------------------------------------------------------------------


@pytest.mark.skipif(
    smaller.RECORDED not in recorded.names(), reason="the run has not been recorded"
)
def test_the_recorded_run_is_of_the_shipped_target():
    run = recorded.load(smaller.RECORDED)
    assert run.target == loading.load("target").config.to_dict()
    assert run.labels == [cache.label for cache in WHOLE.caches]
    assert [r.cache.label for r in run.recalls] == [cache.label for cache in WHOLE.recalling]
    assert [(t.kv_heads, t.steps, t.tokens_per_step) for t in run.tunings] == [
        (heads, WHOLE.steps, WHOLE.windows * 1024) for heads in (4, 2, 1)
    ]
    for result in run.results:
        assert result.session_bytes == result.cache.session_bytes(5, 32, 1024)
