"""The tables of chapter 1, computed from the catalog and the formulas."""

from __future__ import annotations

import math

from helpers import catalog
from helpers.book.figures.roofline import operations, sixteen_bit_peak
from helpers.book.tables import Cell, Column, Table
from helpers.catalog.records import NotInCatalog
from helpers.formulas import network
from helpers.formulas import roofline as rf


def _number(value: float, text: str) -> Cell:
    return Cell(text, float(value))


def _short(value: float) -> str:
    """Two decimals below ten, none above."""
    return f"{value:,.2f}" if value < 10 else f"{value:,.0f}"


def two_tasks(elements: int = 10**8, size: int = 4096) -> Table:
    """A vector addition and a matrix product on an H100: two costs, two clocks, two bounds."""
    chip = catalog.chip("h100-sxm")
    tasks = (
        (f"add two FP32 vectors of {elements // 10**6} million", elements, 12 * elements, "fp32"),
        (
            f"multiply two BF16 matrices of {size:,} × {size:,}",
            rf.gemm_flops(size, size, size), rf.gemm_bytes(size, size, size, 2), "bf16",
        ),
    )  # fmt: skip
    rows = []
    for name, flops, moved, dtype in tasks:
        rates = (chip.peak(dtype), chip.bandwidth)
        arithmetic, traffic = flops / rates[0], moved / rates[1]
        rows.append(
            [
                name,
                _number(flops, f"{flops / 1e9:,.1f}"),
                _number(moved, f"{moved / 1e9:,.2f}"),
                _number(arithmetic, f"{arithmetic * 1e6:,.1f}"),
                _number(traffic, f"{traffic * 1e6:,.1f}"),
                _number(
                    rf.time_lower_bound(flops, moved, *rates),
                    f"{rf.time_lower_bound(flops, moved, *rates) * 1e6:,.1f}",
                ),
                _number(
                    rf.time_upper_bound(flops, moved, *rates),
                    f"{rf.time_upper_bound(flops, moved, *rates) * 1e6:,.1f}",
                ),
                "traffic" if traffic > arithmetic else "arithmetic",
            ]
        )
    return Table(
        "Two tasks on an H100",
        [
            Column("Task", text=True),
            Column("F", "GFLOP"),
            Column("Q", "GB"),
            Column("Arithmetic", "µs"),
            Column("Traffic", "µs"),
            Column("max", "µs"),
            Column("sum", "µs"),
            Column("Slower clock", text=True),
        ],
        rows,
    )


def five_kinds() -> Table:
    """The operations of the figure: counts, intensity, slower clock and the best rate."""
    chip = catalog.chip("h100-sxm")
    rows = []
    for number, op in enumerate(operations(), 1):
        peak = chip.peak(op.dtype)
        rate = rf.attainable_flops_per_s(op.intensity, peak, chip.bandwidth)
        bound = "memory" if op.intensity < rf.ridge_point(peak, chip.bandwidth) else "compute"
        rows.append(
            [
                f"{number} {op.name}",
                _number(op.flops, _short(op.flops / 1e9)),
                _number(op.bytes, f"{op.bytes / 1e6:,.0f}"),
                _number(op.intensity, _short(op.intensity)),
                bound,
                _number(rate, f"{rate / 1e12:,.1f}"),
                _number(rate / peak, f"{rate / peak:.1%}"),
            ]
        )  # fmt: skip
    return Table(
        "Eight operations on an H100, at the best rate their intensity allows",
        [
            Column("Operation", text=True),
            Column("F", "GFLOP"),
            Column("Q", "MB"),
            Column("Intensity", "FLOP/B"),
            Column("Bound", text=True),
            Column("Rate", "TFLOP/s"),
            Column("Share", "of the peak"),
        ],
        rows,
        note="Peaks: the FP32 units in rows 1, 2 and 4, the BF16 tensor cores in the others.",
    )


def layer_over_chips(batch: int = 512, groups: tuple[int, ...] = (1, 8, 64)) -> Table:
    """The feed-forward part of a Llama 3.1 70B layer, split over H100s: three clocks per chip."""
    model, chip = catalog.model("llama-3.1-70b"), catalog.chip("h100-sxm")
    weights = 3 * model.d_model * model.ffn
    rows = []
    for count in groups:
        arithmetic = 2 * weights * batch / count / chip.peak("bf16")
        traffic = 2 * weights / count / chip.bandwidth
        sent = network.all_reduce_bytes(count, 2 * batch * model.d_model) if count > 1 else 0
        link = sent / chip.link("nvlink-4").one_way
        clocks = {"arithmetic": arithmetic, "memory": traffic, "link": link}
        rows.append(
            [
                _number(count, f"{count}"),
                *(_number(t, f"{t * 1e6:,.1f}" if t else "none") for t in clocks.values()),
                max(clocks, key=clocks.__getitem__),
            ]
        )
    return Table(
        f"One feed-forward layer over H100s, batch {batch}",
        [
            Column("Chips"),
            Column("Arithmetic", "µs"),
            Column("Memory", "µs"),
            Column("Link", "µs, one way"),
            Column("Slowest clock", text=True),
        ],
        rows,
        note="Least times for each chip; links as fast as NVLink 4 between all of them.",
    )


#: one machine of each design, and the memory that feeds it
DESIGNS = (
    ("CPU", "epyc-9965", "DDR5 beside the chip"),
    ("GPU", "h100-sxm", "HBM on the package"),
    ("TPU", "tpu-v5p", "HBM on the package"),
    ("LPU", "groq-lpu-v1", "on the chip"),
    ("Wafer", "wse-3", "on the wafer"),
)


def machines() -> Table:
    """One machine of each design: what feeds it, its ridge, and a large model on it."""
    parameters = catalog.model("llama-3.1-70b").parameters
    rows = []
    for design, identifier, place in DESIGNS:
        chip = catalog.chip(identifier)
        try:
            peak = sixteen_bit_peak(chip)
            ridge = rf.ridge_point(peak, chip.bandwidth)
            ridge_cell = _number(ridge, f"{ridge:,.1f}" if ridge < 10 else f"{ridge:,.0f}")
            peak_cell = _number(peak, f"{peak / 1e12:,.0f}")
        except NotInCatalog:
            peak_cell = ridge_cell = Cell("dense not published", "")
        if chip.capacity_figure:
            count = math.ceil(parameters / chip.capacity)
            capacity = _number(chip.capacity, f"{chip.capacity / 1e9:,.2f}".rstrip("0").rstrip("."))
        else:
            count, capacity = 1, Cell("terabytes, as fitted", "")
        bound = count * rf.decode_tokens_per_s(parameters, 1, chip.bandwidth)
        rate = chip.bandwidth / 1e12
        rows.append(
            [
                f"{design}: {chip.short}",
                place,
                _number(chip.bandwidth, f"{rate:,.2f}" if rate < 10 else f"{rate:,.0f}"),
                capacity,
                peak_cell,
                ridge_cell,
                _number(count, f"{count}"),
                _number(bound, f"{bound:,.0f}"),
            ]
        )
    return Table(
        "Which ceiling a design lifts",
        [
            Column("Machine", text=True),
            Column("Fed by memory", text=True),
            Column("Bandwidth", "TB/s"),
            Column("Capacity", "GB"),
            Column("Peak", "TFLOP/s, 16-bit"),
            Column("Ridge", "FLOP/B"),
            Column("Chips", "for 70B at 1 byte"),
            Column("Bound", "tokens/s, 1 reader"),
        ],
        rows,
        note="Peaks are dense. Each figure's source and certainty stand on the page Silicon.",
    )
