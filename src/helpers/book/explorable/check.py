"""Check every setting of an explorable without drawing it.

The recorded expressions give each mark's values at any setting; the axes' maps, which do not
change, give its pixels; and matplotlib's font metrics give the size of a label. So a check of some
thousand settings takes a second or two, and finds what a look at a few settings would miss: a dot
outside the axes, a bar cut off at the top, a label off the picture or across an axis title.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from helpers.book.explorable.controls import all_positions, flat
from helpers.book.explorable.drawing import Drawing
from helpers.book.explorable.marks import Curve
from helpers.formulas.expression import Evaluation

if TYPE_CHECKING:
    from helpers.book.explorable.figure import Explorable

#: a mark's edge may stand this far outside its axes (half a line's width), in pixels
EDGE = 1.5
#: the engine moves a label sideways to keep it inside; further than this it would part from its dot
MOST_SHIFT = 40.0


class Box(NamedTuple):
    """A rectangle in SVG pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Tell whether two boxes share more than an edge's width."""
        return (
            min(self.right, other.right) - max(self.left, other.left) > 1
            and min(self.bottom, other.bottom) - max(self.top, other.top) > 1
        )


def evaluate_marks(drawing: Drawing, values: dict[str, Any]) -> tuple[str, list[Any]]:
    """Return the read-out and every mark's data for given values of the variables."""
    evaluation = Evaluation(values)
    marks = [_filled(mark.data, evaluation) for mark in drawing.marks.marks]
    return evaluation.value(drawing.marks.readout_text), marks


def _filled(item: Any, evaluation: Evaluation) -> Any:
    if isinstance(item, Curve):
        ys = evaluation.values_over(item.body, item.bound, item.xs)
        return [[x, y] for x, y in zip(item.xs, ys, strict=True)]
    if isinstance(item, list):
        return [_filled(part, evaluation) for part in item]
    return evaluation.value(item)


def find_faults(explorable: Explorable, most: int) -> list[str]:
    """Return a line for each fault at each setting; see :meth:`Explorable.check`."""
    inspectors = {
        size: _Inspector(drawing, pixels)
        for (size, drawing), pixels in zip(
            explorable.recorded.items(), explorable.spec["sizes"], strict=True
        )
    }
    faults = []
    for positions in all_positions(explorable.controls, most):
        values: dict[str, Any] = {}
        shown = []
        for argument, control in explorable.controls.items():
            values.update(flat(argument, control.stops[positions[argument]]))
            shown.append(f"{argument}={control.key(positions[argument])!r}")
        where = f"{explorable.name} ({', '.join(shown)})"
        try:
            readout, marks = evaluate_marks(explorable.recorded["wide"], values)
        except (ArithmeticError, ValueError) as error:
            faults.append(f"{where}: cannot be computed: {error}")
            continue
        if not readout.strip():
            faults.append(f"{where}: the read-out is empty")
        for size, inspector in inspectors.items():
            faults += [f"{where}: {size}: {fault}" for fault in inspector.faults(marks)]
    return faults


class _Inspector:
    """Looks at the marks of one drawing, setting after setting."""

    def __init__(self, drawing: Drawing, pixels: dict[str, Any]) -> None:
        self.drawing = drawing
        self.pixels = pixels
        self.frames = [_axes_box(drawing, ax) for ax in drawing.axes()]
        self.titles = _title_boxes(drawing)
        self.label_sizes: dict[tuple, tuple[float, float]] = {}

    def faults(self, marks: list[Any]) -> Iterator[str]:
        """Yield what is wrong with the marks' values at one setting."""
        labels: list[tuple[int, Box]] = []
        for number, values in enumerate(marks):
            kind, axes, dx, dy = self.pixels["marks"][number]
            frame = self.frames[axes]
            name = f"mark {number} ({kind})"
            if kind == "text":
                if not values[2].strip():
                    continue
                x, y = self._pixel(axes, values[:2])
                box = self._label_box(number, values[2], x + dx, y + dy)
                shift = min(0.0, self.drawing.size.width - 2 - box.right) or max(0, 2 - box.left)
                box = box._replace(left=box.left + shift, right=box.right + shift)
                if abs(shift) > MOST_SHIFT:
                    yield f"{name}: {values[2]!r} sticks {abs(shift):.0f} px out of the picture"
                if box.top < -1 or box.bottom > self.drawing.size.height + 1:
                    yield f"{name}: {values[2]!r} leaves the picture at the top or bottom"
                for title, title_box in self.titles:
                    if box.overlaps(title_box):
                        yield f"{name}: {values[2]!r} covers {title!r}"
                for other, other_box in labels:
                    if box.overlaps(other_box):
                        yield f"{name}: {values[2]!r} covers mark {other}"
                labels.append((number, box))
                continue
            if kind == "bar":
                left, right, bottom, top = values
                points = [[left, bottom], [right, top]]
            else:
                points = values if kind == "line" else [values]
            places = [self._pixel(axes, point) for point in points]
            if kind == "line":
                # a line may run out of the axes, but some of it must be there
                inside = any(_inside(frame, place) for place in places)
                ends = Box(
                    min(x for x, _ in places),
                    min(y for _, y in places),
                    max(x for x, _ in places),
                    max(y for _, y in places),
                )
                if not inside and not _touches(frame, ends):
                    yield f"{name}: lies outside the axes"
            else:
                for place, point in zip(places, points, strict=True):
                    if not _inside(frame, place):
                        yield f"{name}: {point} lies outside the axes"

    def _pixel(self, axes: int, point: list[float]) -> tuple[float, float]:
        pair = self.pixels["axes"][axes]
        found = []
        for (origin, step, is_log), value in zip(pair, point, strict=True):
            at = math.log10(max(value, 1e-300)) if is_log else value
            found.append(origin + step * at)
        return found[0], found[1]

    def _label_box(self, number: int, text: str, x: float, y: float) -> Box:
        artist = self.drawing.marks.marks[number].artist
        width, height = self._label_size(artist, text)
        start = {"left": 0.0, "center": 0.5, "right": 1.0}[artist.get_horizontalalignment()]
        left = x - start * width
        # y is the baseline: three quarters of the height stand above it
        return Box(left, y - 0.75 * height, left + width, y + 0.2 * height)

    def _label_size(self, artist: Any, text: str) -> tuple[float, float]:
        key = (text, artist.get_fontsize(), artist.get_fontweight())
        if key not in self.label_sizes:
            font = FontProperties(family="DejaVu Sans", weight=artist.get_fontweight())
            outline = TextPath((0, 0), text, size=artist.get_fontsize(), prop=font).vertices
            # the curves' control points bound the curves, and need not be solved for
            self.label_sizes[key] = (outline[:, 0].max(initial=0.0), artist.get_fontsize())
        return self.label_sizes[key]


def _inside(frame: Box, place: tuple[float, float]) -> bool:
    x, y = place
    return (
        frame.left - EDGE <= x <= frame.right + EDGE
        and frame.top - EDGE <= y <= frame.bottom + EDGE
    )


def _touches(frame: Box, box: Box) -> bool:
    return (
        box.left <= frame.right + EDGE
        and box.right >= frame.left - EDGE
        and box.top <= frame.bottom + EDGE
        and box.bottom >= frame.top - EDGE
    )


def _axes_box(drawing: Drawing, ax: Any) -> Box:
    return _svg_box(drawing, ax.get_window_extent())


def _svg_box(drawing: Drawing, extent: Any) -> Box:
    height = drawing.size.height
    return Box(extent.x0, height - extent.y1, extent.x1, height - extent.y0)


def _title_boxes(drawing: Drawing) -> list[tuple[str, Box]]:
    """Return the boxes of axis labels, legends and the x axis's tick labels."""
    found = []
    for ax in drawing.figure.axes:
        texts = [ax.xaxis.label, ax.yaxis.label, *ax.get_xticklabels()]
        legend = ax.get_legend()
        if legend is not None:
            texts += legend.get_texts()
        for text in texts:
            if text.get_visible() and text.get_text().strip():
                found.append((text.get_text(), _svg_box(drawing, text.get_window_extent())))
    return found
