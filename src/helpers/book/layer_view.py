"""How the operations of a transformer look: as a table, on a roofline, as bars of time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Circle, PathPatch, RegularPolygon
from matplotlib.transforms import Affine2D, ScaledTranslation

from helpers.book.style import INK
from helpers.book.tables import Cell, Column, Table
from helpers.catalog import format_number, format_quantity
from helpers.formulas.roofline import attainable_flops_per_s, ridge_point
from helpers.formulas.transformer import Operation

__all__ = ["draw_roofline", "draw_times", "operation_table"]

#: one mark and colour per phase: shape and colour say the same thing
_MARKS = (("o", "c1"), ("^", "c2"), ("s", "c3"))
_GLYPHS = {"o": "●", "^": "▲", "s": "■"}
_LABELS = {"vector": "norms, activation, residuals", "attention": "attention"}


def operation_table(
    caption: str,
    operations: Sequence[Operation],
    peak_flops_per_s: float,
    bandwidth_bytes_per_s: float,
) -> Table:
    """Put operations into a table: what each counts, and what bounds it.

    Parameters
    ----------
    caption : str
        What the table shows.
    operations : sequence of Operation
        One row each.
    peak_flops_per_s, bandwidth_bytes_per_s : float
        The chip that decides what is bound by memory.

    Examples
    --------
    >>> from helpers import catalog
    >>> from helpers.formulas.transformer import layer_operations
    >>> operation_table("One layer", layer_operations(catalog.model("gpt2")), 312e12, 2e12)
    Table 'One layer': 10 rows, 6 columns
    """
    columns = [
        Column("Operation", text=True),
        Column("Weights"),
        Column("FLOPs"),
        Column("Bytes"),
        Column("FLOP per byte"),
        Column("Bound by", text=True),
    ]
    rows = [
        [
            op.name,
            Cell(f"{op.weights:,.0f}", float(op.weights)),
            Cell(_scaled(op.flops, "FLOP"), float(op.flops)),
            Cell(_scaled(op.bytes, "B"), float(op.bytes)),
            Cell(format_number(op.intensity, 3), float(op.intensity)),
            op.bound(peak_flops_per_s, bandwidth_bytes_per_s),
        ]
        for op in operations
    ]
    return Table(caption, columns, rows)


def draw_roofline(
    ax: Axes,
    phases: Mapping[str, Sequence[Operation]],
    peak_flops_per_s: float,
    bandwidth_bytes_per_s: float,
    *,
    wide: bool = True,
) -> None:
    """Draw a roofline and the operations of each phase at the best rate they can reach.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    phases : mapping of str to sequence of Operation
        Up to three, such as prefill and decode; each has a mark of its own.
    peak_flops_per_s, bandwidth_bytes_per_s : float
        The chip.
    wide : bool
        Whether there is room for long labels.

    Raises
    ------
    ValueError
        If there are no phases, or more than three.
    """
    if not 1 <= len(phases) <= len(_MARKS):
        raise ValueError(f"phases: {len(phases)} given; allowed are 1 to {len(_MARKS)}")
    shown = {
        phase: [op for op in operations if op.intensity > 0] for phase, operations in phases.items()
    }
    every = [op.intensity for operations in shown.values() for op in operations]
    ridge = ridge_point(peak_flops_per_s, bandwidth_bytes_per_s)
    left, right = min(*every, 1) / 5, max(*every, ridge) * 8
    low, high = left * bandwidth_bytes_per_s / 3, peak_flops_per_s * 4
    ax.set(xscale="log", yscale="log", xlim=(left, right), ylim=(low, high))
    ax.set(xlabel="FLOP per byte", ylabel="FLOP/s")
    powers = range(math.ceil(math.log10(left)), math.floor(math.log10(right)) + 1)
    ax.set_xticks([10.0**p for p in powers], [f"{10.0**p:,g}" for p in powers])
    decades = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
    ax.set_yticks([10.0**p for p in decades], [_decade(p) for p in decades])
    ax.minorticks_off()
    ax.plot(
        [left, ridge, right],
        [left * bandwidth_bytes_per_s, peak_flops_per_s, peak_flops_per_s],
        color=INK["muted"],
    )
    ax.plot([ridge, ridge], [low, peak_flops_per_s], color=INK["muted"], lw=1, ls=(0, (4, 3)))
    ax.text(ridge * 1.12, low * 1.25, f"ridge {ridge:.0f}", color=INK["muted"])

    taken: list[tuple[float, float]] = []
    for i, (operations, (mark, role)) in enumerate(zip(shown.values(), _MARKS, strict=False)):
        rates = [
            attainable_flops_per_s(op.intensity, peak_flops_per_s, bandwidth_bytes_per_s)
            for op in operations
        ]
        for op, rate in zip(operations, rates, strict=True):
            draw_mark(
                ax, op.intensity, rate, mark, role, radius=6.5 - 2 * i
            )  # phases that coincide stay visible
        for name, members in _groups(operations).items():
            middle = math.exp(sum(math.log(op.intensity) for op in members) / len(members))
            _label(ax, name, middle, ridge, peak_flops_per_s, role, taken, wide)
    for line, (phase, (mark, role)) in enumerate(zip(shown, _MARKS, strict=False)):
        ax.annotate(
            f"{_GLYPHS[mark]} {phase}",
            (0, 1),
            (8, -16 - 19 * line),
            xycoords="axes fraction",
            textcoords="offset points",
            color=INK[role],
            weight="bold",
        )


def draw_mark(
    ax: Axes, x: float, y: float, mark: str, role: str, radius: float, hollow: bool = False
) -> None:
    """Draw a mark of a size in points, as an outline of its own.

    matplotlib's own markers refer to a shared definition by id, and ids of two figures on a page
    could clash.

    Parameters
    ----------
    ax : Axes
    x, y : float
        In the axes' own units.
    mark : {"o", "^", "s", "D"}
        Disc, triangle, square, diamond.
    role : str
        Of its colour.
    radius : float
        In points.
    hollow : bool
        Whether it is a ring of its colour instead of filled with it.
    """
    outline = {
        "o": Circle((0, 0), radius),
        "^": RegularPolygon((0, 0), 3, radius=1.25 * radius),
        "s": RegularPolygon((0, 0), 4, radius=1.25 * radius, orientation=math.pi / 4),
        "D": RegularPolygon((0, 0), 4, radius=1.35 * radius),
    }[mark]
    points = Affine2D().scale(1 / 72) + ax.figure.dpi_scale_trans
    artist = PathPatch(
        outline.get_path(),
        transform=outline.get_patch_transform() + points + ScaledTranslation(x, y, ax.transData),
        facecolor=INK["bg"] if hollow else INK[role],
        edgecolor=INK[role] if hollow else INK["bg"],
        lw=1.8 if hollow else 1,
        zorder=3,
    )
    ax.add_artist(artist)


def _groups(operations: Sequence[Operation]) -> dict[str, list[Operation]]:
    """Operations by the label they share."""
    found: dict[str, list[Operation]] = {}
    for op in operations:
        name = _LABELS.get(op.kind, "projections")
        if op.kind == "matmul" and op.name.startswith("expert "):
            name = "experts"
        if op.kind in ("vector", "matmul", "attention") and op.name != "router":
            found.setdefault(name, []).append(op)
    return found


def _label(
    ax: Axes,
    name: str,
    at: float,
    ridge: float,
    peak: float,
    role: str,
    taken: list[tuple[float, float]],
    wide: bool,
) -> None:
    """Write a group's name beside its marks, unless another label stands there."""
    above = name in ("projections", "experts")
    side = 1.0 if above else -1.0
    # labels of one side may not start within a third of the axis of each other on the slope
    if any(s == side and abs(math.log10(at / x)) < 0.35 for x, s in taken):
        return
    taken.append((at, side))
    if name == _LABELS["vector"]:  # they stand at the same place in every phase
        name, role = name if wide else "norms, sums", "fg"
    rate = min(peak, at * peak / ridge)
    if at >= ridge:
        offset, align = ((0, 9), "center") if not above else ((0, -18), "center")
    else:
        offset, align = ((-9, 7), "right") if above else ((9, -14), "left")
    ax.annotate(name, (at, rate), offset, textcoords="offset points", ha=align, color=INK[role])


def draw_times(
    ax: Axes,
    phases: Mapping[str, Sequence[Operation]],
    peak_flops_per_s: float,
    bandwidth_bytes_per_s: float,
) -> None:
    """Draw which share of a phase's time each operation takes at least.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Where to draw.
    phases : mapping of str to sequence of Operation
        Up to three lists with operations of the same names.
    peak_flops_per_s, bandwidth_bytes_per_s : float
        The chip.

    Raises
    ------
    ValueError
        If the phases do not have the same operations.
    """
    names = [op.name for op in next(iter(phases.values()))]
    if any([op.name for op in operations] != names for operations in phases.values()):
        raise ValueError("phases: do not have the same operations; compare those of one model")
    height = 0.8 / len(phases)
    for i, ((phase, operations), (_, role)) in enumerate(zip(phases.items(), _MARKS, strict=False)):
        times = [op.seconds(peak_flops_per_s, bandwidth_bytes_per_s) for op in operations]
        places = [row + (i - (len(phases) - 1) / 2) * height for row in range(len(names))]
        shares = [100 * time / sum(times) for time in times]
        ax.barh(
            places,
            shares,
            height * 0.9,
            facecolor=INK[role] if i == 0 else "none",  # filled or outlined: not by colour alone
            edgecolor=INK[role],
            lw=1.4,
            label=phase,
        )
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel="share of the time, %")
    ax.grid(axis="y", visible=False)
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), borderpad=0, handlelength=1.2)


def _decade(power: int) -> str:
    """A power of ten as FLOP/s are written: 10T, 1P."""
    letters = {0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}
    base = 3 * (power // 3)
    return f"{10 ** (power - base)}{letters.get(base, f'e{base}')}"


def _scaled(value: float, unit: str) -> str:
    """A count with a prefix; nothing is written as nothing."""
    return "0" if value == 0 else format_quantity(value, unit, 3)
