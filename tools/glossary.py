"""Write the glossary page from the catalog; ``--check`` only compares.

The terms stand in ``src/helpers/catalog/data/glossary.yaml``. The page is generated and not
edited; a test keeps the two equal.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "chapters" / "glossary.md"

HEAD = """\
(glossary)=
# Glossary

<!-- Generated from src/helpers/catalog/data/glossary.yaml by tools/glossary.py; edit there. -->

Every term of the book in a sentence or two, and where it is taught. Where a page first needs a
term, the term links here.

"""


def entry(term) -> str:
    """One term as lines of a glossary directive.

    Examples
    --------
    >>> from helpers.catalog import Term
    >>> print(entry(Term(term="FLOP", definition="One addition or multiplication.",
    ...                  see_also=("ridge point",), taught="units")))
    FLOP
      One addition or multiplication. See also {term}`ridge point`. Taught in [](#units).
    """
    text = " ".join(term.definition.split())
    if term.see_also:
        text += f" See also {', '.join(f'{{term}}`{other}`' for other in term.see_also)}."
    return f"{term.term}\n  {text} Taught in [](#{term.taught})."


def page() -> str:
    """The whole page, terms in alphabetical order."""
    from helpers import catalog

    terms = sorted(catalog.glossary(), key=lambda term: term.term.casefold())
    entries = "\n\n".join(entry(term) for term in terms)
    return f"{HEAD}```{{glossary}}\n{entries}\n```\n" if terms else HEAD


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say whether the page is current")
    options = parser.parse_args()
    text = page()
    if PAGE.is_file() and PAGE.read_text("utf-8") == text:
        return 0
    if options.check:
        print("glossary: chapters/glossary.md is not what the catalog gives; run tools/glossary.py")
        return 1
    PAGE.write_text(text, "utf-8")
    print(f"glossary: wrote {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
