"""Published numbers, checked: each claim is a record, each check a function that recomputes it.

The record (``helpers/catalog/data/claims/<chapter>.yaml``) says what is claimed, where such a
claim is met, and what the number should be. The check, a function of this package without
arguments, computes that number from first principles and the catalog. A claim whose check leaves
the recorded value fails the tests.

Examples
--------
>>> outcome = run("rtx-4090-ridge")
>>> outcome.agrees
True
>>> print(f"{outcome.computed:.1f} FLOP/B, not {outcome.claimed:.0f}")
163.9 FLOP/B, not 327
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from helpers import catalog
from helpers.catalog.quantities import Quantity, parse_quantity
from helpers.catalog.records import Claim

__all__ = ["Outcome", "check_function", "run", "run_all"]


@dataclass(frozen=True)
class Outcome:
    """What a check made of a claim."""

    claim: Claim
    #: the number as it is met, if the claim has one
    claimed: Quantity | None
    #: what the record says it should be
    expected: Quantity | None
    #: what the check computed; None for a claim that cannot be computed
    computed: Quantity | None

    @property
    def agrees(self) -> bool:
        """Whether the computed number is the recorded one, within the record's tolerance."""
        if self.computed is None or self.expected is None:
            return self.computed is self.expected
        return abs(self.computed - self.expected) <= self.claim.tolerance * abs(self.expected)


def check_function(claim: Claim) -> Callable[[], Quantity]:
    """The function behind a claim.

    Parameters
    ----------
    claim : Claim
        A record of the ledger.

    Returns
    -------
    callable
        Takes nothing and returns a ``Quantity``.

    Raises
    ------
    LookupError
        If the claim names no check, or one that does not exist.
    """
    if claim.check is None:
        raise LookupError(f"claim {claim.id!r} has no check; its kind is {claim.kind!r}")
    module_name, name = claim.check.split(":")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"claim {claim.id!r}: check {claim.check!r} does not exist") from error


def _read(text: str | None) -> Quantity | None:
    return None if text is None else parse_quantity(text)


def run(identifier: str) -> Outcome:
    """Check one claim.

    Parameters
    ----------
    identifier : str
        Its id in the ledger.

    Returns
    -------
    Outcome
        The claim with the number as met, as recorded, and as computed just now.

    Raises
    ------
    LookupError
        If there is no such claim; the message suggests the nearest ids.
    """
    claim = catalog.claim(identifier)
    computed = check_function(claim)() if claim.check else None
    return Outcome(claim, _read(claim.claimed_value), _read(claim.corrected_value), computed)


def run_all(chapter: str | None = None) -> tuple[Outcome, ...]:
    """Check all claims, or those of one chapter, in the order of the ledger."""
    return tuple(run(claim.id) for claim in catalog.claims(chapter=chapter))
