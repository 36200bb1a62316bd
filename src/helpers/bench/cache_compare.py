"""What was predicted of every token beside what was measured: lines, parts, ratios, reasons.

A line is fitted with the cache to all lengths, for its slope is small, and without one up to
:data:`FITTED_UP_TO`, so that the longer texts tell how far a straight line goes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from helpers.bench import operations
from helpers.bench.cache_bounds import Forecast, TokenPrediction
from helpers.bench.cache_steps import LENGTHS, AnswerTimes, CacheRun, WorkTimes
from helpers.bench.line import Line, fit_line
from helpers.bench.timing import format_seconds, quantile

#: the line without a cache is fitted up to here; a pass is split into its parts here too
FITTED_UP_TO = 512
PART_NAMES = {
    "products": "products with weights",
    "attention": "attention",
    "other": "other operations",
    "around": "around the model",
}


def caution(run: CacheRun, predicted: TokenPrediction) -> str:
    """Why predictions and measurements may not be of one machine state; empty if they are."""
    card = predicted.card
    if not run.environment.same_hardware(card.environment):
        return f"The run is of {run.environment.label}, the card of {card.label}."
    threads = predicted.threads or card.threads
    told = [operations.compare(card, run.card_check).warning()]
    if run.threads != threads:
        told.append(f"The run had {run.threads} of the {threads} threads of the predictions.")
    return " ".join(filter(None, told))


# ---- lines -------------------------------------------------------------------------------------


def _fitted(length: int, cached: bool) -> bool:
    """Whether a line is fitted to this length: with the cache to all, since its slope is small."""
    return cached or length <= FITTED_UP_TO


def measured_line(run: CacheRun, *, cached: bool) -> Line:
    """The line through the measured times of a token."""
    points = {
        one.length: (one.cached if cached else one.uncached).median_s
        for one in run.tokens
        if _fitted(one.length, cached)
    }
    return fit_line(list(points), list(points.values()))


def predicted_line(predicted: TokenPrediction, *, cached: bool) -> Line:
    """The line through the predicted times at the same lengths."""
    lengths = [length for length in LENGTHS if _fitted(length, cached)]
    return fit_line(lengths, [predicted_s(predicted, length, cached) for length in lengths])


def predicted_s(predicted: TokenPrediction, length: int, cached: bool) -> float:
    """Predicted seconds of a token, bound and calls."""
    return (predicted.step if cached else predicted.whole)(length).total_s


def beyond_the_fit(run: CacheRun, *, cached: bool = False) -> float:
    """The measured time behind the longest text over what the fitted line says there."""
    last = run.tokens[-1]
    seconds = (last.cached if cached else last.uncached).median_s
    return seconds / measured_line(run, cached=cached).at(last.length)


# ---- whole answers -----------------------------------------------------------------------------


def long_answers(run: CacheRun) -> list[AnswerTimes]:
    """The answers behind the shortest prompt that double from 32 tokens on."""
    prompt = min(one.prompt for one in run.answers)
    long = [one for one in run.answers if one.prompt == prompt and one.tokens >= 32]
    doubled = [one for one in long if math.log2(one.tokens) % 1 == 0]
    return sorted(doubled, key=lambda one: one.tokens)


# ---- the parts of a pass -----------------------------------------------------------------------


def part_rows(
    run: CacheRun, predicted: TokenPrediction, *, cached: bool
) -> list[tuple[str, float, float, float]]:
    """Name, bound, calls and measured seconds of each part, and of all of them."""
    bounds = (predicted.step if cached else predicted.whole)(FITTED_UP_TO).parts_s
    real = run.part(FITTED_UP_TO, cached=cached).parts
    hollow = run.part(FITTED_UP_TO, cached=cached, hollow=True).parts
    rows = [
        (name, bounds.get(part, 0.0), hollow[part].median_s, real[part].median_s)
        for part, name in PART_NAMES.items()
    ]
    return [*rows, ("in all", *(sum(row[i] for row in rows) for i in (1, 2, 3)))]


def explanation(run: CacheRun, predicted: TokenPrediction) -> list[str]:
    """What lies between prediction and measurement, term by term, in sentences."""
    step = {row[0]: row[1:] for row in part_rows(run, predicted, cached=True)}
    whole = {row[0]: row[1:] for row in part_rows(run, predicted, cached=False)}
    bound, calls, measured = step["in all"]
    products = step["products with weights"]
    near, priced = run.near_products.median_s, predicted.step(FITTED_UP_TO).calls_s
    flops_s = predicted.whole(FITTED_UP_TO).flops / whole["in all"][2]
    return [
        f"a step with the cache: {format_seconds(measured)}, of which the bound is"
        f" {bound / measured:.0%} and the calls are {calls / measured:.0%}",
        f"  calls: {run.calls_cached} of them take {calls / run.calls_cached * 1e6:.1f} µs each,"
        f" {calls / priced:.1f} times the cheapest call of the card",
        f"  products: {format_seconds(products[2])}; with every weight already in a cache"
        f" {format_seconds(near)}, so fetching weights costs"
        f" {format_seconds(max(0.0, products[2] - near))} where the bound says"
        f" {format_seconds(products[0])}",
        *_growth(run, predicted),
        f"a pass without the cache: {format_seconds(whole['in all'][2])}, at"
        f" {flops_s / 1e9:.3g} GFLOP/s where large matrix products reach"
        f" {predicted.card.peak('fp32', predicted.threads) / 1e9:.3g}",
        *(
            f"  {name}: {seconds / whole['in all'][2]:.0%} of the time,"
            f" {seconds / (least + call):.1f} times bound and calls"
            for name, (least, call, seconds) in whole.items()
            if name != "in all" and seconds > 0.05 * whole["in all"][2]
        ),
    ]


def _growth(run: CacheRun, predicted: TokenPrediction) -> list[str]:
    """Which part of a step grows with the text, and how much of that is fetching the cache."""
    lengths = sorted(run.near_attention)

    def slope(seconds: Sequence[float]) -> float:
        return (seconds[-1] - seconds[0]) / (lengths[-1] - lengths[0]) * 1e6  # µs for each token

    parts = {
        part: slope([run.part(n, cached=True).parts[part].median_s for n in lengths])
        for part in PART_NAMES
    }
    near = slope([run.near_attention[n].median_s for n in lengths])
    bound = slope([predicted.step(n).parts_s["attention"] for n in lengths])
    others = sum(parts.values()) - parts["attention"]
    return [
        f"  each token of text adds {parts['attention']:.2f} µs to attention, {others:+.2f} µs to"
        f" the rest; with keys and values already in a cache attention grows by {near:.2f} µs,"
        f" and the bound, the bytes of the cache, by {bound:.2f} µs"
    ]


def attention_share(run: CacheRun, length: int) -> float:
    """Attention's share of a pass without the cache."""
    one = run.part(length, cached=False)
    return one.parts["attention"].median_s / one.total_s


# ---- all predictions ---------------------------------------------------------------------------


def work_forecast(predicted: TokenPrediction, one: WorkTimes) -> Forecast:
    """What the counts say of a step of the engine."""
    if one.past:
        return predicted.step(one.past, batch=one.batch)
    return predicted.prompt(one.tokens)


def ratios(run: CacheRun, predicted: TokenPrediction) -> dict[str, float]:
    """Measured over predicted, of everything that was predicted."""
    found = {}
    for one in run.tokens:
        for name, way in (("with", one.cached), ("without", one.uncached)):
            guess = predicted_s(predicted, one.length, name == "with")
            found[f"{one.length:,} tokens of text, {name}"] = way.median_s / guess
    for one in run.work:
        found[one.name] = one.step.median_s / work_forecast(predicted, one).total_s
    return found


def median_abs_log2(values: Sequence[float]) -> float:
    """The middle error in powers of two.

    Examples
    --------
    >>> median_abs_log2([2.0, 0.5, 8.0])
    1.0
    """
    return quantile([abs(math.log2(value)) for value in values], 0.5)
