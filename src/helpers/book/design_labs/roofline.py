"""Design lab of chapter 1: a 7B model, 10,000 readers at once, which hardware?

The score uses nothing but the chapter: weights once and caches per reader, two clocks, and the sum
of both as a careful upper bound on the time of a step.

Examples
--------
>>> plan = Plan(chip="h100-sxm", chips=3, bytes_per_weight=2, bytes_per_cache_value=2)
>>> score(plan).points
0.0
>>> print(score(plan).reasons[0])
memory: 3,334 readers on a chip need 1,804.4 GB, usable are 72.0 GB
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from helpers import catalog
from helpers.book.design_labs.common import (
    COUNT,
    MODEL,
    NOT_FOR_HIRE,
    NOT_NEGATIVE,
    POSITIVE,
    best_of_each_chip,
    check_fields,
    check_kinds,
    chip_for_hire,
    halvings,
    one_of,
    price,
    share,
    verdict,
)
from helpers.book.tables import Cell, Column, Table


@dataclass(frozen=True)
class Brief:
    """What is asked for, and how much of a roof we dare to count on.

    Examples
    --------
    >>> Brief(mbu=70)
    Traceback (most recent call last):
        ...
    ValueError: mbu: 70 is not a share above 0 and up to 1, such as 0.7
    """

    model: str = "mistral-7b-v0.3"
    readers: int = 10_000
    context_tokens: int = 4_096
    target_tokens_per_s: float = 20.0
    #: prompt tokens that are read for each token written
    prompt_per_token: float = 4.0
    budget_watts: float = 40_000.0
    #: the rest of the memory goes to activations and the runtime
    usable_memory: float = 0.90
    #: shares of the specified bandwidth and peak that good software reaches
    mbu: float = 0.70
    mfu: float = 0.50
    #: what a halving of a precision costs, since its quality has to be proved first
    precision_price: float = 0.05

    def __post_init__(self) -> None:
        check_fields(
            self,
            model=MODEL,
            readers=COUNT,
            context_tokens=COUNT,
            target_tokens_per_s=POSITIVE,
            prompt_per_token=NOT_NEGATIVE,
            budget_watts=POSITIVE,
            usable_memory=share(0.9),
            mbu=share(0.7),
            mfu=share(0.5),
            precision_price=price(0.05),
        )


BRIEF = Brief()
WEIGHT_BYTES = (2.0, 1.0, 0.5)
CACHE_BYTES = (2.0, 1.0)
#: formats to compute in, and the widest weights each takes
ARITHMETIC = ("bf16", "fp16", "fp8", "int8")


@dataclass(frozen=True)
class Plan:
    """What you propose.

    Parameters
    ----------
    chip : str
        A chip of the catalog whose power is published.
    chips : int
        How many; each holds the whole model and an equal share of the readers.
    bytes_per_weight : {2, 1, 0.5}
    bytes_per_cache_value : {2, 1}
    arithmetic : {"bf16", "fp16", "fp8", "int8"}
        What the matrix products are computed in. 8-bit arithmetic needs weights of one byte or
        less.
    """

    chip: str
    chips: int
    bytes_per_weight: float = 2.0
    bytes_per_cache_value: float = 2.0
    arithmetic: str = "bf16"

    def __post_init__(self) -> None:
        check_fields(
            self,
            chips=COUNT,
            bytes_per_weight=one_of(*WEIGHT_BYTES),
            bytes_per_cache_value=one_of(*CACHE_BYTES),
            arithmetic=one_of(*ARITHMETIC),
        )
        if self.arithmetic in ("fp8", "int8") and self.bytes_per_weight > 1:
            raise ValueError(
                f"arithmetic: {self.arithmetic!r} needs bytes_per_weight of 1 or 0.5,"
                f" not {self.bytes_per_weight:g}"
            )

    @property
    def halvings(self) -> int:
        """How many times a format was halved, weights and cache together."""
        return halvings(8 * self.bytes_per_weight, 8 * self.bytes_per_cache_value)


@dataclass(frozen=True)
class Score:
    """What a plan is worth, and the numbers behind it, all for one chip except the power."""

    plan: Plan
    points: float
    #: why it scores nothing; empty if it meets the brief
    reasons: tuple[str, ...]
    readers_per_chip: int
    bytes_needed: float
    bytes_usable: float
    memory_seconds: float
    math_seconds: float
    watts: float

    @property
    def step_seconds(self) -> float:
        """Time of one decode step with its share of prefill, without overlap."""
        return self.memory_seconds + self.math_seconds

    @property
    def tokens_per_s(self) -> float:
        """What each reader gets."""
        return 1 / self.step_seconds


def _check(plan: object, brief: object) -> None:
    check_kinds(
        plan=(plan, Plan, "lab.Plan('h100-sxm', 40)"),
        brief=(brief, Brief, "lab.Brief(readers=1_000)"),
    )


def _weight_bytes(plan: Plan, brief: Brief) -> float:
    return catalog.model(brief.model).parameters * plan.bytes_per_weight


def _cache_bytes(plan: Plan, brief: Brief) -> float:
    per_token = float(catalog.model(brief.model).kv_per_token) * plan.bytes_per_cache_value / 2
    return per_token * brief.context_tokens


def evaluate(plan: Plan, brief: Brief = BRIEF) -> Score:
    """What a plan comes to, and what it breaks; the points are left to :func:`score`."""
    _check(plan, brief)
    chip, watts_each = chip_for_hire(plan.chip)
    readers = math.ceil(brief.readers / plan.chips)
    needed = _weight_bytes(plan, brief) + readers * _cache_bytes(plan, brief)
    usable = float(chip.capacity) * brief.usable_memory
    tokens = readers * (1 + brief.prompt_per_token)  # written and read in one step
    flops = 2 * catalog.model(brief.model).parameters * tokens
    memory_seconds = needed / (float(chip.bandwidth) * brief.mbu)
    math_seconds = flops / (float(chip.peak(plan.arithmetic)) * brief.mfu)
    watts = plan.chips * watts_each

    reasons = []
    if needed > usable:
        reasons.append(
            f"memory: {readers:,} readers on a chip need {needed / 1e9:,.1f} GB,"
            f" usable are {usable / 1e9:,.1f} GB"
        )
    rate = 1 / (memory_seconds + math_seconds)
    if rate < brief.target_tokens_per_s:
        reasons.append(
            f"speed: each reader gets {rate:.2f} tokens/s, the target is"
            f" {brief.target_tokens_per_s:.2f}"
        )
    if watts > brief.budget_watts:
        reasons.append(
            f"power: {watts / 1e3:,.1f} kW, the budget is {brief.budget_watts / 1e3:,.0f} kW"
        )
    return Score(
        plan, 0.0, tuple(reasons), readers, needed, usable, memory_seconds, math_seconds, watts
    )


def score(plan: Plan, brief: Brief = BRIEF) -> Score:
    """Score a plan between 0 and 100.

    Nothing for a plan that breaks the memory, the speed or the power of the brief. Otherwise 100
    times the least power that any plan here needs over the power of this one, less five percent for
    each halving of a precision.

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
        If the chip's power is unpublished, or it is a rack.
    LookupError
        If the catalog lacks the chip, its memory, or a peak for the arithmetic; the message says
        what there is.

    Examples
    --------
    >>> score(Plan("h100-sxm", 43, 1, 1, "fp8")).reasons
    ()
    """
    result = evaluate(plan, brief)
    if result.reasons:
        return result
    points = 100 * least_watts(brief) / result.watts * (1 - brief.precision_price) ** plan.halvings
    return replace(result, points=points)


def describe(result: Score) -> str:
    """A score in four lines: what one chip holds, what a step takes, the fleet, the points.

    Examples
    --------
    >>> print(describe(score(Plan("h200-sxm", 40, 1, 1, "fp8"))))
    each chip: 250 readers, 74 of 127 GB
    a step: 22.1 ms traffic + 18.3 ms arithmetic, 24.7 tokens/s for each reader
    the fleet: 40 chips, 28.0 kW
    score: 50
    """
    plan = result.plan
    lines = [
        f"each chip: {result.readers_per_chip:,} readers, {result.bytes_needed / 1e9:,.0f} of"
        f" {result.bytes_usable / 1e9:,.0f} GB",
        f"a step: {result.memory_seconds * 1e3:.1f} ms traffic + {result.math_seconds * 1e3:.1f} ms"
        f" arithmetic, {result.tokens_per_s:.1f} tokens/s for each reader",
        f"the fleet: {plan.chips:,} chips, {result.watts / 1e3:,.1f} kW",
        f"score: {result.points:.0f}",
    ]
    return "\n".join([*lines, *(f"breaks {reason}" for reason in result.reasons)])


def smallest(plan: Plan, brief: Brief = BRIEF) -> Plan | None:
    """The plan with as few of the same chips as meet memory and speed; None if no number does."""
    _check(plan, brief)
    chip, _ = chip_for_hire(plan.chip)
    cache_bytes, weights = _cache_bytes(plan, brief), _weight_bytes(plan, brief)
    by_memory = (float(chip.capacity) * brief.usable_memory - weights) / cache_bytes
    bandwidth = float(chip.bandwidth) * brief.mbu
    rate = float(chip.peak(plan.arithmetic)) * brief.mfu
    per_reader = cache_bytes / bandwidth + (
        2 * catalog.model(brief.model).parameters * (1 + brief.prompt_per_token) / rate
    )
    by_speed = (1 / brief.target_tokens_per_s - weights / bandwidth) / per_reader
    readers = math.floor(min(by_memory, by_speed) * (1 + 1e-12))
    return replace(plan, chips=math.ceil(brief.readers / readers)) if readers >= 1 else None


def _all_plans(brief: Brief) -> Iterator[Plan]:
    """The smallest plan for every chip with a published power and every choice of formats."""
    for chip in catalog.chips():
        if chip.scope != "chip" or chip.status == "announced" or chip.id in NOT_FOR_HIRE:
            continue
        for weight, cached, arithmetic in itertools.product(WEIGHT_BYTES, CACHE_BYTES, ARITHMETIC):
            try:
                plan = smallest(Plan(chip.id, 1, weight, cached, arithmetic), brief)
            except (ValueError, LookupError):  # no such peak, no power, or formats that do not go
                continue
            if plan:
                yield plan


@cache
def least_watts(brief: Brief = BRIEF) -> float:
    """The least power of any plan that meets the brief: 100 points before the price of formats."""
    return min(evaluate(plan, brief).watts for plan in _all_plans(brief))


def ranking(brief: Brief = BRIEF) -> list[Score]:
    """The best plan of every chip, best first; chips that cannot meet the brief come last."""
    return best_of_each_chip(score(plan, brief) for plan in _all_plans(brief))


#: plans that people propose, the naive ones first; the chapter's table shows them
PROPOSALS: tuple[tuple[str, Plan], ...] = (
    ("by FLOP/s", Plan("h100-sxm", 3)),
    ("as trained, BF16", Plan("a100-sxm-80gb", 213)),
    ("small and cheap, 8-bit", Plan("l4", 1250, 1, 1, "fp8")),
    ("8-bit", Plan("a100-sxm-80gb", 95, 1, 1, "int8")),
    ("8-bit", Plan("h100-sxm", 42, 1, 1, "fp8")),
    ("8-bit", Plan("h200-sxm", 33, 1, 1, "fp8")),
    ("8-bit", Plan("b200-sxm", 18, 1, 1, "fp8")),
    ("8-bit", Plan("mi300x", 27, 1, 1, "fp8")),
)


def table(proposals: tuple[tuple[str, Plan], ...] = PROPOSALS, brief: Brief = BRIEF) -> Table:
    """Plans side by side, with what each comes to on one chip."""
    rows = []
    for name, plan in proposals:
        result = score(plan, brief)
        rows.append(
            [
                f"{plan.chips:,} {catalog.chip(plan.chip).short}, {name}",
                Cell(f"{result.readers_per_chip:,}", float(result.readers_per_chip)),
                Cell(f"{result.bytes_needed / 1e9:,.0f} of {result.bytes_usable / 1e9:,.0f}",
                     result.bytes_needed),
                Cell(f"{result.tokens_per_s:.1f}", result.tokens_per_s),
                Cell(f"{result.watts / 1e3:,.1f}", result.watts),
                Cell(f"{result.points:.0f}", result.points),
                verdict(result),
            ]
        )  # fmt: skip
    return Table(
        f"{len(rows)} proposals for {brief.readers:,} readers",
        [
            Column("Plan", text=True),
            Column("Readers", "per chip"),
            Column("Memory", "GB needed of usable"),
            Column("Each gets", "tokens/s"),
            Column("Power", "kW"),
            Column("Score", "of 100"),
            Column("Breaks", text=True),
        ],
        rows,
    )
