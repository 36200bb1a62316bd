"""Drawings and tables of a layer's operations: every mark is drawn and stands on the roof."""

from __future__ import annotations

import math

import matplotlib
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from helpers import catalog
from helpers.book.layer_view import draw_roofline, draw_times, operation_table
from helpers.book.picture import picture
from helpers.formulas import transformer as tf

matplotlib.use("agg")
LLAMA, H100 = catalog.model("llama-3.1-8b"), catalog.chip("h100-sxm")
RATES = H100.peak("bf16"), H100.bandwidth
PHASES = {
    "prefill": tf.layer_operations(LLAMA, 1, 2048),
    "decode": tf.layer_operations(LLAMA, 1, 1, 2048),
}


def axes():
    return Figure().add_subplot()


def test_every_operation_has_a_mark_on_the_roof():
    ax = axes()
    draw_roofline(ax, PHASES, *RATES)
    ax.figure.draw_without_rendering()
    marks = [artist for artist in ax.get_children() if isinstance(artist, PathPatch)]
    assert len(marks) == 22
    peak, bandwidth = RATES
    expected = sorted(
        (op.intensity, min(peak, op.intensity * bandwidth)) for ops in PHASES.values() for op in ops
    )
    inverse = ax.transData.inverted()
    found = sorted(
        tuple(inverse.transform(mark.get_transform().transform((0, 0)))) for mark in marks
    )
    for (x, y), (want_x, want_y) in zip(found, expected, strict=True):
        assert math.isclose(x, want_x, rel_tol=1e-6) and math.isclose(y, want_y, rel_tol=1e-6)


def test_labels_of_a_phase_do_not_meet():
    @picture("alt", "caption")
    def drawing(ax, m):
        draw_roofline(ax, PHASES, *RATES, wide=m.wide)

    for wide in (True, False):
        figure = drawing.figure(wide)
        figure.draw_without_rendering()
        (ax,) = figure.axes
        boxes = [text.get_window_extent() for text in ax.texts]
        for i, one in enumerate(boxes):
            for other in boxes[i + 1 :]:
                assert not one.overlaps(other)


@pytest.mark.parametrize("model", ["gpt2", "mixtral-8x7b", "deepseek-v3"])
@pytest.mark.parametrize("chip", ["t4", "l4", "epyc-9965"])
def test_any_model_on_any_chip_stays_inside_the_axes(model, chip):
    machine = catalog.chip(chip)
    peak = machine.peak(next(d for d in ("bf16", "fp16") if d in machine.dtypes()))
    step = tf.decode_step(catalog.model(model), 1024, 4096)
    ax = axes()
    draw_roofline(ax, {"decode": step}, peak, machine.bandwidth)
    low, high = ax.get_xlim()
    assert all(low < op.intensity < high for op in step if op.flops)


def test_shares_of_time_are_complete():
    ax = axes()
    draw_times(ax, PHASES, *RATES)
    for bars in ax.containers:
        assert sum(bar.get_width() for bar in bars) == pytest.approx(100)


def test_table_says_what_bounds_each_operation():
    table = operation_table("One layer", PHASES["prefill"], *RATES)
    bounds = [row[-1] for row in table.rows]
    assert bounds.count("memory") == tf.memory_bound_count(LLAMA, 1, 2048, 0, *RATES) == 6
    assert "<caption>One layer</caption>" in table._repr_html_()


def test_wrong_phases_are_named():
    with pytest.raises(ValueError, match="phases: 0 given"):
        draw_roofline(axes(), {}, *RATES)
    with pytest.raises(ValueError, match="do not have the same operations"):
        draw_times(axes(), {"a": PHASES["decode"], "b": PHASES["decode"][:2]}, *RATES)
