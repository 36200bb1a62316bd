"""What the page of the book's model shows of its checkpoints: sizes, curves, bars, tokens, samples.

Everything is drawn from the cards beside the checkpoints and from counts of the formulas; no
checkpoint is loaded here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from helpers.book.picture import Picture, picture
from helpers.book.replay.panels import shown
from helpers.book.style import INK, tokens_css
from helpers.book.tables import Column, Table
from helpers.catalog import format_quantity
from helpers.formulas.kv_cache import kv_bytes_per_token
from helpers.formulas.model_size import attention_parameters, swiglu_parameters

Card = Mapping[str, Any]

#: a quotation of the text, or of what may repeat it, stays below this
LONGEST_QUOTATION = 300


# ---- sizes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """Where a model's parameters are.

    Examples
    --------
    >>> count_parts(dict(layers=1, d_model=4, heads=2, kv_heads=1, head_dim=2, ffn=8, vocab=10,
    ...                  tied_embeddings=True)).total
    196
    """

    embedding: int
    attention: int
    feed_forward: int
    norms: int
    head: int

    @property
    def total(self) -> int:
        return self.embedding + self.attention + self.feed_forward + self.norms + self.head


def count_parts(config: Card) -> Parts:
    """Count a model's parameters by the book's formulas.

    Parameters
    ----------
    config : mapping
        The sizes, as a card's recipe holds them; no biases.
    """
    layers, width = config["layers"], config["d_model"]
    table = config["vocab"] * width
    attention = attention_parameters(width, config["heads"], config["kv_heads"], config["head_dim"])
    return Parts(
        embedding=table,
        attention=layers * attention,
        feed_forward=layers * swiglu_parameters(width, config["ffn"]),
        norms=(2 * layers + 1) * width,
        head=0 if config["tied_embeddings"] else table,
    )


def size_table(cards: Sequence[Card]) -> Table:
    """The models' sizes, side by side, each count from the formulas.

    Raises
    ------
    ValueError
        If a card states another number of parameters than its sizes give.
    """
    configs = [card["recipe"]["config"] for card in cards]
    parts = [count_parts(config) for config in configs]
    for card, part in zip(cards, parts, strict=True):
        if card["parameters"] != part.total:
            raise ValueError(
                f"cards: {card['name']} states {card['parameters']:,} parameters; its sizes give "
                f"{part.total:,}"
            )
    cache = [
        kv_bytes_per_token(c["layers"], c["kv_heads"], c["head_dim"], 4) for c in configs
    ]  # float32, as the engine keeps it unless told otherwise
    sizes = (("layers", "layers"), ("width d", "d_model"), ("query heads", "heads"),
             ("key and value heads", "kv_heads"), ("head size D", "head_dim"),
             ("feed-forward width", "ffn"), ("vocabulary V", "vocab"),
             ("context (tokens)", "context"))  # fmt: skip
    rows = [[label, *(f"{c[key]:,}" for c in configs)] for label, key in sizes]
    counted = (("parameters in the one table", "embedding"),
               ("parameters in attention", "attention"),
               ("parameters in feed-forward layers", "feed_forward"),
               ("parameters in norms", "norms"), ("parameters in all", "total"))  # fmt: skip
    rows += [[label, *(f"{getattr(p, key):,}" for p in parts)] for label, key in counted]
    rows += [
        ["file, bf16", *(format_quantity(2 * p.total, "B", 3) for p in parts)],
        ["in memory, float32", *(format_quantity(4 * p.total, "B", 3) for p in parts)],
        ["KV cache for each token, float32", *(format_quantity(b, "KiB", 3) for b in cache)],
    ]
    names = [Column(card["name"]) for card in cards]
    return Table(
        "The three models", [Column("What", text=True), *names], rows, sortable=False,
        note="A tied table is stored once: it turns tokens into vectors at the bottom, and at the "
        "top its rows are what the last vector is compared with.",
    )  # fmt: skip


# ---- text ----------------------------------------------------------------------------------------


def text_table(card: Card) -> Table:
    """The data card's splits."""
    names = {"train": "training", "validation": "validation", "held_out": "held out"}
    parts = [(name, card["splits"][key]) for key, name in names.items()]
    parts.append(("the stranger's training text", card["stranger"]["train"]))
    kinds = {"source": "source", "topic": "topics", "docstring": "docstrings"}
    rows = []
    for name, part in parts:
        of_kind = [
            str(part["kinds"][kind]["documents"]) if kind in part["kinds"] else "–"
            for kind in kinds
        ]
        rows.append(
            [name, f"{part['documents']:,}", f"{part['bytes']:,}", f"{part['tokens']:,}",
             f"{part['bytes_per_token']:.2f}", *of_kind]
        )  # fmt: skip
    columns = [Column("Split", text=True), Column("Documents"), Column("Bytes"), Column("Tokens"),
               Column("Bytes", "a token"),
               *(Column(title, "documents") for title in kinds.values())]  # fmt: skip
    return Table("The text, by split", columns, rows, sortable=False)


@dataclass(frozen=True)
class TokenStrip:
    """A text cut into its tokens, each with what it cost a model.

    Parameters
    ----------
    texts : sequence of str
        What each token says; white space is made visible.
    bits : sequence of float, optional
        What each cost, in bits.
    caption : str

    Examples
    --------
    >>> TokenStrip(["def", " f"], [3.25, 0.5], "Two tokens.").total
    3.75
    """

    texts: Sequence[str]
    bits: Sequence[float] | None
    caption: str

    def __post_init__(self) -> None:
        if not self.texts:
            raise ValueError("texts: there is none; a strip needs a token")
        if self.bits is not None and len(self.bits) != len(self.texts):
            raise ValueError(
                f"bits: has {len(self.bits)} of them; there are {len(self.texts)} texts"
            )

    @property
    def total(self) -> float:
        """All bits together."""
        return sum(self.bits or ())

    def _repr_html_(self) -> str:
        parts = []
        for number, text in enumerate(self.texts):
            small = ""
            if self.bits is not None:
                cost = self.bits[number]
                height = max(1, round(2.6 * min(cost, 16)))
                small = f'<i style="--h:{height}px"></i><small>{cost:.1f}</small>'
            parts.append(f"<span><b>{escape(shown(text), quote=False)}</b>{small}</span>")
        return (
            f'<style data-mb="strip">{tokens_css()}{_STRIP_CSS}</style>'
            f'<figure class="mb mb-strip"><div>{"".join(parts)}</div>'
            f"<figcaption>{escape(self.caption, quote=False)}</figcaption></figure>"
        )

    def __repr__(self) -> str:
        return f"{len(self.texts)} tokens. {self.caption}"


_STRIP_CSS = (
    ".mb-strip{color:var(--mb-fg);max-width:760px;margin:8px 0;break-inside:avoid}"
    ".mb-strip>div{display:flex;flex-wrap:wrap;gap:6px 3px;align-items:flex-end}"
    ".mb-strip span{display:inline-flex;flex-direction:column;align-items:center;min-width:26px}"
    ".mb-strip b{order:1;font:14px/1.5 ui-monospace,Menlo,Consolas,monospace;padding:1px 4px;"
    "border-radius:3px;background:color-mix(in srgb,var(--mb-c1) 16%,var(--mb-bg))}"
    ".mb-strip span:nth-child(even) b{background:color-mix(in srgb,var(--mb-c3) 18%,var(--mb-bg))}"
    ".mb-strip i{width:14px;height:var(--h);background:var(--mb-c2);border-radius:2px 2px 0 0}"
    ".mb-strip small{order:2;font-size:12px;line-height:1.3;color:var(--mb-muted);"
    "font-variant-numeric:tabular-nums}"
    ".mb-strip figcaption{margin-top:6px;font-size:.9em;color:var(--mb-muted)}"
    ".text_html:has(>.mb-strip),.jp-RenderedHTMLCommon:has(>.mb-strip)"
    "{background:none!important;padding:0!important}"
)


# ---- curves and bars -----------------------------------------------------------------------------


def loss_curve(card: Card, bytes_per_token: float) -> Picture:
    """The loss over the run, in bits per byte: of the training text, and of text it never saw.

    Parameters
    ----------
    card : mapping
        Of a model that was trained on the text itself, not on a teacher.
    bytes_per_token : float
        Of the training text, to turn its loss into bits per byte.
    """
    steps = [point[0] for point in card["curve"]]
    train = [point[1] / math.log(2) / bytes_per_token for point in card["curve"]]
    validation = [point[2] for point in card["curve"]]
    middles = [(a + b) / 2 for a, b in zip([0, *steps[:-1]], steps, strict=True)]
    recipe = card["recipe"]
    start = math.log2(recipe["config"]["vocab"]) / bytes_per_token
    falls = round((1 - recipe["cool_down"]) * recipe["steps"])

    @picture(
        f"Two falling curves of bits per byte over {recipe['steps']:,} steps. Both start near "
        f"{start:.1f} and end near {train[-1]:.1f} on the training text and {validation[-1]:.1f} "
        "on validation text.",
        "Loss in bits per byte. The dot is what a model pays that takes every token for "
        "equally likely. From the dashed line on the learning rate falls and sequences have full "
        "length, as the validation text has throughout.",
    )
    def loss_over_steps(ax, m):
        ax.set(xlim=(0, recipe["steps"]), ylim=(min(*train, *validation) * 0.85, start * 1.05))
        ax.set(xlabel="Step", ylabel="Bits per byte")
        quarters = [round(recipe["steps"] * i / 4) for i in range(5)]
        ax.set_xticks(quarters, [f"{step:,}" for step in quarters])
        ax.axvline(falls, color=INK["muted"], lw=1, ls=(0, (4, 3)))
        ax.plot([0, *middles], [start, *train], color=INK["c2"], ls=(0, (5, 1.5)),
                label="training text")  # fmt: skip
        ax.plot([0, *steps], [start, *validation], color=INK["c1"], label="validation text")
        m.dot(ax, 0, start, size=9)
        ax.legend(loc="upper right")

    return loss_over_steps


def bits_bars(bars: Mapping[str, float], models: Sequence[str]) -> Picture:
    """Bits per byte as bars, the worst first.

    Parameters
    ----------
    bars : mapping of str to float
    models : sequence of str
        Which of the names are models; they are drawn in another colour, and filled.
    """
    order = sorted(bars, key=bars.get)
    top = max(bars.values())

    @picture(
        "Bars of bits per byte on the held-out text, the shortest at the bottom: "
        + ", ".join(f"{name} {bars[name]:.2f}" for name in reversed(order)) + ".",
        "The same held-out documents for all. *Filled*: language models. *Outlined*: compressors "
        "and counting.",
        heights=(90 + 34 * len(bars), 90 + 34 * len(bars)),
    )  # fmt: skip
    def bits_on_held_out_text(ax, m):
        for place, name in enumerate(order):
            style = (
                {"color": INK["c1"]} if name in models
                else {"facecolor": "none", "edgecolor": INK["c2"], "linewidth": 1.8}
            )  # fmt: skip
            ax.barh(place, bars[name], 0.6, **style)
            ax.text(bars[name] + top * 0.015, place, f"{bars[name]:.2f}", va="center")
        ax.set(xlim=(0, top * 1.12), ylim=(-0.6, len(bars) - 0.4), xlabel="Bits per byte")
        ax.set_yticks(range(len(order)), order)
        ax.grid(axis="y", visible=False)

    return bits_on_held_out_text


# ---- samples -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Samples:
    """A card's samples: the prompt, what the model made of it, and that it is made.

    Raises
    ------
    ValueError
        If one is too long to be quoted.
    """

    card: Card

    def __post_init__(self) -> None:
        for sample in self.card["samples"]:
            length = len(sample["prompt"]) + len(sample["text"])
            if length >= LONGEST_QUOTATION:
                raise ValueError(
                    f"card: the sample of {sample['prompt']!r} has {length} characters; below "
                    f"{LONGEST_QUOTATION} are allowed"
                )

    def _repr_html_(self) -> str:
        name = self.card["name"]
        parts = []
        for number, sample in enumerate(self.card["samples"], 1):
            prompt, text = (_plain(sample[key]) for key in ("prompt", "text"))
            parts.append(
                f"<li><p>Sample {number} of the {name}, seed {sample['seed']}. The prompt is "
                f"underlined; the rest is generated.</p><pre><u>{prompt}</u>{text}</pre></li>"
            )
        return (
            f'<style data-mb="samples">{tokens_css()}{_SAMPLES_CSS}</style>'
            f'<ul class="mb mb-samples">{"".join(parts)}</ul>'
        )

    def __repr__(self) -> str:
        return f"{len(self.card['samples'])} samples of the {self.card['name']}"


def _plain(text: str) -> str:
    """Text for a page: mark-up escaped, control characters as dots."""
    return escape("".join(c if c.isprintable() or c in "\n\t" else "·" for c in text), quote=False)


_SAMPLES_CSS = (
    ".mb-samples{color:var(--mb-fg);list-style:none;max-width:760px;margin:8px 0!important;"
    "padding:0!important}"
    ".mb-samples li{margin:0 0 12px;break-inside:avoid}"
    ".mb-samples p{margin:0 0 3px;font-size:13px;color:var(--mb-muted)}"
    ".mb-samples pre{margin:0;padding:8px 12px;color:inherit;background:var(--mb-bg);"
    "border:1px solid var(--mb-line);border-left:3px solid var(--mb-c2);border-radius:4px;"
    "font:13.5px/1.45 ui-monospace,Menlo,Consolas,monospace;white-space:pre-wrap;"
    "overflow-wrap:anywhere}"
    ".mb-samples u{text-decoration:underline;text-decoration-color:var(--mb-c1);"
    "text-decoration-thickness:2px;text-underline-offset:3px}"
    ".text_html:has(>.mb-samples),.jp-RenderedHTMLCommon:has(>.mb-samples)"
    "{background:none!important;padding:0!important}"
)
