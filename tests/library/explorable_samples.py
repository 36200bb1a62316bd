"""Explorables of every sort, for the tests: bars, a scale that grows, a curve, a best k."""

from __future__ import annotations

from helpers.book.explorable import choice, explorable, powers, values
from helpers.book.style import INK
from helpers.formulas.ops import argmax, floor, log2, maximum, minimum, where

MODELS = {
    "Llama-3.1-8B": {"layers": 32, "kv_heads": 8, "parameters": 8.03e9},
    "Llama-2-7B": {"layers": 32, "kv_heads": 32, "parameters": 6.74e9},
    "Llama-3.1-70B": {"layers": 80, "kv_heads": 8, "parameters": 70.6e9},
}
DASHED = (0, (5, 3))


@explorable(
    "KV cache: does it fit?",
    "Stacked bars of weight and KV-cache gigabytes for eight contexts, and a line at 80 GB.",
    model=choice("Model (bf16)", MODELS, "Llama-3.1-8B"),
    batch=powers("Batch", 1, 256, 8, "sequences"),
    context=powers("Context", 1024, 131072, 8192, "tokens"),
)
def cache_fits(ax, m, v):
    capacity, weights = 80.0, 2 * v.model.parameters / 1e9

    def cache(tokens):
        return 2 * v.model.layers * v.model.kv_heads * 128 * 2 * tokens * v.batch / 1e9

    need = weights + cache(v.context)
    top = 2 * capacity
    for times in (4, 10, 20, 40, 80, 160):
        top = where(maximum(need, capacity) * 1.15 > top, capacity * times, top)
    contexts = [1024 << i for i in range(8)]
    ax.set(xlim=(-0.6, 7.6), xlabel="Context (tokens)", ylabel="Memory (GB)")
    ax.set_xticks(range(8), [f"{c >> 10}K" for c in contexts])
    ax.grid(axis="x", visible=False)
    y = m.yscale(ax, top, widest="12,800")
    x = floor(log2(v.context / 1024) + 0.5)
    m.bar(ax, x, 0.9, 0, 1, color=INK["grid"], alpha=0.6)
    for i, tokens in enumerate(contexts):
        both = minimum(y(weights + cache(tokens)), 1)
        m.bar(ax, i, 0.62, 0, y(weights), color=INK["c5"])
        m.bar(ax, i, 0.62, y(weights), both, color=INK["c1"])
    m.hline(ax, y(capacity), color=INK["c2"], lw=1.6, ls=DASHED)
    m.text(ax, x, minimum(y(need), 0.92), f"{need:,.0f} GB", dy=-7, ha="center", weight="bold")
    m.readout(
        where(
            need <= capacity,
            f"Fits: {weights:,.1f} GB + {cache(v.context):,.1f} GB = {need:,.1f} of 80 GB",
            f"Does not fit: {weights:,.1f} GB + {cache(v.context):,.1f} GB = {need:,.1f} GB, "
            f"which is {need - capacity:,.1f} GB more than there is",
        )
    )


def speedup(acceptance, k, cost):
    return (1 - acceptance ** (k + 1)) / ((1 - acceptance) * (k * cost + 1))


@explorable(
    "Speculative decoding: how many tokens to draft",
    "Line chart of speedup against draft length, with a dot at the chosen length.",
    acceptance=values("Acceptance rate", [round(0.05 * i, 2) for i in range(4, 20)], 0.7),
    k=values("Draft length k", range(17), 4, "tokens"),
    cost=values("Draft cost", [0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5], 0.05, "× target"),
)
def draft_length(ax, m, v):
    chosen = speedup(v.acceptance, v.k, v.cost)
    best = argmax(range(17), lambda k: speedup(v.acceptance, k, v.cost))
    top = speedup(v.acceptance, best, v.cost)
    ax.set(xlim=(-1.2, 16.8), xlabel="Draft length k", ylabel="Speedup (×)")
    ax.set_xticks(range(0, 17, 2))
    y = m.yscale(ax, where(top < 1.7, 2, where(top < 3.5, 4, where(top < 7, 8, 16))))
    m.hline(ax, y(1), color=INK["muted"], lw=1, ls=DASHED)
    m.line(ax, range(17), lambda k: y(speedup(v.acceptance, k, v.cost)))
    m.dot(ax, v.k, y(chosen))
    style = {"color": INK["c2"], "weight": "bold", "ha": "center"}
    m.text(ax, v.k, y(chosen), f"{chosen:.2f}×", dy=-13, **style)
    m.readout(f"{chosen:.2f}× at k = {v.k:.0f}; best is {top:.2f}× at k = {best:.0f}")
