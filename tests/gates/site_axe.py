"""axe finds nothing, with all rules that it runs by default and no list of exceptions."""

from __future__ import annotations

from pathlib import Path

from gates.browser import NARROW, WIDE, Site
from gates.core import Defect
from gates.site_loading import page

#: one page of each kind is looked at in both themes and both widths; every page in one of them
PAGE_TYPES = (
    "index.html",
    "chapters/roofline.html",
    "chapters/two-workloads.html",
    "chapters/silicon.html",
    "notebooks/front/claims-ledger.html",
    "notebooks/roofline/measure.html",
    "search.html",
)
FEWEST_RULES = 10  # on an all but empty page axe still applies more than that


def check(site: Site) -> list[Defect]:
    """Report what axe finds: every page once, one page of each type in all four settings."""
    found = []
    modes = [(width, theme) for width in (WIDE, NARROW) for theme in ("light", "dark")]
    settings = {name: modes if name in PAGE_TYPES else modes[:1] for name in site.pages}
    site.observe_all([(name, *mode) for name in settings for mode in settings[name]])
    for name in settings:
        for width, theme in settings[name]:
            seen = site.observe(name, width, theme)
            if seen.rules_run < FEWEST_RULES:
                found.append(Defect(name, 0, f"axe applied only {seen.rules_run} rules"))
            found += [Defect(name, 0, f"{width} px, {theme}: {fault}") for fault in seen.axe]
    return found


# ---- planted defects ---------------------------------------------------------------------------


def text_too_pale(folder: Path) -> str:
    return page(folder, '<p style="color:#999;background:#fff">Pale.</p>', name="other.html")


def too_pale_in_the_dark_only(folder: Path) -> str:
    style = (
        "<style>@media(prefers-color-scheme:dark){body{background:#111;color:#eee}"
        "p{color:#444}}</style>"
    )
    return page(folder, "<p>Pale at night.</p>", style)


def an_unlabelled_slider(folder: Path) -> str:
    return page(folder, '<input type="range">', name="other.html")


def a_fault_on_a_phone_only(folder: Path) -> str:
    style = "<style>@media(max-width:600px){p{color:#aaa}}</style>"
    return page(folder, "<p>Pale on a phone.</p>", style)


def _code(words: str) -> str:
    return f'<div class="highlight"><pre>{words}</pre></div>'


def one_word_in_code_too_pale(folder: Path) -> str:
    words = '<span class="k">if</span> <span class="k" style="color:#aaa">not</span>'
    return page(folder, _code(words), name="other.html")


def code_on_another_ground_too_pale(folder: Path) -> str:
    words = '<span class="k" style="color:#666">if</span>'
    dark = _code(words).replace("<div", '<div style="background:#444; color:#fff"')
    return page(folder, _code(words) + dark, name="other.html")


PLANTS = (
    text_too_pale,
    too_pale_in_the_dark_only,
    an_unlabelled_slider,
    a_fault_on_a_phone_only,
    one_word_in_code_too_pale,
    code_on_another_ground_too_pale,
)
