"""What one cached number takes: its own bits, and its share of the scale stored beside it.

Keys and values are cached in rows: a row is what one token leaves in one head of one layer, or,
with multi-head latent attention, in one layer. A format either stores the numbers as they are, or
as short codes with a scale for every row or for every group of a row.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .checks import check_whole
from .quantization import bits_per_weight

__all__ = ["ELEMENTS", "KVElement", "kv_element"]


@dataclass(frozen=True)
class KVElement:
    """A number format of cached keys and values.

    Parameters
    ----------
    name : str
        For messages and tables.
    bits : int
        Of one code.
    scale_bits : int
        Of one scale; 0 if there is none, or only one for a whole layer, which we do not count.
    group : int, optional
        Elements that share a scale; by default the whole row.

    Raises
    ------
    ValueError
        If a number is out of range.

    Examples
    --------
    >>> KVElement("int4 in groups of 32", 4, scale_bits=16, group=32).bits_per_element(128)
    Fraction(9, 2)
    """

    name: str
    bits: int
    scale_bits: int = 0
    group: int | None = None

    def __post_init__(self):
        for name, least in (("bits", 1), ("scale_bits", 0), ("group", 1)):
            if name != "group" or self.group is not None:
                object.__setattr__(self, name, check_whole(name, getattr(self, name), least))
        if self.group is not None and not self.scale_bits:
            raise ValueError(f"group: {self.group}; allowed is None without scales (scale_bits: 0)")

    def bits_per_element(self, row: int) -> Fraction:
        """Bits of one element of a row, its share of the scales included.

        Parameters
        ----------
        row : int
            Elements of a row: the head's size, or what multi-head latent attention compresses to.

        Returns
        -------
        Fraction
            Exact.

        Raises
        ------
        ValueError
            If groups do not divide the row, or the row does not fill whole bytes.

        Examples
        --------
        >>> [float(ELEMENTS[name].bits_per_element(128)) for name in ("bf16", "int8", "nvfp4")]
        [16.0, 8.125, 4.5]
        """
        row = check_whole("row", row)
        group = row if self.group is None else self.group
        if row % group:
            raise ValueError(
                f"row: {row} elements; allowed is a multiple of {group}, the group that shares a"
                f" scale in {self.name}"
            )
        # a Fraction among the arguments keeps the formula's division exact
        bits = bits_per_weight(self.bits, group, Fraction(self.scale_bits))
        if bits * row % 8:
            raise ValueError(
                f"row: {row} elements of {self.name} take {bits * row} bits; allowed are rows that"
                " fill whole bytes"
            )
        return bits

    def bytes_per_element(self, row: int) -> Fraction:
        """Bytes of one element of a row, its share of the scales included; exact."""
        return self.bits_per_element(row) / 8


#: formats by name; int8 and int4 as the book's own cache stores them, with one bf16 scale a row
ELEMENTS = {
    element.name: element
    for element in (
        KVElement("fp64", 64),
        KVElement("fp32", 32),
        KVElement("bf16", 16),
        KVElement("fp16", 16),
        KVElement("fp8", 8),
        KVElement("int8", 8, scale_bits=16),
        KVElement("int4", 4, scale_bits=16),
        KVElement("nvfp4", 4, scale_bits=8, group=16),
        KVElement("mxfp4", 4, scale_bits=8, group=32),
    )
}
#: torch's names of the same
_LONG = {"float64": "fp64", "float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def kv_element(name: Any) -> KVElement:
    """Return the format of a name; one made by hand is returned as it is.

    Parameters
    ----------
    name : str or KVElement
        Such as ``"bf16"``, ``"bfloat16"``, ``"int8"`` or ``"nvfp4"``.

    Raises
    ------
    ValueError
        For anything else; the message lists the names.

    Examples
    --------
    >>> kv_element("bfloat16").bits
    16
    >>> kv_element("fp9")
    Traceback (most recent call last):
        ...
    ValueError: element: 'fp9'; allowed is one of fp64, fp32, bf16, fp16, fp8, int8, int4, nvfp4, \
mxfp4 or a KVElement; did you mean fp8?
    """
    if isinstance(name, KVElement):
        return name
    known = _LONG.get(name, name) if isinstance(name, str) else None
    if known in ELEMENTS:
        return ELEMENTS[known]
    near = difflib.get_close_matches(str(name).lower(), ELEMENTS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ValueError(
        f"element: {name!r}; allowed is one of {', '.join(ELEMENTS)} or a KVElement{hint}"
    )
