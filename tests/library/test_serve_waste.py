"""Reserved and filled slots: by hand, by the block manager, by the closed form."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.bench.serving import skewed_lengths
from helpers.serve.waste import CacheUse, cache_use, simulate_cache_use

WAYS = ["longest", "power_of_two", "known", "paged"]
both = pytest.mark.parametrize("of", [cache_use, simulate_cache_use])

requests = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=8)


@both
def test_one_request_by_hand(of):
    """The steps hold 5, 6, 7, 8 and 9 tokens: two blocks of 4 each, but three for 9."""
    use = of([(5, 5)], block_size=4, longest_tokens=20)
    assert list(use) == WAYS
    held = 5 + 6 + 7 + 8 + 9
    assert use["longest"] == CacheUse(held, 5 * 20, 5)
    assert use["power_of_two"] == CacheUse(held, 5 * (5 + 8), 5)
    assert use["known"] == CacheUse(held, 5 * 10, 5)
    assert use["paged"] == CacheUse(held, 8 + 8 + 8 + 8 + 12, 5)
    assert use["paged"].share == pytest.approx(35 / 44)
    assert use["paged"].wasted_slots_per_request == pytest.approx(9 / 5)


@both
def test_two_requests_by_hand(of):
    """(1, 1) lives one step with 1 token; (2, 3) three steps with 2, 3, 4."""
    use = of([(1, 1), (2, 3)], block_size=2, longest_tokens=5)
    held, steps = 1 + 2 + 3 + 4, 1 + 3
    assert use["longest"] == CacheUse(held, 5 * steps, steps)
    # 2 + 4 would be more than the longest
    assert use["power_of_two"] == CacheUse(held, 1 * 2 + 3 * 5, steps)
    assert use["known"] == CacheUse(held, 1 * 2 + 3 * 5, steps)
    assert use["paged"] == CacheUse(held, 2 + (2 + 4 + 4), steps)


@both
@pytest.mark.parametrize(("answer", "room"), [(1, 1), (2, 2), (3, 4), (4, 4), (25, 32), (33, 64)])
def test_answers_are_rounded_up_to_powers_of_two(of, answer, room):
    use = of([(7, answer)], block_size=4, longest_tokens=1000)
    assert use["power_of_two"].reserved_slot_steps == answer * (7 + room)


@both
def test_blocks_of_one_token_waste_nothing(of):
    use = of([(3, 9), (4, 1)], block_size=1, longest_tokens=12)
    assert use["paged"].share == 1.0


@both
def test_one_block_for_all_is_the_longest(of):
    use = of([(3, 9), (4, 1)], block_size=12, longest_tokens=12)
    assert use["paged"] == use["longest"]


@settings(max_examples=60)
@given(lengths=requests, block_size=st.integers(1, 20), slack=st.integers(0, 50))
def test_the_closed_form_is_the_simulation(lengths, block_size, slack):
    longest = max(map(sum, lengths)) + slack
    sizes = dict(block_size=block_size, longest_tokens=longest)
    assert cache_use(lengths, **sizes) == simulate_cache_use(lengths, **sizes)


@given(lengths=requests, block_size=st.integers(1, 20))
def test_paging_wastes_less_than_a_block_a_request(lengths, block_size):
    longest = max(map(sum, lengths))
    use = cache_use(lengths, block_size=block_size, longest_tokens=longest)
    assert 0 <= use["paged"].wasted_slots_per_request < block_size
    assert use["known"].wasted_slots_per_request >= 1  # the last token is never written
    assert use["known"].share >= use["power_of_two"].share >= use["longest"].share


@given(lengths=requests, cut=st.integers(0, 8), block_size=st.integers(1, 9))
def test_requests_add_up(lengths, cut, block_size):
    sizes = dict(block_size=block_size, longest_tokens=80)
    parts = [cache_use(part, **sizes) for part in (lengths[:cut], lengths[cut:]) if part]
    for way, one in cache_use(lengths, **sizes).items():
        assert one.reserved_slot_steps == sum(part[way].reserved_slot_steps for part in parts)
        assert one.held_slot_steps == sum(part[way].held_slot_steps for part in parts)


def test_on_skewed_lengths_the_ways_stand_in_the_expected_order():
    prompts, answers = skewed_lengths(200, seed=1), skewed_lengths(200, seed=2)
    lengths = list(zip(prompts, answers, strict=True))
    sizes = dict(block_size=16, longest_tokens=1024)
    use = cache_use(lengths, **sizes)
    shares = [use[way].share for way in WAYS]
    assert shares == sorted(shares)
    assert shares[0] < 0.25 and shares[-1] > 0.9
    # where a sequence ends in its last block is as good as random
    assert use["paged"].wasted_slots_per_request == pytest.approx((16 - 1) / 2, rel=0.1)
    assert simulate_cache_use(lengths[:40], **sizes) == cache_use(lengths[:40], **sizes)


@both
@pytest.mark.parametrize("name", ["block_size", "longest_tokens"])
@pytest.mark.parametrize("value", [0, -1, True, 2.0, "4", None])
def test_sizes_that_are_none_are_refused(of, name, value):
    sizes = {"block_size": 4, "longest_tokens": 16, name: value}
    with pytest.raises(ValueError, match=f"{name} is .*; it must be a whole number.*1 or more"):
        of([(1, 2)], **sizes)


@both
@pytest.mark.parametrize("pair", [(0, 1), (1, 0), (1,), (1, 2, 3), (1.0, 2), (True, 2), 7, "ab"])
def test_lengths_that_are_none_are_refused(of, pair):
    with pytest.raises(ValueError, match=r"lengths\[1\] is .*; it must be two whole numbers"):
        of([(1, 2), pair], block_size=4, longest_tokens=16)


@both
def test_what_does_not_fit_is_refused(of):
    of([(10, 6)], block_size=4, longest_tokens=16)
    with pytest.raises(ValueError, match=r"lengths\[0\] is \(10, 7\), 17 tokens together; long"):
        of([(10, 7)], block_size=4, longest_tokens=16)
    with pytest.raises(ValueError, match="lengths is 7; it must be a sequence of"):
        of(7, block_size=4, longest_tokens=16)
    with pytest.raises(ValueError, match="lengths is empty"):
        of([], block_size=4, longest_tokens=16)
