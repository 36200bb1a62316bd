"""What a test needs: does a page show what Python says, and where matplotlib would draw it?

Three sources are compared. The *truth* is the drawing function on plain numbers. The *found* values
are what the page's script computed (``element.mbState``). The *places* are attributes of SVG
elements, in pixels: read from the page, from a redraw by matplotlib, or from the axes' transform.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from helpers.book.explorable.check import MOST_SHIFT
from helpers.book.explorable.figure import Explorable, State
from helpers.book.explorable.svg import clean, mark_element

#: attributes of an SVG element that say where a mark stands
PLACE_ATTRIBUTES = ("d", "x", "y", "cx", "cy")
#: both sides round to a hundredth of a pixel
PIXEL_TOLERANCE = 0.0101


def differences(truth: State, found: Mapping[str, Any], tolerance: float = 1e-9) -> list[str]:
    """Compare what a page computed with what Python computes.

    Parameters
    ----------
    truth : State
        From :meth:`Explorable.python`.
    found : mapping
        ``readout`` and ``marks``, as the page's script left them in ``element.mbState``.
    tolerance : float
        Largest allowed error of a number, relative to its size.

    Returns
    -------
    list of str
        One line per difference; empty if there is none.
    """
    faults = []
    if truth.readout != found["readout"]:
        faults.append(f"read-out: {found['readout']!r} instead of {truth.readout!r}")
    if len(truth.marks) != len(found["marks"]):
        return [*faults, f"{len(found['marks'])} marks instead of {len(truth.marks)}"]
    for number, (right, got) in enumerate(zip(truth.marks, found["marks"], strict=True)):
        if not _same(right, got, tolerance):
            faults.append(f"mark {number}: {got} instead of {right}")
    return faults


def _same(right: Any, got: Any, tolerance: float) -> bool:
    if isinstance(right, (list, tuple)):
        return (
            isinstance(got, (list, tuple))
            and len(right) == len(got)
            and all(_same(r, g, tolerance) for r, g in zip(right, got, strict=True))
        )
    if isinstance(right, str):
        return right == got
    return isinstance(got, (int, float)) and math.isclose(
        right, got, rel_tol=tolerance, abs_tol=1e-300
    )


def places(explorable: Explorable, size: str, state: State) -> list[list[float]]:
    """Return where marks belong, by matplotlib's own transform of the axes, in SVG pixels."""
    drawing = explorable.recorded[size]
    pixels = explorable.spec["sizes"][list(explorable.recorded).index(size)]
    found = []
    for mark, (kind, _, dx, dy), values in zip(
        drawing.marks.marks, pixels["marks"], state.marks, strict=True
    ):
        if kind == "line":
            points = values
        elif kind == "bar":
            left, right, bottom, top = values
            points = [[left, bottom], [right, top]]
        else:
            points = [values[:2]]
        xy = mark.ax.transData.transform(np.array(points, dtype=float))
        xy[:, 1] = drawing.size.height - xy[:, 1]
        found.append((xy + np.array([dx, dy])).ravel().tolist())
    return found


def redrawn(explorable: Explorable, size: str, **settings: Any) -> list[list[float]]:
    """Let matplotlib draw the figure anew at a setting and return where the marks stand."""
    drawing = explorable.drawing(size, **settings)
    picture = clean(drawing.svg(), "redrawn", "redrawn")
    return [
        place_of(mark.kind, mark_element(picture, number).attrib)
        for number, mark in enumerate(drawing.marks.marks)
    ]


def place_of(kind: str, attributes: Mapping[str, str]) -> list[float]:
    """Return the pixels that an SVG element's attributes say: points, or opposite corners.

    Examples
    --------
    >>> place_of("bar", {"d": "M1 9H3V4H1z"}), place_of("dot", {"cx": "2", "cy": "5.5"})
    ([1.0, 9.0, 3.0, 4.0], [2.0, 5.5])
    """
    if kind == "dot":
        return [float(attributes["cx"]), float(attributes["cy"])]
    if kind == "text":
        return [float(attributes["x"]), float(attributes["y"])]
    points = _path_points(attributes["d"])
    if kind == "bar":  # around the corners, from the lower left
        points = [points[0], points[2]]
    return [coordinate for point in points for coordinate in point]


def _path_points(path: str) -> list[tuple[float, float]]:
    """Return the corners of a path made of M, L, H, V and z."""
    points: list[tuple[float, float]] = []
    for command, text in re.findall(r"([MLHVz])([^MLHVz]*)", path):
        numbers = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?", text)]
        if command in "ML":
            points += zip(numbers[::2], numbers[1::2], strict=True)
        elif command == "H":
            points.append((numbers[0], points[-1][1]))
        elif command == "V":
            points.append((points[-1][0], numbers[0]))
    return points


def misplaced(
    right: Sequence[Sequence[float]],
    got: Sequence[Sequence[float]],
    kinds: Sequence[str],
    *,
    clamped: bool = False,
    tolerance: float = PIXEL_TOLERANCE,
) -> list[str]:
    """Compare places.

    Parameters
    ----------
    right, got : sequence of sequences of float
        Pixels of each mark.
    kinds : sequence of str
        Each mark's kind.
    clamped : bool
        Whether labels may have been moved sideways to stay in the picture, as a browser does in
        the drawing that is shown; the move is bounded by ``MOST_SHIFT``.
    tolerance : float
        Largest allowed distance, in pixels.

    Returns
    -------
    list of str
        One line per mark that stands elsewhere.
    """
    faults = []
    for number, (kind, a, b) in enumerate(zip(kinds, right, got, strict=True)):
        if len(a) != len(b):
            faults.append(f"mark {number} ({kind}): {len(b)} coordinates instead of {len(a)}")
            continue
        off = [abs(x - y) for x, y in zip(a, b, strict=True)]
        allowed = [tolerance] * len(off)
        if kind == "text" and clamped:
            allowed[0] = MOST_SHIFT + tolerance
        if any(distance > most for distance, most in zip(off, allowed, strict=True)):
            faults.append(f"mark {number} ({kind}): off by {max(off):.3f} px")
    return faults
