"""Every gate of the book, in one list: what it proves, where it runs, what it must catch.

``where`` is the folder of ``tests/`` that holds the real book against the gate. A plant is a
defect put into a copy (or, for the site, into a small page): ``tests/gates`` proves that each is
caught, and that no gate is without one.
"""

from __future__ import annotations

from gates import (
    anatomy,
    glue,
    notebooks_anatomy,
    notebooks_stored,
    numbers,
    references,
    site_axe,
    site_layout,
    site_links,
    site_live,
    site_loading,
    site_speed,
    site_weight,
    spelling,
    strays,
    style,
    syntax,
)
from gates.core import Gate, Plant


def _plants(*functions) -> tuple[Plant, ...]:
    return tuple(Plant(function.__name__.replace("_", " "), function) for function in functions)


GATES: tuple[Gate, ...] = (
    Gate(
        "typed-numbers",
        "No number with a unit is typed into prose: each is computed in a notebook or cited in "
        "the catalog.",
        "text",
        numbers.check,
        _plants(*numbers.PLANTS),
    ),
    Gate(
        "style",
        "The prose has no exclamation mark, no filler word, and no sentence over 45 words.",
        "text",
        style.check,
        _plants(*style.PLANTS),
    ),
    Gate(
        "glue",
        "What a page takes from a notebook is stored there, in the one spelling that can be "
        "moved to another builder, and nothing is handed over for nothing.",
        "text",
        glue.check,
        _plants(*glue.PLANTS),
    ),
    Gate(
        "facts",
        "Every catalog figure on a page exists, in the unit that is asked for.",
        "text",
        glue.check_facts,
        _plants(*glue.FACT_PLANTS),
    ),
    Gate(
        "anatomy",
        "Every chapter has all parts of the shared outline, in its order, and enough of each.",
        "text",
        anatomy.check,
        _plants(*anatomy.PLANTS),
    ),
    Gate(
        "links",
        "Every label, page and notebook that the text links to exists, and no label twice.",
        "text",
        references.check_links,
        _plants(*references.LINK_PLANTS),
    ),
    Gate(
        "citations",
        "Every citation has a source in the catalog, every term an entry in the glossary.",
        "text",
        references.check_citations,
        _plants(*references.CITATION_PLANTS),
    ),
    Gate(
        "records",
        "No source, term, question, claim, chip or model stands twice, and claims name sources "
        "that exist.",
        "text",
        references.check_records,
        _plants(*references.RECORD_PLANTS),
    ),
    Gate(
        "syntax",
        "The text uses only directives and roles that both Jupyter Book 1 and MyST know.",
        "text",
        syntax.check,
        _plants(*syntax.PLANTS),
    ),
    Gate(
        "figures-described",
        "Every figure and image in the text has alt text.",
        "text",
        syntax.check_alt,
        _plants(*syntax.ALT_PLANTS),
    ),
    Gate(
        "spelling",
        "No known misspelling stands in prose or in the catalog's texts.",
        "text",
        spelling.check,
        _plants(*spelling.PLANTS),
    ),
    Gate(
        "strays",
        "No file names a folder of somebody's machine or the host of a package registry.",
        "text",
        strays.check,
        _plants(*strays.PLANTS),
    ),
    Gate(
        "address",
        "The public address stands in _config.yml and in what is generated from it only.",
        "text",
        strays.check_address,
        _plants(*strays.ADDRESS_PLANTS),
    ),
    Gate(
        "stored-outputs",
        "Every notebook is stored as one run from top to bottom, small, and without anything of "
        "one machine or one run.",
        "notebooks",
        notebooks_stored.check_outputs,
        _plants(*notebooks_stored.OUTPUT_PLANTS),
    ),
    Gate(
        "stated-reasons",
        "No output is kept from comparison without a stated reason.",
        "notebooks",
        notebooks_stored.check_reasons,
        _plants(*notebooks_stored.REASON_PLANTS),
    ),
    Gate(
        "generated-cells",
        "Header and set-up cells are as the tool writes them, and nothing else is stored.",
        "notebooks",
        notebooks_stored.check_generated,
        _plants(*notebooks_stored.GENERATED_PLANTS),
    ),
    Gate(
        "labs",
        "Every lab predicts before it measures, asserts, asks, checks and points on; every "
        "chapter has a playground, a torch demo, a kernel and quizzes.",
        "notebooks",
        notebooks_anatomy.check,
        _plants(*notebooks_anatomy.PLANTS),
    ),
    Gate(
        "all-built",
        "Every page of the table of contents is on the site, with the search and the index.",
        "site",
        site_loading.check_built,
        _plants(*site_loading.BUILT_PLANTS),
    ),
    Gate(
        "loads",
        "Every page loads without an error on the console, in a script, or of a request.",
        "site",
        site_loading.check_errors,
        _plants(*site_loading.ERROR_PLANTS),
        by_page=True,
    ),
    Gate(
        "offline",
        "No page asks anything of another machine.",
        "site",
        site_loading.check_offline,
        _plants(*site_loading.OFFLINE_PLANTS),
        by_page=True,
    ),
    Gate(
        "no-sideways-scroll",
        "No page scrolls sideways, on a laptop or on a phone.",
        "site",
        site_layout.check_scroll,
        _plants(*site_layout.SCROLL_PLANTS),
        by_page=True,
    ),
    Gate(
        "alt-text",
        "Every picture on a built page has a description.",
        "site",
        site_layout.check_alt,
        _plants(*site_layout.ALT_PLANTS),
        by_page=True,
    ),
    Gate(
        "axe",
        "axe finds no fault on any page, nor on any type of page in light and dark, wide and "
        "narrow.",
        "site",
        site_axe.check,
        _plants(*site_axe.PLANTS),
        by_page=True,
    ),
    Gate(
        "built-links",
        "Every link and anchor of the built pages, search and index too, leads somewhere.",
        "site",
        site_links.check,
        _plants(*site_links.PLANTS),
    ),
    Gate(
        "weight",
        "HTML under 300 kB, a first view under 500 kB over the wire, own script under 20 kB.",
        "site",
        site_weight.check,
        _plants(*site_weight.PLANTS),
    ),
    Gate(
        "first-view",
        "The largest content of the chapter is shown within 2.5 s on a slow phone.",
        "site",
        site_speed.check_first_view,
        _plants(*site_speed.FIRST_VIEW_PLANTS),
    ),
    Gate(
        "sliders",
        "A live figure answers its slider at once.",
        "site",
        site_speed.check_sliders,
        _plants(*site_speed.SLIDER_PLANTS),
    ),
    Gate(
        "live-figures",
        "Every control of every live figure moves it to where Python says, to nine digits.",
        "site",
        site_live.check_figures,
        _plants(*site_live.FIGURE_PLANTS),
        by_page=True,
    ),
    Gate(
        "replays",
        "Every control of every replay shows each moment as Python recorded it, and the words for "
        "it.",
        "site",
        site_live.check_replays,
        _plants(*site_live.REPLAY_PLANTS),
        by_page=True,
    ),
    Gate(
        "questions",
        "Every question on every page is answered right and wrong by keyboard, and says so.",
        "site",
        site_live.check_questions,
        _plants(*site_live.QUESTION_PLANTS),
        by_page=True,
    ),
)


def gates(where: str) -> list[Gate]:
    """The gates that run in one folder of tests."""
    return [gate for gate in GATES if gate.where == where]
