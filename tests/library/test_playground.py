"""A playground shows a real first state as HTML, and widgets that follow where a kernel runs."""

from __future__ import annotations

import IPython.display
import ipywidgets
import pytest
from matplotlib.figure import Figure

from helpers.book.explorable import choice, powers, values
from helpers.book.playground import playground
from helpers.book.style import INK

WIDGET = "application/vnd.jupyter.widget-view+json"
SETTINGS = {"title": "Squares", "alt": "A line."}


@pytest.fixture
def shown(monkeypatch):
    """Collect what is displayed."""
    bundles = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, raw: bundles.append(bundle))
    return bundles


def squares(power, kind):
    figure = Figure((4, 2))
    ax = figure.add_subplot()
    ax.plot([0, 1, 2], [x**power for x in (0, 1, 2)], color=INK["c1"])
    ax.set_title(kind)
    return figure


def controls():
    return {
        "power": values("Power", [1, 2, 3], 2),
        "kind": choice("Kind", {"even": 0, "odd": 1}),
    }


def test_one_output_holds_the_figure_and_the_widgets(shown):
    playground(lambda power, kind: squares(power, str(kind)), **SETTINGS, **controls())
    (bundle,) = shown
    assert set(bundle) == {"text/plain", "text/html", WIDGET}
    html = bundle["text/html"]
    assert "<svg" in html and "var(--mb-c1)" in html and 'aria-label="A line."' in html
    assert "First state: Power 2, Kind even. Live in Colab or JupyterLab" in html
    assert "<input" not in html and "<select" not in html and "<script" not in html


def test_the_html_is_the_same_every_time(shown):
    for _ in range(2):
        playground(lambda power, kind: squares(power, str(kind)), **SETTINGS, **controls())
    assert shown[0]["text/html"] == shown[1]["text/html"]


def box_of(bundle):
    """Return the widget behind a displayed view."""
    from ipywidgets.widgets import widget

    everything = getattr(widget, "_instances", None) or ipywidgets.Widget.widgets
    return everything[bundle[WIDGET]["model_id"]]


def test_moving_a_widget_runs_the_function_with_the_stop(shown):
    seen = []

    def report(power, kind):
        seen.append((power, kind))
        return f"{power} < {kind}"

    playground(report, **SETTINGS, **controls())
    slider, select, view = box_of(shown[0]).children
    assert "2 &lt; 0" in view.value
    slider.value = 2  # the third stop
    select.value = 1
    assert seen == [(2, 0), (3, 0), (3, 1)]
    assert "3 &lt; 1" in view.value


def test_an_error_in_a_callback_is_shown(shown):
    def fail(power):
        if power == 3:
            raise ValueError("three is <too> much")
        return "fine"

    playground(fail, power=values("Power", [1, 2, 3], 2), **SETTINGS)
    slider, view = box_of(shown[0]).children
    slider.value = 2
    assert "ValueError: three is &lt;too&gt; much" in view.value


def test_a_widget_may_be_given_directly(shown):
    word = ipywidgets.Text("hello", description="Prompt:")
    playground(lambda prompt: prompt.upper(), prompt=word, **SETTINGS)
    assert "First state: Prompt hello." in shown[0]["text/html"]
    word.value = "bye"
    assert "BYE" in box_of(shown[0]).children[-1].value


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"title": ""}, ValueError, "title"),
        ({"alt": " "}, ValueError, "alt"),
        ({"power": 3}, TypeError, "power: 3"),
    ],
)
def test_bad_arguments_are_named(change, error, words):
    arguments = {**SETTINGS, "power": values("Power", [1, 2], 1), **change}
    with pytest.raises(error, match=words):
        playground(lambda power: "x", **arguments)


def test_no_control_and_no_picture():
    with pytest.raises(ValueError, match="controls: there is none"):
        playground(lambda: "x", **SETTINGS)
    with pytest.raises(TypeError, match="returned a int"):
        playground(lambda power: 1, power=values("Power", [1, 2], 1), **SETTINGS)


def test_a_wrong_name_is_told_with_the_functions_own():
    def draw(kind, n=1):
        return "x"

    two = values("N", [1, 2], 1)
    with pytest.raises(TypeError, match=r"size: the function has no such .* are: kind, n$"):
        playground(draw, **SETTINGS, kind=two, size=two)
    with pytest.raises(TypeError, match=r"kind: the function needs it.* the controls are: n$"):
        playground(draw, **SETTINGS, n=two)


def test_a_function_that_takes_any_name_may_have_any_control(shown):
    playground(lambda **settings: str(settings), **SETTINGS, size=values("N", [1, 2], 1))
    assert "size" in shown[0]["text/html"]


def test_labels_are_whole_and_sliders_in_line(shown):
    word = ipywidgets.Text("hello", description="Prompt:")
    own = ipywidgets.Text("x", description="Own:", style={"description_width": "9em"})
    long = values("Tokens in the context", [1, 2], 1)
    playground(lambda **s: "x", **SETTINGS, word=word, long=long, own=own, **controls())
    widths = [w.style.description_width for w in box_of(shown[0]).children[:-1]]
    assert widths == ["22ch", "22ch", "9em", "22ch", "22ch"]


def test_slider_shows_what_the_axis_shows(shown):
    n = powers("n", 64, 2048, 2048, show="{:,}".format)
    playground(lambda n: f"{n:,}", **SETTINGS, n=n)
    assert box_of(shown[0]).children[0].label == "2,048"
