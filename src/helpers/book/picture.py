"""Pictures that do not move: matplotlib draws, the page gives fonts, colours, light and dark.

A drawing function is called twice, for a column of text and for a phone, and the two drawings are
switched by the width they get. The HTML is the same every time, so stored outputs can be compared.

Examples
--------
>>> @picture("A rising line from 0 to 4.", caption="It rises.")
... def a_line(ax, m):
...     m.line(ax, [0, 1, 2], [0, 2, 4])
...     m.dot(ax, 2, 4)
>>> a_line.html.count("<svg")
2
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import cached_property
from html import escape

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from helpers.book.explorable.marks import Marks
from helpers.book.explorable.svg import clean
from helpers.book.style import figure_style, tokens_css

_DPI = 72
_STYLE = (
    ".mb-picture{container-type:inline-size;max-width:760px;margin:8px 0;color:var(--mb-fg);"
    "break-inside:avoid}"
    ".mb-picture svg{display:block;width:100%;height:auto;overflow:visible;fill:none;"
    "font-family:inherit}"
    ".mb-picture text{fill:var(--mb-fg);font-family:inherit}"
    ".mb-picture figcaption{margin-top:6px;font-size:.9em;color:var(--mb-muted)}"
    ".mb-picture .narrow{display:none;max-width:440px;margin:0 auto}"
    "@container (max-width:627.9px){.mb-picture .wide{display:none}.mb-picture .narrow"
    "{display:block}}"
    ".text_html:has(>.mb-picture),.jp-RenderedHTMLCommon:has(>.mb-picture)"
    "{background:none!important;padding:0!important}"
)


class Picture:
    """A still figure with alternative text; shows itself in a notebook.

    Made by the decorator :func:`picture`.
    """

    def __init__(
        self,
        function: Callable[[Axes, Marks], None],
        alt: str,
        caption: str,
        heights: tuple[int, int],
    ) -> None:
        self.function = function
        self.alt = alt
        self.caption = caption
        self.heights = heights
        self.name = function.__name__.replace("_", "-")

    def figure(self, wide: bool = True) -> Figure:
        """Return matplotlib's own figure."""
        width = 680 if wide else 320
        height = self.heights[0 if wide else 1]
        with mpl.rc_context(figure_style(13 if wide else 12.5)):
            figure = Figure((width / _DPI, height / _DPI), dpi=_DPI, layout="constrained")
            figure.patch.set_visible(False)
            ax = figure.add_subplot()
            ax.patch.set_visible(False)
            self.function(ax, Marks(None, wide))
        return figure

    def _svg(self, wide: bool) -> str:
        buffer = io.StringIO()
        with mpl.rc_context(figure_style(13 if wide else 12.5)):
            self.figure(wide).savefig(buffer, format="svg", dpi=_DPI, metadata={"Date": None})
        prefix = f"mb-{self.name}-{'wide' if wide else 'narrow'}"
        return clean(buffer.getvalue(), prefix, self.alt)

    @cached_property
    def html(self) -> str:
        """The complete component."""
        caption = re.sub(r"\*(.+?)\*", r"<em>\1</em>", escape(self.caption))
        return (
            f'<style data-mb="picture">{tokens_css()}{_STYLE}</style>'
            f'<figure class="mb mb-picture">'
            f'<div class="wide">{self._svg(True)}</div><div class="narrow">{self._svg(False)}</div>'
            f"<figcaption>{caption}</figcaption></figure>"
        )

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"Figure: {self.alt} {self.caption}"


def picture(
    alt: str, caption: str, heights: tuple[int, int] = (330, 290)
) -> Callable[[Callable[[Axes, Marks], None]], Picture]:
    """Make a still figure from a drawing function of ``(ax, m)``.

    ``m`` are the :class:`~helpers.book.explorable.marks.Marks` that explorables use; dots must be
    drawn with it, everything else may be. ``m.wide`` says which of the two drawings this is.

    Parameters
    ----------
    alt : str
        What is drawn, for readers who do not see it.
    caption : str
        What to see in it; ``*emphasis*`` is understood.
    heights : tuple of int
        Of the wide (680 px) and the narrow (320 px) drawing.

    Raises
    ------
    ValueError
        If a text is empty.
    """
    for argument, text in (("alt", alt), ("caption", caption)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{argument}: {text!r} is not a non-empty text")
    return lambda function: Picture(function, alt, caption, heights)
