"""The lab "Size any cache": pools, real start-up logs, its tables and its bar."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import catalog
from helpers.book.figures import kv_estimator as lab
from helpers.formulas.kv_estimate import CacheEstimate
from helpers.formulas.kv_pool import ServerPool
from helpers.formulas.kv_startup import StartupPrediction, read_startup_log
from helpers.formulas.kv_startup_cases import CASES

GIB = 2**30
LLAMA = CacheEstimate(catalog.model("llama-3.1-8b"), block_size=16)


def texts(table):
    """What each row shows."""
    return [[cell if isinstance(cell, str) else cell.text for cell in row] for row in table.rows]


# --- what a server has left ---------------------------------------------------------------------

BUDGETS = {  # GiB of the card, weights, other, left, as two logs print them
    "A100 40 GB": (39.50, 14.96, 0.10 + 9.37, 11.12),
    "RTX 3090": (23.58, 14.9888, 17.06 - 14.9888 + 0.35, 3.81),
}


@pytest.mark.parametrize("card", BUDGETS)
def test_the_budget_of_a_real_server_adds_up(card):
    memory, weights, other, left = (gib * GIB for gib in BUDGETS[card])
    pool = ServerPool(LLAMA, memory, weights, other)
    # four numbers with two decimals
    assert pool.rank_pool_bytes / GIB == pytest.approx(left / GIB, abs=0.02)


@given(
    memory=st.integers(0, 10**12), weights=st.integers(0, 10**12), other=st.integers(0, 10**10),
    percent=st.integers(1, 100), ranks=st.sampled_from([1, 2, 4, 8, 16, 32]),
)  # fmt: skip
def test_the_parts_fill_what_may_be_used_and_no_more(memory, weights, other, percent, ranks):
    estimate = replace(LLAMA, tensor_parallel=ranks)
    pool = ServerPool(estimate, memory, weights, other, percent / 100)
    left = memory * percent * ranks - 100 * (weights + other * ranks)  # whole numbers: exact
    assert pool.rank_pool_bytes == max(left // (100 * ranks), 0)
    users = pool.users(100)
    each = 112 * estimate.rank_bytes_per_token  # seven blocks
    assert users * each <= pool.rank_pool_bytes < (users + 1) * each


@pytest.mark.parametrize("usable", [0, -0.1, 1.1, math.nan, math.inf, True, "0.9", None])
def test_a_share_is_a_share(usable):
    with pytest.raises(ValueError, match=r"usable: .*; allowed is a share of the memory, above 0"):
        ServerPool(LLAMA, 80e9, 16e9, usable=usable)


def test_bad_amounts_are_named():
    with pytest.raises(ValueError, match="rank_memory_bytes: '80 GB'; allowed is a number of byte"):
        ServerPool(LLAMA, "80 GB", 16e9)
    with pytest.raises(ValueError, match="weight_bytes: -1; allowed"):
        ServerPool(LLAMA, 80e9, -1)
    with pytest.raises(ValueError, match="rank_other_bytes: nan; allowed"):
        ServerPool(LLAMA, 80e9, 16e9, math.nan)
    with pytest.raises(TypeError, match="estimate: 'llama'; allowed is a CacheEstimate"):
        ServerPool("llama", 80e9, 16e9)


def test_a_decimal_share_is_exact():
    # as binary fractions 0.7 is less than seven tenths, and a byte would be lost
    assert ServerPool(LLAMA, 10**9, 0, usable=0.7).rank_pool_bytes == 700_000_000


def test_two_gpus_hold_more_than_twice_the_users():
    one, two = (lab.served_on("llama-3.1-8b", 2, "h100-sxm", gpus).users(8192) for gpus in (1, 2))
    # (72 - 16.0605 - 4.295) / 1.0737; the second GPU adds 72 - 4.295 and no weights
    assert (one, two) == (48, 111)


# --- logs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_log_lies_within_its_rounding(case):
    assert case.tokens % 16 == 0
    assert case.tokens in case.prediction.tokens
    heads = {"llama-3.3-70b": 80 * 4}.get(case.model, 32 * 8)  # on a rank, of all layers
    per_token = 2 * 2 * 128 * heads
    low, high = (float(case.available_gib) + half for half in (-0.005, 0.005))
    assert low * GIB < case.tokens * per_token + 16 * per_token
    assert case.tokens * per_token < high * GIB
    if case.concurrency:
        assert f"{case.tokens / case.request_tokens:.2f}" == case.concurrency
        log = read_startup_log(case.text)
        assert all(inside for *_, inside in case.prediction.compare(log))
    if case.source:
        assert catalog.source(case.source).url.startswith("https://github.com/vllm-project/vllm/")


def test_a_card_that_must_refuse():
    # 2.89 GiB and a longest request of 29,000 tokens: the server said 23,648 and ended
    predicted = StartupPrediction(LLAMA, "2.89", request_tokens=16)
    assert 23_648 in predicted.tokens
    assert (predicted.tokens[0], predicted.tokens[-1]) == (23_632, 23_712)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_wrong_readings_fall_outside(case):
    found = {name: case.tokens in p.tokens for name, p in lab.misreadings(case).items()}
    names = list(found)
    assert found[names[0]] and found[names[-1]]  # the second has the same bytes in other heads
    assert not any(found[name] for name in names[1:5])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_left_over_is_explained(case):
    quotient, part, blocks, hidden = lab.leftovers(case)
    assert quotient - part + 16 * blocks == pytest.approx(case.tokens)
    assert 0 <= part < 16
    assert abs(blocks) <= hidden + 1  # the blocks hidden by rounding, and one that it cuts


def test_each_print_is_a_ring():
    (ax,) = lab.startup_intervals.figure().axes
    rings, dots = {}, {}
    for line in ax.lines:
        (x,), (y,) = line.get_data()
        (dots if line.get_zorder() == 5 else rings).setdefault(y, set()).add(x)
    assert len(dots) == len(CASES) and all(dots[row] < rings[row] for row in dots)
    assert [len(rings[row]) for row in sorted(rings)] == [6, 6, 5, 7, 6]
    wide = lab.startup_intervals.html.split('class="narrow"')[0]
    assert wide.count("<circle") == 30 + len(CASES)  # all arrive on the page


# --- tables -------------------------------------------------------------------------------------

#: bytes per token, KiB, GiB at 131,072 tokens, times with MHA: typed from the published shapes
KNOWN = {
    "Llama 2 7B": ("524,288", "512", "64.000", "1.0"),
    "Llama 3.1 8B": ("131,072", "128", "16.000", "4.0"),
    "Llama 3.1 70B": ("327,680", "320", "40.000", "8.0"),
    "Llama 3.1 405B": ("516,096", "504", "63.000", "16.0"),
    "Mistral 7B v0.1": ("131,072", "128", "0.500", "4.0"),
    "DeepSeek-V3": ("70,272", "68.625", "8.578", "71.1"),
    "Qwen2.5 7B": ("57,344", "56", "7.000", "7.0"),
}


def test_the_table_of_models():
    rows = {row[0]: tuple(row[2:6]) for row in texts(lab.model_table())}
    assert len(rows) == len(catalog.models())
    assert {name: rows[name] for name in KNOWN} == KNOWN


def test_the_table_of_logs_says_inside():
    rows = texts(lab.startup_table())
    assert [row[4] for row in rows] == ["yes"] * len(CASES)
    assert rows[2][2:4] == ["25,712 to 25,776", "25,728"]
    wrong = replace(CASES[0], tokens=470_352)
    assert texts(lab.startup_table((wrong,)))[0][4] == "no"
    assert texts(lab.misreadings_table(wrong))[0][4] == "outside"


def test_the_table_of_users():
    users = {tuple(row[:2]): int(row[5]) for row in texts(lab.users_table())}
    assert users["Llama 3.1 70B, 8-bit weights", "1 × H100 SXM"] == 0
    assert users["Llama 3.1 70B, 8-bit weights", "2 × H100 SXM"] == 24
    # a copy of the cache on every GPU: (126.9 - 41.94 - 4.295) GB over 0.5757 GB
    assert users["DeepSeek-V3, 8-bit weights", "16 × H200"] == 140


# --- the bar ------------------------------------------------------------------------------------


def bars(picture):
    """Bottom and height of the parts of the bar, drawn left of the list."""
    (ax,) = picture.figure().axes
    return [
        (patch.get_y(), patch.get_height()) for patch in ax.patches if patch.get_x() < 3
    ]  # fmt: skip


def test_the_bar_shows_all_that_may_be_used():
    pool = lab.served_on("llama-3.1-8b", 2, "h100-sxm", 1)
    parts = bars(lab.memory_bar(pool, 8192))
    assert len(parts) == 4 and parts[0][0] == 0
    for (bottom, height), (above, _) in pairwise(parts):
        assert bottom + height == pytest.approx(above)
    assert parts[-1][0] + parts[-1][1] == pytest.approx(72e9 / GIB)
    assert parts[2][1] == pytest.approx(48)  # 48 users of 1 GiB
    said = lab.memory_bar(pool, 8192).caption
    assert said.startswith("*48 users with 8,192 tokens fit: 1.000 GiB for each user.*")


def test_the_bar_of_what_does_not_fit():
    bar = lab.memory_bar(lab.served_on("llama-3.1-70b", 2, "h100-sxm", 1), 8192)
    # 141.107 GB and 4 GiB against 72 GB
    assert bar.caption.startswith("*The weights and the rest are 68.4 GiB too large.*")
    assert re.search(r"no users", bar.html)
    assert [height for _, height in bars(bar)[2:]] == [0, 0]
    one = lab.memory_bar(lab.served_on("llama-3.1-8b", 2, "h100-sxm", 2), 700_000)
    assert one.caption.startswith("*1 user with 700,000 tokens fits: ")
