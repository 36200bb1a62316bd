"""The parts of the Sphinx extension that can be proved without building the book."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

pytest.importorskip("sphinx")

from docutils import nodes
from fontTools.ttLib import TTFont

from helpers.book.mathml import to_mathml
from helpers.book.site import assets, icons, math_font, numbering, pages, shared
from helpers.book.style import tokens_css
from helpers.catalog import facts
from helpers.catalog.records import CatalogError


def test_shared_code_is_taken_out_once_and_the_page_keeps_its_own():
    style = f'<style data-mb="quiz">{tokens_css()}.a{{}}</style>'
    script = '<script type="module" data-mb="quiz">let a = 1;</script>'
    own = '<script type="module">start("x")</script>'
    body = style + script + own + "<p>between</p>" + style + script + own
    left, styles, scripts = shared.take_out(body)
    assert left == own + "<p>between</p>" + own
    assert [one.text for one in styles] == [".a{}"]  # the palette is in the site's own sheet
    assert len(scripts) == 1 and "let a = 1;" in scripts[0].text
    assert tokens_css() in assets.own_css()


def test_two_versions_of_shared_code_both_stay():
    first, second = '<style data-mb="quiz">.a{}</style>', '<style data-mb="quiz">.b{}</style>'
    left, styles, _ = shared.take_out(first + second + first)
    assert left == "" and [one.text for one in styles] == [".a{}", ".b{}"]
    assert len({one.name for one in styles}) == 2, "a browser would keep the first for ever"


def test_a_shared_script_keeps_its_names_to_itself_and_is_strict():
    blocks = "".join(
        f'<script type="module" data-mb="{name}">const same = 1; f(same)</script>' for name in "ab"
    )
    _, _, scripts = shared.take_out(blocks)
    assert [one.text.count("const same") for one in scripts] == [1]  # the same code is one file
    assert scripts[0].text.startswith('(() => {"use strict";') and scripts[0].text.endswith(
        "})();\n"
    )


def test_pages_share_files_and_stale_ones_go(tmp_path):
    app = SimpleNamespace(builder=SimpleNamespace(name="html"), outdir=str(tmp_path))
    folder = tmp_path / shared.FOLDER
    block = '<style data-mb="quiz">.a{}</style><script type="module" data-mb="quiz">f()</script>'
    for name in ("one", "two"):
        context = {"body": block + f"<p>{name}</p>", "css_files": ["book"], "script_files": []}
        shared._share(app, name, "page.html", context, None)
        assert context["body"] == f"<p>{name}</p>" and context["css_files"][0] == "book"
        linked = [str(one.filename) for one in context["css_files"][1:] + context["script_files"]]
        assert all((tmp_path / link).is_file() for link in linked) and len(linked) == 2
        assert context["script_files"][0].attributes["defer"] == "defer"
        (tmp_path / f"{name}.html").write_text(" ".join(linked))
    assert len(list(folder.iterdir())) == 2
    (folder / "old-1.js").write_text("f()")
    shared._drop_stale(app, None)
    assert len(list(folder.iterdir())) == 2 and not (folder / "old-1.js").exists()


def _item(name: str, *below: str) -> str:
    pages_below = "".join(f'<li><a href="../{page}.html">{page}</a></li>' for page in below)
    return (
        f'<ul><li class="toctree-l1 has-children"><a href="../{name}.html">{name}</a>'
        f"<details><summary><i></i></summary><ul>{pages_below}</ul></details></li></ul>"
    )


def test_feeders_leave_the_sidebar_and_an_arrow_to_nothing_goes_too():
    slim = pages._without_feeders(
        _item("chapters/units", "notebooks/front/units"), "chapters/roofline"
    )
    assert "front/units" not in slim and "<details" not in slim and "has-children" not in slim


def test_feeders_are_known_from_beside_them_too():
    tree = '<ul><li><a href="landing.html">x</a></li><li><a href="#">here</a></li></ul>'
    slim = pages._without_feeders(tree, "notebooks/front/formula-sheet")
    assert "landing" not in slim and "here" in slim


def test_other_pages_stay_and_their_arrow_has_a_name():
    below = ["notebooks/roofline/figures", "notebooks/roofline/measure"]
    slim = pages._without_feeders(_item("chapters/roofline", *below), "chapters/units")
    assert "figures" not in slim and "measure" in slim
    assert 'aria-label="Pages of chapters/roofline"' in slim


def test_every_icon_that_the_theme_names_is_drawn():
    sheet = icons.css()
    assert all(f".{name}{{--mb-icon:" in sheet for name in icons.ICONS)
    assert "http://" not in re.sub(r"http%3A//www\.w3\.org|http://www\.w3\.org", "", sheet)


def test_no_style_sheet_loads_another():
    assert "@import" not in assets.own_css()


def test_the_name_of_the_style_sheet_follows_its_content(monkeypatch):
    before = assets._bundle_name()
    monkeypatch.setattr(assets, "own_css", lambda: "a{}")
    assert assets._bundle_name() != before


def test_the_cut_font_keeps_what_formulas_need(tmp_path):
    target = tmp_path / "math.woff"
    math_font.write_subset(target)
    font = TTFont(target)
    assert "MATH" in font, "without this table brackets do not grow"
    have = set(font.getBestCmap())
    missing = [sign for sign in "Fx∑∏√≤≈·∈αβ⌈" if ord(sign) not in have]
    assert not missing
    assert target.stat().st_size < 60_000


@pytest.mark.parametrize("latex", [r"\frac{F}{B}", r"\min(P, I \cdot W)", r"2^{30}", r"\alpha"])
def test_formulas_become_mathml_and_keep_their_latex(latex):
    element = to_mathml(latex)
    assert element.startswith("<math ") and element.endswith("</math>")
    assert f'alttext="{latex}"' in element and "xmlns" not in element


@pytest.mark.parametrize("latex", [r"\fraction{1}{2}", r"\frac", r"\frac{1}", r"{a", r"x_"])
def test_a_formula_that_cannot_be_read_says_which(latex):
    with pytest.raises(ValueError, match="latex: "):
        to_mathml(latex)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ("h100-sxm.peak.bf16", "989.4 TFLOP/s"),
        ("h100-sxm.bandwidth in GB/s :0", "3,350 GB/s"),
        ("h100-sxm.link.nvlink-4.both-ways", "900 GB/s"),
        ("llama-3.1-8b.layers", "32"),
        ("llama-3.1-8b.parameters", "8,030,261,248"),
        ("h100-sxm.year", "2022"),
    ],
)
def test_facts_read_as_the_catalog_has_them(request_, text):
    assert facts.read(request_).text == text


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ("a100-sxm-80gb.peak.fp8", "fp8"),
        ("h100-sxn.peak.bf16", "h100-sxm"),
        ("h100-sxm.speed", "peak.<format>"),
        ("llama-3.1-8b.colour", "layers"),
        ("", "PATH"),
    ],
)
def test_a_fact_that_is_not_there_says_what_is(request_, says):
    with pytest.raises(CatalogError, match=re.escape(says)):
        facts.read(request_)


def test_a_fact_says_where_it_is_from():
    note = facts.read("h100-sxm.peak.bf16").note
    assert "dense" in note and "read in the source named" in note
    assert "one-way" in facts.read("h100-sxm.link.nvlink-4.one-way").note


def _numbered(*chapters: tuple[str, dict]) -> SimpleNamespace:
    """What Sphinx knows of some pages, counted from one, each with a section that has no number."""
    env = SimpleNamespace(toc_secnumbers={}, toc_fignumbers={}, metadata={}, titles={}, tocs={})
    for count, (name, front_matter) in enumerate(chapters, 1):
        env.toc_secnumbers[name] = {"": (count,), "#part": ()}
        env.toc_fignumbers[name] = {"table": {"costs": (count, 1), "sizes": (count, 2)}}
        env.metadata[name] = front_matter
        env.titles[name] = nodes.title("", name, secnumber=[count])
        env.tocs[name] = nodes.bullet_list()
        env.tocs[name] += nodes.reference("", name, secnumber=[count])
        env.tocs[name] += nodes.reference("", "part", secnumber=None)
    return env


def test_a_chapter_keeps_its_own_number():
    env = _numbered(("a", {}), ("f", {"number": 6}))
    assert numbering.renumber(env) == ["f"]
    assert env.toc_secnumbers == {"a": {"": (1,), "#part": ()}, "f": {"": (6,), "#part": ()}}
    assert env.toc_fignumbers["f"] == {"table": {"costs": (6, 1), "sizes": (6, 2)}}
    assert env.toc_fignumbers["a"]["table"]["sizes"] == (1, 2)
    assert env.titles["f"]["secnumber"] == [6] and env.titles["a"]["secnumber"] == [1]
    assert [one["secnumber"] for one in env.tocs["f"]] == [[6], None]


def test_a_page_without_numbers_is_left_alone():
    env = _numbered()
    env.toc_secnumbers["lab"] = {"": ()}
    assert numbering.renumber(env) == []


@pytest.mark.parametrize("number", ["six", 0, -1, 2.5])
def test_a_number_that_is_none_is_named(number):
    with pytest.raises(ValueError, match=r"f: number is .* whole number, 1 or more"):
        numbering.renumber(_numbered(("a", {}), ("f", {"number": number})))


def test_two_pages_cannot_have_one_number():
    with pytest.raises(ValueError, match="f: number is 1, as in a"):
        numbering.renumber(_numbered(("a", {}), ("f", {"number": 1})))
