"""Every claim of the ledger is recomputed, and its check can fail."""

from __future__ import annotations

import importlib
import inspect

import pytest

from helpers import catalog, claims
from helpers.book import claims_page
from helpers.catalog.quantities import Quantity
from helpers.claims import kv_cache, roofline
from helpers.formulas.registry import CHAPTERS

ALL = catalog.claims()


@pytest.mark.parametrize("claim", ALL, ids=lambda claim: claim.id)
def test_the_check_gives_the_recorded_value(claim):
    outcome = claims.run(claim.id)
    assert outcome.agrees, f"{claim.id}: computed {outcome.computed}, recorded {outcome.expected}"


@pytest.mark.parametrize("claim", ALL, ids=lambda claim: claim.id)
def test_a_claim_has_a_number_to_check_and_a_check(claim):
    assert claim.check and claim.corrected_value
    assert inspect.getdoc(claims.check_function(claim))


@pytest.mark.parametrize(
    "claim", [c for c in ALL if c.kind in ("wrong", "contradiction")], ids=lambda claim: claim.id
)
def test_what_is_called_wrong_is_off_by_more_than_the_tolerance(claim):
    outcome = claims.run(claim.id)
    off = abs(outcome.claimed - outcome.computed) / abs(outcome.computed)
    assert off > claim.tolerance, f"{claim.id}: the claim agrees with its check"


# Corrected values worked out by hand from the numbers in the claims, not with the library.
BY_HAND = {
    "b200-fp8-dense": 72e15 / 8 / 2,
    "b200-fp4-sparse": 144e15 / 8,
    "rtx-4090-ridge": 165.2e12 / 1008e9,
    "rtx-4090-square": 3 * 165.2e12 / 1008e9,
    "rtx-4090-fp16-share": 158.1 / 165.2 * 100,
    "fp32-99-percent": 2 * 4096**3 / 2.55e-3,
    "naive-matmul-share": 2 * 1024**3 / 0.43e-3 / 82.6e12 * 100,
    "b200-stream": 8e12 / 70e9,
    "mi300x-bound-as-data": 5.3e12 / (2 * 70_553_706_496),
    "embedding-not-streamed": 100
    * ((8_030_261_248 - 128_256 * 4096) / (7_248_023_552 - 32_768 * 4096) - 1),
    "kv-70b-128k": 40 * 2**30,
    "one-session-on-80gb": 3,  # 141.1 + 42.9 = 184 GB, more than 160 and less than 240
    "h100-nvl-188gb": 188e9 / 2,
    "sram-for-the-cache": 24 * 2**20 / (512 * 2**10),
    "never-in-training": 64 * 1024 * 128 * 2**10,
    "kv-70b-8k-request": 2.5 * 2**30,
    "grouping-counted-twice": 8 * 320 * 2**10,
    "groups-of-four": 64 / 8,
    "cache-from-d-model": 2 * 80 * 8192 * 2 * 4096 / 8,
    "gib-beside-gb": 2 * 2048 * 32 * 4096 * 2,
    "opt-13b-request": 2 * 5120 * 40 * 2 * 2048,
    "linear-decoding": (8192 * 8193) / (4096 * 4097),
    "weights-explain-the-pool": (470_288 - 452_192) * 128 * 2**10,
    "pool-to-the-block": int(57.41 * 2**30 / (16 * 128 * 2**10)) * 16,
    "weights-134gb": 2 * 70_553_706_496,
    "pool-of-one-gpu": 2 * 25_728 * 160 * 2**10,
    "used-before-paging": 100 - 100 * (161.31 + 337.99) / 2048,
    # lengths 70 to 80 take five blocks, 81 to 85 take six
    "four-percent-waste": 100 * (1 - 16 * 77.5 / (11 * 80 + 5 * 96)),
    "window-eight-times": 32_768 / 4096,
    "four-million-tokens": 2048,
    "mla-in-groups": (512 + 64) / (2 * 128),
    "mla-93-percent": 100 * (1 - 60 * 576 / (95 * 2 * 8 * 128)),
    "nvfp4-half": 100 * (8 - 4.5) / 8,
    # keys: 435 tokens of 3 bits and 64 of 16; values: 371 and 128
    "two-bit-cache": 2 * 499 * 16 / (435 * 3 + 64 * 16 + 371 * 3 + 128 * 16),
}


@pytest.mark.parametrize("identifier", BY_HAND)
def test_checks_agree_with_arithmetic_by_hand(identifier):
    computed = claims.run(identifier).computed
    scale = 100 if computed.unit == "%" and abs(computed) < 1 else 1
    assert computed * scale == pytest.approx(BY_HAND[identifier], rel=1e-9)


def test_a_check_that_drifts_is_found(monkeypatch):
    monkeypatch.setattr(roofline, "rtx_4090_ridge", lambda: Quantity(327.0, "FLOP/B"))
    assert not claims.run("rtx-4090-ridge").agrees


@pytest.mark.parametrize("claim", ALL, ids=lambda claim: claim.id)
@pytest.mark.parametrize("factor", [0.5, 0.97, 1.03, 2.0])
def test_a_check_that_computes_a_wrong_value_fails(claim, factor, monkeypatch):
    module_name, name = claim.check.split(":")
    module = importlib.import_module(module_name)
    true = getattr(module, name)()
    # a claim whose value is zero is off by a whole unit
    wrong = Quantity(float(true) * factor if true else 1.0, true.unit)
    monkeypatch.setattr(module, name, lambda: wrong)
    assert not claims.run(claim.id).agrees


@pytest.mark.parametrize(
    "claim", [c for c in ALL if c.kind == "units" and c.claimed_value], ids=lambda claim: claim.id
)
def test_a_claim_without_its_conditions_has_the_unit_of_its_check(claim):
    outcome = claims.run(claim.id)
    assert outcome.claimed.unit == outcome.expected.unit == outcome.computed.unit


@pytest.mark.parametrize(
    "claim", [c for c in ALL if c.kind == "right" and c.claimed_value], ids=lambda claim: claim.id
)
def test_what_is_called_right_agrees_with_its_check(claim):
    outcome = claims.run(claim.id)
    off = abs(outcome.claimed - outcome.computed) / abs(outcome.computed)
    assert off <= claim.tolerance, f"{claim.id}: the claim does not agree with its check"


def test_the_abstract_of_deepseek_v2_is_reproduced_with_six_bits():
    printed = float(claims.run("mla-93-percent").claimed)
    assert float(kv_cache.mla_saving_at_equal_bits(6 / 8)) == pytest.approx(printed, abs=0.05)


def test_the_waste_of_paging_passes_four_percent_at_180_tokens():
    empty = (kv_cache.BLOCK - 1) / 2
    assert 100 * empty / (180 + empty) == pytest.approx(4)
    lengths = range(492, 492 + kv_cache.BLOCK)  # around the mean of ShareGPT, 499.3
    held = sum(-(-tokens // 16) * 16 for tokens in lengths)
    assert 100 * (1 - sum(lengths) / held) == pytest.approx(1.5, abs=0.05)


def test_a_missing_check_and_a_missing_claim_are_named():
    claim = ALL[0].model_copy(update={"check": "helpers.claims.roofline:nothing_here"})
    with pytest.raises(LookupError, match="nothing_here"):
        claims.check_function(claim)
    with pytest.raises(LookupError, match="rtx-4090-ridge"):
        claims.run("rtx-4090-rigde")


def test_the_page_shows_every_claim_once_with_its_numbers():
    html = claims_page.ledger()._repr_html_()
    for claim in ALL:
        assert html.count(f'id="claim-{claim.id}"') == 1
        assert claims_page.VERDICTS[claim.kind] in html
    assert "327 FLOP/B" in html and "163.9 FLOP/B" in html


def test_the_page_keeps_the_chapters_order_and_the_records_binary_units():
    chapters = [outcome.claim.chapter for outcome in claims_page.ledger().outcomes]
    assert chapters == sorted(chapters, key=CHAPTERS.index)
    html = claims_page.ledger("kv-cache")._repr_html_()
    assert "As met 3.93 GiB, computed 7.852 GiB" in html
    assert "As met 470,288 token, computed 470,288 token" in html


def test_the_short_list_has_no_code():
    assert "<pre>" in claims_page.ledger("roofline")._repr_html_()
    assert "<pre>" not in claims_page.ledger("roofline", code=False)._repr_html_()


def test_a_chapter_without_claims_is_an_error():
    with pytest.raises(ValueError, match="no-such-chapter"):
        claims_page.ledger("no-such-chapter")
