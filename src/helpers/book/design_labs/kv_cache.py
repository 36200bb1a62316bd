"""Design lab of chapter 6: sessions of 128K tokens of a 70B model that pause and come back.

The score uses nothing but the chapters: what a cache takes on each rank, three clocks and their
sum, and the way on which a paused cache comes back.

Examples
--------
>>> plan = Plan("h100-sxm", replicas=20, paused="dropped")
>>> score(plan).points
0.0
>>> for reason in score(plan).reasons:
...     print(reason)
speed: each session gets 3.61 tokens/s, the target is 20.00
return: the first token takes 12.5 s, the target is 1.0 s
power: 112.0 kW, the budget is 30 kW
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from helpers import catalog
from helpers.book.design_labs.common import best_of_each_chip, check_kinds, verdict
from helpers.book.design_labs.kv_cache_plan import (
    BLOCKS,
    BRIEF,
    CACHES,
    OFFERS,
    PLACES,
    RANKS,
    WEIGHTS,
    Brief,
    Plan,
)
from helpers.book.design_labs.kv_cache_replica import Replica
from helpers.book.tables import Cell, Column, Table

__all__ = ["BRIEF", "OFFERS", "PROPOSALS", "Brief", "Plan", "Replica", "Score", "describe",
           "evaluate", "least_watts", "ranking", "score", "smallest", "table"]  # fmt: skip


@dataclass(frozen=True)
class Score:
    """What a plan is worth, and the numbers behind it: of one chip, one replica, the fleet."""

    plan: Plan
    points: float
    #: why it scores nothing; empty if it meets the brief
    reasons: tuple[str, ...]
    active_per_replica: int
    bytes_needed: float
    bytes_usable: float
    memory_seconds: float
    math_seconds: float
    link_seconds: float
    fetch_seconds: float
    return_seconds: float
    watts: float

    @property
    def step_seconds(self) -> float:
        """Time of one decode step with its share of what comes back, without overlap."""
        return self.memory_seconds + self.math_seconds + self.link_seconds

    @property
    def tokens_per_s(self) -> float:
        """What each active session gets."""
        return 1 / self.step_seconds


def _check(plan: object, brief: object) -> None:
    check_kinds(
        plan=(plan, Plan, "lab.Plan('h100-sxm', 3)"),
        brief=(brief, Brief, "lab.Brief(sessions=1_000)"),
    )


def _limits(replica: Replica, step: float, back: float) -> Iterator[tuple[bool, str]]:
    """Each constraint but the power: whether it is broken, and the words for that."""
    brief, place = replica.brief, replica.plan.paused
    yield (
        replica.needed_bytes > replica.usable_bytes,
        f"memory: a chip needs {replica.needed_bytes / 1e9:,.1f} GB, usable are"
        f" {replica.usable_bytes / 1e9:,.1f} GB",
    )
    yield (
        replica.parked_bytes > replica.parking_bytes,
        f"{place}: {replica.parked_bytes / 1e9:,.0f} GB wait for each chip, there is room for"
        f" {replica.parking_bytes / 1e9:,.0f} GB",
    )
    yield (
        1 / step < brief.target_tokens_per_s,
        f"speed: each session gets {1 / step:.2f} tokens/s, the target is"
        f" {brief.target_tokens_per_s:.2f}",
    )
    slow = f"the first token takes {back:.1f} s, the target is {brief.target_return_s:.1f} s"
    never = "sessions come back faster than their caches can be fetched"
    yield back > brief.target_return_s, f"return: {slow if math.isfinite(back) else never}"


def evaluate(plan: Plan, brief: Brief = BRIEF) -> Score:
    """What a plan comes to, and what it breaks; the points are left to :func:`score`."""
    _check(plan, brief)
    replica = Replica(plan, brief)
    clocks, back = replica.step_clocks, replica.return_seconds()
    watts = plan.chips * replica.rates.watts

    reasons = [words for broken, words in _limits(replica, sum(clocks), back) if broken]
    if watts > brief.budget_watts:
        reasons.append(
            f"power: {watts / 1e3:,.1f} kW, the budget is {brief.budget_watts / 1e3:,.0f} kW"
        )
    return Score(
        plan, 0.0, tuple(reasons), replica.active, replica.needed_bytes, replica.usable_bytes,
        *clocks, replica.fetch_seconds(), back, watts,
    )  # fmt: skip


def score(plan: Plan, brief: Brief = BRIEF) -> Score:
    """Score a plan between 0 and 100.

    Nothing for a plan that breaks the memory, the room outside, the speed, the time of a return or
    the power of the brief. Otherwise 100 times the least power that any plan here needs over the
    power of this one, less ten percent for each halving of a precision.

    Parameters
    ----------
    plan : Plan
    brief : Brief, optional
        Other conditions than the book's.

    Returns
    -------
    Score

    Raises
    ------
    TypeError
        If it is no plan, or no brief.
    ValueError
        If the chip is not on offer.
    LookupError
        If the catalog does not have the chip, or the chip not the format; the message says what
        there is.

    Examples
    --------
    >>> score(Plan("h200-sxm", 5, weights="fp8", cache="fp8", paused="disk")).reasons
    ('return: sessions come back faster than their caches can be fetched',)
    """
    result = evaluate(plan, brief)
    if result.reasons:
        return result
    points = 100 * least_watts(brief) / result.watts * (1 - brief.precision_price) ** plan.halvings
    return replace(result, points=points)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms"


def describe(result: Score) -> str:
    """A score in five lines: a replica's memory, a step, a return, the fleet, the points.

    Examples
    --------
    >>> plan = Plan("h200-sxm", 5, 8, "fp8", "fp8", "disk", True, 256)
    >>> print(describe(score(plan)))
    each replica: 40 active sessions on 8 chips, 75 of 127 GB on each
    a step: 34.6 ms traffic + 8.4 ms arithmetic + 1.2 ms links, 22.7 tokens/s for each session
    a return: 0.21 s, of which 0.10 s to fetch
    the fleet: 40 chips, 28.0 kW
    score: 35
    """
    plan = result.plan
    back = f"{result.return_seconds:.2f} s, of which {result.fetch_seconds:.2f} s to fetch"
    if math.isinf(result.return_seconds):
        back = "later and later, since caches cannot be fetched in time"
    lines = [
        f"each replica: {_count(result.active_per_replica, 'active session')} on"
        f" {_count(plan.ranks, 'chip')},"
        f" {result.bytes_needed / 1e9:,.0f} of {result.bytes_usable / 1e9:,.0f} GB on each",
        f"a step: {_ms(result.memory_seconds)} traffic + {_ms(result.math_seconds)} arithmetic +"
        f" {_ms(result.link_seconds)} links, {result.tokens_per_s:.1f} tokens/s for each session",
        f"a return: {back}",
        f"the fleet: {_count(plan.chips, 'chip')}, {result.watts / 1e3:,.1f} kW",
        f"score: {result.points:.0f}",
    ]
    return "\n".join([*lines, *(f"breaks {reason}" for reason in result.reasons)])


# --- the best of all ----------------------------------------------------------------------------


def _is_sound(plan: Plan, brief: Brief) -> bool:
    """Whether it meets all but the power."""
    replica = Replica(plan, brief)
    step, back = sum(replica.step_clocks), replica.return_seconds()
    return not any(broken for broken, _ in _limits(replica, step, back))


def smallest(plan: Plan, brief: Brief = BRIEF, most: int | None = None) -> Plan | None:
    """The plan with as few replicas as meet all but the power; None if no number does.

    Parameters
    ----------
    plan : Plan
        Its number of replicas does not matter.
    brief : Brief, optional
    most : int, optional
        Look no further than so many replicas; in any case no further than there are sessions.

    Examples
    --------
    >>> smallest(Plan("h200-sxm", 1, 8, "fp8", "fp8", "disk", True, 256)).replicas
    5
    """
    _check(plan, brief)
    # no constraint gets worse with more replicas, so halve the interval
    low, high = 1, brief.sessions if most is None else min(most, brief.sessions)
    if high < 1 or not _is_sound(replace(plan, replicas=high), brief):
        return None
    while low < high:
        middle = (low + high) // 2
        if _is_sound(replace(plan, replicas=middle), brief):
            high = middle
        else:
            low = middle + 1
    return replace(plan, replicas=low)


def _best_plans(brief: Brief) -> tuple[Score, ...]:
    """The smallest fleet within the budget for every choice of chip, ranks, formats and place."""
    return _search(replace(brief, precision_price=0))  # which plans are sound has no price


@cache
def _search(brief: Brief) -> tuple[Score, ...]:
    found = []
    for chip in OFFERS:
        watts, dtypes = float(catalog.chip(chip).power), catalog.chip(chip).dtypes()
        eight = "fp8" if "fp8" in dtypes else "int8"  # of the two, the one without scales
        formats = [[name for name in kinds if name in ("bf16", eight, "int4")]
                   for kinds in (WEIGHTS, CACHES)]  # fmt: skip
        for choice in itertools.product(RANKS, *formats, PLACES, (False, True), BLOCKS):
            if choice[3] in ("hbm", "dropped") and choice[5] > BLOCKS[0]:
                continue  # where nothing is fetched, a larger block gains nothing
            most = int(brief.budget_watts / watts / choice[0])
            plan = smallest(Plan(chip, 1, *choice), brief, most)
            if plan:
                found.append(evaluate(plan, brief))
    return tuple(sorted(found, key=lambda result: result.return_seconds))


def least_watts(brief: Brief = BRIEF) -> float:
    """The least power of any plan that meets the brief: 100 points before the price of formats."""
    return min(result.watts for result in _best_plans(brief))


def ranking(brief: Brief = BRIEF) -> list[Score]:
    """The best plan of every chip that can meet the brief, best first.

    Of plans with equal points and power, the one whose sessions come back sooner.
    """
    return best_of_each_chip(score(result.plan, brief) for result in _best_plans(brief))


#: plans that people propose, the naive ones first; the chapter's table shows them
PROPOSALS: tuple[tuple[str, Plan], ...] = (
    ("what pauses is dropped", Plan("h100-sxm", 20, paused="dropped")),
    ("all stays in HBM", Plan("h100-sxm", 200)),
    ("disks, as trained", Plan("h200-sxm", 10, paused="disk", block_tokens=1024)),
    ("disks, 8-bit", Plan("h200-sxm", 5, 8, "fp8", "fp8", "disk", block_tokens=256)),
    ("the same in blocks of 16", Plan("h200-sxm", 5, 8, "fp8", "fp8", "disk")),
    ("16 ranks, shared", Plan("h200-sxm", 2, 16, "fp8", "fp8", "host", True, 256)),
    ("many small, shared", Plan("l4", 26, 16, "fp8", "fp8", "host", True, 256)),
    ("8-bit, shared", Plan("b200-sxm", 3, 8, "fp8", "fp8", "disk", True, 256)),
    ("8-bit, shared", Plan("mi300x", 4, 8, "fp8", "fp8", "disk", True, 256)),
)


def _wait(seconds: float) -> Cell:
    # what a browser can sort by
    return Cell(f"{seconds:.2f}", seconds) if seconds < math.inf else Cell("never", "Infinity")


def table(proposals: tuple[tuple[str, Plan], ...] = PROPOSALS, brief: Brief = BRIEF) -> Table:
    """Plans side by side, with what each comes to."""
    rows = []
    for name, plan in proposals:
        result = score(plan, brief)
        rows.append(
            [
                f"{plan.chips:,} {catalog.chip(plan.chip).short}, {name}",
                Cell(f"{result.bytes_needed / 1e9:,.0f} of {result.bytes_usable / 1e9:,.0f}",
                     result.bytes_needed),
                Cell(f"{result.tokens_per_s:.1f}", result.tokens_per_s),
                _wait(result.return_seconds),
                Cell(f"{result.watts / 1e3:,.1f}", result.watts),
                Cell(f"{result.points:.0f}", result.points),
                verdict(result),
            ]
        )  # fmt: skip
    return Table(
        f"{len(rows)} proposals for {brief.sessions:,} sessions",
        [
            Column("Plan", text=True),
            Column("Memory", "GB needed of usable"),
            Column("Each gets", "tokens/s"),
            Column("Back in", "s"),
            Column("Power", "kW"),
            Column("Score", "of 100"),
            Column("Breaks", text=True),
        ],
        rows,
    )
