"""Facts with their sources: chips, models, sources, claims and the glossary.

>>> from helpers import catalog
>>> h100 = catalog.chip("h100-sxm")
>>> print(h100.peak("bf16"), "dense,", h100.bandwidth, "and", h100.link("nvlink-4").one_way)
989.4 TFLOP/s dense, 3.35 TB/s and 450 GB/s
>>> print(h100.peak("bf16").figure.source, h100.peak("bf16").figure.certainty)
lockwood-h100 read
"""

from helpers.catalog.bibliography import bibtex
from helpers.catalog.loading import (
    check,
    chip,
    chips,
    claim,
    claims,
    glossary,
    model,
    models,
    reload,
    source,
    sources,
    traps,
)
from helpers.catalog.quantities import (
    Quantity,
    QuantityError,
    convert,
    format_number,
    format_quantity,
    parse_quantity,
    parse_unit,
)
from helpers.catalog.records import (
    CERTAINTIES,
    CatalogError,
    Chip,
    Claim,
    Figure,
    Link,
    Model,
    NotInCatalog,
    Peak,
    Source,
    Term,
    Trap,
)
from helpers.catalog.templates import fill

__all__ = [
    "CERTAINTIES",
    "CatalogError",
    "Chip",
    "Claim",
    "Figure",
    "Link",
    "Model",
    "NotInCatalog",
    "Peak",
    "Quantity",
    "QuantityError",
    "Source",
    "Term",
    "Trap",
    "bibtex",
    "check",
    "chip",
    "chips",
    "claim",
    "claims",
    "convert",
    "fill",
    "format_number",
    "format_quantity",
    "glossary",
    "model",
    "models",
    "parse_quantity",
    "parse_unit",
    "reload",
    "source",
    "sources",
    "traps",
]
