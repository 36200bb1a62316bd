"""The contests of the serving bench: fair turns, right ratios, the same weights on both sides."""

from __future__ import annotations

import pytest
import torch

import tiny
from helpers.bench import serving
from helpers.bench.contest import Contest, contest
from helpers.bench.environment import current_environment
from helpers.bench.timing import Measurement


def test_both_ways_take_turns_in_going_first():
    calls = []
    ways = [(name, lambda name=name: calls.append(name) or 5) for name in "ab"]
    result = contest("x", *ways, wanted=1.5, samples=4)
    assert "".join(calls) == "ba" + "abba" * 2
    assert result.tokens == 5 and len(result.ratios) == 4
    assert result.ours.name == "a" and result.other.name == "b"


def test_a_contest_over_different_work_is_refused():
    with pytest.raises(ValueError, match="x: the calls generated different numbers"):
        contest("x", ("a", lambda: 5), ("b", lambda: 6), wanted=1.5, samples=1)


def test_ratios_are_of_pairs():
    result = Contest(
        name="x",
        tokens=100,
        wanted=2.0,
        ours=Measurement(name="a", samples_s=(1.0, 10.0, 2.0)),
        other=Measurement(name="b", samples_s=(3.0, 20.0, 2.0)),
    )
    assert result.ratios == (3.0, 2.0, 1.0) and result.ratio == 2.0
    assert result.tokens_per_s == (50.0, 100 / 3.0)
    assert "ratio 2.00 (1.00 to 3.00, 3 samples; wanted 2.0)" in str(result)
    with pytest.raises(ValueError, match="threads"):
        result.model_validate({**result.model_dump(), "ours": {"name": "a", "threads": 0}})


def test_skewed_lengths_are_skewed_and_repeat():
    lengths = serving.skewed_lengths(500)
    assert lengths == serving.skewed_lengths(500)
    assert min(lengths) >= 1 and max(lengths) <= 384
    mean = sum(lengths) / 500
    assert mean > 1.3 * sorted(lengths)[250], "a few long ones carry the mean"


@pytest.mark.parametrize("tied_embeddings", [True, False])
@pytest.mark.parametrize("rope_theta", [10_000.0, 300.0])
def test_transformers_gets_the_same_weights(tied_embeddings, rope_theta):
    pytest.importorskip("transformers")
    model = tiny.model(tied_embeddings=tied_embeddings, rope_theta=rope_theta)
    llama = serving.as_llama(model)
    assert llama.config._attn_implementation == "sdpa"
    tokens = torch.tensor(tiny.prompts(seed=1, count=1, longest=40))
    with torch.no_grad():
        difference = llama(tokens).logits - model(tokens)
    assert difference.abs().max() < 1e-4  # parts of it compute in float32 there


def test_every_contest_can_be_held():
    pytest.importorskip("transformers")
    model = tiny.model(dtype=torch.float32)
    contests = (
        serving.decode_against_transformers(model, 2, prompt=4, tokens=6, samples=1),
        serving.cache_against_none(model, prompt=4, tokens=6, samples=1),
        serving.continuous_against_static(model, requests=6, max_batch=2, samples=1),
        serving.continuous_against_static(model, other="shrinking", requests=6, samples=1),
    )
    assert [one.tokens for one in contests[:2]] == [12, 6]
    run = serving.ServingRun(
        environment=current_environment(),
        created="2026-01-01",
        seconds_spent=1.0,
        threads=1,
        model=model.config.to_dict(),
        contests=contests,
        caches=serving.cache_memory(model),
    )
    assert serving.ServingRun.model_validate_json(run.model_dump_json()) == run
    assert str(run).count("\n") == 7


def test_a_cache_weighs_what_the_formula_says():
    model = tiny.model(dtype=torch.float32)
    caches = serving.cache_memory(model)
    assert [one.format for one in caches] == ["float32", "bfloat16", "int8", "int4"]
    for one in caches:
        assert one.predicted_bytes == one.allocated_bytes
    # 16 rows of 128 tokens: keys and values, 2 layers, 2 heads of 8 numbers
    assert [one.predicted_bytes for one in caches[:2]] == [
        2 * 2 * 2 * 8 * 16 * 128 * width for width in (4, 2)
    ]
