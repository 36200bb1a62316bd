"""Read every data file and say what there is, or what is wrong: ``python -m helpers.catalog``."""

from __future__ import annotations

import sys

from helpers import catalog


def main() -> int:
    try:
        catalog.check()
    except catalog.CatalogError as error:
        print(f"catalog: {error}", file=sys.stderr)
        return 1
    print(
        f"catalog: {len(catalog.chips())} chips, {len(catalog.models())} models, "
        f"{len(catalog.sources())} sources, {len(catalog.claims())} claims and "
        f"{len(catalog.glossary())} terms are sound"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
