"""Explorables: what the page's own script does equals Python and matplotlib, and misuse is named.

The engine runs in V8 on a stand-in for the document; the site's tests drive it in a browser.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from explorable_samples import cache_fits, draft_length
from py_mini_racer import MiniRacer

from helpers.book.explorable import (
    choice,
    explorable,
    explorables_on_page,
    powers,
    registry,
    values,
)
from helpers.book.explorable.compare import differences, misplaced, place_of, places, redrawn
from helpers.book.explorable.controls import all_positions
from helpers.book.explorable.figure import Explorable
from helpers.book.explorable.page import engine, style_sheet
from helpers.book.style import INK

BOOK = registry()
SAMPLES = {"cache-fits": cache_fits, "draft-length": draft_length}
ALL = {**BOOK, **SAMPLES}

every = pytest.mark.parametrize("figure", ALL.values(), ids=ALL)


class Page:
    """An explorable's emitted script, running in V8."""

    def __init__(self, figure, change=lambda script: script):
        self.figure = figure
        self.kinds = [mark[0] for mark in figure.spec["sizes"][0]["marks"]]
        self.v8 = MiniRacer()
        self.v8.eval((Path(__file__).parent / "fake_page.js").read_text("utf-8"))
        self.v8.eval(f"newPage({len(self.kinds)})")
        scripts = re.findall(r"<script[^>]*>(.*?)</script>", figure.html, re.DOTALL)
        self.v8.eval(scripts[0])
        self.v8.eval(change(scripts[1]))

    def move(self, settings):
        """Move the controls and return what the page then shows."""
        controls = self.figure.controls
        positions = {k: controls[k].position(k, value) for k, value in settings.items()}
        return json.loads(self.v8.eval(f"move({json.dumps(positions)})"))

    def faults(self, settings):
        """Return every difference from Python at one setting."""
        shown = self.move(settings)
        truth = self.figure.python(**settings)
        found = differences(truth, shown["state"])
        if shown["output"] != truth.readout:
            found.append(f"output: {shown['output']}")
        for size, elements in zip(("wide", "narrow"), shown["marks"], strict=True):
            got = [place_of(k, e) for k, e in zip(self.kinds, elements, strict=True)]
            found += misplaced(places(self.figure, size, truth), got, self.kinds)
        return found


def sample(figure, most, seed=0):
    settings = list(figure.settings())
    return random.Random(seed).sample(settings, min(most, len(settings)))


# ---- the page equals Python, and matplotlib ----------------------------------------------------


@every
def test_the_script_equals_python(figure):
    page = Page(figure)
    for settings in sample(figure, 40):
        assert page.faults(settings) == [], settings


@every
def test_matplotlib_would_draw_the_marks_there(figure):
    page = Page(figure)
    for settings in sample(figure, 3, seed=1):
        shown = page.move(settings)
        for number, size in enumerate(("wide", "narrow")):
            got = [place_of(k, e) for k, e in zip(page.kinds, shown["marks"][number], strict=True)]
            drawn = redrawn(figure, size, **settings)
            assert misplaced(drawn, got, page.kinds) == [], (settings, size)


@every
def test_the_trees_equal_python_everywhere(figure):
    for settings in figure.settings(most=60):
        truth, traced = figure.python(**settings), figure.traced(**settings)
        assert differences(truth, {"readout": traced.readout, "marks": traced.marks}, 0) == []


@every
def test_nothing_leaves_the_picture_at_any_setting(figure):
    assert figure.check() == []


@every
def test_the_first_frame_is_the_start_setting(figure):
    start = {k: c.key(c.start) for k, c in figure.controls.items()}
    assert figure.python() == figure.python(**start)
    assert figure.readout == figure.python().readout


# ---- planted defects are found -----------------------------------------------------------------


def planted(figure, old, new):
    """Return the page with a change in the emitted script, which must contain what is changed."""

    def change(script):
        assert old in script, old
        return script.replace(old, new, 1)

    return Page(figure, change)


def faults_anywhere(page):
    return [fault for settings in sample(page.figure, 20) for fault in page.faults(settings)]


def test_a_wrong_constant_is_found():
    page = planted(draft_length, "1 - Math.pow", "1.000001 - Math.pow")
    assert any("instead of" in fault for fault in faults_anywhere(page))


def test_a_last_digit_is_found():
    page = planted(cache_fits, "/ 1000000000", "/ 1000000002")
    assert any("mark" in fault for fault in faults_anywhere(page))


def test_an_axis_off_by_one_pixel_is_found():
    origin = draft_length.spec["sizes"][0]["axes"][0][0][0]
    page = planted(draft_length, f"[[{origin}", f"[[{origin + 1}")
    assert any("off by 1.0" in fault for fault in faults_anywhere(page))


def test_an_axis_of_the_wrong_length_is_found():
    step = draft_length.spec["sizes"][0]["axes"][0][0][1]
    page = planted(draft_length, f"{step},", f"{step * 1.005},")
    assert any("off by" in fault for fault in faults_anywhere(page))


def test_wrong_decimals_are_found():
    page = planted(draft_length, ', 2) + "× at k', ', 1) + "× at k')
    assert any(fault.startswith("read-out") for fault in faults_anywhere(page))


def test_a_wrong_stop_is_found():
    page = planted(cache_fits, '"stops":[1,2,4', '"stops":[1,2,5')
    assert any(fault.startswith("read-out") for fault in faults_anywhere(page))


def test_swapped_marks_are_found():
    page = planted(draft_length, '["dot",0,', '["text",0,')
    with pytest.raises(KeyError):
        faults_anywhere(page)


# ---- the HTML ----------------------------------------------------------------------------------


@every
def test_the_html_is_the_same_every_time(figure):
    again = Explorable(figure.function, figure.title, figure.alt, figure.controls)
    assert again.html == figure.html


@every
def test_the_html_keeps_the_contract(figure):
    html = figure.html
    assert explorables_on_page(html) == [figure.name]
    assert html.count('<style data-mb="explorable">') == 1
    assert html.count('<script type="module" data-mb="explorable">') == 1
    assert "http" not in html.replace("https://", "http").lower() or "//" not in html
    picture = re.sub(r"<(style|script).*?</\1>", "", html, flags=re.DOTALL)
    assert not re.search(r"#[0-9a-f]{6}\b", picture), "a colour that cannot follow dark mode"
    ids = re.findall(r' id="([^"]*)"', html)
    assert len(ids) == len(set(ids)) and all(i.startswith(f"mb-{figure.name}-") for i in ids)
    assert "eval(" not in html and "new Function" not in html
    assert len(html) < 30_000


def test_the_engine_is_small():
    assert len(engine().encode()) < 4096
    assert "//" not in engine()
    assert "\n" not in style_sheet()


def test_two_explorables_share_style_and_script():
    def shared(figure):
        return re.findall(r'<(?:style|script)[^>]*data-mb="explorable">.*?</', figure.html, re.S)

    assert shared(cache_fits) == shared(draft_length)


def test_what_a_page_without_tags_says():
    """A notebook that is not trusted shows the text only: it must read as sentences."""
    text = re.sub(r"<(style|script).*?</\1>", "", cache_fits.html, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", " ", text)
    text = re.sub(r"\s+", " ", text).strip()
    first = (
        "KV cache: does it fit? Fits: 16.1 GB + 8.6 GB = 24.6 of 80 GB Model (bf16): Llama-3.1-8B"
    )
    assert text.startswith(first)
    assert "words in the picture" in text
    assert "1K , 2K , 4K , 8K" in text


def test_the_plain_text_is_title_and_read_out():
    assert repr(draft_length) == f"{draft_length.title}: {draft_length.readout}"
    assert draft_length._repr_html_() == draft_length.html


def test_a_name_twice_on_a_page_is_refused():
    with pytest.raises(ValueError, match=r"\['draft-length'\] stand on it twice"):
        explorables_on_page(draft_length.html * 2)


def test_dangerous_texts_stay_texts():
    bad = "</script><b>&\"'"

    @explorable(bad, bad, k=choice(bad, {bad: 1, "b": 2}))
    def dangerous(ax, m, v):
        m.text(ax, 0.5, 0.5, where_name(v))
        m.readout(f"{v.k:.0f}" + bad)

    def where_name(v):
        return f"{v.k:.1f}{bad}"

    html = dangerous.html
    assert html.count("</script>") == 2  # the two scripts' own
    assert "<b>" not in re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert "<b>" not in html.rpartition("<script")[2]
    assert Page(dangerous).faults({"k": "b"}) == []


# ---- misuse ------------------------------------------------------------------------------------


def figure_with(draw, **controls):
    controls = controls or {"n": values("Number", [1, 2, 3], 2)}

    def misused(ax, m, v):
        draw(ax, m, v)
        if m.readout_text is None:
            m.readout("Nothing.")

    return explorable("A figure", "Nothing.", **controls)(misused)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: values("Batch", [1, 2], 3), r"Batch: start: 3 is not one of \[1, 2\]"),
        (lambda: values("Batch", [1], 1), "Batch: stops: .* two or more that increase"),
        (lambda: values("Batch", [2, 1], 1), "Batch: stops: .* two or more that increase"),
        (lambda: values("Batch", [1, float("nan")], 1), "Batch: stops: nan is not a finite"),
        (lambda: values("Batch", [1, "a"], 1), "Batch: stops: 'a' is not a finite"),
        (lambda: values("Batch", [1, 2**53], 1), "is not exact in JavaScript"),
        (lambda: values("", [1, 2], 1), "label: '' is not a non-empty text"),
        (lambda: powers("Batch", 1, 100, 1), "Batch: high: 100 .*allowed is 128"),
        (lambda: powers("Batch", 0, 8, 1), "Batch: low: 0"),
        (lambda: powers("Batch", 1, 8, 3), r"Batch: start: 3 is not one of \[1, 2, 4, 8\]"),
        (lambda: choice("Chip", {"a": 1, "b": 2}, "c"), r"Chip: start: 'c' is not one of"),
        (lambda: choice("Chip", {"a": 1}), "Chip: table: has 1 entries"),
        (lambda: choice("Chip", {"a": {"x": 1}, "b": {"y": 1}}), "different fields"),
        (lambda: choice("Chip", {"a": {"x y": 1}, "b": {"x y": 1}}), "not an identifier"),
        (lambda: choice("Chip", {"a": {"x": None}, "b": {"x": 1}}), "a.x: None is not a finite"),
    ],
)
def test_controls_name_what_is_wrong(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_too_many_or_wrong_controls():
    sliders = {f"s{i}": values(f"S{i}", [1, 2], 1) for i in range(4)}
    with pytest.raises(ValueError, match="4 sliders and 0 lists; allowed"):
        figure_with(lambda ax, m, v: None, **sliders)
    lists = {f"c{i}": choice(f"C{i}", {"a": 1, "b": 2}) for i in range(3)}
    with pytest.raises(ValueError, match="0 sliders and 3 lists"):
        figure_with(lambda ax, m, v: None, **lists)
    with pytest.raises(TypeError, match="n: 3 is not a control"):
        figure_with(lambda ax, m, v: None, n=3)
    with pytest.raises(ValueError, match="same label"):
        figure_with(lambda ax, m, v: None, a=values("A", [1, 2], 1), b=values("A", [1, 2], 1))
    with pytest.raises(ValueError, match="alt: ' ' is not"):
        explorable("Title", " ", a=values("A", [1, 2], 1))


def polar(ax, m, v):
    axes = ax.figure.add_subplot(projection="polar")
    m.dot(axes, v.n, 1)


def log_base_2(ax, m, v):
    ax.set_xscale("log", base=2)
    m.dot(ax, v.n, 1)


def symlog(ax, m, v):
    ax.set_yscale("symlog")
    m.dot(ax, v.n, 1)


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (polar, "a polar axes"),
        (log_base_2, "base 2"),
        (symlog, "symlog y scale"),
        (lambda ax, m, v: m.line(ax, [1, 2], [v.n]), "line: ys: has 1 values, xs has 2"),
        (lambda ax, m, v: m.text(ax, 1, 1, v.n), "without a format"),
        (lambda ax, m, v: m.text(ax, 1, 1, "$x$"), "mathematics"),
        (lambda ax, m, v: m.readout(""), "not a non-empty text"),
        (lambda ax, m, v: (m.readout("a"), m.readout("b")), "set twice"),
        (lambda ax, m, v: m.dot(ax, v.n, 1, color="red"), "'#ff0000' is not in the palette"),
        (lambda ax, m, v: m.dot(ax, v.batch, 1), "'batch' is not known here; allowed are n"),
        (lambda ax, m, v: m.dot(ax, v.n, 1) if m.wide else None, "different marks"),
        (lambda ax, m, v: m.dot(ax, v.n, 1 if m.wide else 2), "different marks"),
        (lambda ax, m, v: m.dot(ax, 1 if v.n > 1 else 2, 1), "use where"),
    ],
)
def test_drawing_functions_name_what_is_wrong(draw, words):
    with pytest.raises((ValueError, TypeError, AttributeError), match=words):
        _ = figure_with(draw).html


def test_no_readout():
    quiet = explorable("A figure", "Nothing.", n=values("N", [1, 2], 1))(lambda ax, m, v: None)
    with pytest.raises(ValueError, match="readout: is missing"):
        _ = quiet.html


def test_settings_are_checked():
    with pytest.raises(ValueError, match=r"k: 99 is not one of"):
        draft_length.python(k=99)
    with pytest.raises(ValueError, match="speed: unknown; allowed are acceptance, k, cost"):
        draft_length.python(speed=1)


def square(ax):
    ax.set(xlim=(0, 10), ylim=(0, 10), xlabel="x", ylabel="A title in the way")


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (lambda m, ax, n: m.dot(ax, n * 4, 5), r"n=3.*\(dot\): \[12, 5\] lies outside"),
        (lambda m, ax, n: m.bar(ax, 5, 1, 0, n * 4), r"n=3.*\(bar\): .* lies outside"),
        (lambda m, ax, n: m.line(ax, [n * 4, n * 4], [1, 2]), r"n=3.*\(line\): lies outside"),
        (lambda m, ax, n: m.text(ax, n * 3, 5, "x" * 20), r"n=3.*sticks \d+ px out"),
        (lambda m, ax, n: m.text(ax, 5, n * 4.5, "abc"), r"n=3.*leaves the picture at the top"),
        (lambda m, ax, n: m.text(ax, 5, n - 1, "abc", dy=25), r"n=1.*covers"),
        (lambda m, ax, n: (m.text(ax, n, 5, "abc"), m.text(ax, 3, 5, "def")), r"covers mark 0"),
        (lambda m, ax, n: m.dot(ax, 6 / (3 - n), 1), r"n=3.*cannot be computed"),
    ],
)
def test_the_check_finds_layout_faults(draw, words):
    def body(ax, m, v):
        square(ax)
        draw(m, ax, v.n)

    faults = figure_with(body).check()
    assert any(re.search(words, fault) for fault in faults), faults
    assert all("n=2" not in fault for fault in faults) or "mark 0" in words


def test_samples_are_repeatable_and_hold_the_ends():
    controls = draft_length.controls
    everything = list(all_positions(controls))
    some = list(all_positions(controls, 50))
    assert len(everything) == 16 * 17 * 9 == draft_length.settings_count()
    assert some == list(all_positions(controls, 50)) and len(some) == 50
    assert len({tuple(s.values()) for s in some}) == 50
    assert some[0] == {k: c.start for k, c in controls.items()}
    for name, control in controls.items():
        assert {0, len(control.stops) - 1} <= {s[name] for s in some}


def test_a_duplicate_name_among_the_books_figures_is_refused():
    def what_batch_size_buys(ax, m, v):
        """Bear the name of another figure."""

    what_batch_size_buys.__module__ = "helpers.book.figures.another"
    with pytest.raises(ValueError, match="'what-batch-size-buys' is taken by"):
        explorable("Title", "Alt.", n=values("N", [1, 2], 1))(what_batch_size_buys)


def test_the_palette_has_a_role_for_every_colour_used():
    assert INK["c2"] not in draft_length.pictures["wide"]
    assert "var(--mb-c2)" in draft_length.pictures["wide"]
