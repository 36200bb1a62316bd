"""The figures of chapter 6: why memory decides how many users can be served."""

from __future__ import annotations

from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MultipleLocator

from helpers import catalog
from helpers.book.explorable import choice, explorable, powers, values
from helpers.book.figures.roofline import sixteen_bit_peak
from helpers.book.picture import picture
from helpers.book.style import INK
from helpers.formulas import kv_cache as kv
from helpers.formulas import roofline as rf
from helpers.formulas.ops import absolute, ceil, floor, maximum, minimum, where
from helpers.formulas.quantization import bits_per_weight
from helpers.formulas.training import forward_flops

DASHED = (0, (4, 3))
GB = 1e9
#: 4-bit codes with an 8-bit scale for each 16 values
FOUR_BIT = bits_per_weight(4, 16, 8)
BITS = [FOUR_BIT, 8, 16]
#: upper ends of an axis; a quarter of each below 4 has one decimal, of the others none
_TOPS = (
    0.4, 0.8, 1.2, 2, 4, 8, 12, 20, 40, 60, 80,
    *(part * 10**power for power in (2, 3, 4) for part in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8)),
)  # fmt: skip


# --- models and machines ------------------------------------------------------------------------


def _model(id: str, weight_bits: int = 16) -> tuple[str, dict[str, float]]:
    """A model's name and what the figures need of it."""
    model = catalog.model(id)
    name = model.name if weight_bits == 16 else f"{model.name}, {weight_bits}-bit weights"
    return name, {
        "weights": model.parameters * weight_bits / 8,
        "cache": float(model.kv_per_token),
        "window": model.window or 2**30,  # where the cache stops growing
        "context": model.context,
        "parameters": model.parameters,
        "width": model.layers * model.heads * model.head_dim,
    }


def _machine(id: str, chips: int = 1) -> tuple[str, dict[str, float]]:
    """One chip, or several alike that share the work evenly."""
    chip = catalog.chip(id)
    return chip.short if chips == 1 else f"{chips} × {chip.short}", {
        "capacity": chips * float(chip.capacity),
        "bandwidth": chips * float(chip.bandwidth),
    }


#: dense models with full attention and 16-bit weights
MODELS = dict(map(_model, ("llama-2-7b", "llama-3.1-8b", "qwen2.5-7b", "llama-3.1-70b")))
ALL_MODELS = {
    **MODELS,
    **dict([_model("mistral-7b-v0.1"), _model("llama-3.1-70b", 8), _model("deepseek-v3", 8)]),
}
SINGLE = ("l4", "rtx-4090", "a100-sxm-80gb", "h100-sxm", "h200-sxm", "mi300x", "b200-sxm")
MACHINES = dict(
    [*map(_machine, SINGLE), *(_machine(id, 8) for id in ("h100-sxm", "h200-sxm", "b200-sxm"))]
)
_H100 = catalog.chip("h100-sxm").short


def _first_above(value, tops=_TOPS):
    """The least upper end of an axis that leaves some room above a value."""
    top = tops[-1]
    for end in reversed(tops[:-1]):
        top = where(value * 1.12 < end, end, top)
    return top


# --- the memory of a chip -----------------------------------------------------------------------


_FREE = {"fc": "none", "ec": INK["muted"]}


def _stack(ax, m, weights, need, capacity):
    """The bar of memory, its end, and a wider frame around what passes it."""
    m.bar(ax, 1.9, 2.6, 0, weights, color=INK["c5"])
    m.bar(ax, 1.9, 2.6, weights, need, color=INK["c1"])
    m.bar(ax, 1.9, 2.6, minimum(need, capacity), capacity, **_FREE)
    frame = {"fc": "none", "ec": INK["bad"], "lw": 2, "ls": DASHED}
    m.bar(ax, 1.9, 3.2, capacity, maximum(need, capacity), **frame)
    m.line(ax, [0.2, 3.9], [capacity, capacity], color=INK["fg"], lw=2.5)


def _entry(ax, m, at, name, gigabytes, **swatch):
    """A line of the list beside the bar: a swatch, a name, how much."""
    m.bar(ax, 6.15, 0.3, at - 0.045, at + 0.075, **swatch)
    m.text(ax, 6.5, at, name, dy=-3, weight="bold")
    m.text(ax, 6.5, at, f"{gigabytes:,.1f} GB", dy=14)


@explorable(
    "What fits into a chip's memory",
    "A bar of memory: at the bottom the weights, on them the cache of all users, then what is "
    "free. A thick line marks the end of the memory; what does not fit stands above it, in a "
    "wider dashed frame.",
    model=choice("Model", ALL_MODELS, "Llama 3.1 8B"),
    machine=choice("Chip", MACHINES, _H100),
    context=powers("Context of each user", 1024, 131072, 8192, "tokens"),
    users=powers("Users at once", 1, 256, 16),
    bits=values("Bits per cached value", BITS, 16),
)
def cache_on_a_chip(ax, m, v):
    held = kv.cached_tokens(v.context, v.model.window)
    each = kv.kv_cache_bytes(v.model.cache * (v.bits / 16), held, 1) / GB  # of one user
    weights, cache, capacity = v.model.weights / GB, each * v.users, v.machine.capacity / GB
    need = weights + cache
    fits, most = need <= capacity, floor(maximum(capacity - weights, 0) / each)

    ax.set(xlim=(0, 10), ylabel="Memory (GB)")
    ax.set_xticks([])
    y = m.yscale(ax, _first_above(maximum(need, capacity)), widest="40,000")
    _stack(ax, m, y(weights), y(need), y(capacity))
    m.text(ax, 4, y(capacity), f"{capacity:,.0f} GB", dy=4, weight="bold")
    _entry(ax, m, 0.2, "weights", weights, color=INK["c5"])
    _entry(ax, m, 0.5, "cache", cache, color=INK["c1"])
    _entry(ax, m, 0.8, where(fits, "free", "too much"), absolute(capacity - need), **_FREE)
    do = where(most > 0, f"at most {most:,.0f} such users do.", "not even one such user does.")
    ends = f" The model itself ends at {v.model.context:,.0f} tokens."
    m.readout(
        f"{v.users:.0f} × {each:,.2f} GB = {cache:,.1f} GB of cache. "
        + where(fits, "It fits; ", "It does not fit; ")
        + where(weights > capacity, "the weights alone are too large.", do)
        + where(v.context > v.model.context, ends, "")
    )


# --- the time of a step -------------------------------------------------------------------------

_END = 131072  # tokens: where the axis ends


def _token_axis(ax, xlabel, ylabel):
    ax.set(xlim=(0, 1.03 * _END), xlabel=xlabel, ylabel=ylabel)
    ax.set_xticks([i * _END / 4 for i in range(5)], ["0", "32K", "64K", "96K", "128K"])


def _equal_line(ax, m, at):
    """A vertical line where two costs are equal, with its place in words; none off the axis."""
    seen = at < _END
    x, top = where(seen, at, _END), where(seen, 1, 0)
    m.line(ax, [x, x], [0, top], color=INK["c3"], lw=1.6, ls=DASHED)
    words = f"equal at {at:,.0f}"
    style = {"color": INK["c3"], "weight": "bold"}
    m.text(ax, x, 0.92, where(at < _END / 2, words, ""), dx=6, **style)
    m.text(
        ax, x, 0.03, where(at < _END / 2, "", where(seen, words, "")), dx=-6, ha="right", **style
    )


@explorable(
    "One decode step: the weights once, the cache of every user",
    "Chart of the time of a decode step against the context: a dashed level for reading the "
    "weights, a rising line for weights and cache together, a dot for the current setting, and a "
    "vertical line where the cache takes as long as the weights.",
    model=choice("Model, 16-bit weights", MODELS, "Llama 3.1 8B"),
    machine=choice("Chip", MACHINES, _H100),
    context=powers("Context of each user", 1024, 131072, 8192, "tokens"),
    users=powers("Users at once", 1, 128, 8),
    bits=values("Bits per cached value", BITS, 16),
)
def decode_step(ax, m, v):
    per_token = v.users * v.model.cache * (v.bits / 16)  # bytes that one more token adds
    need = v.model.weights + per_token * v.context
    time = lambda bytes_read: 1e3 * rf.memory_seconds(bytes_read, v.machine.bandwidth)  # noqa: E731
    weights, step = time(v.model.weights), time(need)  # ms
    longest = time(v.model.weights + per_token * _END)
    equal = v.model.weights / per_token  # tokens at which both take as long

    _token_axis(ax, "Context (tokens)", "Time of a step (ms)")
    y = m.yscale(ax, _first_above(longest), widest="20,000")
    _equal_line(ax, m, equal)
    m.hline(ax, y(weights), color=INK["muted"], lw=1.6, ls=DASHED)
    m.line(ax, [0, _END], [y(weights), y(longest)])
    m.dot(ax, v.context, y(step))
    m.text(ax, _END, y(weights), where(equal < _END / 2, "weights", ""), dy=-5, ha="right")
    m.text(ax, 0, y(weights), where(equal < _END / 2, "", "weights"), dx=6, dy=15)
    m.readout(
        f"{step:,.2f} ms a step: {weights:,.2f} ms for the weights and {step - weights:,.2f} ms "
        f"for the cache; {1e3 / step:,.1f} tokens/s for each user, {1e3 * v.users / step:,.0f} in "
        f"all. Cache and weights are equal at {equal:,.0f} tokens. "
        + where(need <= v.machine.capacity, "Fits: ", "Does not fit: ")
        + f"{need / GB:,.1f} of {v.machine.capacity / GB:,.0f} GB"
    )


# --- fetch or compute again ---------------------------------------------------------------------

#: PCIe 5 x16 in one direction, bytes per second: bekman-2026, chapter on networks, table of PCIe
PCIE_5 = 63e9
#: NVLink-C2C in one direction: half of the 900 GB/s of syed-2025
NVLINK_C2C = 450e9


def _place(id: str, rate: float) -> dict[str, float]:
    """A chip and the rate at which a stored cache reaches it."""
    chip = catalog.chip(id)
    return {
        "peak": float(sixteen_bit_peak(chip)),
        "rate": float(rate),
        "size": float(chip.capacity),
    }


#: where the cache waits, and the chip it goes to
PLACES = {
    "host memory, GH200 (NVLink-C2C)": _place("h100-sxm", NVLINK_C2C),  # its GPU has H100's peak
    "host memory, H100 (PCIe 5)": _place("h100-sxm", PCIE_5),
    "host memory, RTX 4090 (PCIe 4)": _place(
        "rtx-4090", catalog.chip("rtx-4090").link("pcie-4-x16").one_way
    ),
    "NVMe, H100 (4 lanes of PCIe 5)": _place("h100-sxm", PCIE_5 / 4),  # a bound: drives are slower
    "network, H100 (400 Gbit/s)": _place("h100-sxm", 400e9 / 8),
    "network, H100 (100 Gbit/s)": _place("h100-sxm", 100e9 / 8),
    "network, H100 (10 Gbit/s)": _place("h100-sxm", 10e9 / 8),
}


def crossing(model, place, bits, utilisation):
    """Tokens up to which computing is faster: the root of a linear equation.

    With T(T + 1)/2 pairs of query and key, fetching costs f T and computing a T + b T(T + 1)/2;
    divided by T, the two are equal where f = a + b(T + 1)/2.
    """
    rate = place.peak * utilisation / 100
    f = rf.memory_seconds(model.cache * (bits / 16), place.rate)
    a = rf.compute_seconds(forward_flops(model.parameters, 1), rate)
    b = rf.compute_seconds(rf.attention_flops(1, 1, 1, model.width), rate)
    return 2 * (f - a) / b - 1


def _prefill_flops(model, tokens):
    attention = rf.attention_flops(1, 1, rf.causal_pairs(tokens, 0), model.width)
    return forward_flops(model.parameters, tokens) + attention


def _duration(seconds):
    return where(seconds < 1, f"{1e3 * seconds:,.1f} ms", f"{seconds:,.1f} s")


_LINE = [1, *(i * _END / 16 for i in range(1, 17))]
_NAMED = 0.55 * _END  # where lines carry their names


def _name_line(ax, m, y, words, upper, color):
    """Name a rising line: the upper of two above, the lower below unless there is no room."""
    style = {"color": color, "weight": "bold"}
    above = where(upper, words, where(y < 0.11, words, ""))
    m.text(ax, _NAMED, y, above, dx=-4, dy=-9, ha="right", **style)
    m.text(ax, _NAMED, y, where(upper, "", where(y < 0.11, "", words)), dx=6, dy=17, **style)


@explorable(
    "Fetch the cache or compute it again?",
    "Chart of time against tokens: a straight line for fetching their cache over a link, "
    "and one for computing it again, which bends upward; a dot on each for the current setting, "
    "and a vertical line where they cross, if they do.",
    model=choice("Model, 16-bit weights", MODELS, "Llama 3.1 8B"),
    place=choice("Where the cache waits", PLACES, "host memory, H100 (PCIe 5)"),
    tokens=powers("Tokens", 512, 131072, 8192),
    bits=values("Bits per cached value", BITS, 16),
    utilisation=values("Share of the peak reached", [10, 20, 30, 40, 50, 60, 70], 40, "%"),
)
def fetch_or_recompute(ax, m, v):
    chips = ceil(v.model.weights / v.place.size)  # as many as hold the weights, each with its link
    rate, link = chips * v.place.peak * v.utilisation / 100, chips * v.place.rate
    bytes_each = v.model.cache * (v.bits / 16)
    fetch = lambda tokens: rf.memory_seconds(bytes_each * tokens, link)  # noqa: E731
    compute = lambda tokens: rf.compute_seconds(_prefill_flops(v.model, tokens), rate)  # noqa: E731
    fetching, computing = fetch(v.tokens), compute(v.tokens)
    equal = crossing(v.model, v.place, v.bits, v.utilisation)

    _token_axis(ax, "Tokens", "Time (s)")
    y = m.yscale(ax, _first_above(maximum(fetch(_END), compute(_END))), widest="600")
    _equal_line(ax, m, where(equal < 1, 2 * _END, equal))
    for time, words, ink in ((fetch, "fetch", "c1"), (compute, "compute again", "c2")):
        upper = time(_NAMED) >= maximum(fetch(_NAMED), compute(_NAMED))
        m.line(ax, _LINE, lambda t, f=time: y(f(t)), color=INK[ink])
        m.dot(ax, v.tokens, y(time(v.tokens)), color=INK[ink])
        _name_line(ax, m, y(time(_NAMED)), words, upper, color=INK[ink])
    early = f"Computing is faster up to {equal:,.0f} tokens."
    links = f" {chips:.0f} chips share the work, each with such a link."
    m.readout(
        f"Fetching {v.tokens * bytes_each / GB:,.2f} GB takes " + _duration(fetching)
        + ", computing it again " + _duration(computing)
        + f": {computing / fetching:,.2f} times as long. "
        + where(equal < 1, "Fetching is faster at any length.", early)
        + where(chips > 1, links, "")
    )  # fmt: skip


# --- smaller caches -----------------------------------------------------------------------------

_SHAPE = catalog.model("llama-3.1-70b")
#: the latent of DeepSeek-V3, given to the shape above
_LATENT = catalog.model("deepseek-v3").mla
CONTEXT, WINDOW = 32_768, 4096


def smaller_caches_rows() -> tuple[tuple[str, float], ...]:
    """Bytes per token of context that Llama 3.1 70B's shape keeps, were it built otherwise."""

    def cached(kv_heads, bits=16):
        return kv.kv_bytes_per_token(_SHAPE.layers, kv_heads, _SHAPE.head_dim, bits / 8)

    own = _SHAPE.kv_heads
    rank, rope = _LATENT.kv_lora_rank, _LATENT.qk_rope_head_dim
    share = kv.cached_tokens(CONTEXT, WINDOW) / CONTEXT
    return (
        (f"MHA, {_SHAPE.heads} heads", cached(_SHAPE.heads)),
        (f"GQA, {own} heads (as it is)", cached(own)),
        ("GQA, int8", cached(own, bits_per_weight(8, 64, 16))),
        ("GQA, int4", cached(own, bits_per_weight(4, 64, 16))),
        (f"MLA, {rank} + {rope} values", kv.mla_kv_bytes_per_token(_SHAPE.layers, rank, rope, 2)),
        ("MQA, 1 head", cached(1)),
        (f"GQA, window of {WINDOW:,}", cached(own) * share),
    )


@picture(
    "Seven bars, kilobytes of cache per token of context for the shape of Llama 3.1 70B: "
    "multi-head attention, eight times as long as the next; grouped-query attention as the model "
    "has it; the same with int8 and with int4 values; latent attention; multi-query attention; "
    "and grouped-query attention with a window, the last two an eighth as long.",
    "One shape, seven caches: Llama 3.1 70B as it is, and what it would keep had it been built "
    "or stored otherwise. *Behind each size stands its ratio to the cache it has.* Latent "
    "attention is given DeepSeek-V3's sizes; int8 and int4 have a 16-bit scale for each 64 values; "
    "the window is counted at a context of 32,768 tokens. What each costs in quality the bars do "
    "not say.",
    heights=(330, 330),
)
def smaller_caches(ax, m):
    rows = smaller_caches_rows()
    now = rows[1][1]
    ax.set(xlim=(0, 3400 if m.wide else 5200), ylim=(len(rows) - 0.4, -0.6))
    ax.set(xlabel="kB per token of context")
    ax.set_yticks(range(len(rows)), [name if m.wide else _short(name) for name, _ in rows])
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.xaxis.set_major_locator(MultipleLocator(1000 if m.wide else 2000))
    ax.grid(axis="y", visible=False)
    for place, (_, size) in enumerate(rows):
        color, weight = (INK["c2"], "bold") if place == 1 else (INK["c1"], "normal")
        ax.barh(place, size / 1e3, 0.62, color=color)
        times = "" if size == now else f" (×{size / now:.2g})"
        times = f" (1/{now / size:.2g})" if size < now else times
        words = f"{size / 1e3:,.0f}{times}"
        ax.annotate(
            words, (size / 1e3, place), (5, 0), textcoords="offset points", va="center",
            weight=weight,
        )  # fmt: skip


def _short(name):
    return name.split(" (")[0].replace(" of ", " ").replace(" values", "")


# --- what passes through the layers -------------------------------------------------------------

PROMPT, ANSWER = 3, 5  # tokens: few, to be counted with a finger


def tokens_passed(prompt: int, answer: int, cached: bool) -> list[range]:
    """Positions of the tokens that pass through the layers, step by step.

    Examples
    --------
    >>> [len(step) for step in tokens_passed(4, 3, cached=False)]
    [4, 5, 6]
    >>> [len(step) for step in tokens_passed(4, 3, cached=True)]
    [4, 1, 1]
    """
    steps = range(prompt, prompt + answer)
    return [range(end - 1 if cached and end > prompt else 0, end) for end in steps]


@picture(
    "Two grids of squares, a row for each step and a column for each token. Without a cache every "
    "row is filled from the first token to the newest, so the filled part is a growing triangle. "
    "With a cache the first row is filled and each later row has one filled square, the newest; "
    "the squares before it are outlined, for their keys and values are read from the cache.",
    f"A prompt of {PROMPT} tokens and an answer of {ANSWER}. *Filled squares pass through all "
    "layers; outlined ones are only read from the cache.* Without a cache the filled squares "
    "grow with the square of the length, with it as the length. The outlined ones still form a "
    "triangle: that is what attention reads.",
    heights=(230, 400),
)
def what_passes(ax, m):
    ax.axis("off")
    ax.set_aspect("equal")
    gap = PROMPT + ANSWER + 2
    for place, (title, cached) in enumerate((("without a cache", False), ("with a cache", True))):
        left, top = (place * gap, 0) if m.wide else (0, place * (ANSWER + 3))
        steps = tokens_passed(PROMPT, ANSWER, cached)
        count = sum(map(len, steps))
        words = f"{title}: {count} pass"
        ax.text(left, top - 0.9, words, weight="bold", color=INK["fg"])
        squares = {True: [], False: []}  # of the tokens that pass, and of those that are read
        for row, passed in enumerate(steps):
            for column in range(passed.stop):
                square = Path.unit_rectangle().vertices * 0.88 + (
                    left + column + 0.06,
                    top + row + 0.06,
                )
                squares[column in passed].append(Path(square, Path.unit_rectangle().codes))
        for fill, paths in squares.items():
            if paths:
                ink = INK["c1"] if fill else INK["muted"]
                face = ink if fill else "none"
                together = Path.make_compound_path(*paths)  # one mark, for a light page
                ax.add_patch(PathPatch(together, facecolor=face, edgecolor=ink))
    ax.set_xlim(-0.3, (2 * gap - 2 if m.wide else gap - 2) + 0.3)
    ax.set_ylim((ANSWER if m.wide else 2 * ANSWER + 3) + 0.3, -2)
