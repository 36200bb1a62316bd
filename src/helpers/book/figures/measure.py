"""Figures and tables of the lab *Measure your machine*, from a machine card and a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

from helpers import catalog
from helpers.bench import recorded
from helpers.bench.machine import MachineCard
from helpers.bench.operations import (
    PLAYGROUND_SIZES,
    Comparison,
    Operation,
    operations,
    playground_operation,
    predict,
    time_operation,
)
from helpers.bench.timing import format_seconds
from helpers.book.figures.roofline import sixteen_bit_peak
from helpers.book.picture import Picture, picture
from helpers.book.style import INK
from helpers.book.tables import Cell, Column, Table
from helpers.formulas.roofline import attainable_flops_per_s

DASHED = (0, (4, 3))
MIB = 2**20


def _powers(axis, exponents: Sequence[int], unit_name: dict[int, str]) -> None:
    axis.set_ticks([10.0**e for e in exponents], [unit_name.get(e, "") for e in exponents])
    axis.set_minor_locator(_no_ticks())


def _no_ticks():
    from matplotlib.ticker import NullLocator

    return NullLocator()


def _rate_names() -> dict[int, str]:
    names = {}
    for exponent, unit in ((9, "GFLOP/s"), (12, "TFLOP/s"), (15, "PFLOP/s")):
        for step, shown in enumerate(("1", "10", "100")):
            names[exponent + step] = f"{shown} {unit}"
    return names


def _size(size: float) -> str:
    if size >= MIB:
        return f"{size / MIB:.0f} MiB"
    return f"{size / 1024:.0f} KiB"


def staircase(card: MachineCard) -> Picture:
    """Bandwidth against working set: each step down is a cache left behind.

    Parameters
    ----------
    card : MachineCard
        Whose points to draw.
    """
    styles = {"read": ("c1", "-"), "copy": ("c2", DASHED), "triad": ("c3", (0, (1, 1.5)))}
    caches = sorted(card.environment.cache_bytes.items())

    @picture(
        f"Bandwidth in gigabytes per second against working-set size for three patterns on"
        f" {card.label}: high while the data fit a cache, low in main memory.",
        "Each vertical line is a cache as the operating system reports it (a private cache counted"
        " once per thread). *Look for* the fall behind the last one: from there on, main memory.",
    )
    def bandwidth_staircase(ax, m):
        top = 0.0
        for pattern, (color, dash) in styles.items():
            points = card.curve(pattern)
            if not points:
                continue
            xs = [p.working_set_bytes for p in points]
            ys = [p.bandwidth_bytes_per_s / 1e9 for p in points]
            top = max(top, *ys)
            ax.plot(xs, ys, color=INK[color], ls=dash, label=pattern)
        ax.set_xscale("log", base=2)
        ax.set_ylim(0, 1.18 * top)
        for name, size in caches:
            private = name in ("L1", "L2") and card.device == "cpu"
            edge = size * (card.threads if private else 1)
            ax.axvline(edge, color=INK["muted"], lw=1, ls=DASHED)
            m.text(ax, edge, 1.13 * top, name, dx=4, dy=0, color=INK["muted"], va="center")
        sizes = [2**e for e in range(15, 31, 3 if m.wide else 5)]
        low, high = ax.get_xlim()
        sizes = [s for s in sizes if low <= s <= high]
        ax.set_xticks(sizes, [_size(s) for s in sizes])
        ax.xaxis.set_minor_locator(_no_ticks())
        ax.set_xlabel("working set")
        ax.set_ylabel("GB/s")
        ax.legend(loc="lower left")

    return bandwidth_staircase


def roofline_among_chips(
    card: MachineCard,
    chips: Sequence[str] = ("t4", "rtx-4090", "a100-sxm-80gb", "h100-sxm", "b200-sxm"),
) -> Picture:
    """The card's roofline under those of catalog chips.

    Parameters
    ----------
    card : MachineCard
        The reader's machine: measured.
    chips : sequence of str
        Catalog ids; their roofs are the specified 16-bit dense peak and memory bandwidth.
    """
    records = [catalog.chip(name) for name in chips]
    dtype = "bf16" if "bf16" in card.dtypes else "fp32"
    mine = (card.peak(dtype), card.memory_bandwidth_bytes_per_s)

    @picture(
        f"Log-log rooflines: the measured one of {card.label} far below the specified ones of"
        f" {', '.join(record.short for record in records)}.",
        f"Thick: this machine as measured, {dtype} matrix products and main memory. Thin: chips as"
        " specified, 16-bit dense. *Look at* the corners: every machine needs tens to hundreds of"
        " FLOPs per byte to be busy.",
        heights=(380, 340),
    )
    def roofline_among_chips(ax, m):
        xs = [2.0**e for e in range(-4, 13)]
        for record in records:
            peak, bandwidth = sixteen_bit_peak(record), record.bandwidth
            ys = [attainable_flops_per_s(x, peak, bandwidth) for x in xs]
            corner = peak / bandwidth
            line = sorted({*xs, corner})
            ys = [attainable_flops_per_s(x, peak, bandwidth) for x in line]
            ax.plot(line, ys, color=INK["c5"], lw=1.3)
            m.text(ax, xs[-1], peak, record.short, dx=4, dy=0, va="center", color=INK["muted"])
        line = sorted({*xs, mine[0] / mine[1]})
        ax.plot(line, [attainable_flops_per_s(x, *mine) for x in line], color=INK["c2"], lw=3)
        m.text(ax, xs[-1], mine[0], "here", dx=4, dy=0, va="center", color=INK["c2"])
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xlim(xs[0], xs[-1] * (9 if m.wide else 60))
        ticks = [2.0**e for e in (-4, 0, 4, 8, 12)]
        ax.set_xticks(ticks, ["1/16", "1", "16", "256", "4,096"])
        ax.xaxis.set_minor_locator(_no_ticks())
        names = _rate_names()
        _powers(ax.yaxis, [9, 10, 11, 12, 13, 14, 15], {e: names[e] for e in (9, 12, 15)})
        ax.set_xlabel("intensity, FLOP/B")

    return roofline_among_chips


def operations_on_the_roofline(comparison: Comparison) -> Picture:
    """Measured operations under the reader's own roofs: main memory, and the best cache.

    Parameters
    ----------
    comparison : Comparison
        Rows to place; those without FLOPs (a copy) have no place.
    """
    card = comparison.card
    rows = [row for row in comparison.rows if row.operation.flops]
    peaks = {dtype: card.peak(dtype) for dtype in ("fp32", "bf16") if dtype in card.dtypes}
    memory = card.memory_bandwidth_bytes_per_s
    cache = max(p.bandwidth_bytes_per_s for p in card.curve("triad") or card.curve("copy"))

    @picture(
        f"Log-log plot for {card.label}: a memory slope, a cache slope and flat roofs, with"
        f" {len(rows)} measured operations, dots for data in memory and rings for data in a cache.",
        "Full dots: data in main memory; rings: data in a cache, which may rise above the memory"
        " slope. Grey: it built the card. *Look for* the dots far below both roofs: each is a row"
        " of the table with a ratio well above one.",
        heights=(380, 340),
    )
    def operations_on_roofline(ax, m):
        xs = [2.0**e for e in range(-4, 11)]
        for dtype, peak in peaks.items():
            line = sorted({*xs, peak / memory})
            ax.plot(line, [min(peak, x * memory) for x in line], color=INK["c1"], lw=2.2)
            m.text(ax, xs[-1], peak, dtype, dx=4, dy=0, va="center", color=INK["c1"])
        fastest = max(peaks.values())
        line = sorted({*[x for x in xs if x * cache <= fastest], fastest / cache})
        ax.plot(line, [x * cache for x in line], color=INK["c5"], lw=1.6, ls=DASHED)
        m.text(ax, xs[2], xs[2] * cache, "cache", dx=-6, dy=-8, ha="right", color=INK["muted"])
        m.text(ax, xs[5], xs[5] * memory, "memory", dx=6, dy=12, color=INK["c1"])
        for row in rows:
            op = row.operation
            rate = op.flops / row.measurement.median_s
            in_memory = row.prediction.level == "memory"
            color = INK["c2"] if row.counts else INK["muted"]
            hollow = {} if in_memory else {"mfc": INK["bg"], "mec": color, "mew": 2}
            m.dot(ax, op.intensity, rate, color, size=9 if in_memory else 8, **hollow)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xlim(xs[0], xs[-1] * (3 if m.wide else 8))
        ticks = [2.0**e for e in (-4, -2, 0, 2, 4, 6, 8, 10)][:: 1 if m.wide else 2]
        names = {-4: "1/16", -2: "1/4"}
        ax.set_xticks(ticks, [names.get(int(math.log2(t)), f"{t:,.0f}") for t in ticks])
        ax.xaxis.set_minor_locator(_no_ticks())
        rates = [op.operation.flops / op.measurement.median_s for op in rows]
        low = math.floor(math.log10(min(rates)))
        high = math.ceil(math.log10(fastest))
        exponents = list(range(low, high + 1))
        ax.set_ylim(10.0**low, 2 * 10 ** math.log10(fastest))
        shown = {e: _rate_names().get(e, f"{10.0 ** (e - 9):g} GFLOP/s") for e in exponents}
        _powers(ax.yaxis, exponents, shown)
        ax.set_xlabel("intensity, FLOP/B")

    return operations_on_roofline


def predicted_and_measured(comparison: Comparison) -> Picture:
    """Measured over predicted for each operation, with the interval [max, sum].

    Parameters
    ----------
    comparison : Comparison
        Rows to draw, from the first at the top.
    """
    rows = list(reversed(comparison.rows))

    @picture(
        f"For each of {len(rows)} operations a bar from the bound max to sum and a dot at the"
        " measured time, all as multiples of the bound, on a logarithmic scale.",
        "Bar: the interval [max, sum]. Dot: measured. Left of one, faster than the bound. Grey: an"
        " operation that built the card. *Look for* dots beyond the dotted line, off by more than"
        " a factor of two.",
        heights=(70 + 22 * len(rows), 70 + 24 * len(rows)),
    )
    def predicted_and_measured(ax, m):
        for y, row in enumerate(rows):
            widest = max(row.prediction.sum_s / row.prediction.max_s, 1.02)
            ax.plot([1, widest], [y, y], color=INK["c5"], lw=8, solid_capstyle="butt")
            color = INK["c2"] if row.counts else INK["muted"]
            m.dot(ax, row.ratio, y, color, size=9)
        ratios = [row.ratio for row in rows]
        low = min(0.5, *ratios) * 0.9
        high = max(4.0, *ratios) * 1.2
        ax.set_xscale("log", base=2)
        ax.set_xlim(low, high)
        ticks = [t for t in (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64) if low <= t <= high]
        if not m.wide and len(ticks) > 5:
            ticks = [t for t in ticks if math.log2(t) % 2 == 0]
        ax.set_xticks(ticks, [{0.25: "1/4", 0.5: "1/2"}.get(t, f"{t:g}") for t in ticks])
        ax.xaxis.set_minor_locator(_no_ticks())
        ax.axvline(1, color=INK["fg"], lw=1.2)
        ax.axvline(2, color=INK["muted"], lw=1.2, ls=(0, (1, 2)))
        ax.set_ylim(-0.7, len(rows) - 0.3)
        names = [row.name for row in rows]
        if not m.wide:
            names = [name.replace("elementwise ", "").replace("attention ", "") for name in names]
        ax.set_yticks(range(len(rows)), names)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel("measured / bound")

    return predicted_and_measured


def thread_effect(card: MachineCard) -> Table:
    """What all threads give over one: arithmetic doubles, memory does not.

    Parameters
    ----------
    card : MachineCard
        With measurements of one thread and of all.
    """
    all_threads = card.threads
    largest = card.curve("triad")[-1].working_set_bytes
    cached = 2 * MIB
    rows = []

    def add(name: str, one: float, every: float, unit: str) -> None:
        rows.append(
            [
                name,
                Cell(f"{one / 1e9:.3g}", one),
                Cell(f"{every / 1e9:.3g}", every),
                unit,
                Cell(f"{every / one:.2f}", every / one),
            ]
        )

    for dtype in card.dtypes:
        try:
            one = card.peak(dtype, 1)
        except ValueError:
            continue
        add(f"matrix product, {dtype}", one, card.peak(dtype), "GFLOP/s")
    for where, size in (("cache", cached), ("memory", largest)):
        add(
            f"triad, {_size(size)} ({where})",
            card.bandwidth_at(size, "triad", 1),
            card.bandwidth_at(size, "triad"),
            "GB/s",
        )
    return Table(
        f"One thread and all {all_threads} of {card.label}",
        [
            Column("What", text=True),
            Column("1 thread"),
            Column("all threads"),
            Column("unit", text=True),
            Column("gain"),
        ],
        rows,
    )


def card_table(card: MachineCard) -> Table:
    """The card in two columns.

    Parameters
    ----------
    card : MachineCard
        What to show.
    """
    return Table(
        f"Machine card: {card.label}",
        [Column("What", text=True), Column("Measured", text=True)],
        [list(row) for row in card.rows()[1:]],
    )


def _seconds(value: float) -> Cell:
    return Cell(format_seconds(value), value)


def _count(value: float) -> Cell:
    for prefix, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= scale:
            return Cell(f"{value / scale:.3g} {prefix}", value)
    return Cell(f"{value:.3g}", value)


def predictions(card: MachineCard, ops: Sequence[Operation] | None = None) -> Table:
    """The bounds, written down before anything is measured.

    Parameters
    ----------
    card : MachineCard
        Sets the bounds.
    ops : sequence of Operation, optional
        All by default.
    """
    rows = []
    for op in ops if ops is not None else operations():
        if op.dtype not in card.dtypes:
            continue
        p = predict(op, card)
        rows.append(
            [
                op.name,
                _count(op.flops),
                _count(op.moved_bytes),
                Cell(f"{op.intensity:.3g}", op.intensity),
                p.level,
                p.bound_by,
                _seconds(p.max_s),
                _seconds(p.sum_s),
                _seconds(p.dispatch_s),
            ]
        )
    return Table(
        f"Predicted for {card.label}, before measuring",
        [
            Column("Operation", text=True),
            Column("F", "FLOP"),
            Column("Q", "B"),
            Column("intensity", "FLOP/B"),
            Column("lives in", text=True),
            Column("bound by", text=True),
            Column("max: the prediction"),
            Column("sum"),
            Column("calls, apart"),
        ],
        rows,
    )


def results(comparison: Comparison) -> Table:
    """Predicted against measured, with what the difference is.

    Parameters
    ----------
    comparison : Comparison
        All rows.
    """
    rows = [
        [
            row.name,
            _seconds(row.prediction.max_s),
            _seconds(row.prediction.sum_s),
            _seconds(row.measurement.median_s),
            Cell(f"{row.ratio:.2f}", row.ratio),
            Cell(f"{row.log2_ratio:+.2f}", row.log2_ratio),
            "yes" if row.inside else "no",
            "yes" if row.counts else "no: it built the card",
            row.explanation(),
        ]
        for row in comparison.rows
    ]
    return Table(
        f"Predicted and measured on {comparison.card.label}",
        [
            Column("Operation", text=True),
            Column("max"),
            Column("sum"),
            Column("measured"),
            Column("measured / max"),
            Column("log2"),
            Column("in [max, sum]", text=True),
            Column("counts", text=True),
            Column("what the difference is", text=True),
        ],
        rows,
    )


def _measured(kind: str, n: int):
    """The playground's measurement: recorded where the book is built, live elsewhere."""
    op = playground_operation(kind, n)
    if recorded.wanted():
        return recorded.load("reference-cpu-playground").measurements[op.name]
    return time_operation(op, samples=5, max_total_s=0.3)


def bound_and_measured(card: MachineCard, kind: str, n: int) -> Picture:
    """For the playground: bounds of one kind of operation over sizes, and one size measured now.

    Parameters
    ----------
    card : MachineCard
        Sets the bounds.
    kind : str
        One of :data:`helpers.bench.operations.PLAYGROUND_KINDS`.
    n : int
        Side of the matrices.

    Returns
    -------
    Picture
    """
    op = playground_operation(kind, n)
    if op.dtype not in card.dtypes:
        raise ValueError(f"kind: {kind!r} needs {op.dtype}, which this card has no rate for")
    measured_s = _measured(kind, n).median_s
    sizes = PLAYGROUND_SIZES
    bounds = [predict(playground_operation(kind, size), card) for size in sizes]
    here = predict(op, card)
    level = "main memory" if here.level == "memory" else here.level
    times = measured_s / here.max_s

    @picture(
        f"Time of {kind} against n on logarithmic axes: lines for max, sum and the call, and a dot"
        f" at n = {n}.",
        f"n = {n:,}: measured {format_seconds(measured_s)}, *{times:.2f} times the bound*; the data"
        f" live in {level}, and {here.bound_by} decides.",
        heights=(300, 280),
    )
    def bound_and_measured(ax, m):
        ax.plot(sizes, [b.max_s for b in bounds], color=INK["c1"], label="max: the bound")
        ax.plot(sizes, [b.sum_s for b in bounds], color=INK["c3"], lw=1.4, ls=DASHED, label="sum")
        calls = [b.dispatch_s for b in bounds]
        ax.plot(sizes, calls, color=INK["muted"], lw=1.4, ls=(0, (1, 2)), label="the call")
        m.dot(ax, n, measured_s, size=12)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xlim(sizes[0] / 1.5, sizes[-1] * 1.5)
        shown = sizes if m.wide else sizes[::2]
        ax.set_xticks(shown, [f"{size:,}" for size in shown])
        ax.xaxis.set_minor_locator(_no_ticks())
        lowest = min(-7, math.floor(math.log10(min(*calls, *(b.max_s for b in bounds)))))
        ax.set_ylim(10.0**lowest, 1)
        _powers(ax.yaxis, range(lowest, 1), {-6: "1 µs", -3: "1 ms", 0: "1 s"})
        ax.set_xlabel("n")
        ax.legend(loc="upper left")

    return bound_and_measured
