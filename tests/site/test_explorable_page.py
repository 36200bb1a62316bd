"""The explorables in a browser, on a bare page: driven, at two widths, and with planted defects."""

from __future__ import annotations

import pytest
from drive_explorables import drive_explorables

from library.explorable_samples import cache_fits, draft_length

pytestmark = pytest.mark.browser

KNOWN = {"cache-fits": cache_fits, "draft-length": draft_length}


@pytest.mark.parametrize("width", [1280, 390])
def test_every_control_moves_the_figure_to_where_python_says(show, width):
    page, errors = show("".join(figure.html for figure in KNOWN.values()), width)
    report = drive_explorables(page, KNOWN, most=40, redraws=1)
    assert not report.faults, "\n".join(report.faults[:20])
    assert not errors
    assert set(report.settings) == set(KNOWN)
    assert min(report.settings.values()) >= 40


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("1 - Math.pow", "1.00001 - Math.pow", "instead of"),
        (', 2) + "× at k', ', 1) + "× at k', "read-out"),
        ('"label":"Draft cost"', '"label":"Draft price"', "its label says"),
        ('set("cx", X(g[0]))', 'set("cx", X(g[0]) + 1)', "off by 1.0"),
        ('spec.alt + " Now: "', 'spec.alt + " Then: "', "alternative text"),
        ("input.max = c.stops.length - 1", "input.max = c.stops.length - 2", "keyboard stays"),
        ("`${c.names[i]} ${c.unit}`.trim()", "c.names[i]", "says '4' at '4 tokens'"),
        ("out.textContent = state.readout", "out.textContent ||= state.readout", "shows"),
    ],
)
def test_a_planted_defect_is_found(show, old, new, words):
    html = draft_length.html
    assert old in html
    page, _ = show(html.replace(old, new))
    faults = drive_explorables(page, KNOWN, most=8, redraws=1).faults
    assert any(words in fault for fault in faults), faults[:5]


def test_smallest_text_and_no_overflow(show):
    for width in (1280, 700, 390):
        page, _ = show("".join(figure.html for figure in KNOWN.values()), width)
        smallest = page.evaluate(
            """() => Math.min(...[...document.querySelectorAll(".mb-explorable svg")]
              .filter(svg => svg.getBoundingClientRect().width)
              .flatMap(svg => [...svg.querySelectorAll("text")].map(text =>
                parseFloat(getComputedStyle(text).fontSize)
                * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width)))"""
        )
        assert smallest >= 11.95, f"{width}: {smallest:.2f} px"
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_without_a_script_the_figure_and_the_settings_stand(show):
    page, _ = show(draft_length.html, java_script_enabled=False)
    box = page.locator(".mb-explorable")
    assert box.locator("svg:visible").count() == 1
    assert box.locator("output").inner_text() == draft_length.readout
    assert "Draft length k: 4 tokens" in box.inner_text()
    assert box.locator("input, select").count() == 0


def test_in_a_sandboxed_frame(show):
    """Colab shows each output in a frame of its own, of another origin."""
    from html import escape

    frame = f'<iframe sandbox="allow-scripts" style="width:800px;height:700px" srcdoc="{escape(draft_length.html, quote=True)}">'  # noqa: E501
    page, errors = show(frame)
    inside = page.frame_locator("iframe").locator(".mb-explorable")
    slider = inside.get_by_label("Draft length k")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert inside.locator("output").inner_text() == draft_length.python(k=5).readout
    assert not errors


def test_twice_run_code_starts_each_figure_once(show):
    page, errors = show(draft_length.html + cache_fits.html)
    page.evaluate("mbExplorable()")
    assert page.locator(".mb-x-controls label").count() == 6
    assert not errors


def test_the_controls_do_not_jump(show):
    """A read-out that once needed three lines keeps their room until the width changes."""
    page, _ = show(cache_fits.html, 390)
    box = page.locator(".mb-explorable")
    slider, output = box.get_by_role("slider", name="Context"), box.locator("output")
    slider.focus()
    page.keyboard.press("Home")
    heights = [output.bounding_box()["height"]]
    for key in ["ArrowRight"] * 7 + ["ArrowLeft"] * 7:
        page.keyboard.press(key)
        heights.append(output.bounding_box()["height"])
    assert heights[0] < heights[-1]
    assert heights == sorted(heights)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.wait_for_function(
        "([output, most]) => output.offsetHeight < most",
        arg=[output.element_handle(), heights[0] + 1],
    )


def test_print_shows_the_present_setting_and_no_controls(show):
    page, _ = show(draft_length.html)
    slider = page.get_by_label("Draft length k")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.emulate_media(media="print")
    assert "Draft length k: 5 tokens" in page.locator(".mb-x-settings").inner_text()
    assert not page.locator(".mb-x-controls").is_visible()
