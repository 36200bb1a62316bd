"""The lab *Paged attention*: measured lengths, counted passes, and what its pictures say."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from helpers import catalog
from helpers.bench import lengths, recorded
from helpers.book.figures import kv_paged
from helpers.claims.kv_cache import SHAREGPT_TOKENS, USED_BEFORE_PAGING
from helpers.serve.engine import Engine
from helpers.serve.events import EventLog
from helpers.serve.passes import count_passes
from helpers.serve.request import SamplingParams
from helpers.serve.waste import cache_use, cache_use_of_run

requests = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=6)


def serve(pairs, **settings):
    """A tiny model's engine on random prompts with answers of the lengths given."""
    draw = random.Random(0)
    model = tiny.model()
    engine = Engine(model, clock=lambda: 0.0, **settings)
    prompts = [[draw.randrange(model.config.vocab) for _ in range(prompt)] for prompt, _ in pairs]
    engine.generate(prompts, [SamplingParams(max_tokens=answer) for _, answer in pairs])
    return engine


# ---- what a run held -----------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(pairs=requests, block_size=st.integers(1, 8), max_batch=st.integers(1, 6))
def test_the_log_of_a_run_says_what_the_formula_says(pairs, block_size, max_batch):
    engine = serve(
        pairs, blocks=80, block_size=block_size, max_batch=max_batch, prefix_caching=False
    )
    formula = cache_use(pairs, block_size=block_size, longest_tokens=30)["paged"]
    assert cache_use_of_run(engine.log, block_size) == formula


def test_shared_blocks_are_reserved_once():
    model = tiny.model()
    engine = Engine(model, blocks=20, block_size=4, clock=lambda: 0.0)
    engine.generate([[1, 2, 3, 4, 5], [1, 2, 3, 4, 6]], SamplingParams(max_tokens=1))
    use = cache_use_of_run(engine.log, 4)
    assert (use.held_slot_steps, use.reserved_slot_steps, use.request_steps) == (10, 12, 2)


@pytest.mark.parametrize("size", [0, True, 4.0, None])
def test_a_block_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match=r"block_size is .*; it must be a whole number, 1 or more"):
        cache_use_of_run([], size)


def test_a_log_that_was_not_kept_is_told():
    with pytest.raises(ValueError, match="events: nothing is computed in them"):
        cache_use_of_run(EventLog(keep=False), 4)


# ---- passes --------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(pairs=requests, blocks=st.integers(6, 20), max_batch=st.integers(1, 6))
def test_the_engine_takes_as_many_passes_as_counted_without_it(pairs, blocks, max_batch):
    sizes = {"blocks": blocks, "block_size": 4, "max_batch": max_batch}
    counted = count_passes(pairs, **sizes)
    engine = serve(pairs, **sizes, prefix_caching=False)
    assert counted.passes == engine.log.step
    assert counted.preemptions == len(engine.log.of("preempt"))
    assert counted.request_steps == sum(answer for _, answer in pairs)


@given(pairs=requests)
def test_with_room_for_all_the_longest_answer_decides(pairs):
    counted = count_passes(pairs, blocks=100, block_size=4, max_batch=len(pairs))
    assert counted.passes == max(answer for _, answer in pairs)
    alone = count_passes(pairs, blocks=100, block_size=4, max_batch=1)
    assert alone.passes == sum(answer for _, answer in pairs)
    assert alone.at_once == 1


def test_what_is_in_use_turns_shares_into_passes():
    """Requests at once = blocks in use over blocks of one request, whoever is preempted."""
    pairs = [(5, 9), (3, 20), (7, 2), (12, 11)] * 5
    counted = count_passes(pairs, blocks=16, block_size=4, max_batch=len(pairs))
    assert counted.preemptions > 0, "the pool is not small enough for this test"
    use = cache_use(pairs, block_size=4, longest_tokens=64)["paged"]
    of_one = use.reserved_slot_steps / 4 / use.request_steps
    assert counted.at_once == pytest.approx(counted.block_steps / counted.passes / of_one)


def test_a_request_that_never_fits_is_refused():
    with pytest.raises(ValueError, match=r"lengths\[1\] is \(30, 3\), 33 tokens together"):
        count_passes([(1, 2), (30, 3)], blocks=8, block_size=4, max_batch=2)


# ---- measured lengths ----------------------------------------------------------------------------


SOURCE = '''
class Box:
    """Holds one thing."""

    def put(
        self, thing
    ):
        """Put it in."""

    def take(self):
        return 1


async def send(message):
    "Hand it over."
'''


def test_signatures_and_docstrings_are_found():
    assert sorted(lengths.documented(SOURCE)) == [
        ("    def put(\n        self, thing\n    ):", "Put it in."),
        ("async def send(message):", "Hand it over."),
        ("class Box:", "Holds one thing."),
    ]


def test_lengths_count_tokens_with_the_quotes():
    class Letters:  # stands in for a tokenizer: one token a character
        def encode_many(self, texts):
            return [list(text) for text in texts]

    run = lengths.measure(["bisect", "heapq", "no_such_module", "sys"], tokenizer=Letters())
    assert run.modules == 2
    import bisect
    import inspect

    wanted = (
        len('def insort_right(a, x, lo=0, hi=None, *, key=None):\n    """'),
        len(_raw_docstring(inspect.getsource(bisect), "insort_right")) + 3,
    )
    assert wanted in run.lengths


def _raw_docstring(source, name):
    return re.search(rf'def {name}\(.*?"""(.*?)"""', source, re.S)[1]


def test_without_source_the_recorded_lengths_are_used(capsys):
    run = lengths.measure(["sys"])
    assert run == recorded.load(lengths.NAME)
    assert "without source" in capsys.readouterr().out


def test_the_recorded_lengths_are_like_those_of_this_python():
    run, mine = recorded.load(lengths.NAME), lengths.measure()
    assert mine.modules == run.modules == len(lengths.MODULES)
    for side in (0, 1):
        then, now = (
            sum(pair[side] for pair in one.lengths) / len(one.lengths) for one in (run, mine)
        )
        assert now == pytest.approx(then, rel=0.1)


# ---- what is shown -------------------------------------------------------------------------------

LENGTHS = [(5, 9), (3, 20), (7, 2), (12, 11)]


def test_the_band_is_what_the_claim_says():
    claim = catalog.claim("used-before-paging")
    assert [float(x) for x in re.findall(r"\d+\.\d+", claim.statement)] == [
        pytest.approx(100 * share) for share in USED_BEFORE_PAGING
    ]
    assert [round(x) for x in SHAREGPT_TOKENS] == [161, 338]


def test_table_and_bars_show_the_shares():
    use = cache_use(LENGTHS, block_size=4, longest_tokens=40)
    table = kv_paged.waste_table({"some": use})
    for row, one in zip(table.rows, use.values(), strict=True):
        assert row[1].text == f"{one.held_slot_steps / one.reserved_slot_steps:.1%}"
    axes = kv_paged.waste_bars({"some": use, "more": use}).figure().axes[0]
    widths = [bar.get_width() for container in axes.containers for bar in container]
    assert widths == [pytest.approx(100 * one.share) for one in use.values()] * 2
    for wrong in ({}, dict.fromkeys("abcd", use)):
        with pytest.raises(ValueError, match="distributions; allowed are 1 to 3"):
            kv_paged.waste_bars(wrong)


def test_the_sweep_counts_what_each_step_holds():
    for one in kv_paged.block_sizes(LENGTHS, [1, 3, 8, 64]):
        held = [p + step for p, a in LENGTHS for step in range(a)]
        entries = [-(-tokens // one.block_size) for tokens in held]
        empty = [e * one.block_size - t for e, t in zip(entries, held, strict=True)]
        assert one.entries == pytest.approx(sum(entries) / len(held))
        assert one.empty_slots == pytest.approx(sum(empty) / len(held))
        assert one.empty_share == pytest.approx(sum(empty) / (sum(empty) + sum(held)))
    table = kv_paged.block_size_table(LENGTHS, common=100, slot_bytes=256)
    (row,) = (row for row in table.rows if row[0].value == 16)
    assert [cell.text for cell in row[1:2] + row[5:]] == ["7.5", "96", "4"]


@pytest.mark.parametrize("size", [1, 16, 128])
@pytest.mark.parametrize("shared", [0, 50, 400])
def test_a_pool_holds_full_common_blocks_once(size, shared):
    pool = kv_paged.pool(size, 5, shared)
    full = shared // size
    assert pool.entries == sum(-(-tokens // size) for tokens in pool.tokens)
    assert pool.held == pool.entries - 4 * full
    assert pool.utilisation == pytest.approx(sum(pool.tokens) / pool.held / size)
    first, *others = pool.tables
    for table in others:
        assert table[:full] == first[:full]
        assert not set(table[full:]) & set(first)


def test_the_picture_fills_each_block_once():
    state, drawn = kv_paged.pool(16, 4, 50), kv_paged.pool_picture(16, 4, 50)
    patches = drawn.figure().axes[0].patches
    filled = [patch for patch in patches if patch.get_fill()]
    assert len(filled) == state.held
    assert len(patches) - len(filled) == state.entries
    assert f"{state.held} blocks for {state.entries} table entries" in drawn.caption
