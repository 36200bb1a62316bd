"""What the lab of smaller caches shows: bytes against bits per byte, recall, keys, one short text.

Everything is drawn from a run of :mod:`helpers.bench.smaller`, recorded or live; only the short
text of the playground is run here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from helpers.bench.smaller import FULL, SHORT, Cache, Recall, Result, SmallerRun
from helpers.book.figures.checkpoints import TokenStrip
from helpers.book.layer_view import draw_mark
from helpers.book.picture import Picture, picture
from helpers.book.style import INK
from helpers.book.tables import Cell, Column, Table

if TYPE_CHECKING:
    from helpers.lm.model import Transformer
    from helpers.lm.tokenizer import Tokenizer

#: mark, colour and name of each kind of smaller cache
KINDS = {
    "format": ("s", "c1", "fewer bits"),
    "window": ("o", "c2", "a window"),
    "heads": ("^", "c4", "fewer heads"),
    "together": ("D", "c3", "two or more"),
    "full": ("s", "fg", "all of it"),
}


def percent(share: float) -> str:
    """A cost in per cent with its sign, finer where it is small.

    Examples
    --------
    >>> percent(0.4012), percent(0.0031), percent(-0.00004)
    ('+40%', '+0.31%', '0.00%')
    """
    digits = 0 if abs(share) >= 0.1 else 1 if abs(share) >= 0.01 else 2
    return f"{100 * share:+.{digits}f}%".replace("-0.00", "0.00").replace("+0.00", "0.00")


def kibibytes(size: int) -> str:
    """Bytes in KiB; the book's target has caches of whole KiB, but for scales.

    Examples
    --------
    >>> kibibytes(2_621_440)
    '2,560'
    """
    return f"{size / 1024:,.0f}"


# ---- tables --------------------------------------------------------------------------------------


def results_table(run: SmallerRun, title: str = "Smaller caches of the book's target") -> Table:
    """Bytes and bits per byte of every cache of a run."""
    rows = []
    for result in run.results:
        label = result.cache.label
        saving = run.saving(label)
        rows.append(
            [
                label,
                Cell(kibibytes(result.session_bytes), result.session_bytes),
                Cell(f"{saving:.1f}" if saving >= 1 else f"{saving:.2f}", round(saving, 3)),
                Cell(f"{result.bits_per_byte:.4f}", result.bits_per_byte),
                Cell(percent(run.cost(label)), round(run.cost(label), 6)),
            ]
        )
    return Table(
        title,
        [
            Column("Cache", text=True),
            Column("Session", f"KiB at {run.target['context']:,} tokens"),
            Column("Smaller", "times, than bf16"),
            Column("Bits per byte", "held-out text"),
            Column("Cost", "over fp32"),
        ],
        rows,
        note=text_note(run),
    )


#: one or two caches of each kind, for a page that has no room for all
CHOSEN = (
    "bf16", "int8", "int4", "int2", "window 256", "window 128", "window 32", "2 heads, pooled",
    "2 heads, tuned", "4 heads, tuned", "int8, window 256", "int4, window 128",
)  # fmt: skip


def chosen_table(run: SmallerRun) -> Table:
    """A few caches with their bytes and cost, narrow enough for a phone."""
    rows = []
    for label in (label for label in CHOSEN if label in run.labels):
        size, cost = run.result(label).session_bytes, run.cost(label)
        rows.append([label, Cell(kibibytes(size), size), Cell(percent(cost), round(cost, 6))])
    return Table(
        "Smaller caches of the book's target",
        [
            Column("Cache", text=True),
            Column("Session", "KiB"),
            Column("Cost", "more bits"),
        ],
        rows,
        note="4 heads, tuned: the same training as for 2, nothing pooled. The lab has all caches.",
    )


def text_note(run: SmallerRun) -> str:
    """On which text, and where, in one line."""
    return (
        f"{run.documents} held-out documents, {run.text_tokens:,} tokens, {run.text_bytes:,} bytes,"
        f" Python {run.python}; {run.created.isoformat()}."
    )


def recall_table(run: SmallerRun) -> Table:
    """What a copy saves, by distance, beside the cost in bits per byte."""
    rows = []
    for recall in run.recalls:
        label = recall.cache.label
        saved = zip(recall.saved_bits, recall.standard_errors, strict=True)
        rows.append(
            [
                label,
                Cell(percent(run.cost(label)), round(run.cost(label), 6)),
                *(
                    Cell(f"{bits:.2f} ± {error:.2f}".replace("-0.00", "0.00"), bits)
                    for bits, error in saved
                ),
            ]
        )
    return Table(
        "Bits per token that an earlier copy saves",
        [
            Column("Cache", text=True),
            Column("Cost", "bits per byte"),
            *(Column(f"{distance} back") for distance in run.recalls[0].distances),
        ],
        rows,
        note=f"{run.cases} passages of {run.passage} tokens for each distance; mean and its "
        "standard error.",
        sortable=False,
    )


def layers_table(run: SmallerRun) -> Table:
    """What keys, values and attention look like, layer by layer."""
    return Table(
        "Keys, values and attention of the book's target",
        [
            Column("Layer"),
            Column("Keys", "largest / median"),
            Column("Values", "largest / median"),
            Column("Keys in int4", "error, by row"),
            Column("Keys in int4", "by channel"),
            Column("Values in int4", "error, by row"),
            Column("Values in int4", "by channel"),
            Column("First token", "attention"),
            Column("Newest 128", "attention"),
        ],
        [
            [
                str(number),
                f"{layer.key_spread:.1f}",
                f"{layer.value_spread:.1f}",
                f"{layer.key_error_row:.1%}",
                f"{layer.key_error_channel:.1%}",
                f"{layer.value_error_row:.1%}",
                f"{layer.value_error_channel:.1%}",
                f"{layer.first_share:.1%}",
                f"{layer.near_share:.0%}",
            ]
            for number, layer in enumerate(run.layers, 1)
        ],
        note="Largest over median: mean size of channels, in the head where it is largest. Error: "
        "of a channel in 4 bits, relative to its size, mean of all channels, with a scale for each "
        "row or for each channel of 32 tokens. Attention: share of it that goes there, for the "
        "first token from far away in the head where it is largest.",
    )


# ---- pictures ------------------------------------------------------------------------------------


def bytes_and_bits(run: SmallerRun) -> Picture:
    """Bytes of a session against what they cost in bits per byte, each kind with its own mark.

    Both axes are logarithmic. Caches that round groups of tokens are for the table.

    Parameters
    ----------
    run : SmallerRun
    """
    drawn = [r for r in run.results if not r.cache.group and r.cache != FULL]
    drawn.sort(key=lambda r: r.cache.sinks == 0)  # rings first: their discs lie upon them
    together = [r.cache for r in drawn if r.cache.kind == "together"]
    letters = dict(zip(together, "abcdefgh", strict=False))
    key = "; ".join(f"{letter}: {cache.label}" for cache, letter in letters.items())
    floor = 1e-4

    def said(result: Result) -> str:
        label = result.cache.label
        return f"{label}: {kibibytes(result.session_bytes)} KiB, {percent(run.cost(label))}."

    @picture(
        "What a smaller cache costs in bits per byte against KiB of cache in a session of "
        f"{run.target['context']:,} tokens, both axes logarithmic. "
        + " ".join(said(result) for result in drawn),
        f"Bits per byte more than the full cache's {run.full.bits_per_byte:.3f}. *Left* is "
        "smaller, *low* is good; what stands at the lower edge costs 0.01% or less. Squares: fewer "
        "bits. Discs: a window of so many tokens; the rings beside them keep the first 4 too. "
        "Triangles: fewer heads, trained further (4 heads: the same training, nothing pooled); "
        f"outlined ones are only pooled. Diamonds: two or more of these ({key}).",
        heights=(470, 480),
    )
    def cost_of_smaller_caches(ax, m):
        ax.set(xscale="log", yscale="log", xlim=(48, 7000), ylim=(floor / 1.7, 6 if m.wide else 30))
        ax.set(xlabel="KiB of cache in a session", ylabel="more bits per byte")
        ax.set_xticks([64, 256, 1024, 4096], ["64", "256", "1,024", "4,096"])
        ax.set_yticks([floor, 1e-3, 1e-2, 0.1, 1], ["0.01%", "0.1%", "1%", "10%", "100%"])
        ax.minorticks_off()
        for kind in ("format", "window"):
            line = [r for r in drawn if r.cache.kind == kind and not r.cache.sinks]
            line.sort(key=lambda r: r.session_bytes)
            xs = [r.session_bytes / 1024 for r in line]
            ys = [max(run.cost(r.cache.label), floor) for r in line]
            ax.plot(xs, ys, color=INK[KINDS[kind][1]], lw=1.2, zorder=2)
        for result in drawn:
            cache = result.cache
            mark, role, _ = KINDS[cache.kind]
            x, y = result.session_bytes / 1024, max(run.cost(cache.label), floor)
            hollow = cache.sinks > 0 or _only_pooled(cache)
            draw_mark(ax, x, y, mark, role, radius=4 if hollow else 5, hollow=hollow)
            name, place = letters.get(cache, ""), "below"
            if cache.kind == "window" and not cache.sinks:
                name, place = str(cache.window), "below left" if cache.window == 256 else "left"
            elif cache.kind == "heads":
                name = "1 head" if cache.kv_heads == 1 else f"{cache.kv_heads} heads"
                place = "right"
            elif cache.kind in ("format", "full"):
                name = SHORT.get(cache.form, cache.form)
                place = "right" if cache.form in ("bfloat16", "int4") else "left"
            offset, style = _PLACES[place]
            ax.annotate(name, (x, y), offset, textcoords="offset points", color=INK[role], **style)
        _key(ax, [(KINDS[kind][0], name, KINDS[kind][1]) for kind, name in _KEY.items()])

    return cost_of_smaller_caches


#: where a name stands beside its mark
_PLACES = {
    "left": ((-8, -4), {"ha": "right"}),
    "right": ((8, -4), {"ha": "left"}),
    "below": ((0, -19), {"ha": "center"}),
    "below left": ((-4, -17), {"ha": "right"}),
}
#: the kinds in the picture's key
_KEY = {kind: name for kind, (_, _, name) in KINDS.items() if kind != "full"}
_GLYPHS = {"s": "■", "o": "●", "^": "▲", "D": "◆"}


def _only_pooled(cache: Cache) -> bool:
    return cache.kv_heads != FULL.kv_heads and not cache.tuned


def _key(ax: Any, lines: list[tuple[str, str, str]]) -> None:
    """A key in the upper right corner: mark, name and colour of each line."""
    for number, (mark, name, role) in enumerate(lines):
        ax.annotate(
            f"{_GLYPHS[mark]} {name}",
            (1, 1),
            (-8, -18 - 18 * number),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            color=INK[role],
            weight="bold",
        )


def recall_by_distance(run: SmallerRun, labels: dict[str, str]) -> Picture:
    """What an earlier copy saves, over its distance.

    Parameters
    ----------
    run : SmallerRun
    labels : dict of str to str
        Labels of the caches to be drawn, each with the role of its colour.
    """
    recalls = [run.recall(label) for label in labels]
    top = 1.12 * max(max(r.saved_bits) for r in recalls)

    marks = "os^D"

    def said(recall: Recall) -> str:
        points = zip(recall.distances, recall.saved_bits, strict=True)
        values = ", ".join(f"{bits:.2f} at {distance}" for distance, bits in points)
        return f"{recall.cache.label}: {values}."

    @picture(
        "Bits per token that an earlier copy saves, over its distance in tokens. "
        + " ".join(said(recall) for recall in recalls),
        f"A passage of {run.passage} tokens stands twice. Each window falls to nothing where the "
        "copy leaves it. The full cache forgets too, but slowly.",
        heights=(340, 330),
    )
    def recall_over_distance(ax, m):
        distances = recalls[0].distances
        ax.set(xscale="log", xlim=(distances[0] / 1.2, distances[-1] * 1.25), ylim=(-0.12, top))
        ax.set(xlabel="tokens from copy to copy", ylabel="bits per token saved")
        ax.set_xticks(distances, [str(distance) for distance in distances])
        ax.minorticks_off()
        ax.axhline(0, color=INK["muted"], lw=1)
        for number, (recall, role) in enumerate(zip(recalls, labels.values(), strict=True)):
            ax.plot(distances, recall.saved_bits, color=INK[role], lw=2)
            for distance, bits in zip(distances, recall.saved_bits, strict=True):
                draw_mark(ax, distance, bits, marks[number % 4], role, radius=4)
        names = [(marks[n % 4], r.cache.label) for n, r in enumerate(recalls)]
        _key(ax, [(*name, role) for name, role in zip(names, labels.values(), strict=True)])

    return recall_over_distance


# ---- one short text ------------------------------------------------------------------------------


def token_bits(model: Transformer, ids: list[int], end: int, cache: Cache) -> list[float]:
    """Bits that each token costs a model which sees the tokens before it through a cache.

    Parameters
    ----------
    model : Transformer
    ids : list of int
        The text, without the end token that is put before it.
    end : int
    cache : Cache
    """
    import torch
    import torch.nn.functional as F

    tokens = torch.tensor([end, *ids], device=model.device)
    with torch.inference_mode():
        logits = model(tokens[:-1], attend=cache.attend())  # [T, V]
    nats = F.cross_entropy(logits.float(), tokens[1:], reduction="none")
    return (nats / math.log(2)).tolist()


def one_text(
    model: Transformer, coder: Tokenizer, text: str, cache: Cache
) -> tuple[TokenStrip, float]:
    """A short text with what each token costs through a cache, and its bits per byte.

    Parameters
    ----------
    model : Transformer
    coder : Tokenizer
    text : str
    cache : Cache
    """
    ids = coder.encode(text)
    size = len(text.encode())
    bits, full = (token_bits(model, ids, coder.end, c) for c in (cache, FULL))
    rate, best = sum(bits) / size, sum(full) / size
    shape = model.config
    room = cache.session_bytes(shape.layers, shape.head_dim, len(ids))
    strip = TokenStrip(
        [coder.decode([token]) for token in ids],
        [round(b, 1) for b in bits],
        f"{cache.label}: {rate:.2f} bits per byte, {best:.2f} with the full cache in fp32. These "
        f"{len(ids)} tokens take {room / 1024:,.0f} KiB of cache. Bar and number: what each token "
        "costs, in bits.",
    )
    return strip, rate
