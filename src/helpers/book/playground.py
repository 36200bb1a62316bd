"""A playground: a function that needs a kernel, with controls, and a picture where there is none.

Explorables move without a kernel because their formula travels with the page. What cannot travel, a
model to sample from or a quantizer to run, stands in a playground: ipywidgets in Colab and
JupyterLab, and on the static page the first state as a real figure that says where it is live. A
page never shows a slider that does nothing.
"""

from __future__ import annotations

import hashlib
import html
import inspect
import io
import re
from collections.abc import Callable
from typing import Any

from helpers.book.explorable.controls import Control, Record
from helpers.book.explorable.svg import clean
from helpers.book.style import figure_style, tokens_css

_WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
_CSS = (
    ".mb-playground{color:var(--mb-fg);background:var(--mb-bg);border:1px solid var(--mb-line);"
    "border-radius:8px;padding:12px 16px;margin:8px 0;max-width:760px;box-sizing:border-box;"
    "font-size:15px;line-height:1.45;break-inside:avoid;overflow-x:auto}"
    ".mb-playground p{margin:0 0 6px}.mb-playground .mb-p-title{font-weight:600}"
    ".mb-playground .mb-p-live{margin:8px 0 0;padding:7px 11px;border-left:3px solid var(--mb-c1)}"
    ".mb-playground svg{display:block;max-width:100%;height:auto;font-family:inherit;fill:none}"
    ".mb-playground text{fill:var(--mb-fg);font-family:inherit}"
    ".mb-playground pre{color:inherit;background:none;margin:0;white-space:pre-wrap}"
    ".text_html:has(>.mb-playground),.jp-RenderedHTMLCommon:has(>.mb-playground)"
    "{background:none!important;padding:0!important}"
)


def playground(function: Callable[..., Any], *, title: str, alt: str, **controls: Any) -> None:
    """Show a function with controls, live where there is a kernel.

    Parameters
    ----------
    function : callable
        Takes one keyword argument per control. Returns a matplotlib figure, an object with
        ``_repr_html_``, or a text; it prints nothing. For a table of numbers return text.
    title : str
        Written above.
    alt : str
        What a figure shows, for readers who do not see it.
    **controls : Control or ipywidgets widget
        :func:`~helpers.book.explorable.choice`, ``powers`` or ``values``, as for an explorable, or
        any widget with a ``value`` and a ``description``.

    Raises
    ------
    TypeError
        If a control is neither, if the function has no parameter of its name or has one without a
        control, or if it returns something that cannot be shown.
    ValueError
        If there is no control, or the title or alternative text is empty.

    Notes
    -----
    One output holds everything: the widgets' view, and as HTML the first state with a sentence
    that says where it is live. A site that knows no widgets shows the HTML.
    """
    from IPython.display import display

    for argument, text in (("title", title), ("alt", alt)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{argument}: {text!r} is not a non-empty text")
    if not controls:
        raise ValueError("controls: there is none; allowed is at least one")
    for name, control in controls.items():
        if not isinstance(control, Control) and not hasattr(control, "observe"):
            raise TypeError(
                f"{name}: {control!r} is not a control; allowed are choice(), powers(), values() "
                "and ipywidgets widgets"
            )
    _check_names(function, controls)
    frame = _Frame(function, title, alt)
    picture = frame.picture({name: _first(control) for name, control in controls.items()})
    bundle = {
        "text/plain": f"{title} (live in Colab or JupyterLab)",
        "text/html": frame.still(picture, controls),
    }
    model = _widgets(frame, picture, controls)
    if model is not None:
        bundle[_WIDGET_VIEW] = {
            "version_major": 2,
            "version_minor": 0,
            "model_id": model.model_id,
        }
    display(bundle, raw=True)


def _check_names(function: Callable[..., Any], controls: dict[str, Any]) -> None:
    """Raise unless each control has its parameter, and each parameter its control."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some functions written in C do not tell theirs
        return
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes = [p.name for p in by_name]
    listed = ", ".join(takes) or "none"
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for name in controls:
            if name not in takes:
                raise TypeError(
                    f"{name}: the function has no such parameter for this control; its parameters"
                    f" are: {listed}"
                )
    for p in by_name:
        if p.default is p.empty and p.name not in controls:
            raise TypeError(
                f"{p.name}: the function needs it, but no control has this name; the controls are:"
                f" {', '.join(controls)}"
            )


class _Frame:
    """Turns the function's results into HTML."""

    def __init__(self, function: Callable[..., Any], title: str, alt: str) -> None:
        self.function, self.title, self.alt = function, title, alt
        # ids in the picture must not clash with those of another one on the page
        self.prefix = "mb-p-" + hashlib.sha256(title.encode()).hexdigest()[:8]

    def picture(self, settings: dict[str, Any]) -> str:
        """Call the function and return what it gives as HTML."""
        import matplotlib as mpl
        from matplotlib.figure import Figure

        with mpl.rc_context(figure_style()):
            result = self.function(**settings)
            if isinstance(result, Figure):
                return self._svg(result)
        if hasattr(result, "_repr_html_"):
            return result._repr_html_()
        if isinstance(result, str):
            return f"<pre>{html.escape(result)}</pre>"
        raise TypeError(
            f"function: returned a {type(result).__name__}; allowed are a matplotlib figure, an "
            "object with _repr_html_, or text"
        )

    def _svg(self, figure: Any) -> str:
        import matplotlib.pyplot as plt

        buffer = io.StringIO()
        figure.patch.set_visible(False)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        plt.close(figure)  # else the notebook would show it a second time
        return clean(buffer.getvalue(), self.prefix, self.alt)

    def still(self, picture: str, controls: dict[str, Any]) -> str:
        """Return the first state and the sentence that says where it is live."""
        shown = ", ".join(
            f"{_label(name, control)} {_shown(control)}" for name, control in controls.items()
        )
        sentence = (
            f"First state: {shown}. Live in Colab or JupyterLab: run this cell there to change it."
        )
        return self.framed(f'{picture}<p class="mb-p-live">{html.escape(sentence)}</p>')

    def framed(self, inside: str) -> str:
        """Return HTML in the playground's frame, under its title."""
        title = html.escape(self.title, quote=True)
        return (
            f'<style data-mb="playground">{tokens_css()}{_CSS}</style>'
            f'<div class="mb mb-playground" role="group" aria-label="{title}">'
            f'<p class="mb-p-title">{title}</p>{inside}</div>'
        )


def _widgets(frame: _Frame, picture: str, controls: dict[str, Any]) -> Any:
    """Return a box with the controls above a picture that follows them; None without ipywidgets."""
    try:
        import ipywidgets
    except ImportError:
        return None
    # one width for all labels, so that none is cut and the sliders begin at one line
    longest = max(len(_description(control)) for control in controls.values())
    label_width = f"{longest + 1}ch"
    inputs = {name: _widget(ipywidgets, control, label_width) for name, control in controls.items()}
    view = ipywidgets.HTML(frame.framed(picture))

    def show(_: Any) -> None:
        settings = {name: _plain(controls[name], widget.value) for name, widget in inputs.items()}
        try:
            picture = frame.picture(settings)
        except Exception as error:  # a callback's exception would vanish into a log
            picture = f"<pre>{html.escape(f'{type(error).__name__}: {error}')}</pre>"
        view.value = frame.framed(picture)

    for widget in inputs.values():
        widget.observe(show, names="value")
    return ipywidgets.VBox([*inputs.values(), view])


def _description(control: Any) -> str:
    """What stands in front of the widget."""
    return control.label if isinstance(control, Control) else getattr(control, "description", "")


def _widget(ipywidgets: Any, control: Any, label_width: str) -> Any:
    """Return a widget for a control of ours; a widget comes back, in line with the others."""
    # wide enough for a label, a slider and what it stands at; on a phone as wide as there is
    layout = {"width": "100%", "max_width": "600px"}
    if not isinstance(control, Control):
        style = getattr(control, "style", None)
        if hasattr(style, "description_width") and not style.description_width:
            style.description_width = label_width
            if control.layout.width is None:
                control.layout.width, control.layout.max_width = layout.values()
        return control
    positions = range(len(control.stops))
    options = [(control.shown(position), position) for position in positions]
    if control.is_select:
        make, extra = ipywidgets.Dropdown, {}
    else:  # wait for the handle to be let go: each value runs the function
        make, extra = ipywidgets.SelectionSlider, {"continuous_update": False}
    return make(
        options=options,
        value=control.start,
        description=control.label,
        style={"description_width": label_width},
        layout=layout,
        **extra,
    )


def _first(control: Any) -> Any:
    return _plain(control, control.start if isinstance(control, Control) else control.value)


def _plain(control: Any, value: Any) -> Any:
    """Return what the function gets: a control's stop by position, or a widget's own value."""
    return control.plain(value) if isinstance(control, Control) else value


def _label(name: str, control: Any) -> str:
    if isinstance(control, Control):
        return control.label
    return re.sub(r"[:\s]+$", "", getattr(control, "description", "")) or name


def _shown(control: Any) -> str:
    if isinstance(control, Control):
        return control.shown(control.start)
    value = control.value
    return value.name if isinstance(value, Record) else f"{value}"
