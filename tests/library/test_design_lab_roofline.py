"""The design lab's score: its brief holds, its search is right, naive plans score badly."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.book.design_labs import roofline as lab

PLANS = [plan for _, plan in lab.PROPOSALS]
PARAMETERS, CACHE = 7_248_023_552, 131_072 * 4096  # Mistral 7B v0.3, 16-bit values


def test_a_step_by_hand():
    result = lab.score(lab.Plan("h100-sxm", 100))
    needed = 2 * PARAMETERS + 100 * CACHE
    assert result.readers_per_chip == 100
    assert result.bytes_needed == pytest.approx(needed)
    assert result.memory_seconds == pytest.approx(needed / (0.7 * 3.35e12))
    assert result.math_seconds == pytest.approx(2 * PARAMETERS * 500 / (0.5 * 989.4e12))
    assert result.watts == 70_000


def test_the_naive_plan_scores_nothing_and_says_why():
    result = lab.score(lab.PROPOSALS[0][1])
    assert result.points == 0
    assert [reason.split(":")[0] for reason in result.reasons] == ["memory", "speed"]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.chips}-{plan.chip}")
def test_one_chip_less_than_the_smallest_fleet_breaks_the_brief(plan):
    fewest = lab.smallest(plan)
    fits = lab.evaluate(fewest, lab.BRIEF)
    fewer = lab.evaluate(replace(fewest, chips=fewest.chips - 1), lab.BRIEF)
    assert not [reason for reason in fits.reasons if not reason.startswith("power")]
    assert [reason for reason in fewer.reasons if not reason.startswith("power")]


@given(
    st.sampled_from(["a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm", "mi300x", "l4"]),
    st.integers(1, 5_000),
    st.sampled_from(lab.WEIGHT_BYTES),
    st.sampled_from(lab.CACHE_BYTES),
)
def test_points_are_between_0_and_100_and_only_without_reasons(chip, chips, weight, cached):
    result = lab.score(lab.Plan(chip, chips, weight, cached))
    assert 0 <= result.points <= 100
    assert (result.points > 0) == (not result.reasons)


def test_halving_a_format_costs_points_at_equal_power():
    wide = lab.score(lab.Plan("h200-sxm", 50, 1, 1, "fp8"))
    narrow = lab.score(lab.Plan("h200-sxm", 50, 0.5, 1, "fp8"))
    assert narrow.points == pytest.approx(0.95 * wide.points)


def test_the_ranking_begins_with_the_best_of_all():
    ranking = lab.ranking()
    assert ranking[0].points == max(result.points for result in ranking)
    assert min(r.watts for r in ranking if not r.reasons) >= lab.least_watts()
    assert len({result.plan.chip for result in ranking}) == len(ranking) > 10


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"chips": 0}, "chips: 0"),
        ({"chips": 2.5}, "chips: 2.5"),
        ({"bytes_per_weight": 3}, "bytes_per_weight: 3 is not one of 2.0, 1.0, 0.5"),
        ({"bytes_per_cache_value": 0.5}, "bytes_per_cache_value"),
        ({"arithmetic": "fp4"}, "arithmetic: 'fp4'"),
        ({"arithmetic": "fp8"}, "needs bytes_per_weight of 1 or 0.5"),
        ({"chip": "tpu-v6e"}, "no published power"),
        ({"chip": "gb200-nvl72"}, "is a rack"),
        ({"chip": "maia-200"}, "for its maker only"),
        ({"chip": "a100-sxm-80gb", "arithmetic": "fp8", "bytes_per_weight": 1}, "no dense fp8"),
        ({"chip": "h1000"}, "h100"),
    ],
)
def test_an_impossible_plan_is_refused_with_what_is_allowed(wish, said):
    with pytest.raises((ValueError, LookupError), match=said):
        lab.score(lab.Plan(**{"chip": "h100-sxm", "chips": 10, **wish}))


def test_no_fleet_is_small_enough_for_a_chip_that_is_too_slow():
    hurried = lab.Brief(target_tokens_per_s=1_000.0)
    assert lab.smallest(lab.Plan("l4", 1), hurried) is None


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"readers": 0}, "readers: 0 is not a whole number of 1 or more"),
        ({"readers": -1}, "readers: -1"),
        ({"readers": True}, "readers: True"),
        ({"context_tokens": 1e6}, "context_tokens: 1000000.0 is not a whole number"),
        ({"mbu": 0}, "mbu: 0 is not a share above 0 and up to 1"),
        ({"mbu": 2}, "mbu: 2 is not a share"),
        ({"mfu": float("nan")}, "mfu: nan is not a share"),
        ({"usable_memory": -1}, "usable_memory: -1 is not a share"),
        ({"precision_price": 3}, "precision_price: 3 is not a share from 0"),
        ({"precision_price": 1}, "precision_price: 1 is not a share from 0"),
        ({"target_tokens_per_s": 0}, "target_tokens_per_s: 0 is not a finite number above 0"),
        ({"target_tokens_per_s": float("inf")}, "target_tokens_per_s: inf"),
        ({"budget_watts": "x"}, "budget_watts: 'x' is not a finite number above 0"),
        ({"prompt_per_token": -0.5}, "prompt_per_token: -0.5 is not a finite number, 0 or more"),
        ({"model": 7}, "model: 7 is not the id of a model"),
    ],
)
def test_an_impossible_brief_is_refused_with_what_is_allowed(wish, said):
    with pytest.raises(ValueError, match=said):
        lab.Brief(**wish)


def test_a_brief_at_the_edge_is_taken():
    edge = lab.Brief(
        readers=1, context_tokens=1, prompt_per_token=0, usable_memory=1, mbu=1, mfu=1.0,
        precision_price=0,
    )  # fmt: skip
    assert lab.score(lab.Plan("h100-sxm", 1, 1, 1, "fp8"), edge).points > 0


@pytest.mark.parametrize("call", [lab.score, lab.smallest])
@pytest.mark.parametrize("plan", ["h100", None])
def test_what_is_no_plan_is_refused_with_what_to_write(call, plan):
    with pytest.raises(TypeError, match=r"plan: .* is not a Plan; write lab\.Plan"):
        call(plan)
    with pytest.raises(TypeError, match=r"brief: 5 is not a Brief; write lab\.Brief"):
        call(lab.Plan("h100-sxm", 40), 5)
