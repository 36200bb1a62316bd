"""The tables of the engine's recorded runs say what the samples say."""

from __future__ import annotations

import statistics

import pytest

from helpers.bench import recorded
from helpers.book.figures import engine_runs


@pytest.fixture(scope="module")
def serving():
    return recorded.load("reference-cpu-serving")


@pytest.fixture(scope="module")
def speculation():
    return recorded.load("reference-cpu-speculation")


def said(cell):
    return cell if isinstance(cell, str) else cell.text


def test_ratios_are_medians_of_pairs(serving):
    table = engine_runs.contest_table(serving)
    assert len(table.rows) == len(serving.contests) == 5
    for row, contest in zip(table.rows, serving.contests, strict=True):
        pairs = [
            b / a for a, b in zip(contest.ours.samples_s, contest.other.samples_s, strict=True)
        ]
        want = f"{statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f})"
        assert said(row[5]) == want
        rate = contest.tokens / statistics.median(contest.ours.samples_s)
        assert said(row[2]) == f"{rate:,.0f}"
    for words in (str(serving.created), serving.environment.label, serving.environment.torch):
        assert words in table.note


def test_tokens_a_round_stand_beside_their_prediction(speculation):
    table = engine_runs.draft_table(speculation)
    assert {said(row[0]) for row in table.rows} == {"draft", "stranger"}
    for row, draft in zip(table.rows, speculation.drafts, strict=True):
        a, k = draft.accepted / (draft.accepted + draft.rejected), draft.draft_tokens
        predicted = sum(a**i for i in range(k + 1))  # the chance that token i is reached
        assert said(row[3]) == f"{predicted:.2f}, {draft.accepted / draft.rounds + 1:.2f}"
        assert said(row[2]) == f"{a:.3f}"


def test_the_cache_weighs_what_was_predicted(serving):
    table = engine_runs.cache_table(serving)
    assert [said(row[0]) for row in table.rows] == ["float32", "bfloat16", "int8", "int4"]
    for row in table.rows:
        assert said(row[3]) == said(row[4])


def test_one_thread_is_one(serving):
    alone = serving.model_copy(update={"threads": 1})
    assert ", 1 thread, " in engine_runs.where_and_when(alone)
    assert f"{serving.threads} thread" in engine_runs.where_and_when(serving)


# ---- what the engine was built to reach ----------------------------------------------------------


def test_the_recorded_run_used_the_shipped_models(serving, speculation):
    from helpers.lm.recipes import RECIPES

    target = RECIPES["target"].to_dict()["config"]
    assert serving.model == speculation.target == target
    assert {one.name for one in speculation.drafts} == {"draft", "stranger"}
