"""Plain checks of arguments that must be exact: whole numbers and amounts of memory.

Nothing is rounded or clamped. A number that does not fit is an error that names the argument, the
value and what is allowed.
"""

from __future__ import annotations

import math
from fractions import Fraction
from numbers import Real
from typing import Any

from helpers.catalog.quantities import Quantity


def check_whole(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number as an int, whatever type carries it.

    Parameters
    ----------
    name : str
        The argument, for the message.
    value : number
        ``8``, ``8.0`` or numpy's eight; a catalog quantity only if it counts tokens.
    least : int
        The smallest allowed.

    Raises
    ------
    ValueError
        For everything else, ``True`` and text included.

    Examples
    --------
    >>> check_whole("layers", 32.0)
    32
    >>> check_whole("layers", 0)
    Traceback (most recent call last):
        ...
    ValueError: layers: 0; allowed is a whole number of at least 1
    """
    is_count = not isinstance(value, Quantity) or value.unit in ("", "token")
    if not (_is_finite(value) and is_count and value >= least and value % 1 == 0):
        raise ValueError(f"{name}: {value!r}; allowed is a whole number of at least {least}")
    return int(value)


def check_bytes(name: str, value: Any) -> Fraction:
    """Return an amount of memory exactly as it was given.

    Parameters
    ----------
    name : str
        The argument, for the message.
    value : number
        Zero or more, in bytes; a catalog quantity must be in bytes too.

    Raises
    ------
    ValueError
        For everything else.

    Examples
    --------
    >>> from helpers import catalog
    >>> check_bytes("free_bytes", catalog.chip("h100-sxm").capacity) == 80 * 10**9
    True
    >>> check_bytes("free_bytes", "40 GiB")
    Traceback (most recent call last):
        ...
    ValueError: free_bytes: '40 GiB'; allowed is a number of bytes, 0 or more, such as 40 * 2**30
    """
    is_memory = not isinstance(value, Quantity) or value.unit in ("", "B")
    if not (_is_finite(value) and is_memory and value >= 0):
        raise ValueError(
            f"{name}: {value!r}; allowed is a number of bytes, 0 or more, such as 40 * 2**30"
        )
    return Fraction(value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
