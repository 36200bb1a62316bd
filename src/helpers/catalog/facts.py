"""A figure of the catalog by its path, as prose and questions name it.

``h100-sxm.peak.bf16``, ``h100-sxm.peak.fp8.sparse``, ``h100-sxm.link.nvlink-4.one-way``,
``tpu-v5e.bandwidth``, ``llama-3.1-8b.parameters``: the record's id, then what is asked for.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from helpers.catalog import loading
from helpers.catalog.quantities import Quantity, QuantityError, format_number, format_quantity
from helpers.catalog.records import CERTAINTIES, CatalogError, Chip, Model

_REQUEST = re.compile(r"^(?P<path>\S+?)(\s+in\s+(?P<unit>[^\s:]+))?(\s*:\s*\.?(?P<decimals>\d+))?$")
_PATHS = (
    "peak.<format>, peak.<format>.sparse, bandwidth, capacity, power, link.<name>.one-way, "
    "link.<name>.both-ways, name or year"
)


@dataclass(frozen=True)
class Fact:
    """A figure ready to stand in a sentence."""

    text: str
    note: str
    record: str


def _split(path: str) -> tuple[Chip | Model, list[str]]:
    """The record whose id starts the path, and the rest; ids may contain dots."""
    records = {record.id: record for record in [*loading.chips(), *loading.models()]}
    parts = path.split(".")
    for size in range(len(parts), 0, -1):
        record = records.get(".".join(parts[:size]))
        if record is not None:
            return record, parts[size:]
    # the error of the loader suggests the nearest spelling
    return loading.chip(parts[0]), parts[1:]


def value(path: str) -> Any:
    """The value at a path.

    Parameters
    ----------
    path : str
        Such as ``h100-sxm.peak.bf16`` or ``llama-3.1-8b.layers``.

    Returns
    -------
    Quantity, int, str, or the record itself for a bare id

    Raises
    ------
    CatalogError
        If there is no such record or no such figure; the message says what there is.

    Examples
    --------
    >>> print(value("h100-sxm.peak.bf16"), value("llama-3.1-8b.layers"))
    989.4 TFLOP/s 32
    >>> print(value("h100-sxm.link.nvlink-4.one-way"))
    450 GB/s
    """
    record, rest = _split(path)
    if not rest:
        return record
    if isinstance(record, Chip):
        match rest:
            case ["peak", dtype]:
                return record.peak(dtype)
            case ["peak", dtype, "sparse"]:
                return record.peak(dtype, sparsity="sparse")
            case ["link", name, "one-way"]:
                return record.link(name).one_way
            case ["link", name, "both-ways"]:
                return record.link(name).both_ways
            case ["ridge", dtype]:
                return record.ridge(dtype)
            case ["bandwidth" | "capacity" | "power" | "name" | "year" | "memory" as field]:
                return getattr(record, field)
        raise CatalogError(f"{path}: after {record.id} write one of {_PATHS}")
    if len(rest) == 1 and not rest[0].startswith("_") and hasattr(record, rest[0]):
        found = getattr(record, rest[0])
        if isinstance(found, (int, float, str)):
            return found
    raise CatalogError(
        f"{path}: after {record.id} write one of parameters, active_parameters, layers, d_model, "
        "heads, kv_heads, head_dim, ffn, vocab, context, kv_per_token"
    )


def _note(found: Any, record: Chip | Model) -> str:
    figure = getattr(found, "figure", None)
    if figure is None:
        return (
            f"{record.name}: {CERTAINTIES[record.certainty]}" if isinstance(record, Model) else ""
        )
    kind = [figure.direction] if figure.direction else []
    if found.unit in ("FLOP/s", "OP/s"):
        kind.append(figure.sparsity)
    source = loading.source(figure.source)
    kinds = ", ".join(kind) + "; " if kind else ""
    return f"{record.name}: {kinds}{CERTAINTIES[figure.certainty]}: {source.title} ({source.year})"


def read(request: str) -> Fact:
    """A figure as text: ``PATH``, ``PATH in UNIT``, ``PATH in UNIT :DECIMALS``.

    Parameters
    ----------
    request : str
        Such as ``h100-sxm.bandwidth in GB/s :0``. Without a unit a figure is printed as the
        catalog's file writes it.

    Returns
    -------
    Fact

    Raises
    ------
    CatalogError, QuantityError
        If the request cannot be read, the figure is not there, or the unit does not fit.

    Examples
    --------
    >>> read("h100-sxm.bandwidth").text, read("h100-sxm.bandwidth in GB/s :0").text
    ('3.35 TB/s', '3,350 GB/s')
    >>> read("llama-3.1-8b.parameters").text
    '8,030,261,248'
    """
    match = _REQUEST.match(request.strip())
    if not match:
        raise CatalogError(f"{request!r} is not PATH, PATH in UNIT or PATH in UNIT :DECIMALS")
    found = value(match["path"])
    record, _ = _split(match["path"])
    decimals = int(match["decimals"]) if match["decimals"] else None
    if isinstance(found, Quantity):
        if match["unit"] or decimals is not None:
            text = format_quantity(found, match["unit"], decimals=decimals)
        else:
            text = str(found)
    elif match["unit"]:
        raise QuantityError(f"{request!r}: {match['path']} has no unit")
    elif isinstance(found, str) or match["path"].endswith(".year"):
        text = str(found)
    else:
        text = format_number(found, digits=15, decimals=decimals)
    return Fact(text, _note(found, record), record.id)
