"""Read every data file and say what there is, or what is wrong: ``python -m helpers.catalog``.

``python -m helpers.catalog bibtex`` prints the sources as BibTeX instead.
"""

from __future__ import annotations

import sys

from helpers import catalog


def main() -> int:
    if sys.argv[1:] not in ([], ["bibtex"]):
        print(f"catalog: {sys.argv[1:]}: say nothing more, or bibtex", file=sys.stderr)
        return 2
    try:
        catalog.check()
    except catalog.CatalogError as error:
        print(f"catalog: {error}", file=sys.stderr)
        return 1
    if sys.argv[1:]:
        print(catalog.bibtex(), end="")
        return 0
    print(
        f"catalog: {len(catalog.chips())} chips, {len(catalog.models())} models, "
        f"{len(catalog.sources())} sources, {len(catalog.claims())} claims and "
        f"{len(catalog.glossary())} terms are sound"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
