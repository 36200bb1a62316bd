"""The explorables of chapter 1: how fast can this possibly go?"""

from __future__ import annotations

from helpers import catalog
from helpers.book.explorable import choice, explorable, powers, values
from helpers.book.style import INK
from helpers.formulas.ops import where
from helpers.formulas.roofline import attainable_flops_per_s, ridge_point, weight_intensity

#: chips a reader is likely to meet, by the name the catalog gives them
CHIPS = {
    chip.name: {"peak": chip.peak("bf16"), "bandwidth": chip.bandwidth}
    for chip in map(catalog.chip, ("a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm", "l4"))
}


@explorable(
    "Roofline: what batch size buys",
    "Log-log chart of attainable FLOP per second against arithmetic intensity: a slope, then a "
    "flat roof, and a dot for the current setting.",
    chip=choice("Chip", CHIPS, catalog.chip("h100-sxm").name),
    batch=powers("Batch", 1, 1024, 32, "sequences"),
    width=values("Bytes per weight", [0.5, 1, 2, 4], 2),
)
def what_batch_size_buys(ax, m, v):
    peak, bandwidth = v.chip.peak, v.chip.bandwidth
    intensity = weight_intensity(v.batch, v.width)
    attainable = attainable_flops_per_s(intensity, peak, bandwidth)
    ridge = ridge_point(peak, bandwidth)
    left, right = 0.4, 6000

    ax.set(xscale="log", yscale="log", xlim=(left, right), ylim=(2e10, 6e15))
    ax.set(xlabel="FLOP per byte", ylabel="FLOP/s")
    m.vline(ax, ridge, color=INK["muted"], lw=1, ls=(0, (4, 3)))
    m.line(ax, [left, ridge, right], [left * bandwidth, peak, peak])
    m.dot(ax, intensity, attainable)
    m.text(ax, ridge, 3e10, f"ridge {ridge:.0f}", dx=5, color=INK["muted"])
    bound = where(intensity < ridge, "memory-bound", "compute-bound")
    below = where(intensity < ridge, bound, "")  # under the slope there is room on the right,
    above = where(intensity < ridge, "", bound)  # under the roof there is none: write above it
    style = {"color": INK["c2"], "weight": "bold"}
    m.text(ax, intensity, attainable, below, dx=11, dy=17, **style)
    m.text(ax, intensity, attainable, above, dx=12, dy=-12, ha="right", **style)
    m.readout(
        f"{bound}: {attainable / 1e12:,.1f} of {peak / 1e12:,.0f} TFLOP/s "
        f"({attainable / peak:.1%}) at {intensity:,.1f} FLOP per byte"
    )
