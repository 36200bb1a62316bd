"""Run a drawing function with matplotlib and find out how values become pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from helpers.book.explorable.marks import Marks
from helpers.book.style import figure_style
from helpers.formulas.expression import Templates

#: SVG pixels per inch: with 72, matplotlib's points are pixels
_DPI = 72


class Size(NamedTuple):
    """Width, height and font size of a drawing, in pixels."""

    width: int
    height: int
    font: float


#: one drawing for a column of text, one for a phone; style sheet and sizes belong together:
#: the wide one is shown from 628 px on, where its text still measures 12 px
SIZES = {"wide": Size(680, 330, 13), "narrow": Size(320, 270, 12.5)}


class AxisMap(NamedTuple):
    """How one axis turns values into SVG pixels: ``origin + step * value``, or of its log10."""

    origin: float
    step: float
    is_log: bool


@dataclass
class Drawing:
    """A finished figure with the marks it holds."""

    figure: Figure
    marks: Marks
    size: Size

    def axes(self) -> list[Axes]:
        """Return the axes that carry marks, in order of first use."""
        return list(dict.fromkeys(mark.ax for mark in self.marks.marks))

    def maps(self, ax: Axes) -> tuple[AxisMap, AxisMap]:
        """Return how x and y become SVG pixels on these axes."""
        return self._map(ax, 0), self._map(ax, 1)

    def _map(self, ax: Axes, axis: int) -> AxisMap:
        is_log = (ax.get_xscale(), ax.get_yscale())[axis] == "log"
        low, high = (1.0, 10.0) if is_log else (0.0, 1.0)
        # any valid value does for the other axis
        inside = [ax.get_xlim()[0], ax.get_ylim()[0]]
        ends = []
        for value in (low, high):
            inside[axis] = value
            ends.append(float(ax.transData.transform(inside)[axis]))
        origin, step = ends[0], ends[1] - ends[0]
        if axis == 1:  # SVG counts downwards
            origin, step = self.size.height - origin, -step
        return AxisMap(round(origin, 6), float(f"{step:.12g}"), is_log)

    def svg(self) -> str:
        """Return matplotlib's SVG, the same every time."""
        buffer = io.StringIO()
        with mpl.rc_context(figure_style(self.size.font)):
            self.figure.savefig(buffer, format="svg", dpi=_DPI, metadata={"Date": None})
        return buffer.getvalue()


def draw(
    function: Callable[[Axes, Marks, Any], None],
    settings: Any,
    size: str = "wide",
    templates: Templates | None = None,
    layout: bool = True,
) -> Drawing:
    """Call a drawing function and lay its figure out.

    Parameters
    ----------
    function : callable
        Takes axes, marks and settings.
    settings : Record
        Plain values or expressions, by control.
    size : {"wide", "narrow"}
        Which drawing.
    templates : Templates, optional
        Where f-strings are kept when the settings are expressions.
    layout : bool
        Place axes and labels; not needed where only the values count.

    Raises
    ------
    ValueError
        If marks stand on axes that are neither linear nor logarithmic, or there is no read-out.
    """
    width, height, font = SIZES[size]
    with mpl.rc_context(figure_style(font)):
        figure = Figure((width / _DPI, height / _DPI), dpi=_DPI, layout="constrained")
        ax = figure.add_subplot()
        figure.patch.set_visible(False)
        marks = Marks(templates, size == "wide")
        function(ax, marks, settings)
        drawing = Drawing(figure, marks, SIZES[size])
        if marks.readout_text is None:
            raise ValueError("readout: is missing; call m.readout(...) once")
        for each in figure.axes:
            each.patch.set_visible(False)
            _tidy_log_axes(each)
        for each in drawing.axes():
            _check_scales(each)
        if layout:
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # from here on nothing moves by itself
    return drawing


def _check_scales(ax: Axes) -> None:
    scales = {"x": ax.get_xscale(), "y": ax.get_yscale()}
    for name, scale in scales.items():
        if ax.name != "rectilinear" or scale not in ("linear", "log"):
            raise ValueError(
                f"axes: a {ax.name} axes with a {scale} {name} scale cannot carry marks; "
                "allowed are linear and log"
            )
        transform = getattr(ax, f"{name}axis").get_transform()
        if scale == "log" and transform.base != 10:
            raise ValueError(f"axes: a log {name} scale of base {transform.base}; allowed is 10")


def _tidy_log_axes(ax: Axes) -> None:
    """Write 1k, 1M, 1G on logarithmic axes, and no minor ticks."""
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log":
            axis.set_minor_locator(NullLocator())
            axis.set_minor_formatter(NullFormatter())
            axis.set_major_formatter(FuncFormatter(lambda value, _: with_prefix(value)))


def with_prefix(value: float) -> str:
    """Write a tick label with an SI prefix.

    Examples
    --------
    >>> with_prefix(2e12), with_prefix(0.5)
    ('2T', '0.5')
    """
    for prefix, size in (("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:g}{prefix}"
    return f"{value:g}"
