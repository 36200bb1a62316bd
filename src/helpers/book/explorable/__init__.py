"""Live figures: matplotlib draws, the formula moves it.

A drawing function is decorated with its controls. It is called once with values that remember how
they were made; matplotlib draws the first frame, and what was remembered becomes the JavaScript
that moves the marks on a page without a kernel. Called with plain numbers, the same function is the
truth that tests compare the page with.

Examples
--------
>>> @explorable("Area of a square", "A dot on a parabola.", side=values("Side", [1, 2, 3], 2))
... def square_area(ax, m, v):
...     ax.set(xlim=(0, 4), ylim=(0, 10), xlabel="Side", ylabel="Area")
...     m.line(ax, range(5), lambda x: x * x)
...     m.dot(ax, v.side, v.side * v.side)
...     m.readout(f"A side of {v.side:.0f} gives an area of {v.side * v.side:.0f}")
>>> square_area
Area of a square: A side of 2 gives an area of 4
>>> square_area.python(side=3).readout
'A side of 3 gives an area of 9'
>>> square_area.check()
[]
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable

from helpers.book.explorable.controls import Control, check_controls, choice, powers, values
from helpers.book.explorable.figure import Explorable, State

__all__ = [
    "Explorable",
    "State",
    "choice",
    "explorable",
    "explorables_on_page",
    "powers",
    "registry",
    "values",
]

#: the package whose modules hold the book's own explorables
_FIGURES = "helpers.book.figures"
_KNOWN: dict[str, Explorable] = {}


def explorable(title: str, alt: str, **controls: Control) -> Callable[[Callable], Explorable]:
    """Make an explorable from a drawing function.

    Parameters
    ----------
    title : str
        What the figure is about, and what to see in it.
    alt : str
        What is drawn, for readers who do not see it; the read-out is added by itself.
    **controls : Control
        :func:`choice`, :func:`powers` or :func:`values`, by the name under which the drawing
        function finds their value. At most three sliders and two lists; lists come first.

    Returns
    -------
    callable
        A decorator for a function of ``(ax, m, v)``: matplotlib axes, the
        :class:`~helpers.book.explorable.marks.Marks` to draw with, and the settings.

    Raises
    ------
    ValueError
        If a text is empty, or there are too many controls.
    TypeError
        If a control is something else.

    Notes
    -----
    The drawing function may use ``+ - * / **``, comparisons, :mod:`helpers.formulas.ops` and the
    book's formulas on its settings, and f-strings with the formats ``.Nf``, ``,.Nf``, ``.N%``.
    What would be silently wrong on the page (``if``, ``min``, ``round`` ...) raises.
    """
    for argument, text in (("title", title), ("alt", alt)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{argument}: {text!r} is not a non-empty text")
    check_controls(controls)

    def make(function: Callable) -> Explorable:
        made = Explorable(function, title, alt, controls)
        if function.__module__.startswith(_FIGURES + "."):
            other = _KNOWN.get(made.name)
            if other is not None and other.function.__module__ != function.__module__:
                raise ValueError(f"name: {made.name!r} is taken by {other.function.__module__}")
            _KNOWN[made.name] = made
        return made

    return make


def registry() -> dict[str, Explorable]:
    """Return the book's explorables by name: all those in the modules of its figures package.

    Examples
    --------
    >>> "what-batch-size-buys" in registry()
    True
    """
    package = importlib.import_module(_FIGURES)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{_FIGURES}.{module.name}")
    return dict(_KNOWN)


def explorables_on_page(html: str) -> list[str]:
    """Return the names of the explorables in a page's HTML.

    Raises
    ------
    ValueError
        If a name occurs twice: both would move with the first one's ids.

    Examples
    --------
    >>> explorables_on_page('<div class="mb mb-explorable" data-mb-name="a">')
    ['a']
    """
    names = re.findall(r'class="mb mb-explorable" data-mb-name="([^"]+)"', html)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"page: the explorables {sorted(twice)} stand on it twice")
    return names
