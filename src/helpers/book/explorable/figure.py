"""The explorable itself: one drawing function, its controls, and what is made of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from helpers.book.explorable import check as checks
from helpers.book.explorable.controls import Control, Record, all_positions, flat
from helpers.book.explorable.drawing import SIZES, Drawing, draw
from helpers.book.explorable.marks import Curve, Mark
from helpers.book.explorable.page import assemble
from helpers.book.explorable.svg import clean, mark_element
from helpers.formulas.expression import Templates, plain
from helpers.formulas.javascript import number_literal, to_javascript


@dataclass(frozen=True)
class State:
    """What a figure shows at one setting.

    Parameters
    ----------
    readout : str
        The sentence under the figure.
    marks : list
        For each mark its values: points of a line, x and y of a dot, left, right, bottom and top
        of a bar, x, y and words of a text.
    """

    readout: str
    marks: list


class Explorable:
    """A figure that a reader can change on a page without a kernel.

    Made by the decorator :func:`helpers.book.explorable.explorable`; shows itself in a notebook.

    Attributes
    ----------
    name : str
        The drawing function's name with hyphens; ``data-mb-name`` on the page.
    controls : dict of str to Control
        By argument name.
    """

    def __init__(
        self, function: Callable, title: str, alt: str, controls: dict[str, Control]
    ) -> None:
        self.function = function
        self.name = function.__name__.replace("_", "-")
        self.title = title
        self.alt = alt
        self.controls = controls

    # ---- the truth, for tests ------------------------------------------------------------------

    def python(self, **settings: Any) -> State:
        """Return what the figure shows, computed by the drawing function on plain numbers.

        Parameters
        ----------
        **settings : number or str
            A value for each control, a name for a list; the start value where left out.

        Raises
        ------
        ValueError
            If a control is unknown or the value is not one of its stops.
        """
        marks = self.drawing(layout=False, **settings).marks
        return State(marks.readout_text, [mark.points for mark in marks.marks])

    def drawing(self, size: str = "wide", layout: bool = True, **settings: Any) -> Drawing:
        """Return matplotlib's own drawing at a setting, from plain numbers."""
        positions = self._positions(settings)
        record = Record(**{k: c.plain(positions[k]) for k, c in self.controls.items()})
        return draw(self.function, record, size, layout=layout)

    def settings(self, most: int | None = None) -> Iterator[dict[str, Any]]:
        """Yield settings for :meth:`python`: all, or a repeatable sample of at most ``most``."""
        for positions in all_positions(self.controls, most):
            yield {k: c.key(positions[k]) for k, c in self.controls.items()}

    def settings_count(self) -> int:
        """Return how many settings there are."""
        return math.prod(len(control.stops) for control in self.controls.values())

    def traced(self, **settings: Any) -> State:
        """Return what the recorded expressions give at a setting, without drawing."""
        positions = self._positions(settings)
        values: dict[str, Any] = {}
        for argument, control in self.controls.items():
            values.update(flat(argument, control.stops[positions[argument]]))
        return State(*checks.evaluate_marks(self.recorded["wide"], values))

    def check(self, most: int = 20_000) -> list[str]:
        """Look for settings at which something leaves the picture; see :mod:`.check`.

        Returns
        -------
        list of str
            One line per fault and setting; empty if all is well.
        """
        return checks.find_faults(self, most)

    # ---- what goes on the page -----------------------------------------------------------------

    @cached_property
    def recorded(self) -> dict[str, Drawing]:
        """The wide and the narrow drawing, made with expressions at the start setting."""
        drawings = {}
        for size in SIZES:
            templates = Templates()
            record = Record(**{k: c.traced(k, templates) for k, c in self.controls.items()})
            drawings[size] = draw(self.function, record, size, templates)
        return drawings

    @cached_property
    def code(self) -> str:
        """The formula as a JavaScript function of (v, format, argmax)."""
        wide, narrow = (_javascript(drawing) for drawing in self.recorded.values())
        if wide != narrow:
            raise ValueError(
                f"{self.name}: the wide and the narrow drawing have different marks or read-outs; "
                "m.wide may change offsets, ticks and limits only"
            )
        return wide

    @cached_property
    def pictures(self) -> dict[str, str]:
        """The cleaned first frames, ``wide`` and ``narrow``."""
        return {
            size: clean(drawing.svg(), f"mb-{self.name}-{size}", f"{self.alt} Now: {self.readout}")
            for size, drawing in self.recorded.items()
        }

    @cached_property
    def spec(self) -> dict[str, Any]:
        """What the engine needs besides the formula: controls, and pixels per value."""
        controls = {
            argument: {
                "label": control.label,
                "stops": list(control.stops),
                "names": list(control.names),
                "unit": control.unit,
                "start": control.start,
                **({"select": 1} if control.is_select else {}),
            }
            for argument, control in self.controls.items()
        }
        sizes = [_pixels(self.recorded[size], self.pictures[size]) for size in SIZES]
        return {"controls": controls, "alt": self.alt, "sizes": sizes}

    @property
    def readout(self) -> str:
        """The read-out at the start setting."""
        return plain(self.recorded["wide"].marks.readout_text)

    @cached_property
    def html(self) -> str:
        """The complete component."""
        code = self.code  # first: it says more clearly if the two drawings differ
        shown = [f"{c.label}: {c.shown(c.start)}" for c in self.controls.values()]
        return assemble(
            name=self.name,
            title=self.title,
            pictures=self.pictures,
            readout=self.readout,
            settings=" · ".join(shown),
            spec=self.spec,
            code=code,
        )

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"{self.title}: {self.readout}"

    def _positions(self, settings: dict[str, Any]) -> dict[str, int]:
        for argument in settings:
            if argument not in self.controls:
                raise ValueError(f"{argument}: unknown; allowed are {', '.join(self.controls)}")
        return {
            argument: control.position(argument, settings[argument])
            if argument in settings
            else control.start
            for argument, control in self.controls.items()
        }


def _pixels(drawing: Drawing, picture: str) -> dict[str, Any]:
    """Return, for the engine, each axes' maps and each mark's kind, axes and label offset."""
    axes = drawing.axes()
    maps = [drawing.maps(ax) for ax in axes]
    marks = []
    for number, mark in enumerate(drawing.marks.marks):
        element = mark_element(picture, number)
        offset = (0.0, 0.0)
        if mark.kind == "text":
            offset = label_offset(mark, maps[axes.index(mark.ax)], element)
        marks.append([mark.kind, axes.index(mark.ax), *offset])
    rows = [[[m.origin, m.step, int(m.is_log)] for m in pair] for pair in maps]
    return {"axes": rows, "marks": marks}


def label_offset(mark: Mark, maps: tuple, element: Any) -> tuple[float, float]:
    """Return how far matplotlib set a label from its point, as SVG pixels right and down."""
    found = []
    for value, axis, name in zip(mark.points[:2], maps, ("x", "y"), strict=True):
        at = math.log10(value) if axis.is_log else value
        found.append(round(float(element.get(name)) - (axis.origin + axis.step * at), 2))
    return tuple(found)


def _javascript(drawing: Drawing) -> str:
    """Return the JavaScript function that computes the read-out and every mark's values."""
    roots: list[Any] = [drawing.marks.readout_text]
    for mark in drawing.marks.marks:
        roots += [mark.data.body] if isinstance(mark.data, Curve) else _flattened(mark.data)
    code = to_javascript(roots)
    expressions = iter(code.expressions)
    readout = next(expressions)
    pieces = []
    for mark in drawing.marks.marks:
        if isinstance(mark.data, Curve):
            xs = ", ".join(number_literal(x) for x in mark.data.xs)
            x = code.bound_names.get(mark.data.bound.detail, "x")
            pieces.append(f"[{xs}].map({x} => [{x}, {next(expressions)}])")
        elif mark.kind == "line":
            points = ", ".join(f"[{next(expressions)}, {next(expressions)}]" for _ in mark.data)
            pieces.append(f"[{points}]")
        else:
            pieces.append(f"[{', '.join(next(expressions) for _ in mark.data)}]")
    marks = ",\n".join(pieces)
    return (
        "(v, format, argmax) => {\n"
        + code.function_body(f"{{readout: {readout}, marks: [\n{marks}]}}")
        + "\n}"
    )


def _flattened(data: list) -> list:
    """Return the values of a mark in one row."""
    return [v for item in data for v in (item if isinstance(item, list) else [item])]
