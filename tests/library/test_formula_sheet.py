"""The formula sheet lists every formula once, readable without a script and safe as HTML."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from helpers import formulas
from helpers.book import formula_sheet

ALL = formulas.all_formulas()


class Tags(HTMLParser):
    """Checks that every element is closed."""

    def __init__(self):
        super().__init__()
        self.open = []
        self.ids = []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_formula_once_and_well_formed():
    html = formula_sheet.show()._repr_html_()
    parser = Tags()
    parser.feed(html)
    assert parser.open == []
    assert parser.ids == [f"formula-{f.name.replace('_', '-')}" for f in ALL]
    for entry in ALL:
        assert f"<code>{entry.path}</code>" in html
    assert html == formula_sheet.show()._repr_html_()


def test_nothing_is_raw_latex_or_script():
    text = re.sub(r"<style.*?</style>|<[^>]+>", "", formula_sheet.show()._repr_html_())
    assert (
        "\\" not in text
        and "{" not in text
        and "$"
        not in text.replace("$0.", "").replace("[$]", "").replace("[$/h]", "").replace("2 $/h", "")
    )
    assert "<script" not in formula_sheet.show()._repr_html_()


def test_chapters_of_the_page_are_those_of_the_registry():
    shown = [
        entry
        for chapter in {f.chapter for f in ALL}
        for entry in formula_sheet.show(chapter).entries
    ]
    assert sorted(e.name for e in shown) == sorted(f.name for f in ALL)
    with pytest.raises(ValueError, match="'memory' has no formula yet"):
        formula_sheet.show("memory")


def test_links_lead_from_formulas_to_sections():
    assert set(formula_sheet.SEEN_ON) <= {f.name for f in ALL}
    chapters = Path(__file__).parents[2] / "chapters"
    for page, label, _ in formula_sheet.SEEN_ON.values():
        assert f"({label})=" in (chapters / f"{page}.md").read_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ridge_point", "gives 156 FLOP/B"),
        ("training_flops", "gives 3.791 × 10²⁵ FLOP"),
        ("kv_cache_bytes", "tokens = 8,192 tokens, batch = 32 gives 85.9 GB"),
        ("dollars_per_million_tokens", "gives $0.2222"),
        ("training_state_bytes", "gives 112 GB"),
    ],
)
def test_worked_text(name, text):
    assert formula_sheet.worked_text(formulas.get(name)).endswith(text)
