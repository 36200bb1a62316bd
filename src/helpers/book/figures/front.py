"""The landing page's live figure: what a chip does while it writes one token."""

from __future__ import annotations

from helpers import catalog
from helpers.book.explorable import choice, explorable, powers, values
from helpers.book.style import INK
from helpers.formulas.ops import ceil, maximum, minimum, where
from helpers.formulas.roofline import compute_seconds, memory_seconds
from helpers.formulas.training import forward_flops

_MODELS = ("llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b")
_CHIPS = ("l4", "rtx-4090", "a100-sxm-80gb", "h100-sxm", "h200-sxm", "mi300x", "b200-sxm")

MODELS = {m.name: {"size": m.parameters} for m in map(catalog.model, _MODELS)}
CHIPS = {
    c.short: {
        "peak": float(c.peak("bf16")),
        "bandwidth": float(c.bandwidth),
        "capacity": float(c.capacity),
    }
    for c in map(catalog.chip, _CHIPS)
}
#: upper ends of the time axis, in ms; a quarter of each has at most one decimal
_TOPS = (2, 4, 8, 20, 40, 80, 200, 400, 800, 2000, 4000, 8000, 20000)


@explorable(
    "How long does one token take?",
    "Two bars: the time to move the model's weights from memory for one token, and the time to do "
    "its arithmetic. The longer one decides.",
    model=choice("Model", MODELS, "Llama 3.1 8B"),
    chip=choice("Chip", CHIPS, "H100 SXM"),
    users=powers("Users at once", 1, 1024, 1),
    bits=values("Bits per weight", [4, 8, 16], 16),
)
def one_token(ax, m, v):
    weights = v.model.size * v.bits / 8
    chips = ceil(weights / v.chip.capacity)  # as many as hold the weights, sharing the work evenly
    moving = 1e3 * memory_seconds(weights, chips * v.chip.bandwidth)  # ms
    doing = 1e3 * compute_seconds(forward_flops(v.model.size, v.users), chips * v.chip.peak)
    longest = maximum(moving, doing)
    top = _TOPS[-1]
    for end in reversed(_TOPS[:-1]):
        top = where(longest * 1.12 < end, end, top)

    ax.set(xlim=(-0.6, 1.6), ylabel="Time for one token (ms)")
    ax.set_xticks([0, 1], ["Moving the bytes", "Doing the arithmetic"])
    ax.grid(axis="x", visible=False)
    y = m.yscale(ax, top, widest="20,000")
    for x, time, color in ((0, moving, INK["c2"]), (1, doing, INK["c1"])):
        m.bar(ax, x, 0.62, 0, y(time), color=color)
        label = where(time < 1, f"{time:.3f} ms", f"{time:,.1f} ms")
        m.text(ax, x, y(time), label, dy=-6, ha="center", weight="bold")
    speed = f"{1e3 / longest:,.0f} tokens/s, all together {1e3 * v.users / longest:,.0f}"
    waiting = where(moving > doing, "arithmetic waits for bytes", "memory waits for arithmetic")
    idle = 1 - minimum(moving, doing) / longest
    many = where(chips > 1, f" The weights need {chips:.0f} chips, which share the work.", "")
    m.readout(f"Each user gets {speed}. {idle:.1%} of the time the {waiting}.{many}")
