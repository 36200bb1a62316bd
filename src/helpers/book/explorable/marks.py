"""The parts of a figure that follow the controls, drawn once and remembered.

Each mark is drawn by matplotlib with the values of the moment and kept with the expressions behind
them: the page's JavaScript computes those anew and moves the mark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from helpers.book.style import INK
from helpers.formulas import ops
from helpers.formulas.expression import (
    TEXT,
    Expression,
    Templates,
    as_expression,
    bound_variable,
    plain,
)

#: prefix of the SVG ids by which a mark is found again in matplotlib's output
MARK_ID = "mb-mark-"


#: stands for an empty label, which matplotlib would leave out: the script needs an element to fill
BLANK = "\u200b"


class Curve(NamedTuple):
    """A line given by a function: the numbers x, and y as a tree over the bound variable."""

    xs: list[float]
    bound: Expression
    body: Expression


@dataclass
class Mark:
    """One mark: its kind, its axes, what it shows, and matplotlib's artist.

    ``data`` holds for a line a list of points or a :class:`Curve`; for a dot x and y; for a bar
    left, right, bottom and top; for a text x, y and the text. ``points`` is the same as plain
    values.
    """

    kind: str
    ax: Axes
    data: Any
    points: Any
    artist: Artist


class Marks:
    """What a drawing function draws with.

    Parameters
    ----------
    templates : Templates, optional
        Where f-strings of this drawing are kept; none when drawing plain numbers.
    wide : bool
        Which of the two drawings this is. A drawing function may choose offsets or tick positions
        by it, but must make the same marks in both.
    """

    def __init__(self, templates: Templates | None, wide: bool) -> None:
        self.templates = templates
        self.wide = wide
        self.marks: list[Mark] = []
        self.readout_text: Any = None

    def line(
        self, ax: Axes, xs: Sequence, ys: Callable[[Any], Any] | Sequence, **style: Any
    ) -> None:
        """Draw a line through points.

        Parameters
        ----------
        ax : Axes
        xs : sequence
            With a function for ``ys`` plain numbers; otherwise numbers or expressions.
        ys : callable or sequence
            A function of x, or a list as long as ``xs``.
        **style
            What matplotlib's ``plot`` takes.
        """
        if callable(ys):
            xs = [float(x) for x in xs]
            heights = [ys(x) for x in xs]
            points = [[x, plain(y)] for x, y in zip(xs, heights, strict=True)]
            if any(isinstance(y, Expression) for y in heights):
                x = bound_variable(xs[0])
                data: Any = Curve(xs, x, as_expression(ys(x)))
            else:
                data = points
        else:
            xs, ys = list(xs), list(ys)
            if len(xs) != len(ys):
                raise ValueError(f"line: ys: has {len(ys)} values, xs has {len(xs)}")
            data = [[x, y] for x, y in zip(xs, ys, strict=True)]
            points = [[plain(x), plain(y)] for x, y in data]
        (artist,) = ax.plot(*zip(*points, strict=True), **style)
        artist.get_path().should_simplify = False  # every point must be there to be moved
        self._add("line", ax, data, points, artist)

    def vline(self, ax: Axes, x: Any, **style: Any) -> None:
        """Draw a vertical line from the bottom to the top of the axes, whose limits are set."""
        self.line(ax, [x, x], list(ax.get_ylim()), **style)

    def hline(self, ax: Axes, y: Any, **style: Any) -> None:
        """Draw a horizontal line from the left to the right of the axes, whose limits are set."""
        self.line(ax, list(ax.get_xlim()), [y, y], **style)

    def dot(
        self, ax: Axes, x: Any, y: Any, color: str = INK["c2"], size: float = 11, **style: Any
    ) -> None:
        """Draw a dot with a rim in the ground's colour."""
        point = [plain(x), plain(y)]
        rim = {"mfc": color, "mec": INK["bg"], "mew": 1.5, "zorder": 5}
        (artist,) = ax.plot([point[0]], [point[1]], "o", ms=size, **{**rim, **style})
        self._add("dot", ax, [x, y], point, artist)

    def bar(self, ax: Axes, x: Any, width: float, bottom: Any, top: Any, **style: Any) -> None:
        """Draw an upright bar around x from ``bottom`` to ``top``."""
        data = [x - width / 2, x + width / 2, bottom, top]
        points = [plain(value) for value in data]
        (artist,) = ax.bar(
            [points[0]], [points[3] - points[2]], width, points[2], align="edge", **style
        )
        self._add("bar", ax, data, points, artist)

    def text(
        self, ax: Axes, x: Any, y: Any, text: Any, dx: float = 0, dy: float = 0, **style: Any
    ) -> None:
        """Write a label at a point of the axes, moved by ``dx`` right and ``dy`` down in pixels."""
        if isinstance(text, str) and self.templates is not None:
            text = self.templates.resolve(text)
        if isinstance(text, Expression) and text.kind != TEXT:
            raise TypeError("text: is a number without a format; write it as f'{value:.1f}'")
        if "$" in str(plain(text)):
            raise ValueError(f"text: {plain(text)!r}: a label that moves cannot hold mathematics")
        data = [x, y, text]
        points = [plain(value) for value in data]
        artist = ax.annotate(
            points[2] or BLANK,
            points[:2],
            (dx, -dy),
            textcoords="offset pixels",
            annotation_clip=False,
            **style,
        )
        artist.set_in_layout(False)  # room for labels is reserved by the axes' limits
        self._add("text", ax, data, points, artist)

    def readout(self, text: Any) -> None:
        """Set the sentence under the figure that says what it shows; once per figure."""
        if self.readout_text is not None:
            raise ValueError("readout: is set twice")
        if isinstance(text, str) and self.templates is not None:
            text = self.templates.resolve(text)
        if not isinstance(plain(text), str) or not plain(text).strip():
            raise ValueError(f"readout: {text!r} is not a non-empty text")
        self.readout_text = text

    def yscale(
        self, ax: Axes, top: Any, widest: str = "0.0", ticks: int = 5
    ) -> Callable[[Any], Any]:
        """Let a linear y axis run from 0 to a ``top`` that follows the controls.

        Parameters
        ----------
        ax : Axes
        top : Expression or number
            The value at the upper end.
        widest : str
            The widest tick label that will occur, for which room is kept.
        ticks : int
            Number of tick labels, the two ends included.

        Returns
        -------
        callable
            Turns a value into its place on the axis; every mark on this axis goes through it.
        """
        ax.set_ylim(0, 1)
        ax.set_yticks([i / (ticks - 1) for i in range(ticks)], [widest] * ticks)
        ax.tick_params(axis="y", labelcolor="none")  # matplotlib's own labels only keep the room
        left = ax.get_xlim()[0]
        for i in range(ticks):
            share = i / (ticks - 1)
            at = top * share
            label = ops.where(top < ticks - 1, f"{at:.1f}", f"{at:,.0f}")
            style = {"ha": "right", "va": "center", "color": INK["muted"]}
            self.text(ax, left, share, label, dx=-7, dy=1, **style)
        return lambda value: value / top

    def _add(self, kind: str, ax: Axes, data: Any, points: Any, artist: Artist) -> None:
        artist.set_gid(f"{MARK_ID}{len(self.marks)}")
        self.marks.append(Mark(kind, ax, data, points, artist))
