"""What the design labs share: checks of briefs and plans, chips for hire, the best of each kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from typing import Any, NamedTuple, Protocol, TypeVar

from helpers import catalog
from helpers.catalog.records import Chip, NotInCatalog

#: chips that only their makers can use; they are not on offer
NOT_FOR_HIRE = ("maia-100", "maia-200", "mtia-v2")


# --- checks -------------------------------------------------------------------------------------


class Rule(NamedTuple):
    """What a field may be: a test, and the same in words."""

    fits: Callable[[Any], bool]
    allowed: str


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


COUNT = Rule(lambda x: _is_whole(x) and x >= 1, "a whole number of 1 or more")
POSITIVE = Rule(lambda x: _is_number(x) and x > 0, "a finite number above 0")
NOT_NEGATIVE = Rule(lambda x: _is_number(x) and x >= 0, "a finite number, 0 or more")
FLAG = Rule(lambda x: isinstance(x, bool), "True or False")
MODEL = Rule(lambda x: isinstance(x, str), "the id of a model in the catalog")


def share(example: float) -> Rule:
    """Above nothing, up to all.

    Examples
    --------
    >>> share(0.7).fits(70), share(0.7).allowed
    (False, 'a share above 0 and up to 1, such as 0.7')
    """
    allowed = f"a share above 0 and up to 1, such as {example:g}"
    return Rule(lambda x: _is_number(x) and 0 < x <= 1, allowed)


def price(example: float) -> Rule:
    """A share that leaves something.

    Examples
    --------
    >>> price(0.05).fits(0), price(0.05).fits(1)
    (True, False)
    """
    allowed = f"a share from 0 up to, but not, 1, such as {example:g}"
    return Rule(lambda x: _is_number(x) and 0 <= x < 1, allowed)


def one_of(*choices: Any) -> Rule:
    """One of some values.

    Examples
    --------
    >>> one_of(2.0, 1.0).fits(1), one_of(2.0, 1.0).allowed
    (True, 'one of 2.0, 1.0')
    """
    allowed = f"one of {', '.join(map(str, choices))}"
    return Rule(lambda x: not isinstance(x, bool) and x in choices, allowed)


def check_fields(record: Any, **rules: Rule) -> None:
    """Check fields of a record, in the order given.

    Raises
    ------
    ValueError
        For the first that breaks its rule, with its value and what is allowed.

    Examples
    --------
    >>> from types import SimpleNamespace
    >>> check_fields(SimpleNamespace(chips=0), chips=COUNT)
    Traceback (most recent call last):
        ...
    ValueError: chips: 0 is not a whole number of 1 or more
    """
    for name, rule in rules.items():
        value = getattr(record, name)
        if not rule.fits(value):
            raise ValueError(f"{name}: {value!r} is not {rule.allowed}")


def check_kinds(**given: tuple[Any, type, str]) -> None:
    """Check that arguments are of the lab's own classes.

    Parameters
    ----------
    **given : (value, class, str)
        Each argument, what it must be, and how to write one.

    Raises
    ------
    TypeError
        For the first that is not.

    Examples
    --------
    >>> check_kinds(plan=("h100", Rule, "lab.Rule(...)"))
    Traceback (most recent call last):
        ...
    TypeError: plan: 'h100' is not a Rule; write lab.Rule(...)
    """
    for name, (value, kind, example) in given.items():
        if not isinstance(value, kind):
            raise TypeError(f"{name}: {value!r} is not a {kind.__name__}; write {example}")


# --- chips --------------------------------------------------------------------------------------


def chip_for_hire(name: str) -> tuple[Chip, float]:
    """A single chip that one can rent, and its rated power in watts.

    Raises
    ------
    ValueError
        If it is a rack, works for its maker only, or has no published power.
    LookupError
        If the catalog does not have it.

    Examples
    --------
    >>> chip_for_hire("h100")[1]
    700.0
    >>> chip_for_hire("gb200-nvl72")
    Traceback (most recent call last):
        ...
    ValueError: chip: 'gb200-nvl72' is a rack; name the single chip
    """
    chip = catalog.chip(name)
    if chip.id in NOT_FOR_HIRE:
        raise ValueError(f"chip: {chip.id!r} works for its maker only; choose one that is for hire")
    if chip.scope != "chip":
        raise ValueError(f"chip: {chip.id!r} is a {chip.scope}; name the single chip")
    try:
        return chip, float(chip.power)
    except NotInCatalog:
        raise ValueError(
            f"chip: {chip.id!r} has no published power, and the budget is in watts; choose another"
        ) from None


# --- scores -------------------------------------------------------------------------------------


class Scored(Protocol):
    """What the labs' scores have in common."""

    plan: Any
    points: float
    reasons: tuple[str, ...]
    watts: float


S = TypeVar("S", bound=Scored)


def halvings(*bits: float) -> int:
    """How many times formats were halved from 16 bits, all together.

    Examples
    --------
    >>> halvings(8, 4)
    3
    """
    return round(sum(math.log2(16 / each) for each in bits))


def best_of_each_chip(results: Iterable[S]) -> list[S]:
    """For each chip the score with the most points, then the least power; best chip first."""
    best: dict[str, S] = {}
    for found in results:
        known = best.get(found.plan.chip)
        if known is None or (found.points, -found.watts) > (known.points, -known.watts):
            best[found.plan.chip] = found
    return sorted(best.values(), key=lambda found: (-found.points, found.watts))


def verdict(result: Scored) -> str:
    """Which constraints a plan breaks, for a table."""
    return ", ".join(reason.split(":")[0] for reason in result.reasons) or "meets the brief"
