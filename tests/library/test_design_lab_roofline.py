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
    fits = lab._evaluate(fewest, lab.BRIEF)
    fewer = lab._evaluate(replace(fewest, chips=fewest.chips - 1), lab.BRIEF)
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
