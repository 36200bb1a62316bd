"""Pictures of the lab *With and without a cache*, from a run and its predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence

from helpers.bench import cache_compare as compare
from helpers.bench import recorded
from helpers.bench.cache_bounds import TokenPrediction
from helpers.bench.cache_steps import CacheRun, time_answers
from helpers.bench.timing import format_seconds
from helpers.book.picture import Picture, picture
from helpers.book.style import INK

DASHED, DOTTED = (0, (4, 3)), (0, (1, 2))
RUN = "reference-cpu-cache"
_WAYS = (("cached", "with", "c1"), ("uncached", "without", "c2"))


# ---- one token ---------------------------------------------------------------------------------


def time_per_token(run: CacheRun, predicted: TokenPrediction) -> Picture:
    """Time of a token against the length of the text: measured, fitted, predicted, both ways.

    Parameters
    ----------
    run : CacheRun
    predicted : TokenPrediction
    """
    lines = {way: compare.measured_line(run, cached=way == "cached") for way, _, _ in _WAYS}

    @picture(
        f"Time of one more token against tokens of text on logarithmic axes, on"
        f" {predicted.card.label}: without a cache it rises with the text, with one it stays"
        " nearly level.",
        "Dots: measured. Solid: the fitted line a + b t. Dashed: predicted before. The line"
        f" without a cache is fitted up to {compare.FITTED_UP_TO} tokens and drawn on. *Look at*"
        " the two slopes, and at the distance from each dashed line.",
        heights=(380, 360),
    )
    def time_per_token(ax, m):
        xs = [one.length for one in run.tokens]
        for way, name, color in _WAYS:
            cached = way == "cached"
            line = lines[way]
            fitted = [(x, line.at(x)) for x in xs if line.at(x) > 0]
            ax.plot(*zip(*fitted, strict=True), color=INK[color], lw=1.8)
            guesses = [compare.predicted_s(predicted, x, cached) for x in xs]
            ax.plot(xs, guesses, color=INK[color], ls=DASHED, lw=1.6)
            for one in run.tokens:
                seconds = getattr(one, way).median_s
                m.dot(ax, one.length, seconds, INK[color], size=7 if m.wide else 6)
            last = getattr(run.tokens[-1], way).median_s
            m.text(ax, xs[-1], last, name, dx=8, dy=0, va="center", color=INK[color])
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xlim(xs[0] / 1.2, xs[-1] * (1.9 if m.wide else 3))
        _ticks(ax, [2**e for e in range(5, 11)][:: 1 if m.wide else 2])
        _second_ticks(ax)
        ax.set_xlabel("tokens of text")

    return time_per_token


def _ticks(ax, ticks: Sequence[int]) -> None:
    from matplotlib.ticker import NullLocator

    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())


def _second_ticks(ax) -> None:
    """Powers of ten with the unit that suits each."""
    from matplotlib.ticker import NullLocator

    low, high = (math.log10(end) for end in ax.get_ylim())
    exponents = range(math.floor(low), math.ceil(high) + 1)
    shown = [10.0**e for e in exponents]
    ax.set_ylim(10.0 ** exponents[0], 10.0 ** exponents[-1])
    ax.set_yticks(shown, [format_seconds(s).replace(".00", "").replace(".0", "") for s in shown])
    ax.yaxis.set_minor_locator(NullLocator())


# ---- roofline ----------------------------------------------------------------------------------


def on_the_roofline(run: CacheRun, predicted: TokenPrediction) -> Picture:
    """Prompts and decode steps under the machine's own roofs: predicted rings, measured dots.

    Parameters
    ----------
    run : CacheRun
    predicted : TokenPrediction
    """
    card, threads = predicted.card, predicted.threads
    peak = card.peak("fp32", threads)
    largest = card.curve("read", threads)[-1].working_set_bytes
    memory = card.bandwidth_at(largest, "read", threads)
    cache = max(point.bandwidth_bytes_per_s for point in card.curve("read", threads))
    places = [(one, compare.work_forecast(predicted, one)) for one in run.work]

    @picture(
        f"Log-log roofline of {card.label} with {len(places)} steps of the engine: decode far left"
        " on the slope, prompts to the right near the flat roof; each measured dot below its ring.",
        "Rings: predicted from counts, calls included. Dots: measured. Solid: main memory's slope"
        " and the roof of FP32 matrix products. Dashed: the slope of the best cache. *Look at* the"
        " length of each drop, and at which batch decoding would reach the prompts.",
        heights=(400, 380),
    )
    def on_the_roofline(ax, m):
        from matplotlib.ticker import NullLocator

        xs = [2.0**e for e in range(-2, 8)]
        line = sorted({*xs, peak / memory})
        ax.plot(line, [min(peak, x * memory) for x in line], color=INK["c1"], lw=2.2)
        line = sorted({*(x for x in xs if x * cache <= peak), peak / cache})
        ax.plot(line, [x * cache for x in line], color=INK["c5"], lw=1.6, ls=DASHED)
        m.text(ax, peak / cache, peak, "cache", dx=2, dy=16, color=INK["muted"])
        if m.wide:  # on a phone the drops leave no room beside the slope
            m.text(ax, 1, memory, "memory", dx=-14, dy=-4, ha="right", color=INK["c1"])
        m.text(ax, xs[-1], peak, "FP32", dx=4, dy=0, va="center", color=INK["c1"])
        most = max(one.tokens for one in run.work)
        for one, forecast in places:
            x = forecast.intensity
            ring, dot = forecast.flops / forecast.total_s, forecast.flops / one.step.median_s
            color = INK["c2"] if one.past else INK["c3"]
            ax.plot([x, x], [ring, dot], color=color, lw=1.2, ls=DOTTED)
            m.dot(ax, x, ring, color, size=9, mfc=INK["bg"], mec=color, mew=2)
            m.dot(ax, x, dot, color, size=9)
            label = f"{one.batch}" if one.past else f"{one.tokens:,}"
            last = not m.wide and one.tokens == most  # a phone has no room for it below
            beside = (
                {"dx": 8, "dy": 4, "ha": "left"} if last else {"dx": 0, "dy": 15, "ha": "center"}
            )
            m.text(ax, x, dot, label, color=color, **beside)
        rates = [f.flops / one.step.median_s for one, f in places]
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xlim(xs[0], xs[-1] * (1.8 if m.wide else 3))
        low, high = math.floor(math.log10(min(rates) / 1.8)), math.floor(math.log10(2 * peak))
        ax.set_ylim(10.0**low, 2 * peak)
        ticks = [2.0**e for e in range(-2, 8, 1 if m.wide else 3)]
        names = {0.25: "1/4", 0.5: "1/2"}
        ax.set_xticks(ticks, [names.get(tick, f"{tick:g}") for tick in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
        exponents = range(low, high + 1)
        ax.set_yticks([10.0**e for e in exponents], [f"{10.0 ** (e - 9):g}" for e in exponents])
        ax.yaxis.set_minor_locator(NullLocator())
        ax.set_xlabel("intensity, FLOP/B")
        ax.set_ylabel("GFLOP/s")
        right = ax.get_xlim()[1]
        for row, (name, color) in enumerate(
            (("decode, by batch", "c2"), ("prompts, by tokens", "c3"))
        ):
            m.text(
                ax, right, 10.0**low, name, dx=-6, dy=18 * row - 34, ha="right", color=INK[color]
            )

    return on_the_roofline


# ---- playground --------------------------------------------------------------------------------


def both_ways(model, predicted: TokenPrediction, prompt: int, tokens: int) -> Picture:
    """For the playground: one answer timed both ways, beside what the counts say.

    Parameters
    ----------
    model : helpers.lm.model.Transformer
    predicted : TokenPrediction
    prompt, tokens : int
        Of the recorded settings where the book is built; any that fit the context elsewhere.
    """
    prompt, tokens = int(prompt), int(tokens)  # a slider may give floats
    if recorded.wanted():
        one = recorded.load(RUN).answer(prompt, tokens)
    else:
        (one,) = time_answers(model, prompt, [tokens])
    shown = [
        (
            name,
            color,
            predicted.answer_s(prompt, tokens, cached=way == "cached"),
            getattr(one, way).median_s,
        )
        for way, name, color in _WAYS
    ]

    @picture(
        f"Two bars: seconds of an answer of {tokens} tokens behind a prompt of {prompt}, with the"
        " cache and without, each with a mark where the counts predicted it.",
        f"With the cache {format_seconds(shown[0][3])}, without {format_seconds(shown[1][3])}:"
        f" *{one.ratio:.2f} times as long*. Rings: predicted, where the ratio is"
        f" {shown[1][2] / shown[0][2]:.2f}.",
        heights=(170, 170),
    )
    def both_ways(ax, m):
        for y, (_, color, guess, seconds) in enumerate(reversed(shown)):
            ax.barh(y, seconds, height=0.5, color=INK[color])
            m.dot(ax, guess, y, INK[color], size=10, mfc=INK["bg"], mec=INK["fg"], mew=1.8)
        ax.set_yticks(range(len(shown)), [name for name, *_ in reversed(shown)])
        ax.set_xlim(0, 1.1 * max(max(guess, seconds) for *_, guess, seconds in shown))
        ax.grid(visible=False, axis="y")
        ax.set_xlabel("s")

    return both_ways
