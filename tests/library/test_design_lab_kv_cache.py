"""The design lab's score: its brief holds, its search is right, naive plans score badly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from helpers import catalog
from helpers.book.design_labs import kv_cache as lab
from helpers.book.design_labs.kv_cache_plan import BLOCKS, CACHES, PLACES, RANKS, WEIGHTS

PLANS = [plan for _, plan in lab.PROPOSALS]
#: Llama 3.1 70B: parameters, and bytes of a token in 16 bits
PARAMETERS, TOKEN = 70_553_706_496, 327_680
CONTEXT, DOCUMENT = 131_072, 100_000
#: operations of one query with one earlier token, over all layers and heads of 128
PAIR = 4 * 80 * 64 * 128


def _all_but_power(result: lab.Score) -> list[str]:
    return [reason for reason in result.reasons if not reason.startswith("power")]


@st.composite
def plans(draw, **fixed):
    chip = fixed.get("chip") or draw(st.sampled_from(list(lab.OFFERS)))
    has_fp8 = "fp8" in catalog.chip(chip).dtypes()
    weights, caches = ([k for k in kinds if has_fp8 or k != "fp8"] for kinds in (WEIGHTS, CACHES))
    choice = {
        "chip": chip,
        "replicas": draw(st.integers(1, 60)),
        "ranks": draw(st.sampled_from(RANKS)),
        "weights": draw(st.sampled_from(weights)),
        "cache": draw(st.sampled_from(caches)),
        "paused": draw(st.sampled_from(PLACES)),
        "share_documents": draw(st.booleans()),
        "block_tokens": draw(st.sampled_from(BLOCKS)),
    }
    return lab.Plan(**{**choice, **fixed})


# --- by hand ------------------------------------------------------------------------------------


def test_a_step_by_hand():
    result = lab.evaluate(lab.Plan("h100-sxm", 20, paused="host"))
    weights, session = 2 * PARAMETERS / 8, CONTEXT * TOKEN / 8
    assert result.active_per_replica == 10
    assert result.bytes_needed == pytest.approx(weights + 10 * session)
    assert result.memory_seconds == pytest.approx((weights + 10 * session) / (0.7 * 3.35e12))
    # for each token written one prompt token is read, 500 behind 130,572 over 500 tokens
    prompt = 2 * PARAMETERS * 500 + PAIR * (500 * (CONTEXT - 500) + 500 * 501 / 2)
    token = 2 * PARAMETERS + PAIR * CONTEXT
    flops = 10 * (token + prompt / 500)
    assert result.math_seconds == pytest.approx(flops / (8 * 0.5 * 989.4e12))
    sums = 2 * 80 * (2 * 7 / 8 * 8192 * 2 * 20)  # 20 tokens pass through the layers
    assert result.link_seconds == pytest.approx(sums / (0.7 * 450e9))
    assert result.watts == 112_000


def test_a_return_from_a_disk_by_hand():
    result = lab.evaluate(lab.Plan("h200-sxm", 5, 8, "fp8", "fp8", "disk", True, 256))
    own = CONTEXT - 390 * 256  # 390 full blocks of a document of 100,000 tokens
    alone = own * TOKEN / 2 / 8 / (0.7 * 63e9 / 4) + 122 * 80 * 3e-6
    busy = 40 * 20 / 500 * alone
    assert result.fetch_seconds == pytest.approx(alone / (1 - busy))
    prompt_weights = 2 * PARAMETERS * 500 / (8 * 0.5 * 1979e12)
    prompt_attention = PAIR * (500 * (CONTEXT - 500) + 500 * 501 / 2) / (8 * 0.5 * 989e12)
    sums = 2 * 80 * (2 * 7 / 8 * 8192 * 2 * 500) / (0.7 * 450e9)
    waited = result.return_seconds - result.fetch_seconds - result.step_seconds
    assert waited == pytest.approx(prompt_weights + prompt_attention + sums)


def test_what_is_dropped_is_computed_again():
    result = lab.evaluate(lab.Plan("b200-sxm", 4, 8, "fp8", "fp8", "dropped", True))
    own, shared = CONTEXT - DOCUMENT, DOCUMENT  # 6,250 full blocks of 16
    pairs = own * shared + own * (own + 1) / 2
    again = 2 * PARAMETERS * own / (8 * 0.5 * 4500e12) + PAIR * pairs / (8 * 0.5 * 2250e12)
    assert result.fetch_seconds == 0
    assert result.return_seconds > again + result.step_seconds
    written = 2 * PARAMETERS / (8 * 0.5 * 4500e12) + PAIR * CONTEXT / (8 * 0.5 * 2250e12)
    assert result.math_seconds == pytest.approx(50 * (written + again / 500))


@pytest.mark.parametrize("block, shared", [(16, 100_000), (64, 99_968), (1024, 99_328)])
def test_only_full_blocks_are_shared(block, shared):
    plan = lab.Plan("mi300x", 4, 8, "fp8", "fp8", "host", True, block)
    replica = lab.Replica(plan, lab.BRIEF)
    byte = TOKEN / 2 / 8  # of a token, on one of 8 ranks
    assert replica.shared_tokens == shared
    assert replica.own_bytes == (CONTEXT - shared) * byte
    assert replica.parked_bytes == 450 * replica.own_bytes
    sessions = 50 * replica.own_bytes + 25 * shared * byte
    assert replica.needed_bytes == pytest.approx(PARAMETERS / 8 + sessions)


def test_the_fullest_replica_counts():
    replica = lab.Replica(lab.Plan("b200-sxm", 3, share_documents=True), lab.BRIEF)
    assert (replica.active, replica.paused, replica.documents) == (67, 600, 34)


def test_paused_sessions_in_hbm_take_memory_and_no_time():
    kept, parked = (lab.Replica(lab.Plan("h100-sxm", 200, paused=place), lab.BRIEF)
                    for place in ("hbm", "host"))  # fmt: skip
    assert kept.needed_bytes - parked.needed_bytes == 9 * kept.session_bytes
    assert kept.step_clocks == parked.step_clocks and kept.fetch_seconds() == 0


def test_more_than_8_ranks_copy_the_cache_and_talk_over_the_network():
    eight, sixteen = (lab.Replica(lab.Plan("h200-sxm", 4, ranks), lab.BRIEF) for ranks in (8, 16))
    assert sixteen.session_bytes == eight.session_bytes == CONTEXT * TOKEN / 8
    assert sixteen.weight_bytes == eight.weight_bytes / 2
    assert sixteen.link_seconds(1) / eight.link_seconds(1) == pytest.approx(
        (15 / 16) / (7 / 8) * 450e9 / 50e9
    )
    assert lab.Replica(lab.Plan("h200-sxm", 4, 1), lab.BRIEF).link_seconds(100) == 0


def test_scales_are_counted():
    plain, scaled = (lab.Replica(lab.Plan("h200-sxm", 4, cache=kind), lab.BRIEF).session_bytes
                     for kind in ("fp8", "int8"))  # fmt: skip
    assert scaled / plain == pytest.approx(130 / 128)


# --- constraints --------------------------------------------------------------------------------


def _words(result: lab.Score) -> list[str]:
    return [reason.split(":")[0] for reason in result.reasons]


@pytest.mark.parametrize(
    ("plan", "broken"),
    [
        (PLANS[0], ["speed", "return", "power"]),
        (PLANS[1], ["power"]),
        (lab.Plan("h100-sxm", 4), ["memory", "speed"]),
        (lab.Plan("h200-sxm", 5, 8, "fp8", "fp8", "host"), ["host", "return"]),
        (lab.Plan("h200-sxm", 2, 8, "fp8", "int4", "disk", False, 1024), ["memory", "speed"]),
        (lab.Plan("b200-sxm", 1, 1, "int4", "int4", "disk", True, 64),
         ["memory", "disk", "speed", "return"]),
    ],
)  # fmt: skip
def test_a_plan_that_breaks_the_brief_scores_nothing_and_says_why(plan, broken):
    result = lab.score(plan)
    assert result.points == 0
    assert _words(result) == broken


def test_a_way_that_is_too_narrow_never_catches_up():
    result = lab.score(PLANS[4])
    assert math.isinf(result.return_seconds)
    assert "cannot be fetched in time" in lab.describe(result)
    assert "inf" not in lab.describe(result) and "faster than" in result.reasons[0]


@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.chips}-{plan.chip}-{plan.paused}")
def test_one_replica_less_than_the_smallest_fleet_breaks_the_brief(plan):
    fewest = lab.smallest(plan)
    if fewest is None:  # then no number does
        assert _all_but_power(lab.evaluate(replace(plan, replicas=lab.BRIEF.sessions)))
        return
    assert not _all_but_power(lab.evaluate(fewest))
    assert _all_but_power(lab.evaluate(replace(fewest, replicas=fewest.replicas - 1)))


@given(plans(), st.integers(1, 20))
def test_more_replicas_never_make_anything_worse(plan, more):
    few, many = lab.evaluate(plan), lab.evaluate(replace(plan, replicas=plan.replicas + more))
    assert many.bytes_needed <= few.bytes_needed
    assert many.step_seconds <= few.step_seconds
    assert many.return_seconds <= few.return_seconds
    kinds = {reason.split(":")[0] for reason in _all_but_power(few)}
    assert {reason.split(":")[0] for reason in _all_but_power(many)} <= kinds


def test_the_search_stops_where_it_is_told():
    plan = lab.Plan("h200-sxm", 1, 8, "fp8", "fp8", "disk", True, 256)
    assert lab.smallest(plan, most=5).replicas == 5
    assert lab.smallest(plan, most=4) is None and lab.smallest(plan, most=0) is None
    assert lab.smallest(replace(plan, chip="l4"), lab.Brief(target_tokens_per_s=1e3)) is None


# --- points -------------------------------------------------------------------------------------


@given(plans())
def test_points_are_between_0_and_100_and_no_plan_beats_the_search(plan):
    result = lab.score(plan)
    assert 0 <= result.points <= 100
    assert (result.points > 0) == (not result.reasons)
    if not result.reasons:
        assert result.watts >= lab.least_watts()
        assert result.points <= lab.ranking()[0].points


@given(plans())
def test_the_search_leaves_nothing_out(plan):
    """It skips int8 where there is fp8, and large blocks where nothing is fetched."""
    least = lab.smallest(plan)
    assume(least is not None)
    if plan.paused in ("hbm", "dropped"):
        assert lab.smallest(replace(plan, block_tokens=16)).replicas <= least.replicas
    if "fp8" in catalog.chip(plan.chip).dtypes():
        better = {name: "fp8" for name in ("weights", "cache") if getattr(plan, name) == "int8"}
        assert lab.smallest(replace(plan, **better)).replicas <= least.replicas


def test_halving_a_format_costs_points_at_equal_power():
    wide = lab.score(lab.Plan("h200-sxm", 5, 8, "bf16", "fp8", "disk", True, 256))
    narrow = lab.score(replace(wide.plan, weights="fp8"))
    assert wide.watts == narrow.watts
    assert narrow.points == pytest.approx(0.9 * wide.points)
    assert replace(wide.plan, weights="int4", cache="int4").halvings == 4


def test_the_ranking_begins_with_the_best_of_all():
    ranking = lab.ranking()
    assert ranking[0].points == max(result.points for result in ranking)
    assert min(result.watts for result in ranking) == lab.least_watts()
    assert len({result.plan.chip for result in ranking}) == len(ranking) > 5


def test_the_best_depends_on_the_brief():
    """More documents than active sessions: sharing would keep more in memory than it saves."""
    many = lab.Brief(sessions=3_000, active=120, documents=300, target_tokens_per_s=30.0)
    best = lab.ranking(many)[0].plan
    assert lab.ranking()[0].plan.share_documents and not best.share_documents


def test_the_table_shows_every_proposal():
    html = lab.table()._repr_html_()
    assert html.count("<tr>") == 1 + len(PLANS)
    assert ">never<" in html and 'data-v="Infinity"' in html and ">inf" not in html


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"replicas": 0}, "replicas: 0 is not a whole number of 1 or more"),
        ({"replicas": 2.5}, "replicas: 2.5"),
        ({"ranks": 3}, "ranks: 3 is not one of 1, 2, 4, 8, 16"),
        ({"weights": "fp4"}, "weights: 'fp4' is not one of bf16, fp8, int8, int4"),
        ({"cache": 2}, "cache: 2 is not one of"),
        ({"paused": "nvme"}, "paused: 'nvme' is not one of hbm, host, disk, dropped"),
        ({"share_documents": "yes"}, "share_documents: 'yes' is not True or False"),
        ({"block_tokens": 100}, "block_tokens: 100 is not one of 16, 64, 256, 1024"),
        ({"chip": "tpu-v6e"}, "no published power"),
        ({"chip": "gb200-nvl72"}, "is a rack"),
        ({"chip": "maia-200"}, "for its maker only"),
        ({"chip": "b300-sxm"}, "'b300-sxm' is not on offer; on offer are a100-sxm-80gb, h100"),
        ({"chip": "a100-sxm-80gb", "weights": "fp8"}, "no dense fp8"),
        ({"chip": "a100-sxm-80gb", "cache": "fp8"}, "no dense fp8"),
        ({"chip": "h1000"}, "h100"),
    ],
)
def test_an_impossible_plan_is_refused_with_what_is_allowed(wish, said):
    with pytest.raises((ValueError, LookupError), match=said):
        lab.score(lab.Plan(**{"chip": "h100-sxm", "replicas": 10, **wish}))


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"sessions": 0}, "sessions: 0 is not a whole number of 1 or more"),
        ({"active": True}, "active: True"),
        ({"active": 2_001}, "active: 2,001; allowed are at most 2,000, all sessions"),
        ({"context_tokens": 131_073}, "allowed are at most 131,072, where llama-3.1-70b ends"),
        ({"document_tokens": 130_573}, "allowed are at most 130,572, the context less the prompt"),
        ({"documents": 1.5}, "documents: 1.5 is not a whole number"),
        ({"answer_tokens": 0}, "answer_tokens: 0"),
        ({"mbu": 0}, "mbu: 0 is not a share above 0 and up to 1"),
        ({"mfu": float("nan")}, "mfu: nan is not a share"),
        ({"usable_memory": 90}, "usable_memory: 90 is not a share"),
        ({"precision_price": 1}, "precision_price: 1 is not a share from 0"),
        ({"target_return_s": 0}, "target_return_s: 0 is not a finite number above 0"),
        ({"copy_start_s": -1e-6}, "copy_start_s: -1e-06 is not a finite number, 0 or more"),
        ({"host_bytes": float("inf")}, "host_bytes: inf is not a finite number, 0 or more"),
        ({"budget_watts": "x"}, "budget_watts: 'x' is not a finite number above 0"),
        ({"model": 7}, "model: 7 is not the id of a model"),
        ({"model": "llama-3.1-71b"}, "llama-3.1-70b"),
    ],
)
def test_an_impossible_brief_is_refused_with_what_is_allowed(wish, said):
    with pytest.raises((ValueError, LookupError), match=said):
        lab.Brief(**wish)


def test_a_brief_at_the_edge_is_taken():
    edge = lab.Brief(
        sessions=1, active=1, documents=1, document_tokens=1, context_tokens=2, prompt_tokens=1,
        answer_tokens=1, host_bytes=0, disk_bytes=0, copy_start_s=0, usable_memory=1, mbu=1, mfu=1,
        precision_price=0,
    )  # fmt: skip
    assert 0 < lab.score(lab.Plan("h100-sxm", 1, 2), edge).points <= 100  # by its own best


@pytest.mark.parametrize("call", [lab.score, lab.evaluate, lab.smallest])
@pytest.mark.parametrize("plan", ["h100", None])
def test_what_is_no_plan_is_refused_with_what_to_write(call, plan):
    with pytest.raises(TypeError, match=r"plan: .* is not a Plan; write lab\.Plan"):
        call(plan)
    with pytest.raises(TypeError, match=r"brief: 5 is not a Brief; write lab\.Brief"):
        call(lab.Plan("h100-sxm", 40), 5)
