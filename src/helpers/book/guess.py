"""A reader's guess before a measurement: written down, and checked before anything is built on it.

A guess that is no number, or minus five, would otherwise show up cells later as an error in a
logarithm.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from helpers.catalog import Quantity, QuantityError, convert, parse_quantity


def guess(name: str, value: Any, unit: str = "", *, zero: bool = False) -> float:
    """Check a reader's guess and return it as a number.

    Parameters
    ----------
    name : str
        What is guessed, for the message.
    value : number or str
        A number in ``unit``, or a text with or without a unit of its own, such as ``"20 GB/s"``.
    unit : str
        What the guess is in; empty for a count or a ratio.
    zero : bool
        Whether none at all is a possible answer.

    Returns
    -------
    float
        In ``unit``.

    Raises
    ------
    ValueError
        If the guess is not a finite number above 0, or its unit is of another kind. Names the
        guess, the value and what is allowed.

    Examples
    --------
    >>> guess("memory", 20, "GB/s"), guess("memory", "0.02 TB/s", "GB/s")
    (20.0, 20.0)
    >>> guess("memory", -20, "GB/s")
    Traceback (most recent call last):
    ...
    ValueError: memory: -20 is not a guess; allowed is a finite number above 0, in GB/s
    """
    least = "of at least 0" if zero else "above 0"
    allowed = f"allowed is a finite number {least}" + (f", in {unit}" if unit else "")
    if isinstance(value, str):
        allowed += f", or a text such as '20 {unit}'" if unit else ""
    wrong = f"{name}: {value!r} is not a guess; {allowed}"
    try:
        number = _in_unit(value, unit)
    except QuantityError as error:
        raise ValueError(f"{wrong} ({str(error).removeprefix('value: ')})") from None
    if number is None or not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise ValueError(wrong)
    return number


def _in_unit(value: Any, unit: str) -> float | None:
    """Return the number in the unit; None if it is none."""
    if isinstance(value, str) and not parse_quantity(value).unit:
        return float(parse_quantity(value))  # a bare number is in the unit that was asked for
    if isinstance(value, (str, Quantity)):
        return convert(parse_quantity(value, expect=unit), unit)
    if isinstance(value, Real) and not isinstance(value, bool):
        return float(value)
    return None
