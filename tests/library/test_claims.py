"""Every claim of the ledger is recomputed, and its check can fail."""

from __future__ import annotations

import inspect

import pytest

from helpers import catalog, claims
from helpers.book import claims_page
from helpers.catalog.quantities import Quantity
from helpers.claims import roofline

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
}


@pytest.mark.parametrize("identifier", BY_HAND)
def test_checks_agree_with_arithmetic_by_hand(identifier):
    computed = claims.run(identifier).computed
    scale = 100 if computed.unit == "%" and abs(computed) < 1 else 1
    assert computed * scale == pytest.approx(BY_HAND[identifier], rel=1e-9)


def test_a_check_that_drifts_is_found(monkeypatch):
    monkeypatch.setattr(roofline, "rtx_4090_ridge", lambda: Quantity(327.0, "FLOP/B"))
    assert not claims.run("rtx-4090-ridge").agrees


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


def test_the_short_list_has_no_code():
    assert "<pre>" in claims_page.ledger("roofline")._repr_html_()
    assert "<pre>" not in claims_page.ledger("roofline", code=False)._repr_html_()


def test_a_chapter_without_claims_is_an_error():
    with pytest.raises(ValueError, match="no-such-chapter"):
        claims_page.ledger("no-such-chapter")
