"""The sortable table: its markup, and its behaviour in a browser."""

import re
from html.parser import HTMLParser

import pytest

from gates.browser import Chromium
from helpers import catalog
from helpers.book import tables
from helpers.book.tables import Cell, Column, Notes, Sources, Table, figure_cell, key_of_marks

COLUMNS = [Column("Chip", text=True), Column("Maker", text=True), Column("Bandwidth", "TB/s")]
NAMES = ("h100-sxm", "t4", "rubin", "groq-lpu-v1", "mi300x")


def example(sources=None):
    chips = [catalog.chip(name) for name in NAMES]
    rows = [[chip.short, chip.vendor, figure_cell(chip.bandwidth_figure, "TB/s")] for chip in chips]
    return Table(
        "Bandwidths", COLUMNS, [*rows, ["None", "Nobody", Cell("")]], sources, sortable=True
    )


class Outline(HTMLParser):
    """Counts tags and checks that they nest."""

    VOID = ("input", "br", "img", "meta")

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.seen if name == tag]


def test_markup_is_a_complete_accessible_table():
    outline = Outline(example(Sources())._repr_html_())
    assert len(outline.all("caption")) == 1
    heads = [a["scope"] for a in outline.all("th")]
    assert heads == ["col"] * 3 + ["row"] * 6
    region = next(a for a in outline.all("div") if a.get("role") == "region")
    assert region["tabindex"] == "0" and region["aria-label"] == "Bandwidths"
    assert len(outline.all("label")) == 1 and len(outline.all("input")) == 1
    assert outline.all("output")[0]["aria-live"] == "polite"
    # without JavaScript the filter does nothing, so it is not shown
    assert "hidden" in next(a for a in outline.all("div") if a.get("class") == "mb-bar")


def test_each_figure_shows_source_and_certainty():
    sources = Sources()
    html = example(sources)._repr_html_()
    assert 'href="#silicon-source-1"' in html
    assert 'id="silicon-source-1"' in sources._repr_html_()
    linked = set(re.findall(r'href="#(silicon-source-\d+)"', html))
    assert linked == set(re.findall(r'id="([^"]+)"', sources._repr_html_()))
    doubtful = catalog.chip("rubin").power_figure
    table = Table("Power", COLUMNS, [["Rubin", "NVIDIA", figure_cell(doubtful, "W")]], sources)
    assert '<b class="mb-doubt"' in table._repr_html_()
    assert "unconfirmed" in key_of_marks()


def test_a_published_range_is_said():
    cell = figure_cell(catalog.chip("b200-sxm").bandwidth_figure, "TB/s")
    html = Table("x", COLUMNS, [["B200", "NVIDIA", cell]])._repr_html_()
    assert "published: 7.7 TB/s to 8 TB/s" in html


def test_output_is_the_same_every_time():
    assert example(Sources())._repr_html_() == example(Sources())._repr_html_()
    assert repr(example()) == "Table 'Bandwidths': 6 rows, 3 columns"


def test_a_short_table_has_no_controls_and_no_script():
    short = Table("Short", COLUMNS, [["a", "b", "c"]] * (tables.FEW_ROWS - 1))._repr_html_()
    long = Table("Long", COLUMNS, [["a", "b", "c"]] * tables.FEW_ROWS)._repr_html_()
    assert "<script" not in short and "<input" not in short and "data-rows" not in short
    assert "<script" in long and "<input" in long


def test_text_is_escaped():
    html = Table("<i>", COLUMNS, [["<script>", '"', Cell("&", 1.0)]], note="<b>", sortable=True)
    html = html._repr_html_()
    body = html[html.index("<div") : html.index("<script type")]
    assert "<script>" not in body and "&lt;script&gt;" in body and "<b>" not in body
    assert "<dd>&lt;b&gt;</dd>" in Notes([("a", "<b>")])._repr_html_()


def test_shared_code_is_small_and_the_same():
    one, two = (
        example()._repr_html_(),
        Table("y", COLUMNS, [["a", "b", "c"]], sortable=True)._repr_html_(),
    )
    pattern = r'<(style|script type="module") data-mb="table">.*?</(?:style|script)>'
    shared = [m[0] for m in re.finditer(pattern, one, re.DOTALL)]
    assert len(shared) == 2
    assert all(part in two for part in shared)
    assert len(tables._shared()[1].encode()) < 2048


def test_colours_come_from_the_palette():
    css = (tables.Path(tables.__file__).parent / "tables.css").read_text(encoding="utf-8")
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgb\(", css)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Table("", COLUMNS, [["a", "b", "c"]]), "caption"),
        (lambda: Table("x", COLUMNS, []), "rows: there are none"),
        (lambda: Table("x", COLUMNS, [["a", "b", "c"], ["a", "b"]]), r"rows\[1\]: has 2 cells"),
        (lambda: Notes([]), "items"),
        (lambda: Notes([("a", "")]), "empty part"),
    ],
)
def test_misuse_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# --- in a browser -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    try:
        chromium = Chromium()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    yield chromium.browser
    chromium.close()


@pytest.fixture
def open_page(browser):
    pages = []

    def open_(html, width=1280, scripts=True):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, java_script_enabled=scripts
        )
        page = context.new_page()
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.set_content(
            '<!doctype html><html lang="en" data-theme="light"><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width"><title>t</title>{html}'
        )
        pages.append(context)
        return page

    yield open_
    for context in pages:
        context.close()


def names(page):
    return page.locator("tbody tr:not([hidden]) th").all_inner_texts()


def test_sorts_both_ways_by_keyboard_and_keeps_gaps_last(open_page):
    page = open_page(example()._repr_html_())
    rate = page.get_by_role("button", name="Bandwidth")
    rate.focus()
    page.keyboard.press("Enter")
    assert names(page) == ["Groq LPU", "Rubin", "MI300X", "H100 SXM", "T4", "None"]
    head = page.locator("thead th").nth(2)
    assert head.get_attribute("aria-sort") == "descending"
    page.keyboard.press("Enter")
    assert names(page) == ["T4", "H100 SXM", "MI300X", "Rubin", "Groq LPU", "None"]
    assert head.get_attribute("aria-sort") == "ascending"
    page.get_by_role("button", name="Chip").click()
    assert names(page) == ["Groq LPU", "H100 SXM", "MI300X", "None", "Rubin", "T4"]
    assert head.get_attribute("aria-sort") is None
    assert "sorted by Chip, ascending" in page.locator("output").inner_text()
    assert page.faults == []


def test_filters_by_all_words_and_says_how_many(open_page):
    page = open_page(example()._repr_html_())
    field = page.get_by_label("Show rows with")
    field.fill("nvidia 100")
    assert names(page) == ["H100 SXM"]
    assert page.locator("output").inner_text() == "1 of 6 rows"
    field.fill("zzz")
    assert names(page) == []
    field.fill("")
    assert len(names(page)) == 6


def test_two_copies_of_the_script_do_no_harm(open_page):
    page = open_page(example()._repr_html_() * 2)
    assert page.get_by_role("button").count() == 6
    page.get_by_role("button", name="Bandwidth").last.click()
    tables_ = page.locator("tbody")
    assert tables_.first.locator("th").first.inner_text() == "H100 SXM"
    assert tables_.last.locator("th").first.inner_text() == "Groq LPU"


def test_without_javascript_the_table_is_whole(open_page):
    page = open_page(example()._repr_html_(), scripts=False)
    assert len(names(page)) == 6
    assert not page.get_by_label("Show rows with").is_visible()


def test_a_phone_scrolls_the_table_not_the_page(open_page):
    wide = Table(
        "Wide",
        [Column("Row", text=True), *(Column(f"Column number {i}") for i in range(12))],
        [["a", *(Cell(str(i), float(i)) for i in range(12))]],
    )
    page = open_page(wide._repr_html_(), width=390)
    sizes = "e => [e.scrollWidth, e.clientWidth]"
    inner, outer = page.locator(".mb-scroll").evaluate(sizes)
    assert inner > outer
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".mb-scroll").focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("document.querySelector('.mb-scroll').scrollLeft > 0")
