"""Every gate of the book, in one list: what it proves, where it runs, what it must catch.

``where`` is the folder of ``tests/`` that holds the real book against the gate. A plant is a
defect put into a copy (or, for the site, into a small page): ``tests/gates`` proves that each is
caught, and that no gate is without one.
"""

from __future__ import annotations

from gates import glue, numbers, site_axe, site_layout, site_loading, style
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
        "loads",
        "Every page loads without an error on the console, in a script, or of a request.",
        "site",
        site_loading.check_errors,
        _plants(*site_loading.ERROR_PLANTS),
    ),
    Gate(
        "offline",
        "No page asks anything of another machine.",
        "site",
        site_loading.check_offline,
        _plants(*site_loading.OFFLINE_PLANTS),
    ),
    Gate(
        "no-sideways-scroll",
        "No page scrolls sideways, on a laptop or on a phone.",
        "site",
        site_layout.check_scroll,
        _plants(*site_layout.SCROLL_PLANTS),
    ),
    Gate(
        "alt-text",
        "Every picture on a built page has a description.",
        "site",
        site_layout.check_alt,
        _plants(*site_layout.ALT_PLANTS),
    ),
    Gate(
        "axe",
        "axe finds no fault on any page, nor on any type of page in light and dark, wide and "
        "narrow.",
        "site",
        site_axe.check,
        _plants(*site_axe.PLANTS),
    ),
)


def gates(where: str) -> list[Gate]:
    """The gates that run in one folder of tests."""
    return [gate for gate in GATES if gate.where == where]
