"""Tables of the lab *With and without a cache*, from a run and its predictions."""

from __future__ import annotations

from collections.abc import Sequence

from helpers.bench import cache_compare as compare
from helpers.bench.cache_bounds import TokenPrediction
from helpers.bench.cache_steps import CacheRun
from helpers.bench.timing import format_seconds
from helpers.book.tables import Cell, Column, Table

WAYS = (("cached", "with"), ("uncached", "without"))
#: lengths of the table of predictions
SHOWN = (32, 128, 512, 1000)


# ---- small cells -------------------------------------------------------------------------------


def _seconds(value: float) -> Cell:
    return Cell(format_seconds(value) if value else "0", value)


def _ratio(value: float) -> Cell:
    return Cell(f"{value:.2f}" if abs(value) < 10 else f"{value:.0f}", value)


def _count(value: float) -> Cell:
    for prefix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return Cell(f"{value / scale:.3g} {prefix}", value)
    return Cell(f"{value:.3g}", value)


# ---- before anything is measured ---------------------------------------------------------------


def prediction_table(predicted: TokenPrediction, lengths: Sequence[int] = SHOWN) -> Table:
    """What a token should take, both ways, written down first.

    Parameters
    ----------
    predicted : TokenPrediction
    lengths : sequence of int
        Lengths of the text.
    """
    rows = []
    for length in lengths:
        for way, forecast in (
            ("with", predicted.step(length)),
            ("without", predicted.whole(length)),
        ):
            rows.append(
                [
                    f"{length:,} tokens, {way}",
                    _count(forecast.flops),
                    _count(forecast.moved_bytes),
                    Cell(f"{forecast.intensity:.3g}", forecast.intensity),
                    _seconds(forecast.bound_s),
                    _seconds(forecast.calls_s),
                    _seconds(forecast.total_s),
                ]
            )
    return Table(
        f"One more token, predicted for {predicted.card.label}",
        [
            Column("Text, and cache", text=True),
            Column("F", "FLOP"),
            Column("Q", "B"),
            Column("intensity", "FLOP/B"),
            Column("bound"),
            Column("calls"),
            Column("predicted", "bound and calls"),
        ],
        rows,
        sortable=False,
    )


def line_table(run: CacheRun, predicted: TokenPrediction) -> Table:
    """The two lines: each coefficient predicted, measured, and their ratio."""
    rows = []
    for way, name in WAYS:
        cached = way == "cached"
        guess, found = (
            compare.predicted_line(predicted, cached=cached),
            compare.measured_line(run, cached=cached),
        )
        rows.append([f"{name}: a", *_predicted_measured(guess.a, found.a)])
        rows.append([f"{name}: b, for each token of text", *_predicted_measured(guess.b, found.b)])
    return Table(
        "Time of one more token as a + b t",
        [Column("Coefficient", text=True), Column("predicted"), Column("measured"),
         Column("measured / predicted")],
        rows,
        sortable=False,
    )  # fmt: skip


def _predicted_measured(guess: float, found: float) -> list[Cell | str]:
    sensible = guess > 0 and found > 0  # a line through a curve may begin below zero
    return [_seconds(guess), _seconds(found), _ratio(found / guess) if sensible else Cell("-")]


def total_table(run: CacheRun, predicted: TokenPrediction) -> Table:
    """Whole answers: predicted, summed along the fitted line, measured; and the gain."""
    lines = {way: compare.measured_line(run, cached=way == "cached") for way, _ in WAYS}
    rows, before = [], None
    for one in compare.long_answers(run):
        row: list[Cell | str] = [f"{one.tokens:,}"]
        for way, _ in WAYS:
            seconds = getattr(one, way).median_s
            row += [
                _seconds(predicted.answer_s(one.prompt, one.tokens, cached=way == "cached")),
                _seconds(lines[way].total(one.prompt, one.tokens)),
                _seconds(seconds),
                _ratio(seconds / getattr(before, way).median_s) if before else Cell("-"),
            ]
        rows.append([*row, _ratio(one.ratio)])
        before = one
    return Table(
        f"Answers behind a prompt of {compare.long_answers(run)[0].prompt} tokens",
        [
            Column("Tokens", text=True),
            *(
                Column(label, f"{way} cache")
                for way in ("with", "without")
                for label in ("predicted", "from the line", "measured", "against half")
            ),
            Column("without / with", "measured"),
        ],
        rows,
        note="Against half: how many times as long as an answer of half the tokens.",
        sortable=False,
    )


# ---- the parts ---------------------------------------------------------------------------------


def part_table(run: CacheRun, predicted: TokenPrediction, *, cached: bool) -> Table:
    """One token by its parts: bound, calls of the hollow model, measured, what is left."""
    rows = []
    for part, bound, calls, measured in compare.part_rows(run, predicted, cached=cached):
        left = measured - bound - calls
        seconds = map(_seconds, (bound, calls, measured, left))
        rows.append([part, *seconds, _ratio(measured / (bound + calls))])
    way = "with" if cached else "without"
    return Table(
        f"One token {way} the cache behind {compare.FITTED_UP_TO} tokens, by parts",
        [Column("Part", text=True), Column("bound", "by counts"), Column("calls", "hollow model"),
         Column("measured"), Column("left"), Column("measured / both")],
        rows,
        sortable=False,
    )  # fmt: skip


def work_table(run: CacheRun, predicted: TokenPrediction) -> Table:
    """Prompts and batches: counts, predicted and measured time, tokens per second."""
    rows = []
    for one in run.work:
        forecast = compare.work_forecast(predicted, one)
        tokens = one.batch * one.tokens
        rows.append(
            [
                one.name,
                _count(forecast.flops),
                _count(forecast.moved_bytes),
                Cell(f"{forecast.intensity:.3g}", forecast.intensity),
                _seconds(forecast.total_s),
                _seconds(one.step.median_s),
                _ratio(one.step.median_s / forecast.total_s),
                Cell(f"{tokens / one.step.median_s:,.0f}", tokens / one.step.median_s),
            ]
        )
    return Table(
        f"Steps of the engine on {run.environment.label}",
        [
            Column("Step", text=True),
            Column("F", "FLOP"),
            Column("Q", "B"),
            Column("intensity", "FLOP/B"),
            Column("predicted"),
            Column("measured"),
            Column("measured / predicted"),
            Column("rate", "tokens/s"),
        ],
        rows,
        sortable=False,
    )
