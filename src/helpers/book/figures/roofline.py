"""The figures of chapter 1: how fast can this possibly go?"""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.patches import Rectangle

from helpers import catalog
from helpers.book.explorable import choice, explorable, powers, values
from helpers.book.picture import picture
from helpers.book.style import INK
from helpers.catalog.records import Chip, NotInCatalog
from helpers.formulas import roofline as rf
from helpers.formulas.ops import maximum, minimum, where


def sixteen_bit_peak(chip: Chip) -> float:
    """The dense peak of a chip for 16-bit numbers: BF16 where it has it, else FP16."""
    try:
        return chip.peak("bf16")
    except NotInCatalog:
        return chip.peak("fp16")


def _rates(*ids: str) -> dict[str, dict[str, float]]:
    return {
        chip.short: {
            "peak": sixteen_bit_peak(chip),
            "bandwidth": chip.bandwidth,
            "capacity": chip.capacity,
        }
        for chip in map(catalog.chip, ids)
    }


_H100 = catalog.chip("h100-sxm")
#: chips a reader is likely to meet
CHIPS = _rates(
    "a100-sxm-80gb", "h100-sxm", "h200-sxm", "b200-sxm", "mi300x", "rtx-4090", "l4", "t4",
    "tpu-v5e", "tpu-v6e",
)  # fmt: skip
MODELS = {
    model.name: {"parameters": model.parameters, "cache": model.kv_per_token}
    for model in map(
        catalog.model,
        ("qwen2.5-0.5b", "llama-2-7b", "mistral-7b-v0.3", "llama-3.1-8b", "llama-3.1-70b"),
    )
}
#: chips whose sheet prints a sparse peak, and whose link is sold with both directions added
SHEETS = {
    chip.short: {
        "peak": chip.peak("bf16"),
        "sparse": chip.peak("bf16", sparsity="sparse"),
        "bandwidth": chip.bandwidth,
        "one": chip.link(link).one_way,
        "both": chip.link(link).both_ways,
    }
    for chip, link in (
        (catalog.chip("a100-sxm-80gb"), "nvlink-3"),
        (_H100, "nvlink-4"),
        (catalog.chip("b200-sxm"), "nvlink-5"),
    )
}
MISTAKES = {
    "none": {"sparse": 0, "both": 0, "binary": 0},
    "sparse peak taken for dense": {"sparse": 1, "both": 0, "binary": 0},
    "both directions of the link": {"sparse": 0, "both": 1, "binary": 0},
    "GB/s read as GiB/s": {"sparse": 0, "both": 0, "binary": 1},
    "all three": {"sparse": 1, "both": 1, "binary": 1},
}
DASHED = (0, (4, 3))


@explorable(
    "Roofline: what batch size buys",
    "Log-log chart of attainable FLOP per second against arithmetic intensity: a slope, then a "
    "flat roof, and a dot for the current setting.",
    chip=choice("Chip", CHIPS, _H100.short),
    batch=powers("Batch", 1, 1024, 32, "readers"),
    width=values("Bytes per weight", [0.5, 1, 2, 4], 2),
)
def what_batch_size_buys(ax, m, v):
    peak, bandwidth = v.chip.peak, v.chip.bandwidth
    intensity = rf.weight_intensity(v.batch, v.width)
    attainable = rf.attainable_flops_per_s(intensity, peak, bandwidth)
    ridge = rf.ridge_point(peak, bandwidth)
    left, right = 0.4, 20_000

    ax.set(xscale="log", yscale="log", xlim=(left, right), ylim=(4e10, 6e15))
    ax.set(xlabel="FLOP per byte", ylabel="FLOP/s, 16-bit arithmetic")
    m.vline(ax, ridge, color=INK["muted"], lw=1, ls=DASHED)
    m.line(ax, [left, ridge, right], [left * bandwidth, peak, peak])
    m.dot(ax, intensity, attainable)
    m.text(ax, ridge, 5e10, f"ridge {ridge:.0f}", dx=5, color=INK["muted"])
    bound = where(intensity < ridge, "memory-bound", "compute-bound")
    at = minimum(intensity, 300)  # keeps the words inside the picture
    m.text(ax, at, attainable, bound, dx=11, dy=19, color=INK["c2"], weight="bold")
    m.readout(
        f"{bound}: {attainable / 1e12:,.1f} of {peak / 1e12:,.0f} TFLOP/s "
        f"({attainable / peak:.1%}) at {intensity:,.1f} FLOP per byte"
    )


@explorable(
    "Decode: the most tokens per second",
    "Log-log chart of tokens per second for all readers against the batch: a curve that rises "
    "and flattens, a dashed line for the arithmetic alone, a vertical line where the memory is "
    "full, and a dot for the current setting.",
    chip=choice("Chip", CHIPS, _H100.short),
    model=choice("Model", MODELS, "Llama 3.1 8B"),
    width=values("Bytes per weight", [0.5, 1, 2], 2),
    batch=powers("Batch", 1, 1024, 8, "readers"),
    context=powers("Context", 256, 131072, 1024, "tokens"),
)
def decode_bound(ax, m, v):
    weights, cache = v.model.parameters * v.width, v.model.cache * v.context
    arithmetic = v.chip.peak / (2 * v.model.parameters)
    memory = lambda b: rf.batched_decode_tokens_per_s(b, weights, cache, v.chip.bandwidth)  # noqa: E731
    total = minimum(arithmetic, memory(v.batch))
    need = weights + v.batch * cache
    full = minimum(maximum((v.chip.capacity - weights) / cache, 0.75), 1500)

    ax.set(xscale="log", yscale="log", xlim=(0.75, 1500), ylim=(1, 8e6))
    ax.set(xlabel="Batch (readers)", ylabel="tokens/s, all readers")
    m.hline(ax, arithmetic, color=INK["c3"], lw=1.4, ls=DASHED)
    m.vline(ax, full, color=INK["bad"], lw=1.4, ls=DASHED)
    m.line(ax, [2 ** (i / 2) for i in range(21)], lambda b: minimum(arithmetic, memory(b)))
    m.dot(ax, v.batch, total)
    m.text(ax, 0.8, arithmetic, "arithmetic alone", dy=-5, color=INK["c3"])
    m.text(ax, full, 1.4, "memory full", dx=-5, ha="right", color=INK["bad"])
    m.readout(
        f"{total:,.0f} tokens/s in all, {total / v.batch:,.1f} for each reader; "
        + where(arithmetic < memory(v.batch), "compute-bound. ", "memory-bound. ")
        + where(need <= v.chip.capacity, "Fits: ", "Does not fit: ")
        + f"{need / 1e9:,.1f} of {v.chip.capacity / 1e9:,.0f} GB"
    )


@explorable(
    "Spoof the spec sheet: what a misread figure moves",
    "Log-log chart with two roofs under one peak, one for the memory and one for the link, each "
    "drawn solid as it is and dashed as misread, with a dot on each memory roof.",
    chip=choice("Chip", SHEETS, _H100.short),
    slip=choice("Mistake", MISTAKES, "none"),
    intensity=powers("Intensity", 8, 8192, 512, "FLOP per byte", show="{:,}".format),
)
def spoof_the_sheet(ax, m, v):
    chip, slip, left, right = v.chip, v.slip, 6, 12000
    peak = chip.peak + slip.sparse * (chip.sparse - chip.peak)
    bandwidth = chip.bandwidth * (1 + slip.binary * (2**30 / 1e9 - 1))
    link = (chip.one + slip.both * (chip.both - chip.one)) * (bandwidth / chip.bandwidth)
    true = rf.attainable_flops_per_s(v.intensity, chip.peak, chip.bandwidth)
    read = rf.attainable_flops_per_s(v.intensity, peak, bandwidth)

    ax.set(xscale="log", yscale="log", xlim=(left, right), ylim=(1.5e12, 8e15))
    ax.set(xlabel="FLOP per byte through the channel", ylabel="FLOP/s, BF16")
    for p, b, style in ((chip.peak, chip.bandwidth, "-"), (peak, bandwidth, DASHED)):
        m.line(ax, [left, p / b, right], [left * b, p, p], color=INK["c1"], ls=style)
    for p, b, style in ((chip.peak, chip.one, "-"), (peak, link, DASHED)):
        m.line(ax, [left, p / b, right], [left * b, p, p], color=INK["c4"], ls=style)
    m.dot(ax, v.intensity, read, color=INK["c2"], size=9)
    m.dot(ax, v.intensity, true, color=INK["c1"])
    m.text(ax, 60, 60 * chip.bandwidth, "memory", dx=-8, dy=-6, ha="right", color=INK["c1"])
    m.text(ax, 90, 90 * chip.one, "link", dx=10, dy=14, color=INK["c4"])
    m.readout(
        f"Memory ridge {chip.peak / chip.bandwidth:,.0f}, read as {peak / bandwidth:,.0f}; "
        f"link ridge {chip.peak / chip.one:,.0f}, read as {peak / link:,.0f} "
        f"(link {chip.one / 1e9:,.0f} GB/s, read as {link / 1e9:,.0f}). "
        f"Rate {true / 1e12:,.0f} TFLOP/s, read as {read / 1e12:,.0f}: {read / true:.2f} times"
    )


# --- still figures ------------------------------------------------------------------------------


@picture(
    "Two boxes joined by a channel. Left: memory, holding many numbers. Right: arithmetic units. "
    "Arrows show inputs going right and results coming back through the channel. Under the "
    "channel: bandwidth, bytes per second. Under the arithmetic: peak, FLOP per second. Below, "
    "two clocks: time of the traffic is bytes over bandwidth, time of the arithmetic is FLOPs over "
    "peak.",
    "The picture to keep. Numbers wait in memory, cross a channel of limited width, meet in the "
    "arithmetic units, and the results cross back. *Each part has a speed of its own, so each "
    "operation has two costs and two clocks.*",
    heights=(270, 300),
)
def two_clocks(ax, m):
    wide = m.wide
    ax.axis("off")
    ax.set(xlim=(0, 100), ylim=(0, 100))
    boxes = ((2, "Memory", "c1"), (66, "Arithmetic", "c2"))
    for left, name, role in boxes:
        ax.add_patch(Rectangle((left, 44), 32, 46, fill=False, ec=INK[role], lw=2))
        ax.text(left + 16, 94, name, ha="center", weight="bold", color=INK[role])
    for row in range(3):
        for column in range(4):
            corner = (5.5 + column * 6.7, 49 + row * 13)
            ax.add_patch(Rectangle(corner, 4.6, 9, color=INK["c5"], lw=0))
    for row in range(2):
        for column in range(2):
            ax.text(
                74 + column * 16, 55 + row * 20, "×+", ha="center", color=INK["c2"],
                size=18 if wide else 14,
            )  # fmt: skip
    arrow = {"arrowstyle": "-|>", "color": INK["fg"], "lw": 1.6}
    ax.annotate("", (65, 74), (35, 74), arrowprops=arrow)
    ax.annotate("", (35, 58), (65, 58), arrowprops=arrow)
    ax.text(50, 78, "inputs", ha="center")
    ax.text(50, 49, "results", ha="center")
    ax.text(50, 36, "bandwidth β" + ("  (bytes per second)" if wide else ""), ha="center")
    ax.text(82, 36, "peak π" + ("  (FLOP/s)" if wide else ""), ha="center")
    ax.text(18, 36, "capacity" + ("  (bytes)" if wide else ""), ha="center")
    left = "time of the traffic" if wide else "traffic"
    right = "time of the arithmetic" if wide else "arithmetic"
    ax.text(33, 14, f"{left}\n= bytes / bandwidth", ha="center", color=INK["c1"], weight="bold")
    ax.text(76, 14, f"{right}\n= FLOPs / peak", ha="center", color=INK["c2"], weight="bold")
    ax.text(54, 3, "the slower clock decides", ha="center", color=INK["muted"])


@dataclass(frozen=True)
class Operation:
    """An operation on the roofline: its name, its counts and the format it computes in."""

    name: str
    flops: float
    bytes: float
    dtype: str
    label: tuple[float, float, str]  # offset in points and alignment in the figure

    @property
    def intensity(self) -> float:
        """FLOP per byte."""
        return self.flops / self.bytes


def operations() -> tuple[Operation, ...]:
    """The operations of the chapter's figure and table, far left to far right."""
    n, heads, kv_heads, head_dim, prompt, context = 8192, 64, 8, 128, 4096, 8192
    elements = 2**28
    pairs = prompt * prompt
    attention = dict(heads=heads, kv_heads=kv_heads, head_dim=head_dim, bytes_per_element=2)
    return (
        Operation("vector addition, FP32", elements, 12 * elements, "fp32", (6, -12, "left")),
        Operation("sum of a vector, FP32", elements - 1, 4 * elements, "fp32", (6, -12, "left")),
        Operation(
            "GEMV, 8,192 × 8,192, BF16",
            rf.gemm_flops(n, n, 1), rf.gemm_bytes(n, n, 1, 2), "bf16", (-7, 7, "right"),
        ),
        Operation(
            "softmax in one pass, BF16",
            rf.softmax_flops(n, n), rf.softmax_bytes(n, n, 2, 2), "fp32", (6, -13, "left"),
        ),
        Operation(
            "attention, decode, 8 queries per key",
            rf.attention_flops(1, heads, context, head_dim),
            rf.attention_bytes(1, tokens=1, keys=context, **attention), "bf16", (7, -12, "left"),
        ),
        Operation(
            "GEMM with 64 columns, BF16",
            rf.gemm_flops(n, n, 64), rf.gemm_bytes(n, n, 64, 2), "bf16", (7, -12, "left"),
        ),
        Operation(
            "GEMM, 8,192 cubed, BF16",
            rf.gemm_flops(n, n, n), rf.gemm_bytes(n, n, n, 2), "bf16", (0, 9, "center"),
        ),
        Operation(
            "attention, prefill of 4,096 tokens, 8 queries per key, no mask",
            rf.attention_flops(1, heads, pairs, head_dim),
            rf.attention_bytes(1, tokens=prompt, keys=prompt, **attention),
            "bf16", (0, -17, "center"),
        ),
    )  # fmt: skip


@picture(
    "Log-log chart, the roofline of an H100: a slope of its memory bandwidth up to 295 FLOP per "
    "byte, then flat at its BF16 peak; a second, lower flat roof for FP32. Eight operations "
    "stand on it. On the slope, from left: vector addition, sum, softmax, GEMV, decode attention, "
    "GEMM with 64 columns. On the flat part: GEMM of size 8,192 and prefill attention.",
    "Eight operations under the roof of an H100, each at the best rate its intensity allows. Only "
    "the large matrix product and the attention over a whole prompt reach the flat part; *all the "
    "others wait for bytes*. The lower roof is the arithmetic outside of the tensor cores.",
    heights=(380, 330),
)
def eight_operations(ax, m):
    wide = m.wide
    peak, bandwidth, plain = _H100.peak("bf16"), _H100.bandwidth, _H100.peak("fp32")
    ridge = rf.ridge_point(peak, bandwidth)
    ax.set(xscale="log", yscale="log", xlim=(0.04, 60_000), ylim=(1.2e11, 4e15))
    ax.set(xlabel="FLOP per byte", ylabel="FLOP/s")
    ax.set_xticks([0.1, 1, 10, 100, 1000, 10_000], ["0.1", "1", "10", "100", "1k", "10k"])
    ax.set_yticks([1e12, 1e13, 1e14, 1e15], ["1T", "10T", "100T", "1P"])
    ax.minorticks_off()
    ax.plot([0.04, ridge, 60_000], [0.04 * bandwidth, peak, peak], color=INK["c1"])
    ax.plot([plain / bandwidth, 60_000], [plain, plain], color=INK["c1"], lw=1, ls=DASHED)
    ax.plot([0.04, ridge], [peak, peak], color=INK["c1"], lw=1, ls=DASHED)
    ax.plot([ridge, ridge], [1.2e11, peak], color=INK["muted"], lw=1, ls=DASHED)
    ax.text(ridge * 1.15, 1.6e11, f"ridge {ridge:.0f}", color=INK["muted"])
    ax.text(
        0.05,
        peak * 1.12,
        "peak of the BF16 tensor cores" if wide else "BF16 peak",
        ha="left",
        color=INK["c1"],
    )
    ax.text(55_000, plain * 0.62, "FP32 units", ha="right", color=INK["c1"])
    for number, op in enumerate(operations(), 1):
        rate = rf.attainable_flops_per_s(op.intensity, _H100.peak(op.dtype), bandwidth)
        m.dot(ax, op.intensity, rate, size=9)
        dx, dy, ha = op.label
        name = op.name.split(",")[0] + (", prefill" if "prefill" in op.name else "")
        words = f"{number} {name}" if wide else str(number)
        ax.annotate(words, (op.intensity, rate), (dx, dy), textcoords="offset points", ha=ha)
