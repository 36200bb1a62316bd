"""Text with figures in it: ``{{h100-sxm.bandwidth}}`` stands for the catalog's value.

Data files that hold sentences use this, so that no number is typed twice.
"""

from __future__ import annotations

import re

from helpers.catalog import facts, loading
from helpers.catalog.quantities import format_quantity
from helpers.catalog.records import CatalogError

_SLOT = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")


def fill(text: str) -> str:
    """Replace every ``{{path}}`` by the figure at that path.

    Parameters
    ----------
    text : str
        Any text; a path is one that ``helpers.catalog.facts.read`` understands, or
        ``<chip>.peak.<format>.<type>-accumulate``.

    Returns
    -------
    str

    Raises
    ------
    CatalogError
        If a path leads nowhere.

    Examples
    --------
    >>> fill("moves {{h100-sxm.bandwidth}} at most")
    'moves 3.35 TB/s at most'
    >>> fill("{{rtx-4090.peak.fp16}}, not {{rtx-4090.peak.fp16.fp16-accumulate}}")
    '165.2 TFLOP/s, not 330.3 TFLOP/s'
    """

    def figure(match: re.Match[str]) -> str:
        path = match[1]
        if path.endswith("-accumulate"):
            try:
                chip, _, dtype, accumulate = path.split(".")
            except ValueError:
                raise CatalogError(
                    f"{path}: write <chip>.peak.<format>.<type>-accumulate"
                ) from None
            peak = loading.chip(chip).peak(dtype, accumulate=accumulate.removesuffix("-accumulate"))
            return format_quantity(peak, digits=4)
        if ".ridge." in path:
            return format_quantity(facts.value(path), digits=4)
        return facts.read(path).text

    return _SLOT.sub(figure, text)
